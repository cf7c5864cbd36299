"""Stateless watches: whatever happens, a client that applies the change sets holds the state of the
revision it was told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.storage.errors import StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Condition, Delete, Expect, Index, Kind, Put, Query, Store
from shared.storage.sqlite import SqliteStore
from shared.watch import stateless
from shared.watch.memo import Memo
from shared.watch.stateless import Chunk, Start, Watch
from shared.watch.tailer import Tailer

BY = Author("test")
KIND = Kind("thing", (Index("n", "int"),), values=lambda body: {"n": json.loads(body)})
OTHER = Kind("other")


def body(number: int) -> bytes:
    return json.dumps(number).encode()


class Client:
    """Applies change sets as the documentation tells clients to."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.pending: list[Chunk] = []
        self.token = ""
        self.revision = -1
        self.resets = 0
        self.sets = 0

    def take(self, chunk: Chunk) -> None:
        if chunk.is_hard_reset:
            self.held, self.pending, self.token = {}, [], ""
            self.resets += 1
            return
        self.pending.append(chunk)
        if not chunk.is_current:
            return
        named: set[str] = set()
        for part in self.pending:
            for record in part.current:
                assert record.name not in named, "one change a resource in a change set"
                named.add(record.name)
                self.held[record.name] = record.body
            for name in part.removed:
                assert name not in named and name in self.held
                named.add(name)
                del self.held[name]
        assert chunk.revision >= self.revision, "revisions never go back"
        self.pending, self.token, self.revision = [], chunk.token, chunk.revision
        self.sets += 1

    async def until(self, chunks: AsyncIterator[Chunk], done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.take(await anext(chunks))


async def state(store: Store, at: int, least: int) -> dict[str, bytes]:
    query = Query("thing")
    return {
        record.name: record.body
        async for record in store.scan(query, at=at)
        if json.loads(record.body) >= least
    }


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[tuple[Store, Tailer]]:
    await store.open()
    try:
        async with Tailer(store, poll=0.01) as tailer:
            yield store, tailer
    finally:
        await store.close()


def watch(
    store: Store, tailer: Tailer, least: int = 0, *, chunk_size: int = 2, bookmark_every: int = 5
) -> Watch:
    return Watch(
        store,
        tailer,
        Query("thing", where=(Condition("n", ">=", least),)),
        lambda data: json.loads(data) >= least,
        f"least {least}",
        chunk_size,
        bookmark_revisions=bookmark_every,
    )


@pytest.fixture(params=["memory", "sqlite"])
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Store, Tailer]]:
    kinds = [KIND, OTHER]
    store: Store = MemoryStore(kinds) if request.param == "memory" else SqliteStore(tmp_path / "w.db", kinds)
    async with opened(store) as both:
        yield both


Step = tuple[str, int, int]
ACTIONS = ("put", "put", "delete", "other", "compact", "reconnect", "read")
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 6), st.integers(0, 9)), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, least=st.integers(0, 9), chunk_size=st.integers(1, 4))
def test_a_client_folded_from_any_watch_equals_the_store(
    steps: list[Step], least: int, chunk_size: int
) -> None:
    async def play() -> None:
        async with opened(MemoryStore([KIND, OTHER])) as (store, tailer):
            client = Client()

            def connect() -> AsyncIterator[Chunk]:
                client.pending = []
                return watch(store, tailer, least, chunk_size=chunk_size).run(Start(client.token))

            chunks = connect()
            for action, name, number in steps:
                if action == "put":
                    await store.commit([Put("thing", str(name), body(number))], by=BY)
                elif action == "delete":
                    await store.commit([Delete("thing", str(name), Expect.ANY)], by=BY)
                elif action == "other":
                    await store.commit([Put("other", str(name), body(number))], by=BY)
                elif action == "compact":
                    await store.compact(await store.head())
                elif action == "reconnect":
                    await chunks.aclose()  # type: ignore[attr-defined]
                    chunks = connect()
                elif client.revision < await store.head() and await changed(store, client, least):
                    client.take(await anext(chunks))
            await chunks.aclose()  # type: ignore[attr-defined]
            async with aclosing(connect()) as last:
                sets, head = client.sets, await store.head()
                # A resume is always answered, and what was written before it is seen.
                await client.until(last, lambda: client.sets > sets and client.revision >= head)
                assert client.held == await state(store, client.revision, least)

    asyncio.run(play())


