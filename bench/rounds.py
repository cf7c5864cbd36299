"""Interleaved rounds: both sides in turn, so that a machine that drifts drifts under both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.processes import Server


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one side. `cpu` is the server's."""

    requests: int
    seconds: float
    cpu: float

    @property
    def per_cpu(self) -> float:
        return self.requests / self.cpu

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def measured(server: Server, requests: int, run: Callable[[], None]) -> Sample:
    """What `run` cost, which makes `requests` requests of `server`."""
    cpu, started = server.cpu(), time.perf_counter()
    run()
    return Sample(requests, time.perf_counter() - started, max(server.cpu() - cpu, 0.01))


@dataclass(frozen=True, slots=True)
class Spread:
    """Lowest, median and highest of the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(min(values), statistics.median(values), max(values))


def interleaved(sides: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Each side once a round, the order turned round every other time."""
    found: dict[str, list[Sample]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            found[name].append(sides[name]())
    return found


def ratios(ours: list[float], theirs: list[float]) -> Spread:
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the report. `ours` and `theirs` are medians in `unit`; `ratio` is of each round.
    `least` and `most` are the targets, None where there is none."""

    section: str
    what: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: Spread
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "ok", "SHORT" or, without a target, nothing."""
        if self.least is not None:
            return "ok" if self.ratio.median >= self.least else "SHORT"
        if self.most is not None:
            return "ok" if self.ratio.median <= self.most else "SHORT"
        return ""


def result(
    section: str,
    what: str,
    against: str,
    ours: list[Sample],
    theirs: list[Sample],
    *,
    wall: bool = False,
    least: float | None = None,
    most: float | None = None,
    note: str = "",
) -> Result:
    """Compares requests per server CPU second or, with `wall`, requests per second."""
    a = [s.per_second if wall else s.per_cpu for s in ours]
    b = [s.per_second if wall else s.per_cpu for s in theirs]
    unit = "/s" if wall else "/cpu s"
    return Result(
        section,
        what,
        against,
        unit,
        statistics.median(a),
        statistics.median(b),
        ratios(a, b),
        least,
        most,
        note,
    )
