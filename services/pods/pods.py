"""The stored pods: which of them a query means, read as of one revision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from services.pods.inventory import TURN, Inventory
from services.pods.kinds import POD, SCHEMA
from services.pods.labels import SEARCH
from shared.pb.roundhouse.pods.v1.pods_pb2 import StoredPod
from shared.query.ast import EVERYTHING, And, In, Node
from shared.query.evaluate import Predicate, compile, rank
from shared.query.pushdown import narrow, pinned
from shared.service.service import Clock
from shared.storage.port import Order, Query, Record, Store

# The order of the export, by the pod's id at last.
BY_DEPLOYMENT: Final = (Order("deployment_id"),)
_NAMES: Final = 500


@dataclass(frozen=True)
class Selection:
    """Pods at one revision. `names`: among these, if that is known."""

    revision: int
    query: Query
    names: Sequence[str] | None
    # What is left to test; None: nothing.
    test: Predicate | None


class Pods:
    def __init__(self, store: Store, inventory: Inventory, clock: Clock) -> None:
        self._store = store
        self._inventory = inventory
        self._clock = clock

    async def select(
        self, text: str, namespaces: frozenset[str] | None, order: Sequence[Order] = BY_DEPLOYMENT
    ) -> Selection:
        """The pods that the query `text` means and that are in `namespaces` (None: in any), as of now.
        Raises InvalidArgument."""
        parsed = SEARCH.parse(text, self._clock())
        revision = await self._store.head()
        nodes: list[Node] = [parsed.own]
        if parsed.joined is not None:
            nodes.append(await self._inventory.among(parsed.joined, self._store, revision))
        if namespaces is not None:
            nodes.append(In("namespace", tuple(sorted(namespaces))))
        node = nodes[0] if len(nodes) == 1 else And(tuple(nodes))
        narrowed = narrow(node, SCHEMA)
        query = _ordered(Query(POD, where=narrowed.conditions), order)
        test = None if node == EVERYTHING or narrowed.exact else compile(node, SCHEMA)
        return Selection(revision, query, pinned(node, SCHEMA), test)

    def records(self, selection: Selection) -> AsyncGenerator[Record | None, None]:
        """In order. Nothing is held between two batches. None: others had a turn, and nothing that the
        query means was found meanwhile."""
        if selection.names is not None:
            return self._named(selection, selection.names)
        records = self._store.scan(selection.query, at=selection.revision)
        return records if selection.test is None else self._tested(records, selection.test)

    async def _tested(
        self, records: AsyncGenerator[Record, None], test: Predicate
    ) -> AsyncGenerator[Record | None, None]:
        parse, turn = StoredPod.FromString, time.monotonic()
        async with aclosing(records):
            async for record in records:
                if test(parse(record.body)):
                    yield record
                elif time.monotonic() - turn > TURN:
                    await asyncio.sleep(0)
                    yield None
                    turn = time.monotonic()

    async def _named(self, selection: Selection, names: Sequence[str]) -> AsyncGenerator[Record, None]:
        test, query = selection.test, selection.query
        kept: list[tuple[StoredPod, Record]] = []
        for start in range(0, len(names), _NAMES):
            found = await self._store.get_many(POD, names[start : start + _NAMES], at=selection.revision)
            for record in found.values():
                stored = StoredPod.FromString(record.body)
                if test is None or test(stored):
                    kept.append((stored, record))
        kept.sort(key=lambda one: one[1].name, reverse=query.name_descending)
        for order in reversed(query.order):
            kept.sort(
                key=lambda one, index=order.index: rank(SCHEMA.values(one[0]).get(index)),  # type: ignore[misc]
                reverse=order.descending,
            )
        for _, record in kept:
            yield record


def _ordered(query: Query, order: Sequence[Order]) -> Query:
    """In `order`, where the index "id" stands for the name, behind which nothing can decide."""
    found: list[Order] = []
    for one in order:
        if one.index == "id":
            return replace(query, order=tuple(found), name_descending=one.descending)
        if one.index not in (known.index for known in found):
            found.append(one)
    return replace(query, order=tuple(found))
