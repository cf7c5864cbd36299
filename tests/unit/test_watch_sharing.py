"""What watches of one query share: snapshots, differences, pages. And how often pages are listed at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from services.meta.kinds import REGIONS, CatalogueRules, definition
from shared.query import order_by
from shared.resource.collection import Collection, Page, PageRequest
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Put, Query, Record
from shared.watch import stateless
from shared.watch.memo import Memo
from shared.watch.stateful import Modified, Move, RowChanges, StatefulWatch
from shared.watch.stateless import Chunk, Step, Watch
from shared.watch.tailer import Tailer

BY = Author("test")


class Counting(Collection[Any]):
    """Knows how many pages it listed."""

    listed = 0

    async def page(self, request: PageRequest) -> Page:
        self.listed += 1
        # As a store does that reads in a thread: others get their turn.
        await asyncio.sleep(0)
        return await super().page(request)


def put(name: str, title: str) -> Put:
    region = REGIONS.message(name=name, title=title)
    return Put("region", name, region.SerializeToString())


async def test_equal_watches_list_a_page_once_and_only_when_it_may_have_changed() -> None:
    found = definition(REGIONS, CatalogueRules(REGIONS, lambda: 0, str))
    store = MemoryStore([found.storage()])
    await store.open()
    await store.commit([put(f"regions/r{number}", "t") for number in range(6)], by=BY)
    collection = Counting(store, found)
    moves: Memo[Move] = Memo()
    async with Tailer(store) as tailer, asyncio.timeout(5):

        def watch(size: int) -> Any:
            request = PageRequest(size, order_by.parse("", REGIONS.schema))
            shared = (bytes, lambda page: ("", ""), False, f"{size} rows", moves)
            return StatefulWatch(collection, tailer, request, *shared).run()

        streams = [watch(2), watch(2), watch(3)]

        async def told() -> list[RowChanges]:
            return await asyncio.gather(*(anext(stream) for stream in streams))

        await told()
        assert collection.listed == 2
        await store.commit([put("regions/r5", "not on a page")], by=BY)
        await store.commit([put("regions/r0", "on both")], by=BY)
        first, second, third = await told()
        assert collection.listed == 4
        assert first is second and third is not first
        assert [type(change) for change in first.changes] == [Modified]
        for stream in streams:
            await stream.aclose()


class Scanned(MemoryStore):
    """Knows how often it was scanned."""

    scans = 0

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        self.scans += 1
        async for record in super().scan(query, at=at):
            await asyncio.sleep(0)
            yield record


@pytest.mark.parametrize(("resources", "scans"), [(3, 1), (4, 3)])
async def test_stateless_watches_that_begin_together_share_a_small_snapshot(
    monkeypatch: pytest.MonkeyPatch, resources: int, scans: int
) -> None:
    """A larger one each reads for itself, after one of them found out."""
    monkeypatch.setattr(stateless, "_LITTLE", 3)
    store = Scanned([definition(REGIONS, CatalogueRules(REGIONS, lambda: 0, str)).storage()])
    await store.open()
    await store.commit([put(f"regions/r{number}", "t") for number in range(resources)], by=BY)
    steps: Memo[Step] = Memo()
    async with Tailer(store) as tailer, asyncio.timeout(5):
        query = Query("region")
        streams = [
            Watch(store, tailer, query, lambda body: True, "all", 2, steps=steps).run() for _ in range(2)
        ]

        async def change_set(stream: AsyncGenerator[Chunk, None]) -> list[Chunk]:
            found = [await anext(stream)]
            while not found[-1].is_current:
                found.append(await anext(stream))
            return found

        first, second = await asyncio.gather(*map(change_set, streams))
        assert store.scans == scans
        assert [len(chunk.current) for chunk in first] == [2, resources - 2]
        assert [chunk.token for chunk in first] == [chunk.token for chunk in second]
        await store.commit([put("regions/r0", "new")], by=BY)
        (third,), (fourth,) = await asyncio.gather(*map(change_set, streams))
        assert third is fourth and [record.name for record in third.current] == ["regions/r0"]
        for stream in streams:
            await stream.aclose()
