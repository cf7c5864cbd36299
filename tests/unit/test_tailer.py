"""The tailer keeps reading, whatever its store goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from shared.storage.errors import FormatError, StoreError, StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Commit, Kind, Put
from shared.watch import tailer as tailers
from shared.watch.tailer import Tailer


class Ailing(MemoryStore):
    """Fails to read its head as long as `fault` is set, and tells of nothing by itself: as a peer's."""

    fault: StoreError | None = None
    asked = 0

    async def head(self) -> int:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return await super().head()

    def _announce(self, revision: int) -> None:
        pass


@pytest.mark.parametrize("fault", [StoreUnavailable("locked"), FormatError("being restored")])
async def test_what_passes_is_waited_out(fault: StoreError) -> None:
    store = Ailing([Kind("thing")])
    await store.open()
    async with Tailer(store, poll=0.001) as tailer:
        store.fault, store.asked = fault, 0
        await store.commit([Put("thing", "a", b"x")], by=Author("peer"))
        async with asyncio.timeout(10):
            while store.asked < 3:
                await asyncio.sleep(0)
            store.fault = None
            assert await tailer.wait(0) == 1


class Counted(MemoryStore):
    """Counts the readings of its log, each of which takes its turn."""

    readings = 0

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        self.readings += 1
        await asyncio.sleep(0)
        return await super().changes(after, limit)


async def put(store: MemoryStore, name: str, body: bytes) -> int:
    return (await store.commit([Put("thing", name, body)], by=Author("test"))).revision


async def test_those_who_follow_closely_share_one_reading_of_each_commit() -> None:
    store = Counted([Kind("thing")])
    await store.open()
    async with Tailer(store, poll=60) as tailer:

        async def follow(count: int) -> list[int]:
            seen: list[int] = []
            async with aclosing(tailer.follow(0)) as commits:
                async for commit in commits:
                    seen.append(commit.revision)
                    if len(seen) == count:
                        break
            return seen

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            followers = [group.create_task(follow(30)) for _ in range(20)]
            for number in range(30):
                await put(store, str(number), b"x")
                await asyncio.sleep(0)
        assert all(follower.result() == list(range(1, 31)) for follower in followers)
        assert store.readings <= 31


async def test_what_is_kept_of_the_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailers, "_KEPT_BYTES", 10_000)
    store = Counted([Kind("thing")])
    await store.open()
    async with Tailer(store, poll=60) as tailer:
        for number in range(200):
            after = await put(store, "same", str(number).encode() * 1_000) - 1
            assert [commit.revision for commit in await tailer.changes(after, 9)] == [after + 1]
        assert tailer._bytes <= 10_000 and len(tailer._recent) < 10
        # Whoever is far behind reads for itself, and leaves what is kept as it is.
        kept = dict(tailer._recent)
        assert [commit.revision for commit in await tailer.changes(3, 4)] == [4, 5, 6, 7]
        assert tailer._recent == kept
        # One that is larger than what is kept is kept alone.
        after = await put(store, "large", b"x" * 20_000) - 1
        await tailer.changes(after, 1)
        assert list(tailer._recent) == [after + 1]
