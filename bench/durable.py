"""(c) Creates that are durable when they are acknowledged, from 64 callers, beside raw SQLite.

The measure is creates per second, for waiting for the disk is part of it: by a single writer that
commits each write itself, by the storage port, and through the service over gRPC and REST.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import grpc

from bench import client, machine, processes
from bench.processes import ROOT, NotStarted, Server
from bench.rounds import Result, Sample, interleaved, measured, result
from bench.writers import CALLERS
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.backend.api.v2beta1 import experiment_pb2_grpc as rpc
from shared.rpc.client import bearer

_WRITES: Final = 4_000
_SECONDS: Final = 120


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, when all is measured."""
    service = folder / "service"
    service.mkdir(parents=True)
    writes = max(200, int(_WRITES * scale))
    with processes.pipelines(service) as server:
        token = (service / "operator.token").read_text().strip()
        numbers = count()
        sides: dict[str, Callable[[], Sample]] = {
            "raw": partial(_writer, "raw", folder, writes),
            "store": partial(_writer, "store", folder, writes),
            "rest": partial(_rest, server, token, numbers, writes),
            "grpc": partial(_grpc, server, token, numbers, writes),
        }
        interleaved({name: sides[name] for name in ("rest", "grpc")}, 1)  # warm
        samples = interleaved(sides, rounds)
    for side, what, against, least in (
        ("store", "storage port", "raw", 1.0),
        ("rest", "service over REST", "raw", None),
        ("grpc", "service over gRPC", "raw", None),
        ("rest", "service over REST", "store", None),
        ("grpc", "service over gRPC", "store", None),
    ):
        beside = "raw SQLite, one writer" if against == "raw" else "storage port"
        yield result("c", what, beside, samples[side], samples[against], wall=True, least=least)


def _writer(kind: str, folder: Path, writes: int) -> Sample:
    """One run of `bench.writers`, alone on the server core, over a file of its own."""
    core = machine.cores()[0]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        done = subprocess.run(
            [sys.executable, "-m", "bench.writers", kind, place, str(writes)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            cwd=ROOT,
            preexec_fn=lambda: machine.pin(core),
        )
    if done.returncode:
        raise NotStarted(f"bench.writers {kind} failed:\n{done.stderr[-2000:]}")
    seconds = float(done.stdout)
    return Sample(writes, seconds, seconds)


def _rest(server: Server, token: str, numbers: Iterator[int], writes: int) -> Sample:
    headers = {"Authorization": f"Bearer {token}"}
    requests = [
        client.post("/apis/v2beta1/experiments", headers, {"display_name": f"rest-{next(numbers)}"})
        for _ in range(writes)
    ]
    return measured(server, writes, lambda: client.send(server.ports["http"], requests, CALLERS))


def _grpc(server: Server, token: str, numbers: Iterator[int], writes: int) -> Sample:
    return measured(server, writes, lambda: asyncio.run(_creates(server, token, numbers, writes)))


async def _creates(server: Server, token: str, numbers: Iterator[int], writes: int) -> None:
    names = iter(range(writes))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        stub = rpc.ExperimentServiceStub(channel)

        async def caller() -> None:
            for _ in names:
                wanted = v2.Experiment(display_name=f"grpc-{next(numbers)}")
                await stub.CreateExperiment(
                    v2.CreateExperimentRequest(experiment=wanted), metadata=bearer(token), timeout=30
                )

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
