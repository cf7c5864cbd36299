"""(m) Jobs at the sizes of Peloton's own benchmarks, on pods that only pretend to run: what the service
takes for them beside what its store alone takes for the same commits.

Peloton's suite creates a stateless job of 9,000 instances and updates it with a batch of 9,000, updates
100 jobs of 90 with batches of 10, and creates 5,000 jobs from 100 threads while it counts GetJob calls.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import jobs_town
from bench.jobs_town import Town, job_id, quantile, spec
from bench.rounds import Result, Sample, Spread, interleaved, result
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb

_INSTANCES: Final = 9_000
_JOBS: Final = 100
_EACH: Final = 90
_BATCH: Final = 10
_CREATED: Final = 5_000
_CALLERS: Final = 100
_READERS: Final = 4
_IDLE: Final = 20.0
_FEW: Final = 100
_MANY: Final = 50_000
_PAGES: Final = 300
# Fewer rounds than elsewhere: each is long.
_ROUNDS: Final = 3


@dataclass
class _Pair:
    """Of each round."""

    ours: list[Sample] = field(default_factory=list)
    theirs: list[Sample] = field(default_factory=list)


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    folder.mkdir(parents=True)
    with asyncio.Runner() as runner:
        yield from _large(runner, folder, min(rounds, _ROUNDS), scale)
        yield from _many(runner, folder, scale)
        yield from _queries(runner, folder, rounds, scale)


def _within(runner: asyncio.Runner, place: Path, work: Callable[[Town], Coroutine[Any, Any, Any]]) -> Any:
    """What `work` answers, with a service of its own."""

    async def all_of_it() -> Any:
        async with Town(server, place) as town:
            return await work(town)

    with jobs_town.service(place) as server:
        return runner.run(all_of_it())


# -- one job of 9,000, and as many pods in a hundred


def _large(runner: asyncio.Runner, folder: Path, rounds: int, scale: float) -> Iterator[Result]:
    instances, each = max(500, int(_INSTANCES * scale)), max(10, int(_EACH * scale))
    found = _within(runner, folder / "large", partial(_one, rounds, instances))
    for what, pair in zip(("created", "updated, a batch of all"), found, strict=True):
        took = sum(sample.seconds for sample in pair.ours) / rounds
        note = f"{took:.1f} s, {instances / took:,.0f} instances a second"
        name = f"a job of {instances:,} instances {what}"
        yield result("m", name, "the same commits alone", pair.ours, pair.theirs, least=0.2, note=note)
    parallel = _within(runner, folder / "parallel", partial(_parallel, rounds, each))
    took = sum(sample.seconds for sample in parallel) / rounds
    yield result(
        "m",
        f"{_JOBS} jobs of {each} updated at once, batches of {_BATCH}",
        "one job, one batch",
        parallel,
        found[1].ours,
        least=0.5,
        note=f"{took:.1f} s, {_JOBS * each / took:,.0f} instances a second",
    )


async def _one(rounds: int, instances: int, town: Town) -> tuple[_Pair, _Pair]:
    pairs = (_Pair(), _Pair())
    for number in range(rounds):
        id = job_id(number)

        async def create(id: str = id) -> None:
            await town.create(id, spec(instances))
            await town.settled(id)

        async def update(id: str = id) -> None:
            await town.replace(id, spec(instances, "2"), instances)
            await town.settled(id)

        for pair, what, work in zip(pairs, ("create", "update"), (create, update), strict=True):
            before = await town.revision()
            pair.ours.append(await town.taken(instances, work))
            copy = town.place / f"{what}-{number}.db"
            pair.theirs.append(await jobs_town.replayed(town, before, instances, copy))
    return pairs


async def _parallel(rounds: int, each: int, town: Town) -> list[Sample]:
    ids = [job_id(number) for number in range(_JOBS)]

    async def update(note: str) -> None:
        await asyncio.gather(*(town.replace(id, spec(each, note), _BATCH) for id in ids))
        # One after the other: who waits must not be what is measured.
        for id in ids:
            await town.settled(id)

    for id in ids:
        await town.create(id, spec(each))
    for id in ids:
        await town.settled(id)
    return [await town.taken(_JOBS * each, partial(update, str(number))) for number in range(rounds)]


# -- many small ones


def _many(runner: asyncio.Runner, folder: Path, scale: float) -> Iterator[Result]:
    count = max(200, int(_CREATED * scale))
    with ExitStack() as stack:
        places = [folder / name for name in ("many", "none")]
        servers = [stack.enter_context(jobs_town.service(place)) for place in places]
        yield from runner.run(_measured(Town(servers[0], places[0]), Town(servers[1], places[1]), count))


async def _measured(town: Town, empty: Town, count: int) -> list[Result]:
    async with town, empty:
        before = await town.revision()
        creating, reading = await _created(town, count)
        theirs = await jobs_town.replayed(town, before, count, town.place / "copy.db")
        alone = await _read(town, count)
        idle = await asyncio.gather(_resting(town), _resting(empty))
    return [
        result(
            "m",
            f"{count:,} jobs of one instance, {_CALLERS} callers, {_READERS} reading",
            "the same commits alone",
            [creating.sample],
            [theirs],
            least=0.1,
            note=f"{creating}",
        ),
        Result(
            "m",
            "GetJob meanwhile: p99, ms",
            "GetJob alone",
            "ms",
            reading.p99,
            alone.p99,
            Spread.of([reading.p99 / alone.p99]),
            note=f"{reading}; alone {alone}",
        ),
        Result(
            "m",
            f"{count:,} jobs that run and ask for nothing: ms of CPU a second",
            "no job at all",
            "ms/s",
            idle[0],
            idle[1],
            Spread.of([idle[0] / idle[1]]),
            most=1.5,
            note=f"{max(0.0, idle[0] - idle[1]) / count * 1000:.2f} us a job and second",
        ),
    ]


@dataclass
class _Calls:
    """Of many callers: what they cost, and each one's time in seconds."""

    sample: Sample
    times: list[float]

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return quantile(self.times, 0.99) * 1000

    def __str__(self) -> str:
        p50 = quantile(self.times, 0.5) * 1000
        return f"{self.sample.per_second:,.0f}/s, p50 {p50:.1f} ms, p99 {self.p99:.1f} ms"


