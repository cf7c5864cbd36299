"""(g) Watch fan-out: every change of a region told to 1, 100 and 1,000 stateless watches, beside etcd
with the same puts of the same bytes at the same rate, beside a grpc.aio server that tells ready bytes
and does nothing else, and beside stateful watches of a page that holds all the regions.

Each watch is a gRPC stream of its own, 100 of them on a connection. Puts come from one writer at a fixed
rate. Events are deliveries: changes times watches. Their measure is per second of server CPU, with the
writing itself in it, where etcd writes a value and the service a manifest with validation, an audit line
and indexes. The time of a delivery is from sending the put, so that it holds the fsync. Memory is what
the server holds more after than before, over the watches.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import etcd, machine, meta_bare, meta_requests, meta_seed, processes
from bench.client import BadAnswer
from bench.http2 import Connection
from bench.processes import Server
from bench.rounds import Result, ratios
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_service_pb2
from shared.pb.goten_sdk.types import watch_type_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.query.page_token import fingerprint
from shared.watch.resume_token import ResumeToken

# Watches -> puts a second.
_RATES: Final = {0: 100, 1: 100, 100: 50, 1_000: 5}
_SECONDS: Final = 6
_REGIONS: Final = 100
_STREAMS: Final = 100
_TIMEOUT: Final = 120.0
# Rounds are long here.
_MOST_ROUNDS: Final = 3
_BARE: Final = "bare grpc.aio handler"
_ETCD: Final = "etcd"
_STATEFUL: Final = f"our stateful watches of {_REGIONS} rows"
# Of the bare handler's events, at the most watches.
_LEAST: Final = 0.6
_STAMP: Final = re.compile(rb"at-(\d{19})")


@dataclass(frozen=True)
class Party:
    """A running server under watch. `current`: whether a message says that the watch stands."""

    server: Server
    headers: dict[str, str]
    path: str
    message: bytes
    current: Callable[[bytes], bool]
    # Of a region's number and title: the call that puts it.
    put: Callable[[int, str], tuple[str, bytes]]
    # The watch's client may say that it sends nothing more.
    end: bool


@dataclass(frozen=True)
class _Run:
    cpu_a_put: float
    events_per_cpu: float
    p99: float
    bytes_each: float


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come. etcd may be lacking."""
    parties = {"ours": ours, **({_ETCD: beside} if etcd.installed() else {}), _BARE: bare}
    seconds = max(2, int(_SECONDS * scale))
    for watchers, rate in _RATES.items():
        if watchers:
            parties[_STATEFUL] = partial(ours, stateful=True)
        found: dict[str, list[_Run]] = {name: [] for name in parties}
        for number in range(min(rounds, _MOST_ROUNDS)):
            for name, start in parties.items():
                place = folder / f"{watchers}-{number}-{name}"
                place.mkdir(parents=True)
                with start(place) as party:
                    found[name].append(asyncio.run(_measure(party, watchers, rate, seconds)))
        yield from _results(watchers, rate, found)


def _results(watchers: int, rate: int, found: dict[str, list[_Run]]) -> Iterator[Result]:
    at = f"{watchers:,} watching, {rate} puts/s"
    measures: dict[str, tuple[str, Callable[[_Run], float]]] = {}
    if watchers < 2:
        measures["CPU ms a put"] = ("ms", lambda run: run.cpu_a_put * 1000)
    if watchers:
        measures["events per CPU second"] = ("/cpu s", lambda run: run.events_per_cpu)
        measures["delivery p99, ms"] = ("ms", lambda run: run.p99 * 1000)
    if watchers > 1:
        measures["KiB a watcher"] = ("KiB", lambda run: run.bytes_each / 1024)
    for what, (unit, value) in measures.items():
        mine = [value(run) for run in found["ours"]]
        for against, runs in found.items():
            if against == "ours":
                continue
            other = [value(run) for run in runs]
            least = _LEAST if (against, watchers, unit) == (_BARE, max(_RATES), "/cpu s") else None
            yield Result(
                "g",
                f"{at}: {what}",
                against,
                unit,
                statistics.median(mine),
                statistics.median(other),
                ratios(mine, other),
                least,
            )


# -- the sides


@contextmanager
def ours(data: Path, count: int = _REGIONS, *, stateful: bool = False) -> Iterator[Party]:
    """The meta service over `count` regions, with stateless watches of all or stateful ones of a page."""
    meta_seed.meta(data, count)

    def put(number: int, title: str) -> tuple[str, bytes]:
        manifest = (
            f"regions:\n- name: {meta_seed.name(number)}\n  title: {title}\n"
            f"  domain: site-{number:07d}.example.com\n"
            f"  location: {{continent: Europe, city: City {number % 997}}}\n"
            "  metadata: {labels: {tier: edge}}\n"
        )
        return meta_requests.APPLY, admin_pb2.ApplyRequest(manifest=manifest).SerializeToString()

    with processes.service("meta", data) as server:
        token = (data / "operator.token").read_text().strip()
        answer = region_service_pb2.WatchRegionsResponse
        asked = region_service_pb2.WatchRegionsRequest(type=watch_type_pb2.STATELESS)
        if stateful:
            asked = region_service_pb2.WatchRegionsRequest(type=watch_type_pb2.STATEFUL, page_size=_REGIONS)
        yield Party(
            server,
            {"authorization": f"Bearer {token}"},
            meta_requests.WATCH,
            asked.SerializeToString(),
            lambda message: answer.FromString(message).is_current,
            put,
            True,
        )


