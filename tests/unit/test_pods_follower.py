"""Several followers of one log, at their own pace, killed whenever: the copy comes to be what the source is,
and never goes back. The log and its watches are the real ones; what lies between is left out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from services.pods import follower
from services.pods.follower import FOLLOWED, Batch, Change, Follower, Plan
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.pods.v1.pods_pb2 import Followed
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Delete, Expect, Kind, Put, Query, Store
from shared.watch.stateless import Start, Watch
from shared.watch.tailer import Tailer

THING = "thing"
NAMES = [f"name-{number}" for number in range(12)]
BY = Author("test")


class Source:
    """As the jobs service is to a follower. How many changes a set takes in, and when they come, is drawn."""

    def __init__(self, store: Store, tailer: Tailer, draw: random.Random) -> None:
        self._store = store
        self._tailer = tailer
        self._draw = draw

    async def watch(self, kind: str, token: str) -> AsyncGenerator[admin_pb2.WatchResponse, None]:
        width, size = self._draw.choice([1, 3, 1000]), self._draw.choice([1, 2, 100])
        query = Query(kind)
        watch = Watch(self._store, self._tailer, query, lambda body: True, kind, size, width=width)
        slow = self._draw.choice([0, 0, 30])
        async with aclosing(watch.run(Start(token))) as chunks:
            async for chunk in chunks:
                for _ in range(self._draw.randint(0, slow)):
                    await asyncio.sleep(0)
                answer = admin_pb2.WatchResponse(
                    is_current=chunk.is_current,
                    resume_token=chunk.token,
                    is_hard_reset=chunk.is_hard_reset,
                    revision=chunk.revision,
                )
                for record in chunk.current:
                    found = answer.changes.add().current
                    found.name, found.revision, found.body.value = record.name, record.revision, record.body
                for name in chunk.removed:
                    answer.changes.add(removed=name)
                yield answer


class Mirror:
    """The same things again."""

    def __init__(self, store: Store, draw: random.Random) -> None:
        self._store = store
        self._draw = draw

    def begin(self) -> None:
        pass

    def committed(self) -> None:
        pass

    def sealed(self, changes: Sequence[Change]) -> Sequence[Change]:
        return changes

    async def plan(self, batch: Batch) -> Plan:
        stored = await self._store.get_many(THING, [*batch.current, *batch.removed])
        plan = Plan(kept=set(batch.current))
        for name, body in batch.current.items():
            before = stored.get(name)
            if before is None or before.body != body:
                plan.changes.append(
                    Put(THING, name, body, expect=before.revision if before else Expect.ABSENT)
                )
        plan.changes += [Delete(THING, n, stored[n].revision) for n in batch.removed if n in stored]
        for _ in range(self._draw.choice([0, 0, 20])):
            await asyncio.sleep(0)
        return plan

    async def others(self, kept: Collection[str], cluster_id: str) -> AsyncGenerator[Delete, None]:
        async with aclosing(self._store.scan(Query(THING))) as records:
            async for record in records:
                if record.name not in kept:
                    yield Delete(THING, record.name, record.revision)


class Yard:
    """A source, its copy, and processes that make it."""

    def __init__(self, source: Store, copy: Store, tailer: Tailer, draw: random.Random) -> None:
        self.source = source
        self.copy = copy
        self.draw = draw
        self._tailer = tailer
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0

    def start(self) -> None:
        jobs: Any = Source(self.source, self._tailer, self.draw)
        mirror = Mirror(self.copy, self.draw)
        made = Follower(THING, jobs, self.copy, mirror, rules="one", cluster_id="")
        self._tasks.append(asyncio.create_task(made.run()))

    async def kill(self) -> None:
        """One of them, at whatever it is."""
        task = self._tasks.pop(self.draw.randrange(len(self._tasks)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        while self._tasks:
            await self.kill()

    async def act(self) -> None:
        """One commit in the source, of a few things or of many; or its log is forgotten."""
        changes: list[Put | Delete] = []
        for name in self.draw.sample(NAMES, self.draw.choice([1, 2, len(NAMES)])):
            self._number += 1
            put = Put(THING, name, str(self._number).encode())
            changes.append(Delete(THING, name, Expect.ANY) if self.draw.random() < 0.4 else put)
        await self.source.commit(changes, by=BY)
        if self.draw.random() < 0.1:
            await self.source.compact(await self.source.head())

    async def same(self) -> None:
        """Comes to be, and stays so."""
        wanted = await held(self.source)
        async with asyncio.timeout(20):
            while await held(self.copy) != wanted or not await self._level():
                await asyncio.sleep(0)

    async def _level(self) -> bool:
        """The record says so too, or what came since then changed nothing."""
        record = await self.copy.get(FOLLOWED.name, THING)
        return record is not None and not Followed.FromString(record.body).writer

    async def never_back(self) -> None:
        """In no commit of the copy a thing is what it was before something newer."""
        newest: dict[str, int] = {}
        for commit in await self.copy.changes(0, 1_000_000):
            for change in commit.changes:
                if change.kind == THING and change.after is not None:
                    assert int(change.after) >= newest.get(change.name, 0), (commit.revision, change)
                    newest[change.name] = int(change.after)


async def held(store: Store) -> dict[str, bytes]:
    return {record.name: record.body async for record in store.scan(Query(THING))}


@pytest.mark.parametrize("processes", [1, 3])
async def test_the_copy_becomes_what_the_source_is(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": 0, "LONGEST": 0, "_LOOK": 0, "LAPSE": 0.01, "PART": 4, "COMMIT": 3}.items():
        monkeypatch.setattr(follower, name, value)
    for seed in range(40):
        async with AsyncExitStack() as stack:
            source, copy = MemoryStore([Kind(THING)]), MemoryStore([Kind(THING), FOLLOWED])
            await source.open()
            await copy.open()
            tailer = await stack.enter_async_context(Tailer(source))
            yard = Yard(source, copy, tailer, random.Random(seed))
            stack.push_async_callback(yard.stop)
            for _ in range(processes):
                yard.start()
            for _ in range(60):
                await yard.act()
                for _ in range(yard.draw.choice([0, 1, 5, 40])):
                    await asyncio.sleep(0)
                if yard.draw.random() < 0.15:
                    await yard.kill()
                    yard.start()
            await yard.same()
            await yard.never_back()
