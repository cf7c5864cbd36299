"""How many pods there are of what, for lists that people click through."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from services.pods.inventory import TURN, Inventory
from services.pods.kinds import CLUSTER, POD
from services.pods.pods import Pods, Selection
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.storage.port import Condition, Order, Query, Store

# A cluster's id, a namespace and a deployment's id.
Place = tuple[str, str, str]
_PLACE: Final = ("cluster_id", "namespace", "deployment_id")
_SOURCE: Final = ("source",)
# Counts that are kept, for how many seconds at most: a query may speak of days ago.
_KEPT: Final = 8
_SECONDS: Final = 10.0


class Totals(NamedTuple):
    pods: int
    clusters: int
    namespaces: int
    deployments: int


# The first parts of a place, and how many are there.
Group = tuple[tuple[str, ...], Totals]


@dataclass(frozen=True)
class Census:
    """Of one query at one revision. Namespaces are those of one cluster each."""

    revision: int
    counts: Mapping[Place, int]
    # Names of clusters, and the names and types of deployments, by their ids; of those that are known.
    clusters: Mapping[str, str]
    deployments: Mapping[str, tuple[str, str]]
    at: float = field(default_factory=time.monotonic)
    _groups: dict[int, list[Group]] = field(default_factory=dict)

    def totals(self) -> Totals:
        places = self.counts.keys()
        return Totals(
            sum(self.counts.values()),
            len({cluster for cluster, _, _ in places}),
            len({place[:2] for place in places}),
            sum(1 for place in places if place[2]),
        )

    async def groups(self, depth: int) -> list[Group]:
        """By the first `depth` parts of a place (clusters, namespaces, deployments), sorted by name. The
        list is not the caller's to change."""
        if depth not in self._groups:
            # Of tens of thousands it takes long enough to hold up others.
            self._groups[depth] = await asyncio.to_thread(self._grouped, depth)
        return self._groups[depth]

    def _grouped(self, depth: int) -> list[Group]:
        pods: Counter[tuple[str, ...]] = Counter()
        namespaces: dict[tuple[str, ...], set[str]] = {}
        deployments: Counter[tuple[str, ...]] = Counter()
        for place, count in self.counts.items():
            key = place[:depth]
            pods[key] += count
            namespaces.setdefault(key, set()).add(place[1])
            deployments[key] += bool(place[2])
        found = [(key, Totals(n, 1, len(namespaces[key]), deployments[key])) for key, n in pods.items()]
        found.sort(key=lambda group: self._name(group[0]))
        return found

    def _name(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """What people read first, then what tells groups apart. Ids stand for names that are not known."""
        cluster = self.clusters.get(key[0]) or key[0]
        deployment = (self.deployments.get(key[2], ("",))[0] or key[2]) if len(key) == 3 else ""
        return (deployment.casefold(), *(name.casefold() for name in key[1:2]), cluster.casefold(), *key)


class Counting:
    """Counts each query once a revision, whoever asks."""

    def __init__(self, pods: Pods, store: Store, inventory: Inventory) -> None:
        self._pods = pods
        self._store = store
        self._inventory = inventory
        self._known: OrderedDict[object, Census] = OrderedDict()
        self._turns: dict[object, asyncio.Lock] = {}

    async def census(self, query: str, namespaces: frozenset[str] | None) -> Census:
        """As of now, or later. Raises InvalidArgument."""
        asked, key = await self._store.head(), (query, namespaces)
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with turn:
                known = self._known.get(key)
                if known is not None and known.revision >= asked and time.monotonic() - known.at < _SECONDS:
                    self._known.move_to_end(key)
                    return known
                found = self._known[key] = await self._counted(query, namespaces)
                self._known.move_to_end(key)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
                return found
        finally:
            if not turn.locked():
                self._turns.pop(key, None)

    async def sources(
        self, query: str, namespaces: frozenset[str] | None
    ) -> Mapping[str, tuple[int, int | None]]:
        """Of each source how many pods it has, and when one of them was last stored (nanoseconds since
        1970). Raises InvalidArgument."""
        selection = await self._pods.select(query, namespaces)
        counts = await self._tallied(selection, _SOURCE, lambda stored: (stored.source,))
        return {source: (count, await self._last(source, namespaces)) for (source,), count in counts.items()}

    async def _last(self, source: str, namespaces: frozenset[str] | None) -> int | None:
        where = [Condition("source", "=", source)]
        if namespaces is not None:
            where.append(Condition("namespace", "in", tuple(sorted(namespaces))))
        order = (Order("updated_at", descending=True),)
        # One direction throughout, as an index has.
        newest = Query(POD, where=tuple(where), order=order, name_descending=True, limit=1)
        async with aclosing(self._store.scan(newest)) as records:
            async for record in records:
                return pb.StoredPod.FromString(record.body).updated_at
        return None

    async def _counted(self, query: str, namespaces: frozenset[str] | None) -> Census:
        selection = await self._pods.select(query, namespaces)
        counts = await self._tallied(
            selection, _PLACE, lambda s: (s.pod.cluster_id, s.pod.namespace, s.pod.deployment_id)
        )
        revision = selection.revision
        rows = await self._inventory.rows(self._store, revision)
        ids = sorted({cluster for cluster, _, _ in counts})
        clusters = await self._store.get_many(CLUSTER, ids)
        return Census(
            revision,
            counts,
            {id: pb.Cluster.FromString(record.body).name for id, record in clusters.items()},
            {row.deployment.id: (row.deployment.name, row.deployment.type) for row in rows},
        )

    async def _tallied(
        self, selection: Selection, by: tuple[str, ...], read: Callable[[pb.StoredPod], Any]
    ) -> Mapping[Any, int]:
        """The store counts what it can test, at its newest revision; the rest is read."""
        if selection.test is None and selection.names is None:
            return await self._store.tally(selection.query, by)
        found: Counter[Any] = Counter()
        turn = time.monotonic()
        async with aclosing(self._pods.records(selection)) as records:
            async for record in records:
                if record is not None:
                    found[read(pb.StoredPod.FromString(record.body))] += 1
                if time.monotonic() - turn > TURN:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
        return found
