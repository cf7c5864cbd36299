"""How fed pods are written (pods contract, section 7).

A pod belongs to the source that stored it first: no other changes or removes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from services.pods.kinds import POD
from services.pods.merge import merged
from services.pods.stored import body_of
from shared.errors import Aborted, ResourceExhausted
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.roundhouse.pods.v1.pods_pb2 import StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.service.service import Clock
from shared.storage.errors import Conflict
from shared.storage.port import Author, Condition, Delete, Expect, Put, Query, Record, Store

IMPORT: Final = "import"
_TRIES: Final = 8
_READ: Final = 1000
_REFUSALS: Final = 20
# Pods that are merged before others get a turn.
_TURN: Final = 100


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be done with one pod, whose ids are checked."""

    action: int
    pod: Pod
    source: str


@dataclass
class Outcome:
    """What a feed did so far."""

    stored: int = 0
    unchanged: int = 0
    removed: int = 0
    refused: int = 0
    refusals: list[pb.Refusal] = field(default_factory=list)
    revision: int = 0

    def add(self, other: Outcome) -> None:
        self.stored += other.stored
        self.unchanged += other.unchanged
        self.removed += other.removed
        self.refused += other.refused
        self.refusals = (self.refusals + other.refusals)[:_REFUSALS]
        self.revision = other.revision

    def refuse(self, id: str, source: str) -> None:
        self.refused += 1
        if len(self.refusals) < _REFUSALS:
            self.refusals.append(pb.Refusal(id=id, source=source))


@dataclass
class _Current:
    """A pod as it stands before a batch, and what the batch makes of it."""

    record: Record | None
    pod: Pod | None
    source: str
    body: bytes | None

    @classmethod
    def of(cls, record: Record | None) -> _Current:
        if record is None:
            return cls(None, None, "", None)
        stored = StoredPod.FromString(record.body)
        return cls(record, stored.pod, stored.source, record.body)


class Feed:
    """Writes for all streams of this process, one batch after another, so that they never collide."""

    def __init__(self, store: Store, clock: Clock, *, max_sync: int) -> None:
        """`max_sync`: pods of one Sync, all of which are held until its end."""
        self._store = store
        self._clock = clock
        self._max_sync = max_sync
        self._turn = asyncio.Lock()

    async def push(self, events: Sequence[Event], by: Author) -> Outcome:
        """All of it in one revision."""
        async with self._turn:
            for _ in range(_TRIES):
                outcome = Outcome()
                changes = await self._planned(events, outcome)
                if await self._committed(changes, outcome, by):
                    return outcome
        raise Aborted("others write the same pods too fast; feed them again")

    async def sync(self, cluster: str, source: str, pods: AsyncIterator[Pod], by: Author) -> Outcome:
        """Makes the pods of `source` in `cluster` those that `pods` yields, in one revision once they
        have all come. Raises ResourceExhausted when there are too many to be held."""
        events: dict[str, Event] = {}
        async for pod in pods:
            events[pod.id] = Event(pb.UPSERT, pod, source)
            if len(events) > self._max_sync:
                raise ResourceExhausted(f"more than {self._max_sync} pods in one Sync; use Push instead")
        async with self._turn:
            for _ in range(_TRIES):
                outcome = Outcome()
                changes = await self._planned(list(events.values()), outcome)
                changes += await self._unnamed(cluster, source, events.keys(), outcome)
                if await self._committed(changes, outcome, by):
                    return outcome
        raise Aborted("others write the same pods too fast; sync again")

    async def _committed(self, changes: Sequence[Put | Delete], outcome: Outcome, by: Author) -> bool:
        if not changes:
            outcome.revision = await self._store.head()
            return True
        try:
            outcome.revision = (await self._store.commit(changes, by=by)).revision
        except Conflict:
            return False
        return True

    async def _planned(self, events: Sequence[Event], outcome: Outcome) -> list[Put | Delete]:
        """The changes that the events amount to, one after the other."""
        names = list(dict.fromkeys(event.pod.id for event in events))
        current = {name: _Current.of(None) for name in names}
        for start in range(0, len(names), _READ):
            records = await self._store.get_many(POD, names[start : start + _READ])
            current |= {name: _Current.of(record) for name, record in records.items()}
        now = self._clock()
        for number, event in enumerate(events):
            self._apply(event, current[event.pod.id], outcome, now)
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        return [change for name, found in current.items() for change in _difference(name, found)]

    def _apply(self, event: Event, current: _Current, outcome: Outcome, now: int) -> None:
        if current.pod is not None and current.source != event.source:
            outcome.refuse(event.pod.id, current.source)
        elif event.action == pb.REMOVE:
            outcome.removed += current.pod is not None
            current.pod = current.body = None
        else:
            new = event.pod if event.action == pb.REPLACE else merged(event.pod, current.pod)
            if new == current.pod:
                outcome.unchanged += 1
                return
            outcome.stored += 1
            current.pod, current.source = new, event.source
            current.body = body_of(new, event.source, now)

    async def _unnamed(
        self, cluster: str, source: str, named: Iterable[str], outcome: Outcome
    ) -> list[Put | Delete]:
        """Removals of the source's pods in the cluster that were not named."""
        kept = frozenset(named)
        where = (Condition("cluster_id", "=", cluster), Condition("source", "=", source))
        found: list[Put | Delete] = []
        at = await self._store.head()
        async with aclosing(self._store.scan(Query(POD, where=where), at=at)) as records:
            async for record in records:
                if record.name not in kept:
                    found.append(Delete(POD, record.name, record.revision))
        outcome.removed += len(found)
        return found


def _difference(name: str, found: _Current) -> list[Put | Delete]:
    before = found.record
    if found.body is None:
        return [Delete(POD, name, before.revision)] if before is not None else []
    if before is not None and found.body == before.body:
        return []
    return [Put(POD, name, found.body, expect=Expect.ABSENT if before is None else before.revision)]
