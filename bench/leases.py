"""(j) Jumpstarter's lease controller: what a lease costs in small labs and in large ones, how soon the
next one is served, how punctually leases end, and how long a start takes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc

from bench import lab_seed, processes
from bench.client import BadAnswer
from bench.lab_seed import BUSY, CLIENT, FREE, PARENT
from bench.processes import Server
from bench.rounds import Result, Sample, Spread, interleaved, measured, result
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import jumpstarter_pb2
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from shared.pb.roundhouse.lab.v1 import lab_pb2, lab_service_pb2
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.rpc.client import bearer
from shared.service.config import Config
from shared.storage import factory

_FEW: Final = 10
_MANY: Final = 10_000
_WAITING: Final = 1_000
_LEASES: Final = 5_000
# Pairs of CreateLease and DeleteLease, releases that hand over, and lists, a sample.
_PAIRS: Final = 150
_HANDOVERS: Final = 60
_TIMEOUT: Final = 60.0
_SECOND: Final = 1_000_000_000
# A cost that does not grow with the lab: at most one and a half of the small one's.
_LEAST: Final = 0.67
_ids = count()


@dataclass(frozen=True)
class Party:
    """A service, and who calls it."""

    server: Server
    client: tuple[tuple[str, str], ...]
    busy: tuple[tuple[str, str], ...]

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.server.ports['grpc']}")


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    many, waiting = max(100, int(_MANY * scale)), max(50, int(_WAITING * scale))
    with ExitStack() as stack:
        small = _party(stack, folder / "small", free=_FEW, waiting=2)
        large = _party(stack, folder / "large", free=many, waiting=2)
        crowded = _party(stack, folder / "crowded", free=_FEW, waiting=waiting)
        pairs, handovers = max(20, int(_PAIRS * scale)), max(10, int(_HANDOVERS * scale))
        yield from _compared(
            f"CreateLease to assigned, and DeleteLease: {many:,} exporters",
            f"{_FEW} exporters",
            partial(_assigned, large, pairs),
            partial(_assigned, small, pairs),
            rounds,
        )
        yield from _compared(
            f"the same: {_FEW} exporters, {waiting:,} wait for another",
            "2 wait for it",
            partial(_assigned, crowded, pairs),
            partial(_assigned, small, pairs),
            rounds,
        )
        yield from _compared(
            f"release to the next one's assignment: {waiting:,} wait",
            "2 wait",
            partial(_handed_over, crowded, handovers),
            partial(_handed_over, small, handovers),
            rounds,
            wall=True,
        )
        fewer = _party(stack, folder / "fewer", free=_FEW, waiting=waiting // 10)
        yield from _compared(
            f"ListLeases: a waiting lease of {waiting:,}",
            f"one of {waiting // 10}",
            partial(_listed, crowded, 2),
            partial(_listed, fewer, 20),
            rounds,
        )
    yield _punctual(folder / "ends", max(100, int(1000 * scale)))
    yield _started(folder, many, max(50, int(_LEASES * scale)), rounds)


def _party(stack: ExitStack, folder: Path, *, free: int, waiting: int) -> Party:
    folder.mkdir(parents=True)
    lab_seed.lab(folder, free=free, waiting=waiting)
    server = stack.enter_context(processes.service(SERVICE.name, folder))
    staff = bearer((folder / "operator.token").read_text().strip())
    with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        stub = LabServiceStub(channel)

        def metadata(kind: str, plural: str, id: str) -> tuple[tuple[str, str], ...]:
            request = lab_service_pb2.IssueTokenRequest(name=f"{PARENT}/{plural}/{id}")
            token = stub.IssueToken(request, metadata=staff, timeout=_TIMEOUT).token
            who = {"kind": kind, "namespace": lab_seed.NAMESPACE, "name": id}
            return (*bearer(token), *((f"jumpstarter-{key}", value) for key, value in who.items()))

        client = metadata("Client", "clients", CLIENT.rpartition("/")[2])
        return Party(server, client, metadata("Exporter", "exporters", "busy"))


def _compared(
    what: str,
    against: str,
    large: Callable[[], Sample],
    small: Callable[[], Sample],
    rounds: int,
    *,
    wall: bool = False,
) -> Iterator[Result]:
    sides = {"large": large, "small": small}
    interleaved(sides, 1)  # warm
    samples = interleaved(sides, rounds)
    took = statistics.median(sample.seconds / sample.requests for sample in samples["large"])
    yield result(
        "j", what, against, samples["large"], samples["small"], wall=wall, least=_LEAST,
        note=f"{took * 1000:,.2f} ms each",
    )  # fmt: skip


# -- what is measured


def _creation(selector: str) -> pb.CreateLeaseRequest:
    wanted = pb.Lease(selector=selector)
    wanted.duration.FromSeconds(3600)
    return pb.CreateLeaseRequest(parent=PARENT, lease_id=f"bench-{next(_ids)}", lease=wanted)


def _assigned(party: Party, pairs: int) -> Sample:
    def work() -> None:
        for _ in range(pairs):
            lease = stub.CreateLease(_creation(FREE), metadata=party.client, timeout=_TIMEOUT)
            if not lease.exporter:
                raise BadAnswer(f"no exporter for {lease}")
            stub.DeleteLease(pb.DeleteLeaseRequest(name=lease.name), metadata=party.client, timeout=_TIMEOUT)

    with party.channel() as channel:
        stub = ClientServiceStub(channel)
        return measured(party.server, pairs, work)


def _handed_over(party: Party, times: int) -> Sample:
    """From the call that releases to the word that the exporter gets of its next lease."""
    with party.channel() as channel:
        stub = ClientServiceStub(channel)
        stream = ControllerServiceStub(channel).Status(
            jumpstarter_pb2.StatusRequest(), metadata=party.busy, timeout=_TIMEOUT
        )
        current = _next_lease(stream, "")
        seconds, cpu = 0.0, party.server.cpu()
        for _ in range(times):
            stub.CreateLease(_creation(BUSY), metadata=party.client, timeout=_TIMEOUT)
            started = time.perf_counter()
            request = pb.DeleteLeaseRequest(name=lab_seed.lease(current))
            stub.DeleteLease(request, metadata=party.client, timeout=_TIMEOUT)
            current = _next_lease(stream, current)
            seconds += time.perf_counter() - started
        stream.cancel()
        return Sample(times, seconds, max(party.server.cpu() - cpu, 0.01))


def _next_lease(stream: Any, before: str) -> str:
    for message in stream:
        if message.leased and message.lease_name != before:
            return str(message.lease_name)
    raise BadAnswer("the status stream has ended")


def _listed(party: Party, times: int) -> Sample:
    """Leases that wait, with their reasons, in pages of 100."""
    found = 0

    def work() -> None:
        nonlocal found
        for _ in range(times):
            request = pb.ListLeasesRequest(parent=PARENT, page_size=100, filter=BUSY)
            while True:
                page = stub.ListLeases(request, metadata=party.client, timeout=_TIMEOUT)
                found += len(page.leases)
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break

    with party.channel() as channel:
        stub = ClientServiceStub(channel)
        sample = measured(party.server, 1, work)
    if not found:
        raise BadAnswer("nobody waits")
    return Sample(found, sample.seconds, sample.cpu)


def _punctual(folder: Path, leases: int) -> Result:
    """How late leases end that are to end one after the other within ten seconds."""
    folder.mkdir(parents=True)
    span = 10 * leases // 1000 * _SECOND or _SECOND
    first = time.time_ns() + 8 * _SECOND
    lab_seed.lab(folder, free=1, ends=[first + number * span // leases for number in range(leases)])
    with processes.service(SERVICE.name, folder) as server:
        if time.time_ns() > first:
            raise BadAnswer("the service started too slowly")
        asyncio.run(_wait(first + span + 2 * _SECOND, server))
    late = sorted(asyncio.run(_lateness(folder)))
    if len(late) != leases:
        raise BadAnswer(f"{len(late)} leases have ended, not {leases}")
    p50, p99 = (1000 * late[int(len(late) * part)] / _SECOND for part in (0.5, 0.99))
    return Result(
        "j",
        f"{leases:,} leases that end within {span // _SECOND} s: lateness, ms",
        "a second",
        "ms",
        p99,
        1000.0,
        Spread.of([p99 / 1000]),
        most=1.0,
        note=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {1000 * late[-1] / _SECOND:.1f} ms",
    )


async def _wait(until: int, server: Server) -> None:
    """Raises unless the server lives until then."""
    while (left := until - time.time_ns()) > 0:
        await asyncio.sleep(min(0.5, left / _SECOND))
        server.cpu()


async def _lateness(folder: Path) -> Sequence[int]:
    """Nanoseconds from when each lease was to end to when that was committed."""
    definitions = SERVICE.definitions(Config.load({}, data=folder), time.time_ns, lambda: "")
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    store = factory.build("sqlite", SERVICE.name, kinds, data=folder)
    await store.open()
    found: list[int] = []
    try:
        after, head = 0, await store.head()
        while after < head:
            for commit in await store.changes(after, 256):
                after = commit.revision
                for change in commit.changes:
                    lease = lab_pb2.Lease.FromString(change.after or b"") if change.kind == "lease" else None
                    if lease is not None and lease.ended:
                        found.append(commit.at - lease.end_time.ToNanoseconds())
    finally:
        await store.close()
    return found


def _started(folder: Path, exporters: int, leases: int, rounds: int) -> Result:
    """From the start of the process to its being ready."""
    end = time.time_ns() + 86_400 * _SECOND
    for name, free, held in (("nothing", 1, 0), ("full", exporters - leases, leases)):
        (folder / name).mkdir(parents=True)
        lab_seed.lab(folder / name, free=max(free, 1), ends=[end] * held)

    def start(name: str) -> Sample:
        started = time.perf_counter()
        with processes.service(SERVICE.name, folder / name) as server:
            return Sample(1, time.perf_counter() - started, server.cpu())

    sides = {name: partial(start, name) for name in ("full", "nothing")}
    interleaved(sides, 1)  # warm
    samples = interleaved(sides, rounds)
    took = statistics.median(sample.seconds for sample in samples["full"])
    return result(
        "j",
        f"start with {exporters:,} exporters and {leases:,} leases",
        "with one exporter",
        samples["full"],
        samples["nothing"],
        least=0.5,
        note=f"{took:.2f} s until it serves",
    )
