"""What compaction may take: old enough and deep enough, both."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from shared.service import retention
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Kind, Put

BY = Author("test")
HOUR = 3600 * 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


async def filled(commits: int) -> tuple[MemoryStore, Clock]:
    """One commit an hour: revision N at N hours."""
    clock = Clock()
    store = MemoryStore([Kind("thing")], clock=clock)
    await store.open()
    for number in range(1, commits + 1):
        clock.now = number * HOUR
        await store.commit([Put("thing", "a", str(number).encode())], by=BY)
    return store, clock


@pytest.mark.parametrize(
    ("hours", "keep", "point"),
    [
        (0, 0, 20),  # everything is old enough
        (5, 0, 15),  # younger than five hours stays
        (5, 10, 10),  # so do the newest ten
        (100, 0, 0),
        (0, 100, 0),
    ],
)
async def test_the_point_is_both_old_and_deep_enough(hours: int, keep: int, point: int) -> None:
    store, clock = await filled(20)
    clock.now += 1
    limit = clock.now - hours * HOUR
    assert await retention.compaction_point(store, older_than=limit, keep=keep) == point


async def test_the_point_moves_on_from_an_earlier_compaction() -> None:
    store, clock = await filled(20)
    await store.compact(12)
    assert await retention.compaction_point(store, older_than=clock.now - 5 * HOUR, keep=0) == 14
    assert await retention.compaction_point(store, older_than=clock.now - 15 * HOUR, keep=0) == 0


async def test_it_runs_by_itself_and_keeps_what_is_current() -> None:
    store, clock = await filled(20)
    work = asyncio.create_task(
        retention.run(
            store, clock, age=timedelta(hours=5), keep=0, audit_age=timedelta(hours=8), period=0.001
        )
    )
    async with asyncio.timeout(5):
        while await store.floor() < 14 or len(await store.audit(limit=100)) > 9:
            await asyncio.sleep(0)
    work.cancel()
    assert await store.floor() == 14
    record = await store.get("thing", "a")
    assert record is not None and record.body == b"20"
    assert min(entry.revision for entry in await store.audit(limit=100)) == 12
