"""(k) Pods that the process runtime launches, beside a bare loop of subprocess launches.

Ours is the whole way: from the service's process over the keeper's socket to a process in a sandbox of
its own, with its output in files, and back to an observation. The loop starts the same program with
nothing attached. Both launch on the server core; the measure is time.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from bench import machine
from bench.rounds import Result, Sample, interleaved, result
from services.jobs.runtime.node import Node
from services.jobs.runtime.port import Attempt, Phase
from services.jobs.runtime.process import ProcessRuntime
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import PodSpec

_PODS: Final = 400
_TIMEOUT: Final = 120.0
# Programs that go on until they are ended, and that end at once.
_LASTING: Final = ("/bin/sleep", "1000")
_SHORT: Final = ("/bin/true",)


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    folder.mkdir(parents=True)
    pods = max(40, int(_PODS * scale))
    with asyncio.Runner() as runner:
        runtime = ProcessRuntime(folder / "pods", Node(allow_root=True, launch_rate=1e6, pods=2 * pods))
        runner.run(runtime.open())
        keeper = int((folder / "pods" / ".keeper" / "lock").read_text())
        try:
            os.sched_setaffinity(keeper, {machine.cores()[0]})
            batches = count()
            for what, program, phase, least in (
                ("pods launched, until they are seen to run", _LASTING, Phase.RUNNING, 0.5),
                ("pods that end at once, until that is seen", _SHORT, Phase.ENDED, None),
            ):
                sides: dict[str, Callable[[], Sample]] = {
                    "ours": partial(_ours, runner, runtime, batches, program, phase, pods),
                    "theirs": partial(_bare, program, phase, pods),
                }
                interleaved(sides, 1)  # warm
                found = interleaved(sides, rounds)
                yield result(
                    "k",
                    what,
                    "bare loop of launches",
                    found["ours"],
                    found["theirs"],
                    wall=True,
                    least=least,
                    note="Peloton's best: 130/s in a cluster",
                )
        finally:
            runner.run(runtime.end())
            runner.run(runtime.close())


def _ours(
    runner: asyncio.Runner,
    runtime: ProcessRuntime,
    batches: Iterator[int],
    program: tuple[str, ...],
    phase: Phase,
    pods: int,
) -> Sample:
    names = [f"batch-{next(batches)}-{number}" for number in range(pods)]
    return runner.run(_launched(runtime, names, _spec(program), phase))


async def _launched(runtime: ProcessRuntime, names: list[str], spec: PodSpec, phase: Phase) -> Sample:
    reached = asyncio.create_task(_reach(runtime, names, phase))
    # It watches before anything happens.
    await runtime.attempts()
    begun = time.perf_counter()
    await asyncio.gather(*(runtime.start(Attempt(name, spec)) for name in names))
    await reached
    taken = time.perf_counter() - begun
    for name in names:
        await runtime.stop(name, 0)
    await _reach(runtime, names, Phase.ENDED)
    # Their files stay until the end: to remove thousands slows what makes the next ones.
    return Sample(len(names), taken, max(taken, 0.01))


async def _reach(runtime: ProcessRuntime, names: list[str], phase: Phase) -> None:
    left = set(names)
    async with asyncio.timeout(_TIMEOUT):
        async for found in runtime.watch():
            if found.phase in (phase, Phase.ENDED):
                left.discard(found.pod_id)
            if not left:
                return


def _spec(program: tuple[str, ...]) -> PodSpec:
    spec = PodSpec()
    entrypoint = spec.containers.add().entrypoint
    entrypoint.value = program[0]
    entrypoint.arguments.extend(program[1:])
    spec.mesos_spec.shell = False
    return spec


def _bare(program: tuple[str, ...], phase: Phase, pods: int) -> Sample:
    server, load = machine.cores()
    machine.pin(server)
    started: list[subprocess.Popen[bytes]] = []
    try:
        begun = time.perf_counter()
        for _ in range(pods):
            started.append(
                subprocess.Popen(
                    program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        if phase is Phase.ENDED:
            for process in started:
                process.wait()
        taken = time.perf_counter() - begun
    finally:
        machine.pin(load)
        for process in started:
            process.kill()
            process.wait()
    return Sample(pods, taken, max(taken, 0.01))
