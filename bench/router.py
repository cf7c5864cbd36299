"""(i) What Jumpstarter's router costs beside a grpc.aio handler that joins two callers and copies.

Both sides get the same frames over the same kind of connection, without TLS. The measure of throughput
is what a second of the server's CPU passes on; of a round trip it is time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from bench import processes
from bench.client import BadAnswer
from bench.processes import Server
from bench.rounds import Result, Sample, interleaved, measured, result
from services.jumpstarter.api.router_tokens import RouterTokens
from shared.auth.keys import KeyRing
from shared.pb.jumpstarter.v1 import router_pb2 as pb
from shared.rpc.client import bearer

_METHOD: Final = "/jumpstarter.v1.RouterService/Stream"
_TIMEOUT: Final = 180.0
_ALONE: Final = (("grpc.use_local_subchannel_pool", 1),)
_MEGABYTE: Final = 1 << 20
# Payload bytes, frames: control traffic, and what file transfers read at once.
_SIZES: Final = ((64, 20_000), (65_536, 1_600))
_TRIPS: Final = 4_000

Issue = Callable[[], str]


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    ours_at, bare_at = folder / "service", folder / "relay"
    for path in (ours_at, bare_at):
        path.mkdir(parents=True)
    with processes.service("jumpstarter", ours_at) as ours, processes.relay(bare_at) as bare:
        tokens = RouterTokens(KeyRing.open(ours_at / "keys"), time.time_ns)
        streams = count()

        def issue() -> str:
            return tokens.issue(f"stream-{next(streams)}", time.time_ns())

        for size, frames in _SIZES:
            frames = max(200, int(frames * scale))
            samples = _compared(ours, bare, frames, partial(_one_way, size=size), issue, rounds)
            what = f"frames of {size} bytes"
            note = ""
            if size == 65_536:
                rate = sorted(sample.per_cpu for sample in samples["ours"])[len(samples["ours"]) // 2]
                note = f"{rate * size / _MEGABYTE:,.0f} MB/cpu s"
            yield result("i", what, "bare relay", samples["ours"], samples["theirs"], least=0.8, note=note)
        trips = max(200, int(_TRIPS * scale))
        samples = _compared(ours, bare, trips, _there_and_back, issue, rounds)
        took = sorted(1e6 / sample.per_second for sample in samples["ours"])[len(samples["ours"]) // 2]
        yield result(
            "i",
            "round trips of 64 bytes",
            "bare relay",
            samples["ours"],
            samples["theirs"],
            wall=True,
            least=0.8,
            note=f"{took:,.0f} us each",
        )


def _compared(
    ours: Server, bare: Server, frames: int, load: Any, issue: Issue, rounds: int
) -> dict[str, list[Sample]]:
    sides: dict[str, Callable[[], Sample]] = {
        name: partial(_sample, server, frames, load, issue)
        for name, server in (("ours", ours), ("theirs", bare))
    }
    interleaved(sides, 1)  # warm
    return interleaved(sides, rounds)


def _sample(server: Server, frames: int, load: Any, issue: Issue) -> Sample:
    return measured(server, frames, lambda: asyncio.run(_run(server, frames, load, issue())))


async def _run(server: Server, frames: int, load: Any, token: str) -> None:
    async with asyncio.timeout(_TIMEOUT), _joined(server, token) as (client, exporter):
        await load(client, exporter, frames)


@asynccontextmanager
async def _joined(server: Server, token: str) -> AsyncIterator[tuple[Any, Any]]:
    """Two calls that have met, each with a connection of its own, bytes in and out."""
    target = f"127.0.0.1:{server.ports['grpc']}"
    async with (
        grpc.aio.insecure_channel(target, options=_ALONE) as one,
        grpc.aio.insecure_channel(target, options=_ALONE) as other,
    ):
        client, exporter = (
            channel.stream_stream(_METHOD)(metadata=bearer(token)) for channel in (one, other)
        )
        await client.write(_frame(0, 64))
        if await exporter.read() != _frame(0, 64):
            raise BadAnswer("another frame arrived than was sent")
        yield client, exporter
        client.cancel()
        exporter.cancel()


def _frame(number: int, size: int) -> bytes:
    return pb.StreamRequest(payload=number.to_bytes(8) + bytes(size - 8)).SerializeToString()


async def _one_way(client: Any, exporter: Any, frames: int, *, size: int) -> None:
    async def write() -> None:
        for number in range(frames):
            await client.write(_frame(number, size))

    writer = asyncio.create_task(write())
    for number in range(frames):
        frame = await exporter.read()
        if len(frame) < size or (number == frames - 1 and frame != _frame(number, size)):
            raise BadAnswer("another frame arrived than was sent")
    await writer


async def _there_and_back(client: Any, exporter: Any, trips: int) -> None:
    async def echo() -> None:
        for _ in range(trips):
            await exporter.write(await exporter.read())

    echoes = asyncio.create_task(echo())
    sent = _frame(1, 64)
    for _ in range(trips):
        await client.write(sent)
        if await client.read() != sent:
            raise BadAnswer("another frame arrived than was sent")
    await echoes
