"""Resource pools: limits, what is used of them, and how much of a job they have room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.respool import respool_pb2

# Kinds of resources in the words of people, their unit and the limit's field in a spec.
KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "cpu": ("CPU", "", "cpu_limit"),
    "memory": ("Memory", "MiB", "mem_limit_mb"),
    "gpu": ("GPU", "", "gpu_limit"),
}


@dataclass(frozen=True, slots=True)
class Resource:
    """`limit` None: there is none. `used` None: the service does not say."""

    kind: str
    title: str
    unit: str
    limit: float | None
    used: float | None

    @property
    def percent(self) -> float:
        if self.limit is None or self.used is None:
            return 0.0
        return min(100.0, 100 * self.used / self.limit) if self.limit else 100.0 * bool(self.used)

    @property
    def left(self) -> float | None:
        """None: as much as anyone asks for."""
        return None if self.limit is None else max(0.0, self.limit - (self.used or 0.0))

    @property
    def full(self) -> bool:
        return self.percent >= 99.9 and self.limit is not None


@dataclass(frozen=True, slots=True)
class Pool:
    """`above`: the ids of those that it is in, the root last; their limits hold for it, too."""

    id: str
    path: str
    name: str
    description: str
    depth: int
    leaf: bool
    resources: tuple[Resource, ...]
    above: tuple[str, ...]


def pools(found: Sequence[respool_pb2.ResourcePoolInfo]) -> list[Pool]:
    """In the order of their paths."""
    parents = {info.respool_id.value: info.parent.value for info in found}
    return sorted((_pool(info, parents) for info in found), key=lambda pool: pool.path)


def _pool(info: respool_pb2.ResourcePoolInfo, parents: Mapping[str, str]) -> Pool:
    limits = {one.kind: one.limit for one in info.spec.resources}
    used = {one.kind: one.allocation for one in info.usages}
    above = []
    at = info.parent.value
    while at and at not in above:
        above.append(at)
        at = parents.get(at, "")
    path = info.path.value
    return Pool(
        id=info.respool_id.value,
        path=path,
        name=path.rpartition("/")[2] or "/",
        description=info.spec.description,
        depth=0 if path == "/" else path.count("/"),
        leaf=not info.children and path != "/",
        resources=tuple(
            Resource(kind, title, unit, limits.get(kind), used.get(kind))
            for kind, (title, unit, _) in KINDS.items()
            if kind != "gpu" or kind in limits or used.get(kind)
        ),
        above=tuple(above),
    )


@dataclass(frozen=True, slots=True)
class Room:
    """What a job asks of its pool. `fit`: how many of its instances can run now, None for all;
    `never`: not one of them will ever run; `why`: which limit says so."""

    cpu: float
    memory: float
    fit: int | None
    never: bool
    why: str


def room(spec: JobSpec, known: Sequence[Pool]) -> Room | None:
    """For the default spec of a job; None in a pool that there is not. Overrides of single instances
    are not counted."""
    by_id = {pool.id: pool for pool in known}
    own = by_id.get(spec.respool_id.value)
    if own is None:
        return None
    containers = spec.default_spec.containers
    limits = containers[0].resource if containers else None
    count = spec.instance_count
    asked = {kind: getattr(limits, field) if limits else 0.0 for kind, (_, _, field) in KINDS.items()}
    fit, never, why = count, False, ""
    for pool in (own, *(by_id[id] for id in own.above if id in by_id)):
        for resource in pool.resources:
            one, left = asked[resource.kind], resource.left
            if not one or left is None:
                continue
            fits = int(left / one + 1e-9)
            if fits < fit:
                fit = fits
                why = f"{pool.path} has {amount(left)} of {amount(resource.limit)} {resource.title} left"
            if resource.limit is not None and one > resource.limit:
                never = True
                why = f"{pool.path} has a limit of {amount(resource.limit)} {resource.title} in all"
    return Room(asked["cpu"] * count, asked["memory"] * count, fit if fit < count else None, never, why)


def amount(number: float | None) -> str:
    return "∞" if number is None else f"{number:,.6g}".replace(",", "\u202f")
