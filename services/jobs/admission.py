"""Which of the pods that wait may run: what the node and the pools have room for.

In each pool the highest priority goes first, then the one that has waited longest, and nobody is
passed by: a large pod is not starved by small ones. A pod that could never run is left aside and
blocks nobody.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.jobs.runtime.port import Capacity

# Sums of decimal fractions are a little off, and must not become more so with time.
_EPSILON: Final = 1e-9
_PLACES: Final = 6


@dataclass(frozen=True, slots=True)
class Amount:
    """CPUs, MiB and GPUs."""

    cpu: float = 0.0
    memory: float = 0.0
    gpu: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            round(self.cpu + other.cpu, _PLACES),
            round(self.memory + other.memory, _PLACES),
            round(self.gpu + other.gpu, _PLACES),
        )

    def __sub__(self, other: Amount) -> Amount:
        return self + Amount(-other.cpu, -other.memory, -other.gpu)

    def lacks(self, wanted: Amount, used: Amount | None = None) -> str:
        """Of which there is not enough left for `wanted` beside what is used; empty when it fits."""
        taken = used or _NOTHING
        if taken.cpu + wanted.cpu > self.cpu + _EPSILON:
            return "cpu"
        if taken.memory + wanted.memory > self.memory + _EPSILON:
            return "memory"
        return "gpu" if taken.gpu + wanted.gpu > self.gpu + _EPSILON else ""


_NOTHING: Final = Amount()
UNLIMITED: Final = Amount(float("inf"), float("inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class Pool:
    """`chain` are its own id and those of the pools that it is part of."""

    path: str
    limit: Amount
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A pod by its name. `since`: nanoseconds since 1970."""

    pod: str
    pool: str
    amount: Amount
    priority: int
    since: int

    @property
    def place(self) -> tuple[int, int, str]:
        return -self.priority, self.since, self.pod


@dataclass
class Admission:
    """Keeps count of what is admitted, and of those that wait."""

    capacity: Capacity
    pools: Mapping[str, Pool] = field(default_factory=dict)
    _used: dict[str, Amount] = field(default_factory=dict)
    _node: Amount = field(default_factory=Amount)
    _admitted: dict[str, Request] = field(default_factory=dict)
    _waiting: dict[str, Request] = field(default_factory=dict)
    # Pool -> places of those that wait, in order; without those that can never run.
    _lines: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)

    def hold(self, request: Request) -> None:
        """It was admitted before."""
        self._withdraw(request.pod)
        if request.pod in self._admitted:
            return
        self._admitted[request.pod] = request
        self._node += request.amount
        for pool in self._chain(request.pool):
            self._used[pool] = self._used.get(pool, Amount()) + request.amount

    def wait(self, request: Request) -> None:
        """It waits from now on, or with another wish than before; not what is admitted already."""
        if request.pod in self._admitted or self._waiting.get(request.pod) == request:
            return
        self._withdraw(request.pod)
        self._waiting[request.pod] = request
        if not self.never(request):
            insort(self._lines.setdefault(request.pool, []), request.place)

    def leave(self, pod: str) -> bool:
        """It neither waits nor runs any longer. True: there may be room for others now."""
        if self._withdraw(pod):
            return True
        request = self._admitted.pop(pod, None)
        if request is None:
            return False
        self._node -= request.amount
        for pool in self._chain(request.pool):
            self._used[pool] = self._used.get(pool, Amount()) - request.amount
        return True

    def _withdraw(self, pod: str) -> bool:
        """True: it was in line."""
        request = self._waiting.pop(pod, None)
        if request is None:
            return False
        line = self._lines.get(request.pool, [])
        at = bisect_left(line, request.place)
        if at == len(line) or line[at] != request.place:
            return False
        del line[at]
        return True

    def admit(self) -> Iterator[str]:
        """Those that may run now, one after the other; each counts at once."""
        for line in list(self._lines.values()):
            while line:
                request = self._waiting[line[0][2]]
                if self._short(request):
                    break
                self.hold(request)
                yield request.pod

    def holds(self, pod: str) -> bool:
        """It was admitted, and has not ended since."""
        return pod in self._admitted

    def reason(self, pod: str) -> str:
        """Why it waits; empty for one that does not."""
        request = self._waiting.get(pod)
        if request is None:
            return ""
        if never := self.never(request):
            return never
        if short := self._short(request):
            return short
        return f"Others in pool {self._path(request.pool)} are before it"

    def never(self, request: Request) -> str:
        """Why there can never be room for it; empty when there can."""
        if lacking := self._whole().lacks(request.amount):
            return f"It wants more {lacking} than the node has"
        for pool in self._chain(request.pool):
            if lacking := self._limit(pool).lacks(request.amount):
                return f"It wants more {lacking} than pool {self._path(pool)} may use"
        return ""

    def used(self, pool: str) -> Amount:
        return self._used.get(pool, Amount())

    def replace(self, pools: Mapping[str, Pool]) -> None:
        """Pools have changed; what is admitted goes on."""
        self.pools = pools
        self._used.clear()
        for request in self._admitted.values():
            for pool in self._chain(request.pool):
                self._used[pool] = self._used.get(pool, Amount()) + request.amount
        self._lines.clear()
        for request in self._waiting.values():
            if not self.never(request):
                insort(self._lines.setdefault(request.pool, []), request.place)

    def _short(self, request: Request) -> str:
        if len(self._admitted) >= self.capacity.pods:
            return f"The node runs {self.capacity.pods} pods, which is all that it may"
        if lacking := self._whole().lacks(request.amount, self._node):
            return f"The node has not enough {lacking} left"
        for pool in self._chain(request.pool):
            if lacking := self._limit(pool).lacks(request.amount, self.used(pool)):
                return f"Pool {self._path(pool)} has not enough {lacking} left"
        return ""

    def _whole(self) -> Amount:
        return Amount(self.capacity.cpu, self.capacity.memory_mb, self.capacity.gpu)

    def _chain(self, pool: str) -> Iterable[str]:
        found = self.pools.get(pool)
        return found.chain if found is not None else (pool,)

    def _limit(self, pool: str) -> Amount:
        found = self.pools.get(pool)
        return found.limit if found is not None else UNLIMITED

    def _path(self, pool: str) -> str:
        found = self.pools.get(pool)
        return found.path if found is not None else pool