@contextmanager
def bare(data: Path) -> Iterator[Party]:
    """A server that tells what it is given: an answer of the service's, with its bytes and tokens."""
    token = ResumeToken("0" * 32, 1_000, fingerprint("bench")).encode()

    def put(number: int, title: str) -> tuple[str, bytes]:
        answer = region_service_pb2.WatchRegionsResponse(
            is_current=True, resume_token=token, snapshot_size=-1
        )
        region = answer.region_changes.add().current.region
        region.CopyFrom(meta_seed.region(number, _REGIONS))
        region.title = title
        return meta_bare.PUT, answer.SerializeToString()

    with processes.bare(data, "bench.meta_bare") as server:
        yield Party(server, {}, meta_bare.WATCH, b"", lambda message: message == meta_bare.STANDS, put, True)


@contextmanager
def beside(data: Path, count: int = _REGIONS) -> Iterator[Party]:
    """etcd over the same bytes."""

    def put(number: int, title: str) -> tuple[str, bytes]:
        region = meta_seed.region(number, count)
        region.title = title
        return etcd.PUT, etcd.put(region.name, region.SerializeToString(deterministic=True))

    with etcd.server(data) as server:
        asyncio.run(_fill(server, put, count))
        yield Party(server, {}, etcd.WATCH, etcd.watch("regions/"), lambda message: True, put, False)


async def _fill(server: Server, put: Callable[[int, str], tuple[str, bytes]], count: int) -> None:
    async with Connection(server.ports["grpc"]) as connection:
        for number in range(count):
            await connection.call(*put(number, meta_seed.title(number, count)), {})


# -- a run


class _Watches:
    """What all watches of a run have heard."""

    def __init__(self, party: Party, count: int) -> None:
        self._party = party
        self._count = count
        self._standing = 0
        self._at_end = 0
        self._last = b""
        self.delays: list[int] = []
        self.stand = asyncio.Event()
        self.ended = asyncio.Event()
        self.failed = False

    def last(self, stamp: int) -> None:
        """The run is over once every watch has heard of the put with `stamp`."""
        self._last = b"%019d" % stamp

    def opened(self) -> Callable[[bytes | None], None]:
        """What one more watch hears with."""
        standing = False

        def heard(message: bytes | None) -> None:
            nonlocal standing
            if message is None:
                self._fail()
            elif not standing:
                standing = self._party.current(message)
                self._standing += standing
                if self._standing == self._count:
                    self.stand.set()
            else:
                self._changed(message)

        return heard

    def _changed(self, message: bytes) -> None:
        now = time.monotonic_ns()
        for stamp in _STAMP.findall(message):
            self.delays.append(now - int(stamp))
            if stamp == self._last:
                self._at_end += 1
                if self._at_end == self._count:
                    self.ended.set()

    def _fail(self) -> None:
        self.failed = True
        self.stand.set()
        self.ended.set()

    async def until(self, event: asyncio.Event) -> None:
        """Raises BadAnswer when a watch ended."""
        async with asyncio.timeout(_TIMEOUT):
            await event.wait()
        if self.failed:
            raise BadAnswer("a watch ended")


async def _measure(party: Party, watchers: int, rate: int, seconds: int) -> _Run:
    server = party.server
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(Connection(server.ports["grpc"]))
        # What the first write and the first watch load is not a watcher's.
        await _put(party, writer, 0)
        await _stand(party, 1)
        before = machine.resident_bytes(server.pid)
        watches = _Watches(party, watchers)
        for first in range(0, watchers, _STREAMS):
            connection = await stack.enter_async_context(Connection(server.ports["grpc"]))
            for _ in range(min(_STREAMS, watchers - first)):
                connection.open(party.path, party.message, party.headers, watches.opened(), end=party.end)
        if watchers:
            await watches.until(watches.stand)
        cpu = server.cpu()
        await _puts(party, writer, rate, seconds)
        watches.last(stamp := time.monotonic_ns())
        await _put(party, writer, 1, stamp)
        if watchers:
            await watches.until(watches.ended)
        used = max(server.cpu() - cpu, 0.01)
        after = machine.resident_bytes(server.pid)
    delays = sorted(watches.delays) or [0]
    return _Run(
        used / (rate * seconds + 1),
        len(delays) / used,
        delays[int(len(delays) * 0.99)] / 1e9,
        max(0, after - before) / max(1, watchers),
    )


async def _stand(party: Party, count: int) -> None:
    """`count` watches that stand, and are closed again."""
    async with Connection(party.server.ports["grpc"]) as connection:
        watches = _Watches(party, count)
        for _ in range(count):
            connection.open(party.path, party.message, party.headers, watches.opened(), end=party.end)
        await watches.until(watches.stand)


async def _puts(party: Party, writer: Connection, rate: int, seconds: int) -> None:
    """At a fixed rate, one after the other: a put that is due before the last is answered waits."""
    loop, started = asyncio.get_running_loop(), time.monotonic()
    due = asyncio.Event()
    for number in range(rate * seconds):
        due.clear()
        loop.call_later(max(0.0, started + number / rate - time.monotonic()), due.set)
        await due.wait()
        await _put(party, writer, number)


async def _put(party: Party, writer: Connection, number: int, stamp: int | None = None) -> None:
    stamp = time.monotonic_ns() if stamp is None else stamp
    path, message = party.put(number % _REGIONS, f"at-{stamp:019d}")
    await writer.call(path, message, party.headers)
