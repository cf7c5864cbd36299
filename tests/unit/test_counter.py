"""Counts brought forward from the log equal what the store counts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from shared.resource.counter import Counter
from shared.storage.errors import Compacted
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Condition, Delete, Index, Kind, Put, Query, Store

BY = Author("test")
KIND = Kind("thing", (Index("n", "int"),), values=lambda body: {"n": json.loads(body)})
QUERY = Query("thing", where=(Condition("n", ">=", 5),))


def holds(body: bytes) -> bool:
    return json.loads(body) >= 5


async def put(store: Store, *numbers: int) -> int:
    """Each under its own name; answers the revision."""
    changes = [Put("thing", str(number), json.dumps(number).encode()) for number in numbers]
    return (await store.commit(changes, by=BY)).revision


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    found = MemoryStore([KIND])
    await found.open()
    yield found
    await found.close()


async def test_a_count_follows_what_enters_changes_and_leaves(store: Store) -> None:
    counter = Counter(store)
    assert await counter.count(QUERY, holds, await put(store, 1, 5, 6)) == 2
    await put(store, 7)
    await store.commit([Delete("thing", "5")], by=BY)
    moved = await store.commit([Put("thing", "6", b"4")], by=BY)
    assert await counter.count(QUERY, holds, moved.revision) == 1
    assert await store.count(QUERY) == 1


async def test_a_count_outlives_the_compaction_of_the_revision_it_was_taken_at(store: Store) -> None:
    counter = Counter(store)
    await counter.count(QUERY, holds, await put(store, 5))
    await put(store, 6)
    head = await put(store, 7)
    await store.compact(head)
    assert await counter.count(QUERY, holds, head) == 3


async def test_a_revision_that_was_compacted_is_said_to_be(store: Store) -> None:
    first = await put(store, 5)
    await store.compact(await put(store, 6))
    with pytest.raises(Compacted):
        await Counter(store).count(QUERY, holds, first)


async def test_an_older_revision_is_counted_anew_and_does_not_replace_a_newer_count(store: Store) -> None:
    counter = Counter(store)
    first, second = await put(store, 5), await put(store, 6)
    assert await counter.count(QUERY, holds, second) == 2
    assert await counter.count(QUERY, holds, first) == 1
    assert await counter.count(QUERY, holds, second) == 2
