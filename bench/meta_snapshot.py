"""(h) The snapshot that a watch of 10,000 regions begins with: to its last chunk, beside the same rows as
lists of 1,000 and beside etcd, which is asked for all keys at once."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import etcd, meta_requests, meta_watch
from bench.client import BadAnswer
from bench.http2 import Connection
from bench.meta_watch import Party
from bench.rounds import Result, Sample, interleaved, measured, result
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_service_pb2

_REGIONS: Final = 10_000
_PAGE: Final = 1_000
_TIMEOUT: Final = 60.0


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, when all is measured."""
    count = max(_PAGE, int(_REGIONS * scale))
    with ExitStack() as stack:
        for name in ("ours", "etcd"):
            (folder / name).mkdir(parents=True)
        ours = stack.enter_context(meta_watch.ours(folder / "ours", count))
        sides: dict[str, Callable[[], Sample]] = {
            "watch": partial(_sample, ours, _watched, count),
            "list": partial(_sample, ours, _listed, count),
        }
        if etcd.installed():
            theirs = stack.enter_context(meta_watch.beside(folder / "etcd", count))
            sides["etcd"] = partial(_sample, theirs, _ranged, count)
        interleaved(sides, 1)  # warm
        samples = interleaved(sides, rounds)
    took = statistics.median(sample.seconds for sample in samples["watch"])
    for name, against in (("list", f"ListRegions, pages of {_PAGE:,}"), ("etcd", "etcd, one Range")):
        if name in samples:
            yield result(
                "h",
                f"WatchRegions, {count:,} regions",
                against,
                samples["watch"],
                samples[name],
                wall=True,
                note=f"{took * 1000:.0f} ms a snapshot",
            )


def _sample(party: Party, read: Callable[[Party], Coroutine[Any, Any, int]], count: int) -> Sample:
    def once() -> None:
        found = asyncio.run(read(party))
        if found != count:
            raise BadAnswer(f"{found} regions were read, not {count}")

    return measured(party.server, count, once)


async def _watched(party: Party) -> int:
    """Regions in a fresh watch's snapshot."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    found = 0

    def heard(message: bytes | None) -> None:
        nonlocal found
        if done.done():
            return
        if message is None:
            done.set_exception(BadAnswer("the watch ended"))
            return
        answer = region_service_pb2.WatchRegionsResponse.FromString(message)
        found += len(answer.region_changes)
        if answer.is_current:
            done.set_result(None)

    async with Connection(party.server.ports["grpc"]) as connection, asyncio.timeout(_TIMEOUT):
        connection.open(party.path, party.message, party.headers, heard)
        await done
    return found


async def _listed(party: Party) -> int:
    """Regions on all pages, one after the other."""
    found, token = 0, ""
    async with Connection(party.server.ports["grpc"]) as connection:
        while token or not found:
            request = region_service_pb2.ListRegionsRequest(page_size=_PAGE, page_token=token)
            data = await connection.call(meta_requests.LIST, request.SerializeToString(), party.headers)
            answer = region_service_pb2.ListRegionsResponse.FromString(data)
            found, token = found + len(answer.regions), answer.next_page_token
    return found


async def _ranged(party: Party) -> int:
    """Values that etcd answers for the prefix, which nothing but keys in it holds."""
    async with Connection(party.server.ports["grpc"]) as connection:
        data = await connection.call(etcd.RANGE, etcd.everything("regions/"), {})
    return data.count(b"\x0a\x14regions/site-") // 2