async def changed(store: Store, client: Client, least: int) -> bool:
    """Whether the stream owes a message, so that waiting for one ends."""
    return not client.token or client.held != await state(store, await store.head(), least)


async def test_the_snapshot_covers_every_write_acknowledged_before(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    for number in range(7):
        await store.commit([Put("thing", f"t{number}", body(number))], by=BY)
    client = Client()
    async with aclosing(watch(store, tailer, 3).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
    assert client.held == {f"t{n}": body(n) for n in range(3, 7)}
    assert client.revision == 7


async def test_a_commit_is_never_split_across_change_sets(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    client = Client()
    async with aclosing(watch(store, tailer).run(Start(now=True))) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
        await store.commit([Put("thing", f"t{n}", body(n)) for n in range(9)], by=BY)
        await client.until(chunks, lambda: client.sets == 2)
    assert len(client.held) == 9


async def test_an_edit_can_enter_and_leave_the_query(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    await store.commit([Put("thing", "a", body(1))], by=BY)
    client = Client()
    async with aclosing(watch(store, tailer, 5).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
        assert client.held == {}
        await store.commit([Put("thing", "a", body(5))], by=BY)
        await client.until(chunks, lambda: client.sets == 2)
        assert client.held == {"a": body(5)}
        await store.commit([Put("thing", "a", body(4))], by=BY)
        await client.until(chunks, lambda: client.sets == 3)
    assert client.held == {}


async def test_what_changed_and_changed_back_is_shown_at_its_new_revision(yard: tuple[Store, Tailer]) -> None:
    """Clients write on the condition of the revision that they hold."""
    store, tailer = yard
    await store.commit([Put("thing", "a", body(1))], by=BY)
    client = Client()
    async with aclosing(watch(store, tailer).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
    await store.commit([Put("thing", "a", body(2))], by=BY)
    await store.commit([Put("thing", "a", body(1))], by=BY)
    async with aclosing(watch(store, tailer).run(Start(client.token))) as chunks:
        chunk = await anext(chunks)
    assert [(record.name, record.revision) for record in chunk.current] == [("a", 3)]


async def test_a_long_absence_is_made_up_for_in_steps(yard: tuple[Store, Tailer]) -> None:
    """What is held in memory at once does not grow with what was missed."""
    store, tailer = yard
    client = Client()
    async with aclosing(watch(store, tailer).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
    for number in range(100):
        await store.commit([Put("thing", f"t{number}{half}", body(number)) for half in "ab"], by=BY)
    narrow = replace(watch(store, tailer), width=50)
    async with aclosing(narrow.run(Start(client.token))) as chunks:
        await client.until(chunks, lambda: client.sets == 2)
        assert 0 < client.revision < 100 and client.held == await state(store, client.revision, 0)
        await client.until(chunks, lambda: client.revision == 100)
    assert client.held == await state(store, 100, 0)


async def test_watches_that_share_their_steps_are_told_what_one_alone_is(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    await store.commit([Put("thing", f"t{n}", body(n)) for n in range(9)], by=BY)
    steps: Memo[stateless.Step] = Memo()
    commits: list[list[Put | Delete]] = [
        [Put("thing", f"t{n}", body(n + 2)) for n in range(6)],
        [Delete("thing", "t7"), Put("thing", "t4", body(0)), Put("thing", "t8", body(9))],
        [Put("thing", "t4", body(7))],
    ]
    sharing = [replace(watch(store, tailer, least), steps=steps) for least in (3, 3, 6)]
    watches = [*sharing, watch(store, tailer, 3)]
    told: list[list[Chunk]] = []
    async with AsyncExitStack() as stack:
        streams = []
        for each in watches:
            stream = await stack.enter_async_context(aclosing(each.run(Start(now=True))))
            await anext(stream)
            streams.append(stream)
        for changes in commits:
            await store.commit(changes, by=BY)
            for index, stream in enumerate(streams):
                told.append([])
                async with asyncio.timeout(10):
                    while not told[-1] or not told[-1][-1].is_current:
                        told[-1].append(await anext(stream))
                if index == 1:
                    assert all(a is b for a, b in zip(told[-2], told[-1], strict=True)), "made once"
    alone = [[replace(chunk, shared=True) for chunk in found] for found in told[3::4]]
    assert told[0::4] == alone and told[2::4] != alone


async def test_a_quiet_watch_is_given_fresh_tokens(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    client = Client()
    async with aclosing(watch(store, tailer).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
        first = client.token
        for number in range(6):
            await store.commit([Put("other", "x", body(number))], by=BY)
        await client.until(chunks, lambda: client.sets == 2)
    assert client.token != first and client.revision >= 5


async def test_a_token_that_was_compacted_away_is_a_hard_reset(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    await store.commit([Put("thing", "a", body(1))], by=BY)
    client = Client()
    async with aclosing(watch(store, tailer).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
    await store.commit([Delete("thing", "a"), Put("thing", "b", body(2))], by=BY)
    await store.commit([Put("thing", "c", body(3))], by=BY)
    await store.compact(3)
    async with aclosing(watch(store, tailer).run(Start(client.token))) as chunks:
        await client.until(chunks, lambda: client.sets == 2)
    assert client.resets == 1
    assert client.held == {"b": body(2), "c": body(3)}


async def test_a_token_of_another_store_is_a_hard_reset(yard: tuple[Store, Tailer], tmp_path: Path) -> None:
    store, tailer = yard
    await store.commit([Put("thing", "a", body(1))], by=BY)
    client = Client()
    async with (
        opened(MemoryStore([KIND, OTHER])) as (strange, its_tailer),
        aclosing(watch(strange, its_tailer).run()) as chunks,
    ):
        await client.until(chunks, lambda: client.sets == 1)
    async with aclosing(watch(store, tailer).run(Start(client.token))) as chunks:
        await client.until(chunks, lambda: client.sets == 2)
    assert client.resets == 1 and client.held == {"a": body(1)}


@pytest.mark.parametrize("token", ["x", "e30", "eyJ2IjoxfQ", "é"])
async def test_a_token_that_is_none_is_refused(yard: tuple[Store, Tailer], token: str) -> None:
    store, tailer = yard
    with pytest.raises(InvalidArgument, match="resume_token"):
        await anext(watch(store, tailer).run(Start(token)))


async def test_a_token_of_another_query_is_refused(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    client = Client()
    async with aclosing(watch(store, tailer, 1).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
    with pytest.raises(InvalidArgument, match="another query"):
        await anext(watch(store, tailer, 2).run(Start(client.token)))


async def test_a_stop_ends_idle_watches_with_unavailable(yard: tuple[Store, Tailer]) -> None:
    store, tailer = yard
    client = Client()
    async with aclosing(watch(store, tailer).run()) as chunks:
        await client.until(chunks, lambda: client.sets == 1)
        waiting = asyncio.ensure_future(anext(chunks))
        await tailer.__aexit__(None, None, None)
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(5):
                await waiting


async def test_followers_see_peers_commits(tmp_path: Path) -> None:
    kinds = [KIND, OTHER]
    async with opened(SqliteStore(tmp_path / "w.db", kinds)) as (store, tailer):
        peer = SqliteStore(tmp_path / "w.db", kinds)
        await peer.open()
        try:
            client = Client()
            async with aclosing(watch(store, tailer).run()) as chunks:
                await client.until(chunks, lambda: client.sets == 1)
                await peer.commit([Put("thing", "a", body(1))], by=BY)
                await client.until(chunks, lambda: client.sets == 2)
            assert client.held == {"a": body(1)}
        finally:
            await peer.close()
