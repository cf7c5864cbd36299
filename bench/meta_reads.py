"""(d) What reads of the catalogue cost beside a handler that answers the same bytes and does nothing
else: the same measure as for experiments.

Lists are asked for as pages that begin at each region in turn, so that none is answered from memory,
and as the one page that many poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import orjson

from bench import client, h2load, meta_requests, meta_seed, processes
from bench.meta_requests import LIST, PAGE, PATH, SERVICE
from bench.processes import Server
from bench.rounds import Result, Sample, interleaved, measured, result
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_pb2, region_service_pb2
from shared.rpc.client import bearer

ROWS: Final = 1_000
_CALLERS: Final = 16


@dataclass(frozen=True)
class _Case:
    """One read: over gRPC a method and its request, over REST a path with its query."""

    what: str
    transport: str
    least: float
    count: int
    target: str
    request: bytes = b""
    items: int = 1
    # Each request is another page.
    walks: bool = False


def _cases() -> list[_Case]:
    wanted = meta_seed.name(ROWS // 2)
    get = region_service_pb2.GetRegionRequest(name=wanted).SerializeToString()
    page = region_service_pb2.ListRegionsRequest(page_size=PAGE).SerializeToString()
    polled, walked = f"{PAGE} items, polled", f"{PAGE} items, each time others"
    query = f"{PATH}?page_size={PAGE}"
    return [
        _Case("GetRegion", "gRPC", 0.7, 4000, f"{SERVICE}/GetRegion", get),
        _Case(f"ListRegions, {polled}", "gRPC", 0.5, 4000, LIST, page, PAGE),
        _Case(f"ListRegions, {walked}", "gRPC", 0.5, 1800, LIST, page, PAGE, walks=True),
        _Case("GET region", "REST", 0.7, 12000, f"/v1alpha2/{wanted}"),
        _Case(f"GET regions, {polled}", "REST", 0.5, 8000, query, items=PAGE),
        _Case(f"GET regions, {walked}", "REST", 0.5, 2700, query, items=PAGE, walks=True),
    ]


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    ours_at, bare_at = folder / "service", folder / "bare"
    for path in (ours_at, bare_at):
        path.mkdir(parents=True)
    meta_seed.meta(ours_at, ROWS)
    with ExitStack() as stack:
        ours = stack.enter_context(processes.service("meta", ours_at))
        token = (ours_at / "operator.token").read_text().strip()
        sizes = _prepare(bare_at, _cases(), ours, token)
        bare = stack.enter_context(processes.bare(bare_at))
        tokens = meta_requests.tokens(ours, token, "name asc", range(ROWS - PAGE), ROWS)
        for case in _cases():
            count = max(200, int(case.count * scale))
            # A page is not asked for twice in one round; our answers are remembered until a write.
            sides: dict[str, Callable[[], Sample]] = {
                name: partial(_walk, server, case, token, tokens, count, forget)
                if case.walks
                else partial(_same, server, case, token, count, folder)
                for name, server, forget in (("ours", ours, True), ("bare", bare, False))
            }
            interleaved(sides, 1)  # warm
            samples = interleaved(sides, rounds)
            yield result(
                "d",
                f"{case.transport}: {case.what}",
                f"bare handler, the same {sizes[case.target]} bytes",
                samples["ours"],
                samples["bare"],
                least=case.least,
            )


def _same(server: Server, case: _Case, token: str, count: int, scratch: Path) -> Sample:
    headers = {"authorization": f"Bearer {token}"}
    if case.transport == "gRPC":
        url = f"http://127.0.0.1:{server.ports['grpc']}{case.target}"
        return measured(server, count, lambda: h2load.grpc(url, case.request, headers, count, scratch))
    url = f"http://127.0.0.1:{server.ports['http']}{case.target}"
    return measured(server, count, lambda: h2load.http(url, headers, count))


def _walk(server: Server, case: _Case, token: str, tokens: Sequence[str], count: int, forget: bool) -> Sample:
    """`count` lists, none twice since the last write, which is made first with `forget`."""
    requests, seconds, cpu = 0, 0.0, 0.0
    while requests < count:
        if forget:
            meta_requests.write(server, token)
        chosen = tokens[: count - requests]
        sample = measured(server, len(chosen), partial(_ask, server, case, token, chosen))
        requests, seconds, cpu = requests + len(chosen), seconds + sample.seconds, cpu + sample.cpu
    return Sample(requests, seconds, cpu)


def _ask(server: Server, case: _Case, token: str, tokens: Sequence[str]) -> None:
    """The page behind each of `tokens`, from 16 callers."""
    if case.transport == "REST":
        meta_requests.pages(server, token, tokens, "name asc")
        return
    message = region_service_pb2.ListRegionsRequest
    asyncio.run(
        _call_all(
            server,
            case.target,
            token,
            [
                message(page_size=PAGE, order_by="name asc", page_token=at).SerializeToString()
                for at in tokens
            ],
        )
    )


async def _call_all(server: Server, target: str, token: str, requests: Sequence[bytes]) -> None:
    """Raises unless each status is OK. This client is slow, which the server's CPU time does not show."""
    shared = iter(requests)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        method = channel.unary_unary(target, request_serializer=None, response_deserializer=None)

        async def caller() -> None:
            for request in shared:
                await method(request, metadata=bearer(token), timeout=20)

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))


def _prepare(folder: Path, cases: Sequence[_Case], ours: Server, token: str) -> dict[str, int]:
    """Ask our service once for each case, verify the answer, and write it where `bench.bare` reads
    it. Answers its size in bytes."""
    answers: dict[str, dict[str, str]] = {"grpc": {}, "http": {}}
    sizes: dict[str, int] = {}
    for number, case in enumerate(cases):
        if case.walks:
            continue  # asks what another case does
        if case.transport == "gRPC":
            body = _call(ours, case, token)
            answers["grpc"][case.target] = f"{number}.bin"
        else:
            headers = {"Authorization": f"Bearer {token}"}
            body = client.fetch(ours.ports["http"], client.get(case.target, headers))
            answers["http"][case.target.partition("?")[0]] = f"{number}.bin"
            _verify(len(orjson.loads(body).get("regions", [1])), case)
        (folder / f"{number}.bin").write_bytes(body)
        sizes[case.target] = len(body)
    (folder / "answers.json").write_bytes(orjson.dumps(answers))
    return sizes


def _call(server: Server, case: _Case, token: str) -> bytes:
    """What a real client is answered, which raises unless the status is OK."""
    with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        method = channel.unary_unary(case.target, request_serializer=None, response_deserializer=None)
        body: bytes = method(case.request, metadata=bearer(token), timeout=20)
    if case.target == LIST:
        _verify(len(region_service_pb2.ListRegionsResponse.FromString(body).regions), case)
    else:
        region_pb2.Region.FromString(body)
    return body


def _verify(items: int, case: _Case) -> None:
    if items != case.items:
        raise h2load.LoadFailed(f"{case.what} answered {items} items, not {case.items}")
