"""(l) The pod export, beside loops that stream ready bytes; queries; and the feed, beside its store.

The measure is what a second of the server's CPU does, of first pods it is time.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import grpc
import grpc.aio

from bench import pods_seed, processes
from bench.client import BadAnswer
from bench.processes import Server
from bench.rounds import Result, Sample, interleaved, measured, result
from bench.stream import METHOD
from services.pods import stored
from services.pods.kinds import POD
from services.pods.service import SERVICE
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as feed
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2_grpc import PodFeedServiceStub
from shared.pb.roundhouse.pods.v1.browse_pb2 import CountPodsRequest, GroupBy
from shared.pb.roundhouse.pods.v1.browse_pb2_grpc import BrowseServiceStub
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.client import bearer
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author, Put

_PODS: Final = 50_000
_FED: Final = 5_000
_FIRSTS: Final = 40
_TIMEOUT: Final = 300.0
EXPORT: Final = "/v1/export/pods"


@dataclass(frozen=True)
class _Sides:
    ours: Server
    bare: Server
    token: str
    count: int
    rounds: int

    def compare(
        self, ours: Callable[[], Sample], theirs: Callable[[], Sample]
    ) -> tuple[list[Sample], list[Sample]]:
        sides = {"ours": ours, "theirs": theirs}
        interleaved(sides, 1)  # warm
        found = interleaved(sides, self.rounds)
        return found["ours"], found["theirs"]


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    count = max(2_000, int(_PODS * scale))
    ours_at, bare_at = folder / "service", folder / "stream"
    for path in (ours_at, bare_at):
        path.mkdir(parents=True)
    pods_seed.fill(ours_at, count)
    lines, frames = bytearray(), bytearray()
    for body in pods_seed.bodies(count):
        frame = stored.frame(body)
        lines += stored.line(body)
        frames += len(frame).to_bytes(4) + frame
    (bare_at / "lines").write_bytes(lines)
    (bare_at / "frames").write_bytes(frames)
    with processes.service("pods", ours_at) as ours, processes.stream(bare_at) as bare:
        sides = _Sides(ours, bare, (ours_at / "operator.token").read_text().strip(), count, rounds)
        yield from _exports(sides, len(lines) / count)
        yield from _first(sides, max(5, int(_FIRSTS * scale)))
        yield from _queries(sides)
        yield from _counts(sides)
        yield from _feeds(sides, folder, max(1_000, int(_FED * scale)))


def _exports(sides: _Sides, size: float) -> Iterator[Result]:
    note = f"{size:,.0f} bytes a line"
    # The second loop has all lines in memory and reads nothing: a mark, not a target.
    for path, what, least in (
        ("/lines", "bare aiohttp, a line each", 0.7),
        ("/chunks", "the same, 64 KiB each", None),
    ):
        ours, theirs = sides.compare(
            partial(_http, sides.ours, sides.count, EXPORT, sides.token),
            partial(_http, sides.bare, sides.count, path, ""),
        )
        yield result("l", f"HTTP export of {sides.count:,}", what, ours, theirs, least=least, note=note)
    ours, theirs = sides.compare(
        partial(_grpc, sides.ours, sides.count, "", sides.token),
        partial(_grpc, sides.bare, sides.count, "", ""),
    )
    yield result("l", f"gRPC export of {sides.count:,}", "bare grpc.aio", ours, theirs, least=0.7)


def _first(sides: _Sides, times: int) -> Iterator[Result]:
    """The time to the first pod, of an export that is left then."""
    for name, run, path in (
        ("HTTP", _first_over_http, "/chunks"),
        ("gRPC", _first_over_grpc, ""),
    ):
        ours, theirs = sides.compare(
            partial(run, sides.ours, times, EXPORT, sides.token), partial(run, sides.bare, times, path, "")
        )
        took = statistics.median(1000 / sample.per_second for sample in ours)
        yield result(
            "l", f"first pod over {name}", "bare loop", ours, theirs, wall=True, note=f"{took:,.1f} ms to it"
        )


def _queries(sides: _Sides) -> Iterator[Result]:
    """What a query costs, beside the export of all: each is one request."""
    number = sides.count // 2
    some = pods_seed.REPLICAS
    team = sum(pods_seed.pod(n).namespace == "team-07" for n in range(sides.count))
    for what, query, found, times, most in (
        ("one deployment", f"Deployment ID:{pods_seed.deployment_id(number)}", some, 100, 0.05),
        ("one namespace of 50", 'Namespace:"team-07"', team, 20, 0.2),
        ("names that begin alike", f"Pod Name:shop-{number // some:06d}", some, 100, 0.05),
        ("an expression, tried on all", f"Pod Name:r/^shop-{number // some:06d}-", some, 1, 2.0),
    ):
        ours, theirs = sides.compare(
            partial(_requests, sides.ours, times, found, f"{EXPORT}?query={quote(query)}", sides.token),
            partial(_requests, sides.ours, 1, sides.count, EXPORT, sides.token),
        )
        # Of the cost, not of the rate: CPU seconds a request.
        yield result("l", f"export of {what}", "export of all (CPU)", _costs(ours), _costs(theirs), most=most)


def _counts(sides: _Sides) -> Iterator[Result]:
    """What it costs to count all pods by what they belong to, each time anew."""
    turn = iter(range(1_000_000))
    ours, theirs = sides.compare(
        lambda: _counted(sides.ours, sides.token, 20, sides.count, turn),
        partial(_requests, sides.ours, 1, sides.count, EXPORT, sides.token),
    )
    yield result("l", "counts by deployment", "export of all (CPU)", _costs(ours), _costs(theirs), most=0.5)


def _costs(samples: list[Sample]) -> list[Sample]:
    """Rates that are CPU seconds: `result` divides rates."""
    return [Sample(1, sample.seconds, sample.per_cpu) for sample in samples]


def _feeds(sides: _Sides, folder: Path, count: int) -> Iterator[Result]:
    for rpc, call in (("gRPC", _push), ("HTTP", _post)):
        turn = iter(range(1, 1_000_000))
        ours, theirs = sides.compare(
            lambda call=call, turn=turn: call(sides.ours, sides.token, count, next(turn)),  # type: ignore[misc]
            lambda turn=turn: _commit(folder, count, next(turn)),  # type: ignore[misc]
        )
        yield result("l", f"feed over {rpc}", "its commits alone", ours, theirs)


# -- loads


def _http(server: Server, count: int, path: str, token: str) -> Sample:
    return measured(server, count, lambda: asyncio.run(_read(server, path, token, count)))


def _requests(server: Server, times: int, count: int, path: str, token: str) -> Sample:
    """So many requests, whatever each answers."""

    async def ask() -> None:
        for _ in range(times):
            await _read(server, path, token, count)

    return measured(server, times, lambda: asyncio.run(ask()))


async def _read(server: Server, path: str, token: str, count: int) -> None:
    """Reads a whole answer. Raises BadAnswer unless it is one of `count` lines."""
    async with asyncio.timeout(_TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["http"], limit=1 << 20)
        try:
            writer.write(_get(path, token))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise BadAnswer(head.decode(errors="replace"))
            lines, last = 0, b""
            while not last.endswith(b"\r\n0\r\n\r\n") and last != b"0\r\n\r\n":
                data = await reader.read(1 << 20)
                if not data:
                    raise BadAnswer("the answer broke off")
                # The end of a line may come in two pieces.
                lines += (last[-1:] + data).count(b"}\n")
                last = (last + data)[-16:]
        finally:
            writer.transport.abort()
    if lines != count:
        raise BadAnswer(f"{lines} lines, not {count}")


def _get(path: str, token: str) -> bytes:
    allowed = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{allowed}\r\n".encode()


def _grpc(server: Server, count: int, query: str, token: str) -> Sample:
    return measured(server, count, lambda: asyncio.run(_receive(server, query, token, count)))


async def _receive(server: Server, query: str, token: str, count: int) -> None:
    async with asyncio.timeout(_TIMEOUT), grpc.aio.insecure_channel(_target(server)) as channel:
        request = ExportPodRequest(query=query).SerializeToString()
        call, found = channel.unary_stream(METHOD)(request, metadata=bearer(token)), 0
        async for _ in call:
            found += 1
    if found != count:
        raise BadAnswer(f"{found} pods, not {count}")


def _counted(server: Server, token: str, times: int, count: int, turn: Iterator[int]) -> Sample:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(_target(server)) as channel:
            stub = BrowseServiceStub(channel)
            for _ in range(times):
                # A pair that nobody looks at makes it another query, of the same pods.
                request = CountPodsRequest(query=f"turn:{next(turn)}", by=GroupBy.DEPLOYMENT)
                found = await stub.CountPods(request, metadata=bearer(token))
                if found.totals.pods != count:
                    raise BadAnswer(f"{found.totals.pods} pods, not {count}")

    return measured(server, times, lambda: asyncio.run(ask()))


def _target(server: Server) -> str:
    return f"127.0.0.1:{server.ports['grpc']}"


def _first_over_http(server: Server, times: int, path: str, token: str) -> Sample:
    async def firsts() -> None:
        for _ in range(times):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["http"], limit=1 << 20)
            writer.write(_get(path, token))
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}\n")
            writer.transport.abort()

    return measured(server, times, lambda: asyncio.run(firsts()))


def _first_over_grpc(server: Server, times: int, path: str, token: str) -> Sample:
    async def firsts() -> None:
        async with grpc.aio.insecure_channel(_target(server)) as channel:
            for _ in range(times):
                call = channel.unary_stream(METHOD)(b"", metadata=bearer(token))
                await call.read()
                call.cancel()

    return measured(server, times, lambda: asyncio.run(firsts()))


def _push(server: Server, token: str, count: int, turn: int) -> Sample:
    events = [feed.PodEvent(action=feed.REPLACE, pod=_changed(n, turn)) for n in range(count)]

    async def push() -> None:
        async with grpc.aio.insecure_channel(_target(server)) as channel:
            answers = [
                a async for a in PodFeedServiceStub(channel).Push(iter(events), metadata=bearer(token))
            ]
        if answers[-1].stored != count:
            raise BadAnswer(f"{answers[-1].stored} stored, not {count}")

    return measured(server, count, lambda: asyncio.run(push()))


def _post(server: Server, token: str, count: int, turn: int) -> Sample:
    body = b"".join(stored.line_of(_changed(n, turn)) for n in range(count))
    head = f"POST /v1/feed/pods?mode=replace HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    request = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def post() -> None:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["http"])
            writer.write(request)
            answer = await reader.read()
            writer.transport.abort()
        if f'"stored":{count}'.encode() not in answer:
            raise BadAnswer(answer[-500:].decode(errors="replace"))

    return measured(server, count, lambda: asyncio.run(post()))


def _changed(number: int, turn: int) -> Pod:
    found = pods_seed.pod(number)
    found.live_instances[0].exit_code = turn
    return found


def _commit(folder: Path, count: int, turn: int) -> Sample:
    """The same pods, ready, committed in the batches of the feed by one process on its own file."""
    data = folder / f"alone-{turn}"
    puts = [
        Put(POD, pods_seed.pod_id(n), stored.body_of(_changed(n, turn), "import", turn)) for n in range(count)
    ]

    async def commit() -> float:
        kinds = [d.storage() for d in SERVICE.definitions(Config.load({}, data=data), lambda: 0, lambda: "")]
        store = factory.build("sqlite", SERVICE.name, [*kinds, *SERVICE.kinds], data=data)
        await store.open()
        started = time.process_time()
        for start in range(0, count, 1000):
            await store.commit(puts[start : start + 1000], by=Author("bench"))
        took = time.process_time() - started
        await store.close()
        return took

    return Sample(count, 1.0, asyncio.run(commit()))
