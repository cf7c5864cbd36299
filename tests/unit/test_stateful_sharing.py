"""How often pages are listed: once for all watches of one page, and not for what cannot alter it."""

from __future__ import annotations

import asyncio
from typing import Any

from services.meta.kinds import REGIONS, CatalogueRules, definition
from shared.query import order_by
from shared.resource.collection import Collection, Page, PageRequest
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Put
from shared.watch.memo import Memo
from shared.watch.stateful import Modified, Move, RowChanges, StatefulWatch
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
