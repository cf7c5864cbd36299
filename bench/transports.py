"""(a) What a read costs beside a handler that answers the same bytes and does nothing else.

Both sides get the same requests on the same core; the measure is requests per second of server CPU.
A list that is asked for again and again is answered from memory until somebody writes, so lists are
also measured where each is another one: pages that begin at each row in turn, after a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import grpc
import orjson

from bench import client, h2load, processes, seed
from bench.processes import Server
from bench.rounds import Result, Sample, interleaved, measured, result
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.rpc.client import bearer

ROWS: Final = 1_000
_SERVICE: Final = f"/{v2.DESCRIPTOR.package}.ExperimentService"
_PATH: Final = "/apis/v2beta1/experiments"
_PAGE: Final = 50
_CALLERS: Final = 16


@dataclass(frozen=True)
class _Case:
    """One read: over gRPC a method and its request, over REST a URL path with its query."""

    what: str
    transport: str
    least: float
    count: int
    target: str
    request: bytes = b""
    # Each request is another page.
    walks: bool = False


def _cases() -> list[_Case]:
    wanted = seed.identifier(ROWS // 2)
    get = v2.GetExperimentRequest(experiment_id=wanted).SerializeToString()
    page = v2.ListExperimentsRequest(page_size=_PAGE).SerializeToString()
    walk = f"{_PAGE} items, each time others"
    return [
        _Case("GetExperiment", "gRPC", 0.7, 4000, f"{_SERVICE}/GetExperiment", get),
        _Case(f"ListExperiments, {_PAGE} items", "gRPC", 0.5, 4000, f"{_SERVICE}/ListExperiments", page),
        _Case(
            f"{_PAGE} items, each time others",
            "gRPC",
            0.5,
            1800,
            f"{_SERVICE}/ListExperiments",
            page,
            walks=True,
        ),
        _Case("GET experiment", "REST", 0.7, 12000, f"{_PATH}/{wanted}"),
        _Case(f"GET experiments, {_PAGE} items", "REST", 0.5, 8000, f"{_PATH}?page_size={_PAGE}"),
        _Case(walk, "REST", 0.5, 2700, f"{_PATH}?page_size={_PAGE}", walks=True),
    ]


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    ours_at, bare_at = folder / "service", folder / "bare"
    for path in (ours_at, bare_at):
        path.mkdir(parents=True)
    seed.pipelines(ours_at, ROWS)
    with ExitStack() as stack:
        ours = stack.enter_context(processes.pipelines(ours_at))
        token = (ours_at / "operator.token").read_text().strip()
        cases = _cases()
        sizes = _prepare(bare_at, cases, ours, token)
        theirs = stack.enter_context(processes.bare(bare_at))
        tokens = _tokens(ours, token)
        for case in cases:
            count = max(200, int(case.count * scale))
            headers = {"authorization": f"Bearer {token}"}
            sides: dict[str, Callable[[], Sample]] = {
                "ours": partial(_sample, ours, case, headers, count, folder),
                "theirs": partial(_sample, theirs, case, headers, count, folder),
            }
            if case.walks:
                sides = {
                    "ours": partial(
                        _walk, ours, case, token, tokens, count, forget=partial(_write, ours, token)
                    ),
                    "theirs": partial(_walk, theirs, case, token, tokens, count, forget=lambda: None),
                }
            interleaved(sides, 1)  # warm
            samples = interleaved(sides, rounds)
            yield result(
                "a",
                f"{case.transport}: {case.what}",
                f"bare handler, the same {sizes[case.target]} bytes",
                samples["ours"],
                samples["theirs"],
                least=case.least,
            )


def _sample(server: Server, case: _Case, headers: Mapping[str, str], count: int, scratch: Path) -> Sample:
    if case.transport == "gRPC":
        url = f"http://127.0.0.1:{server.ports['grpc']}{case.target}"
        return measured(server, count, lambda: h2load.grpc(url, case.request, headers, count, scratch))
    url = f"http://127.0.0.1:{server.ports['http']}{case.target}"
    return measured(server, count, lambda: h2load.http(url, headers, count))


def _walk(
    server: Server, case: _Case, token: str, tokens: Sequence[str], count: int, *, forget: Callable[[], None]
) -> Sample:
    """`count` lists, none twice since the last write, which `forget` makes."""
    total = Sample(0, 0.0, 0.0)
    while total.requests < count:
        forget()
        chosen = tokens[: count - total.requests]
        sample = measured(server, len(chosen), partial(_ask, server, case, token, chosen))
        total = Sample(
            total.requests + sample.requests, total.seconds + sample.seconds, total.cpu + sample.cpu
        )
    return total


def _ask(server: Server, case: _Case, token: str, tokens: Sequence[str]) -> None:
    """The page behind each of `tokens`, from 16 callers."""
    if case.transport == "REST":
        headers = {"Authorization": f"Bearer {token}"}
        requests = [client.get(f"{case.target}&page_token={at}", headers) for at in tokens]
        client.send(server.ports["http"], requests, _CALLERS)
    else:
        requests = [
            v2.ListExperimentsRequest(page_size=_PAGE, page_token=at).SerializeToString() for at in tokens
        ]
        asyncio.run(_call_all(server, case, token, requests))


async def _call_all(server: Server, case: _Case, token: str, requests: Sequence[bytes]) -> None:
    """Raises unless each status is OK. This client is slow, which the server's CPU time does not show."""
    shared = iter(requests)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        method = channel.unary_unary(case.target, request_serializer=None, response_deserializer=None)

        async def caller() -> None:
            for request in shared:
                await method(request, metadata=bearer(token), timeout=20)

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))


def _write(server: Server, token: str) -> None:
    """One create, after which nothing that was remembered holds."""
    headers = {"Authorization": f"Bearer {token}"}
    body = {"display_name": f"written-{uuid4()}"}
    client.send(server.ports["http"], [client.post(_PATH, headers, body)], 1)


def _tokens(server: Server, token: str) -> list[str]:
    """Page tokens, each of which another page of full size is behind."""
    headers, found = {"Authorization": f"Bearer {token}"}, [""]
    while len(found) < ROWS - _PAGE:
        path = f"{_PATH}?page_size=1&page_token={found[-1]}"
        found.append(
            orjson.loads(client.fetch(server.ports["http"], client.get(path, headers)))["next_page_token"]
        )
    return found[1:]


def _prepare(folder: Path, cases: list[_Case], ours: Server, token: str) -> dict[str, int]:
    """Ask our service once for each case, verify the answer, and write it where `bench.bare` reads
    it. Answers its size in bytes."""
    answers: dict[str, dict[str, str]] = {"grpc": {}, "http": {}}
    sizes = {}
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
            _verify(len(orjson.loads(body).get("experiments", [1])), case)
        (folder / f"{number}.bin").write_bytes(body)
        sizes[case.target] = len(body)
    (folder / "answers.json").write_bytes(orjson.dumps(answers))
    return sizes


def _call(server: Server, case: _Case, token: str) -> bytes:
    """What a real client is answered, which raises unless the status is OK."""
    with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        method = channel.unary_unary(case.target, request_serializer=None, response_deserializer=None)
        body: bytes = method(case.request, metadata=bearer(token), timeout=20)
    if case.target.endswith("ListExperiments"):
        _verify(len(v2.ListExperimentsResponse.FromString(body).experiments), case)
    else:
        v2.Experiment.FromString(body)
    return body


def _verify(items: int, case: _Case) -> None:
    wanted = _PAGE if "items" in case.what else 1
    if items != wanted:
        raise h2load.LoadFailed(f"{case.what} answered {items} items, not {wanted}")
