"""Resource pools: the tree that jobs live in, and the rules of writing it (jobs contract, section 8).

A pool is its path, as in /batch/nightly. Its id follows from the path, so that a manifest needs to name
no ids, and a pool that comes back is the one it was.
"""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from services.jobs import kinds
from services.jobs.engine.admission import UNLIMITED, Amount, Pool
from shared.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from shared.pb.peloton.api.v1alpha.respool import respool_pb2 as respool
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.resource.definition import Lookup, Strategy
from shared.service.service import Clock
from shared.storage.errors import Exists
from shared.storage.port import Author, Check, Condition, Expect, Put, Query, Store

log = logging.getLogger(__name__)

ROOT: Final = "root"
ROOT_PATH: Final = "/"
DEFAULT_PATH: Final = "/DefaultResPool"
# Kind of resource -> what admission calls it.
RESOURCES: Final[Mapping[str, str]] = {"cpu": "cpu", "memory": "memory", "gpu": "gpu"}
MAX_DEPTH: Final = 8
_SEGMENT: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_NAMESPACE: Final = uuid.UUID("6b1d9a9e-5f0c-4a52-9f53-0c8f9a3f6f11")
_FIRST: Final = Author("system", "start:resource_pool:create")
# Of children, in an error.
_SHOWN: Final = 5


def id_of(path: str) -> str:
    """`root` for `/`, else a UUID that is the same wherever the path is."""
    return ROOT if path == ROOT_PATH else str(uuid.uuid5(_NAMESPACE, path))


def parent_path(path: str) -> str:
    """Empty for the root."""
    if path == ROOT_PATH:
        return ""
    return path.rpartition("/")[0] or ROOT_PATH


def path_fault(path: str) -> str:
    """What is wrong with a path; empty for nothing."""
    if path == ROOT_PATH:
        return ""
    if not path.startswith("/"):
        return "must begin with '/', as in /batch/nightly"
    segments = path[1:].split("/")
    if len(segments) > MAX_DEPTH:
        return f"is {len(segments)} levels deep; at most {MAX_DEPTH} are allowed"
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return (
            "has a part that is not 1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"
        )
    return ""


def limits(pool: pb.ResourcePool) -> dict[str, float]:
    """By kind of resource; one that is missing has none."""
    return {entry.kind: entry.limit for entry in pool.spec.resources}


class PoolRules(Strategy[pb.ResourcePool]):
    """The path is what a manifest's item is about; the server sets the ids and the name."""

    related = True
    entangled = True

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def prepare(self, new: pb.ResourcePool, old: pb.ResourcePool | None) -> None:
        new.id = id_of(new.path)
        new.spec.name = new.path.rpartition("/")[2]
        new.spec.ClearField("parent")
        if above := parent_path(new.path):
            new.spec.parent.value = id_of(above)
        now = self._clock()
        new.created_at = now if old is None else old.created_at
        new.spec.ClearField("revision")
        if old is not None:
            new.spec.revision.CopyFrom(old.spec.revision)
            if new == old:
                return
        revision = new.spec.revision
        revision.version += 1
        revision.created_at, revision.updated_at = new.created_at, now

    def submitted(self, item: pb.ResourcePool) -> Iterable[Violation]:
        if item.id and item.id != id_of(item.path):
            yield Violation("id", f"follows from the path: leave it out, or write {id_of(item.path)}")
        if item.spec.name and item.spec.name != item.path.rpartition("/")[2]:
            yield Violation("spec.name", "follows from the path; leave it out")
        if item.spec.HasField("parent") and item.spec.parent.value != id_of(parent_path(item.path)):
            yield Violation("spec.parent", "follows from the path; leave it out")

    def validate(self, new: pb.ResourcePool, old: pb.ResourcePool | None) -> Sequence[Violation]:
        return list(_faults(new))

    async def relations(self, new: pb.ResourcePool, after: Lookup) -> Sequence[Violation]:
        above = parent_path(new.path)
        if not above or path_fault(new.path):
            return ()
        body = await after(kinds.RESOURCE_POOL, id_of(above))
        if body is None:
            return [Violation("path", f"there is no pool {above}")]
        most = limits(pb.ResourcePool.FromString(body))
        return [
            Violation(
                f"spec.resources[{index}].limit",
                f"is {entry.limit:g} {entry.kind}; {above} has {most[entry.kind]:g}",
            )
            for index, entry in enumerate(new.spec.resources)
            if entry.limit > most.get(entry.kind, math.inf)
        ]

    async def guard_removal(self, resource: pb.ResourcePool, store: Store) -> Sequence[Check]:
        if resource.id == ROOT:
            raise FailedPrecondition(
                "the root pool / always stays", kind=kinds.RESOURCE_POOL, name=resource.path
            )
        mark = await store.get(kinds.BEGUN.name, resource.id)
        used = Query(kinds.JOB, where=(Condition("respool_id", "=", resource.id),), limit=1)
        async with aclosing(store.scan(used)) as jobs:
            async for job in jobs:
                raise FailedPrecondition(
                    f"pool {resource.path} has jobs, job {job.name} for one; delete them first",
                    kind=kinds.RESOURCE_POOL,
                    name=resource.path,
                )
        return (Check(kinds.BEGUN.name, resource.id, 0 if mark is None else mark.revision),)

    async def locate(self, item: pb.ResourcePool, store: Store) -> str:
        return id_of(item.path)


