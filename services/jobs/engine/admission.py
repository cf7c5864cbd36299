"""Which of the pods that wait may run: what the node and the pools have room for.

In each pool the highest priority goes first, then the one that has waited longest, and nobody is
passed by: a large pod is not starved by small ones. A pod that could never run is left aside and
blocks nobody, and neither does one whose constraint the pods on the host do not meet just now.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from services.jobs import constraint as constraints
from services.jobs.runtime.port import Capacity
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import Constraint, LabelConstraint

Place = tuple[int, int, str]
Labels = frozenset[tuple[str, str]]
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
    """A pod by its name. `since`: nanoseconds since 1970. `constraint`: a Constraint's bytes, empty for
    none. `labels` are those of the pod, which constraints of others count."""

    pod: str
    pool: str
    amount: Amount
    priority: int
    since: int
    constraint: bytes = b""
    labels: Labels = frozenset()

    @property
    def place(self) -> Place:
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
    # Of what is admitted, by label.
    _labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Pool -> constraint -> places of those that wait, in order; without those that can never run.
    _lines: dict[str, dict[bytes, list[Place]]] = field(default_factory=dict)
    _whole: Amount = field(init=False)

    def __post_init__(self) -> None:
        self._whole = Amount(self.capacity.cpu, self.capacity.memory_mb, self.capacity.gpu)

    def take(self, request: Request) -> bool:
        """Admit it at once, as `wait` and `admit` would, where nobody is there to be asked. False: they
        must be."""
        if self._waiting or request.constraint or self._short(request):
            return False
        self.hold(request)
        return True

    def hold(self, request: Request) -> None:
        """It was admitted before."""
        self._withdraw(request.pod)
        if request.pod in self._admitted:
            return
        self._admitted[request.pod] = request
        self._node += request.amount
        self._labels.update(request.labels)
        for pool in self._chain(request.pool):
            self._used[pool] = self._used.get(pool, Amount()) + request.amount

    def wait(self, request: Request) -> None:
        """It waits from now on, or with another wish than before; not what is admitted already."""
        if request.pod in self._admitted or self._waiting.get(request.pod) == request:
            return
        self._withdraw(request.pod)
        self._waiting[request.pod] = request
        self._line_up(request)

    def _line_up(self, request: Request) -> None:
        if not self.never(request):
            lines = self._lines.setdefault(request.pool, {})
            insort(lines.setdefault(request.constraint, []), request.place)

    def leave(self, pod: str) -> bool:
        """It neither waits nor runs any longer. True: there may be room for others now."""
        if self._withdraw(pod):
            return True
        request = self._admitted.pop(pod, None)
        if request is None:
            return False
        self._node -= request.amount
        self._labels.subtract(request.labels)
        for label in request.labels:
            if not self._labels[label]:
                del self._labels[label]
        for pool in self._chain(request.pool):
            self._used[pool] = self._used.get(pool, Amount()) - request.amount
        return True

    def _withdraw(self, pod: str) -> bool:
        """True: it was in line."""
        request = self._waiting.pop(pod, None)
        if request is None:
            return False
        lines = self._lines.get(request.pool, {})
        line = lines.get(request.constraint, [])
        at = bisect_left(line, request.place)
        if at == len(line) or line[at] != request.place:
            return False
        del line[at]
        if not line:
            del lines[request.constraint]
        return True

    def admit(self) -> Iterator[str]:
        """Those that may run now, one after the other; each counts at once."""
        again = True
        while again:
            again = False
            for lines in list(self._lines.values()):
                while (request := self._next(lines)) is not None and not self._short(request):
                    self.hold(request)
                    # Its labels may be what others wait for.
                    again = again or bool(request.labels)
                    yield request.pod

    def _next(self, lines: Mapping[bytes, list[Place]]) -> Request | None:
        """The first in a pool of those whose constraints are met."""
        first = min((line[0] for where, line in lines.items() if self._met(where, self._fits)), default=None)
        return self._waiting[first[2]] if first is not None else None

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
        if not self._met(request.constraint, self._fits):
            return "Its constraint is not met by the pods that are on the host now"
        if short := self._short(request):
            return short
        return f"Others in pool {self._path(request.pool)} are before it"

    def never(self, request: Request) -> str:
        """Why there can never be room for it; empty when there can."""
        if lacking := self._whole.lacks(request.amount):
            return f"It wants more {lacking} than the node has"
        for pool in self._chain(request.pool):
            if lacking := self._limit(pool).lacks(request.amount):
                return f"It wants more {lacking} than pool {self._path(pool)} may use"
        if not self._met(request.constraint, self._possible):
            has = ", ".join(f"{key}={value}" for key, value in sorted((self.capacity.labels or {}).items()))
            return f"Its constraint asks for another host than the only one, which has {has}"
        return ""

    def _met(self, where: bytes, fits: constraints.Fits) -> bool:
        if not where or self.capacity.labels is None:
            return True
        return constraints.met(_constraint(where), fits)

    def _fits(self, label: LabelConstraint) -> bool:
        """Whether it does beside what is admitted."""
        if label.kind == LabelConstraint.LABEL_CONSTRAINT_KIND_HOST:
            return self._possible(label)
        return constraints.holds(label, self._labels[label.label.key, label.label.value])

    def _possible(self, label: LabelConstraint) -> bool:
        """Whether there may be a time at which it fits: the host stays what it is."""
        if label.kind == LabelConstraint.LABEL_CONSTRAINT_KIND_HOST:
            labels = self.capacity.labels or {}
            return constraints.holds(label, int(labels.get(label.label.key) == label.label.value))
        less = label.condition == LabelConstraint.LABEL_CONSTRAINT_CONDITION_LESS_THAN
        return not less or label.requirement > 0

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
            self._line_up(request)

    def _short(self, request: Request) -> str:
        if len(self._admitted) >= self.capacity.pods:
            most = self.capacity.pods
            return f"The node runs {most} pods, which is all that it may (ROUNDHOUSE_JOBS_MAX_PODS)"
        if lacking := self._whole.lacks(request.amount, self._node):
            return f"The node has not enough {lacking} left"
        for pool in self._chain(request.pool):
            if lacking := self._limit(pool).lacks(request.amount, self.used(pool)):
                return f"Pool {self._path(pool)} has not enough {lacking} left"
        return ""

    def _chain(self, pool: str) -> Iterable[str]:
        found = self.pools.get(pool)
        return found.chain if found is not None else (pool,)

    def _limit(self, pool: str) -> Amount:
        found = self.pools.get(pool)
        return found.limit if found is not None else UNLIMITED

    def _path(self, pool: str) -> str:
        found = self.pools.get(pool)
        return found.path if found is not None else pool


@lru_cache(maxsize=1000)
def _constraint(where: bytes) -> Constraint:
    return Constraint.FromString(where)
