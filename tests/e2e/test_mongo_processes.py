"""Real processes on one MongoDB database: they write the same names, and are killed while they do."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from shared.storage.mongo import MongoStore
from shared.storage.port import Commit
from shared.storage.testing import sample_kinds
from tests.e2e.mongo_writer import WRITERS
from tests.mongo_server import drop_database, new_database, server_url

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60

pytestmark = pytest.mark.mongo_server


@pytest.fixture
async def store() -> AsyncIterator[MongoStore]:
    url = await asyncio.to_thread(server_url)
    store = MongoStore(url, new_database(), sample_kinds())
    await store.open()
    yield store
    await store.close()
    await asyncio.to_thread(drop_database, url, store.database)


class Writer:
    """A running tests.e2e.mongo_writer, and what it acknowledged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.acknowledged: dict[int, str] = {}

    @classmethod
    async def start(cls, store: MongoStore, tag: str, count: int) -> Writer:
        arguments = [store.client_or_url, store.database, tag, str(count)]
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.e2e.mongo_writer", *arguments),
                cwd=ROOT,
                stdin=pipe,
                stdout=pipe,
            )
        )

    async def read(self) -> list[str]:
        """The next line in words; none at the end."""
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode().split()
        if line and line[0] == "ack":
            assert int(line[2]) not in self.acknowledged
            self.acknowledged[int(line[2])] = line[3]
        return line

    async def read_acknowledged(self, count: int) -> None:
        goal = len(self.acknowledged) + count
        while len(self.acknowledged) < goal:
            assert await self.read(), "the writer ended by itself"

    async def read_rest(self) -> list[list[str]]:
        lines = []
        while line := await self.read():
            lines.append(line)
        return lines

    async def kill(self) -> None:
        """Kill it, and take what it had said before."""
        self.process.kill()
        await self.read_rest()
        await self.process.wait()


async def test_watchers_of_two_processes_see_one_sequence(store: MongoStore) -> None:
    async with asyncio.timeout(SECONDS):
        writers = [await Writer.start(store, tag, 4) for tag in ("x", "y")]
        for writer in writers:
            while await writer.read() != ["done"]:
                pass
        head = await store.head()
        for writer in writers:
            assert writer.process.stdin is not None
            writer.process.stdin.write(b"%d\n" % head)
        sequences = [await writer.read_rest() for writer in writers]
        assert [await writer.process.wait() for writer in writers] == [0, 0]
    assert sequences[0] == sequences[1]
    assert [line[:2] for line in sequences[0]] == [["seen", str(r)] for r in range(1, head + 1)]
    commits = await store.changes(0, head)
    written = names_of(commits)
    assert {**writers[0].acknowledged, **writers[1].acknowledged} == written
    assert len(written) == 2 * WRITERS * 4
    counter = await store.get("note", "counter")
    assert counter is not None and int(counter.body) == len(written) == head / 2


async def test_killed_writers_lose_nothing_they_acknowledged(
    store: MongoStore, scale: Callable[[int, int], int]
) -> None:
    chance = random.Random(5)
    acknowledged: dict[int, str] = {}
    async with asyncio.timeout(scale(SECONDS, 1200)):
        survivor = await Writer.start(store, "survivor", 0)
        await survivor.read_acknowledged(1)
        for number in range(scale(2, 100)):
            victim = await Writer.start(store, f"victim{number}", 0)
            await victim.read_acknowledged(chance.randrange(1, 25))
            await victim.kill()
            # The others go on with what it left half applied.
            await survivor.read_acknowledged(2)
            acknowledged |= victim.acknowledged
            if number % 3 == 1:
                await verify(store, acknowledged)
                await store.compact(await store.head() - chance.randrange(20))
        await survivor.kill()
    await verify(store, acknowledged | survivor.acknowledged)


async def verify(store: MongoStore, acknowledged: dict[int, str]) -> None:
    """Everything acknowledged stands at its revision, once; the log has no gap; images chain."""
    head, floor = await store.head(), await store.floor()
    commits = await store.changes(floor, head)
    assert [commit.revision for commit in commits[: head - floor]] == list(range(floor + 1, head + 1))
    written = names_of(commits)
    assert len(set(written.values())) == len(written)
    for revision, name in acknowledged.items():
        if floor < revision <= head:
            assert written[revision] == name
        record = await store.get("item", name)
        assert record is not None and record.revision == revision
    images: dict[str, bytes | None] = {}
    for commit in commits:
        for change in commit.changes:
            assert images.get(change.name, change.before) == change.before
            images[change.name] = change.after


def names_of(commits: Sequence[Commit]) -> dict[int, str]:
    return {commit.revision: commit.changes[0].name for commit in commits if len(commit.changes) == 2}
