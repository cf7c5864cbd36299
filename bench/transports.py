"""(a) What a read costs beside a handler that answers the same bytes and does nothing else.

Both sides get the same requests on the same core; the measure is requests per second of server CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

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


@dataclass(frozen=True)
class _Case:
    """One read: over gRPC a method and its request, over REST a URL path with its query."""

    what: str
    transport: str
    least: float
    count: int
    target: str
    request: bytes = b""


def _cases() -> list[_Case]:
    wanted = seed.identifier(ROWS // 2)
    get = v2.GetExperimentRequest(experiment_id=wanted).SerializeToString()
    page = v2.ListExperimentsRequest(page_size=_PAGE).SerializeToString()
    return [
        _Case("GetExperiment", "gRPC", 0.7, 4000, f"{_SERVICE}/GetExperiment", get),
        _Case(f"ListExperiments, {_PAGE} items", "gRPC", 0.5, 4000, f"{_SERVICE}/ListExperiments", page),
        _Case("GET experiment", "REST", 0.7, 12000, f"{_PATH}/{wanted}"),
        _Case(f"GET experiments, {_PAGE} items", "REST", 0.5, 8000, f"{_PATH}?page_size={_PAGE}"),
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
        for case in cases:
            count = max(200, int(case.count * scale))
            headers = {"authorization": f"Bearer {token}"}
            sides = {
                "ours": partial(_sample, ours, case, headers, count, folder),
                "theirs": partial(_sample, theirs, case, headers, count, folder),
            }
            interleaved(sides, 1)  # warm
            samples = interleaved(sides, rounds)
            yield result(
                "a",
                f"{case.transport}: {case.what}",
                f"bare handler, the same {sizes[case.what]} bytes",
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


def _prepare(folder: Path, cases: list[_Case], ours: Server, token: str) -> dict[str, int]:
    """Ask our service once for each case, verify the answer, and write it where `bench.bare` reads
    it. Answers its size in bytes."""
    answers: dict[str, dict[str, str]] = {"grpc": {}, "http": {}}
    sizes = {}
    for number, case in enumerate(cases):
        if case.transport == "gRPC":
            body = _call(ours, case, token)
            answers["grpc"][case.target] = f"{number}.bin"
        else:
            headers = {"Authorization": f"Bearer {token}"}
            body = client.fetch(ours.ports["http"], client.get(case.target, headers))
            answers["http"][case.target.partition("?")[0]] = f"{number}.bin"
            _verify(len(orjson.loads(body).get("experiments", [1])), case)
        (folder / f"{number}.bin").write_bytes(body)
        sizes[case.what] = len(body)
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