def _faults(new: pb.ResourcePool) -> Iterable[Violation]:
    if fault := path_fault(new.path):
        yield Violation("path", fault)
    for field in ("controller_limit", "slack_limit"):
        if new.spec.HasField(field):
            yield Violation(f"spec.{field}", "is not supported; leave it out")
    seen: set[str] = set()
    for index, entry in enumerate(new.spec.resources):
        at = f"spec.resources[{index}]"
        if entry.kind not in RESOURCES:
            yield Violation(f"{at}.kind", f"{entry.kind[:63]!r} is none of {', '.join(RESOURCES)}")
        elif entry.kind in seen:
            yield Violation(f"{at}.kind", f"{entry.kind} is there twice")
        seen.add(entry.kind)
        if not math.isfinite(entry.limit) or entry.limit < 0:
            yield Violation(f"{at}.limit", f"is {entry.limit}; it must be a number from 0")
        for field in ("reservation", "share"):
            if getattr(entry, field):
                yield Violation(f"{at}.{field}", "is not supported: pools have limits; leave it out")
        if entry.type == respool.RESERVATION_TYPE_STATIC:
            yield Violation(f"{at}.type", "is not supported; leave it out")


class Pools:
    """Reads pools."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ensure(self, clock: Clock) -> None:
        """The root and the default pool, at the very first start."""
        if await self._store.get(kinds.RESOURCE_POOL, ROOT) is not None:
            return
        rules, puts = PoolRules(clock), []
        for path in (ROOT_PATH, DEFAULT_PATH):
            pool = pb.ResourcePool(path=path)
            rules.prepare(pool, None)
            body = pool.SerializeToString(deterministic=True)
            puts.append(Put(kinds.RESOURCE_POOL, pool.id, body, pool.spec.parent.value, Expect.ABSENT))
        try:
            await self._store.commit(puts, by=_FIRST)
        except Exists:
            log.info("another process has made the first resource pools")
        log.info("the pool for jobs", extra={"path": DEFAULT_PATH, "id": id_of(DEFAULT_PATH)})

    async def all(self) -> dict[str, pb.ResourcePool]:
        """By id, in the order of their paths."""
        found: list[pb.ResourcePool] = []
        async with aclosing(self._store.scan(Query(kinds.RESOURCE_POOL))) as records:
            async for record in records:
                found.append(pb.ResourcePool.FromString(record.body))
        return {pool.id: pool for pool in sorted(found, key=lambda pool: pool.path)}

    async def tree(self) -> dict[str, Pool]:
        """As admission counts them."""
        found = await self.all()
        return {id: Pool(pool.path, _amount(pool), tuple(_chain(pool.path))) for id, pool in found.items()}

    async def at(self, path: str) -> str | None:
        """The id of the pool at a path; None when there is none."""
        return id_of(path) if await self._store.get(kinds.RESOURCE_POOL, id_of(path)) is not None else None

    async def get(self, id: str) -> pb.ResourcePool:
        """Raises NotFound."""
        record = await self._store.get(kinds.RESOURCE_POOL, id)
        if record is None:
            raise missing(id)
        return pb.ResourcePool.FromString(record.body)

    async def children(self, id: str) -> list[str]:
        """The ids of those right below it."""
        async with aclosing(self._store.scan(Query(kinds.RESOURCE_POOL, parent=id))) as records:
            return [record.name async for record in records]

    async def leaf(self, id: str) -> Check:
        """What a new job in pool `id` relies on (section 4, CreateJob). Raises InvalidArgument for the
        root and for a pool with children, NotFound for an unknown one."""
        if not id:
            raise InvalidArgument.at(
                "spec.respool_id", "must be set: the id of a resource pool without children"
            )
        if id == ROOT:
            raise InvalidArgument.at("spec.respool_id", "is the root; jobs live in pools without children")
        record = await self._store.get(kinds.RESOURCE_POOL, id)
        if record is None:
            raise missing(id)
        if below := await self.children(id):
            pools = await self._store.get_many(kinds.RESOURCE_POOL, below[:_SHOWN])
            paths = sorted(pb.ResourcePool.FromString(found.body).path for found in pools.values())
            raise InvalidArgument.at(
                "spec.respool_id", f"has children; choose one of those, as {', '.join(paths)}"
            )
        return Check(kinds.RESOURCE_POOL, id, record.revision)


def missing(id: str) -> NotFound:
    """No pool has that id."""
    return NotFound(f"resource pool {id[:100]!r} not found", kind=kinds.RESOURCE_POOL, name=id[:100])


def _amount(pool: pb.ResourcePool) -> Amount:
    found = {RESOURCES[kind]: limit for kind, limit in limits(pool).items()}
    return Amount(
        cpu=found.get("cpu", UNLIMITED.cpu),
        memory=found.get("memory", UNLIMITED.memory),
        gpu=found.get("gpu", UNLIMITED.gpu),
    )


def _chain(path: str) -> Iterable[str]:
    """The ids of a pool and of those that it is part of."""
    while path:
        yield id_of(path)
        path = parent_path(path)