async def _timed(work: Awaitable[object], times: list[float]) -> None:
    begun = time.perf_counter()
    await work
    times.append(time.perf_counter() - begun)


async def _created(town: Town, count: int) -> tuple[_Calls, _Calls]:
    """The jobs from all callers, and what others read of them at the same time."""
    ids, made = itertools.count(), 0
    creates: list[float] = []
    reads: list[float] = []
    draw = random.Random(5)

    async def create() -> None:
        nonlocal made
        while (number := next(ids)) < count:
            await _timed(town.create(job_id(number), spec(1, name=f"job-{number}")), creates)
            made += 1

    async def read() -> None:
        while made < count:
            if made:
                # The first of those that are made; others may still be on their way.
                await _timed(town.status(job_id(draw.randrange(max(1, made - _CALLERS)))), reads)
            else:
                await asyncio.sleep(0)

    async def everybody() -> None:
        await asyncio.gather(*(create() for _ in range(_CALLERS)), *(read() for _ in range(_READERS)))

    sample = await town.taken(count, everybody)
    for number in range(count):
        await town.settled(job_id(number))
    return _Calls(sample, creates), _Calls(Sample(len(reads), sample.seconds, sample.cpu), reads)


async def _read(town: Town, count: int) -> _Calls:
    times: list[float] = []
    draw = random.Random(6)

    async def read() -> None:
        for _ in range(500):
            await _timed(town.status(job_id(draw.randrange(count))), times)

    sample = await town.taken(500 * _READERS, lambda: asyncio.gather(*(read() for _ in range(_READERS))))
    return _Calls(sample, times)


async def _resting(town: Town) -> float:
    """Milliseconds of CPU a second, when nobody asks for anything."""
    sample = await town.taken(1, lambda: asyncio.sleep(_IDLE))
    return sample.cpu / sample.seconds * 1000


# -- queries


def _queries(runner: asyncio.Runner, folder: Path, rounds: int, scale: float) -> Iterator[Result]:
    """What a page costs among many jobs, beside one among few."""
    many, pages = max(5_000, int(_MANY * scale)), max(50, int(_PAGES * scale))
    wanted: list[tuple[str, Any, float | None]] = [
        ("the newest", {}, 1.5),
        ("by name", {"pagination": {"order_by": [{"order": 1, "property": {"value": "name"}}]}}, 1.5),
        ("the newest that run", {"job_states": [stateless.JOB_STATE_RUNNING]}, 1.5),
        # Nothing is kept that answers this: each job is looked at.
        ("names that contain a text", {"name": "99999"}, None),
    ]
    with ExitStack() as stack:
        towns: dict[int, Town] = {}
        for count in (_FEW, many):
            place = folder / f"queries-{count}"
            runner.run(jobs_town.seed(place, count))
            towns[count] = Town(stack.enter_context(jobs_town.service(place)), place)
            runner.run(towns[count].__aenter__())
            stack.callback(_close, runner, towns[count])
        for what, spec, most in wanted:
            times = pages if most is not None else 3
            sides = {
                str(count): partial(_ask, runner, town, pb.QueryJobsRequest(spec=spec), times)
                for count, town in towns.items()
            }
            interleaved(sides, 1)  # warm
            found = interleaved(sides, rounds)
            few, lots = found[str(_FEW)], found[str(many)]
            note = f"{statistics.median(1000 / sample.per_second for sample in lots):,.1f} ms each"
            name = f"QueryJobs, {what}: {_FEW} jobs"
            # Times as many as among a few: `result` divides rates.
            yield result("m", name, f"{many:,} jobs", few, lots, most=most, note=note)


def _close(runner: asyncio.Runner, town: Town) -> None:
    runner.run(town.__aexit__())


def _ask(runner: asyncio.Runner, town: Town, request: pb.QueryJobsRequest, times: int) -> Sample:
    async def all_of_them() -> None:
        for _ in range(times):
            await town.call("QueryJobs", request)

    return runner.run(town.taken(times, all_of_them))
