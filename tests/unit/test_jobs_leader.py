"""Which process writes jobs: locks, heartbeats, take-overs, and what the one that lost may still do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.jobs import kinds
from services.jobs.engine.leader import ANSWER, FILE, QUESTION, TERM, FolderLock, Leader
from services.jobs.runtime.port import RuntimeUnavailable
from shared.errors import InvalidArgument, Unavailable
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.errors import Conflict, StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Check, Put
from tests.patience import PATIENCE

BY = Author("test", "test:leader:arrange")
LAPSE = 0.2


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    found = MemoryStore([kinds.LEADER])
    await found.open()
    yield found
    await found.close()


class Process:
    """One that may lead."""

    def __init__(self, store: MemoryStore, folder: Path, *, lapse: float = LAPSE) -> None:
        clock = itertools.count(1)
        self.terms: list[Check] = []
        self.failures: list[Exception] = []
        self.leading = 0
        self.leader = Leader(store, folder, lambda: next(clock), self._lead, lapse=lapse)

    @asynccontextmanager
    async def _lead(self, fence: Check) -> AsyncIterator[str]:
        if self.failures:
            raise self.failures.pop()
        self.terms.append(fence)
        self.leading += 1
        try:
            yield "writer"
        finally:
            self.leading -= 1

    async def leads(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.leader.leads:
                await asyncio.sleep(0.005)

    async def follows(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.leader.leads:
                await asyncio.sleep(0.005)


def test_a_folder_has_one_holder_and_keeps_its_id(tmp_path: Path) -> None:
    one, other = FolderLock(tmp_path / "new"), FolderLock(tmp_path / "new")
    assert one.take() and one.take() and not other.take()
    first = one.id
    assert len(first) == 36 and (tmp_path / "new" / FILE).read_text() == first
    one.release()
    assert other.take() and other.id == first
    other.release()


async def test_the_first_one_leads_at_once_and_gives_way_when_it_ends(
    store: MemoryStore, tmp_path: Path
) -> None:
    process = Process(store, tmp_path)
    async with process.leader as leader:
        assert leader.leads and leader.writer() == "writer"
        assert await store.get("leader", TERM) is not None
    assert process.leading == 0 and not leader.leads
    assert await store.get("leader", TERM) is None
    with pytest.raises(Unavailable):
        leader.writer()


async def test_another_process_of_the_folder_waits_for_the_first(store: MemoryStore, tmp_path: Path) -> None:
    first, second = Process(store, tmp_path), Process(store, tmp_path)
    async with first.leader:
        await second.leader.__aenter__()
        assert not second.leader.leads
    await second.leads()
    await second.leader.__aexit__()


async def test_nobody_writes_anything_where_nobody_waits(store: MemoryStore, tmp_path: Path) -> None:
    process = Process(store, tmp_path)
    async with process.leader:
        before = await store.head()
        for _ in range(10):
            await process.leader._answer()
        assert process.leader.leads and await store.head() == before


async def test_another_folder_waits_for_as_long_as_there_are_answers(
    store: MemoryStore, tmp_path: Path
) -> None:
    first, second = Process(store, tmp_path / "1"), Process(store, tmp_path / "2")
    async with first.leader, second.leader:
        async with asyncio.timeout(PATIENCE):
            # Many times what a silent one would be given.
            while len(await store.history("leader", ANSWER, limit=500)) < 5:
                await asyncio.sleep(LAPSE / 4)
        assert first.leader.leads and not second.leader.leads and second.terms == []


async def test_silence_is_followed_by_a_take_over_and_the_old_one_steps_down(
    store: MemoryStore, tmp_path: Path
) -> None:
    # It answers too late.
    first, second = Process(store, tmp_path / "1", lapse=3600), Process(store, tmp_path / "2")
    async with first.leader, second.leader:
        await second.leads()
        fence = first.terms[0]
        with pytest.raises(Conflict):
            await store.commit([Put("leader", "work", b"x")], checks=[fence], by=BY)
        await store.commit([Put("leader", "work", b"x")], checks=[second.terms[0]], by=BY)
        await first.leader._answer()
        assert not first.leader.leads and first.leading == 0
    assert second.leading == 0


async def test_whoever_died_in_this_folder_is_not_waited_for(store: MemoryStore, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.take()
    lock.release()
    for record in (TERM, QUESTION, ANSWER):
        body = pb.Leader(id=lock.id, heartbeat=1).SerializeToString()
        await store.commit([Put("leader", record, body)], by=BY)
    process = Process(store, tmp_path, lapse=3600)
    async with process.leader:
        assert process.leader.leads


@pytest.mark.parametrize("error", [RuntimeUnavailable("x"), Unavailable("x"), StoreUnavailable("x")])
async def test_what_is_missing_is_waited_for(store: MemoryStore, tmp_path: Path, error: Exception) -> None:
    process = Process(store, tmp_path)
    process.failures = [error, error]
    async with process.leader:
        assert not process.leader.leads
        await process.leads()


async def test_wrong_settings_stop_the_start_and_leave_the_lock(store: MemoryStore, tmp_path: Path) -> None:
    process = Process(store, tmp_path)
    process.failures = [InvalidArgument.at("ROUNDHOUSE_JOBS_ALLOW_ROOT", "not as root")]
    with pytest.raises(InvalidArgument):
        await process.leader.__aenter__()
    assert process.leading == 0 and FolderLock(tmp_path).take()


async def test_wrong_settings_are_no_end_for_one_that_waits(store: MemoryStore, tmp_path: Path) -> None:
    first, second = Process(store, tmp_path), Process(store, tmp_path)
    await first.leader.__aenter__()
    second.failures = [InvalidArgument.at("ROUNDHOUSE_JOBS_ALLOW_ROOT", "not as root")]
    async with second.leader:
        await first.leader.__aexit__()
        await second.leads()


async def test_a_store_that_fails_for_a_while_changes_nothing(store: MemoryStore, tmp_path: Path) -> None:
    process = Process(store, tmp_path)
    async with process.leader:
        commit, store.commit = store.commit, _down  # type: ignore[method-assign,assignment]
        await process.leader._answer()
        assert process.leader.leads
        store.commit = commit  # type: ignore[method-assign]
        await process.leader._answer()
        assert process.leader.leads and len(process.terms) == 1


async def _down(*arguments: object, **named: object) -> None:
    raise StoreUnavailable("down")
