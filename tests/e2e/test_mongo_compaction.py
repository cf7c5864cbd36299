"""Compaction of a MongoDB store beside processes that are late: writers, appliers, readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient

from shared.storage.errors import Compacted, Exists
from shared.storage.mongo import MongoStore
from shared.storage.mongo_driver import Database, connect, disconnect
from shared.storage.mongo_log import Entry, Log
from shared.storage.mongo_state import Marks, State
from shared.storage.mongo_versions import Versions
from shared.storage.port import Author, Delete, Expect, Put, Query
from shared.storage.testing import AUTHOR, body, collect, sample_kinds
from tests.mongo_server import drop_database, new_database, server_url

KINDS = {kind.name: kind for kind in sample_kinds()}


class Yard:
    """One database, and the stores that are open on it."""

    def __init__(self, client: Any, database: str) -> None:
        self.client = client
        self.database = database
        self.parts = Database(client, database)

    async def store(self) -> MongoStore:
        store = MongoStore(self.client, self.database, sample_kinds())
        await store.open()
        return store

    async def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Everything in it."""
        names = ["log", "log_chunks", "audit", "state", *(f"kind.{kind}" for kind in KINDS)]
        return {name: await self.parts[name].find({}, sort=[("_id", 1)]) for name in names}


@pytest.fixture(params=["mongomock", pytest.param("wire", marks=pytest.mark.mongo_server)])
async def yard(request: pytest.FixtureRequest) -> AsyncIterator[Yard]:
    if request.param == "mongomock":
        yield Yard(AsyncMongoMockClient(), "compaction")
        return
    url, name = await asyncio.to_thread(server_url), new_database()
    client = connect(url)
    yield Yard(client, name)
    await disconnect(client)
    await asyncio.to_thread(drop_database, url, name)


async def test_a_stale_writer_falls_into_no_hole(yard: Yard) -> None:
    stale, active = await yard.store(), await yard.store()
    await stale.commit([Put("item", "a", body(size=0))], by=Author("stale"))
    for number in range(1, 6):
        await active.commit([Put("item", "a", body(size=number))], by=Author("active"))
    await active.compact(6)
    assert [entry["_id"] for entry in (await yard.contents())["log"]] == [6]
    # It believes that revision 2 comes next, where nothing stands any more.
    heard: list[int] = []
    stale.listen(heard.append)
    commit = await stale.commit([Put("item", "b", body(size=9))], by=Author("stale"))
    assert commit.revision == 7 == await active.head()
    assert heard == [7]
    assert [entry["_id"] for entry in (await yard.contents())["log"]] == [6, 7]
    assert [entry.by.subject for entry in await active.audit()] == ["stale", *["active"] * 5, "stale"]
    assert [(r.name, r.revision) for r in await collect(active.scan(Query("item")))] == [("a", 6), ("b", 7)]


async def test_a_stale_writer_judges_by_what_is(yard: Yard) -> None:
    stale, active = await yard.store(), await yard.store()
    await stale.commit([Put("item", "a", body(size=0))], by=AUTHOR)
    await active.commit([Delete("item", "a")], by=AUTHOR)
    await active.commit([Put("item", "b", body(size=1))], by=AUTHOR)
    await active.compact(3)
    created = await stale.commit([Put("item", "a", body(size=2), expect=Expect.ABSENT)], by=AUTHOR)
    assert (created.revision, created.changes[0].before, created.changes[0].previous) == (4, None, 0)
    with pytest.raises(Exists):
        await active.commit([Put("item", "a", body(size=3), expect=Expect.ABSENT)], by=AUTHOR)


async def test_a_large_commit_of_a_stale_writer_leaves_nothing_behind(yard: Yard) -> None:
    stale, active = await yard.store(), await yard.store()
    for number in range(4):
        await active.commit([Put("item", "a", body(size=number))], by=AUTHOR)
    await active.compact(4)
    parts = [Put("note", f"n{i}", bytes(3 * 2**20)) for i in range(3)]
    commit = await stale.commit(parts, by=AUTHOR)
    assert commit.revision == 5
    chunks = (await yard.contents())["log_chunks"]
    assert chunks and {chunk["revision"] for chunk in chunks} == {5}
    assert list(await active.changes(4, 5)) == [commit]


class Interrupted(State):
    """A state whose reader is overtaken by others, before or after it has read."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.before: Callable[[], Awaitable[object]] | None = None
        self.after: Callable[[], Awaitable[object]] | None = None

    async def begin(self, revision: int) -> Marks:
        if self.before is not None:
            await self.before()
        marks = await super().begin(revision)
        if self.after is not None:
            await self.after()
        return marks


async def late_applier(yard: Yard) -> tuple[MongoStore, Interrupted, Versions, list[Entry]]:
    """A store, and an applier that has read three commits of it which nobody has applied yet."""
    store = await yard.store()
    state = Interrupted(yard.parts)
    log = Log(yard.parts, state)
    first = [Put("item", "a", body(size=1)), Put("item", "gone", body(size=1))]
    await store.commit(first, by=AUTHOR)
    await store.commit([Put("item", "a", body(size=2))], by=AUTHOR)
    await store.commit([Delete("item", "gone")], by=AUTHOR)
    entries = await log.read(0, 10)
    assert entries is not None and len(entries) == 3
    # As if it had been read before anybody applied it.
    for name in ("item", "note"):
        await yard.parts[f"kind.{name}"].delete({})
    await yard.parts["audit"].delete({})
    return store, state, Versions(yard.parts, state, KINDS, readable_documents=True), entries


async def overtake(yard: Yard, store: MongoStore, entries: list[Entry]) -> None:
    """Apply `entries`, go on, and sweep everything that they closed."""
    peer = Versions(yard.parts, State(yard.parts), KINDS, readable_documents=True)
    await peer.apply(entries)
    await store.commit([Put("item", "a", body(size=3))], by=AUTHOR)
    await store.compact(4)


async def verify_untouched(yard: Yard, store: MongoStore) -> None:
    contents = await yard.contents()
    assert [(d["_id"], d["until"]) for d in contents["kind.item"]] == [("4:a", 2**63 - 1)]
    assert [d["_id"] for d in contents["audit"]] == [1, 2, 3, 4]
    assert [(r.name, r.revision) for r in await collect(store.scan(Query("item")))] == [("a", 4)]
    assert await store.get("item", "gone") is None
    with pytest.raises(Compacted):
        await store.get("item", "gone", at=3)
    assert (await store.commit([Put("item", "b", b"{}")], by=AUTHOR)).revision == 5


async def test_an_applier_late_with_everything_changes_nothing(yard: Yard) -> None:
    store, _, late, entries = await late_applier(yard)
    await overtake(yard, store, entries)
    marks = await late.apply(entries)
    assert marks.floor == 4
    await verify_untouched(yard, store)


async def test_an_applier_overtaken_before_it_reads_the_floor_opens_nothing(yard: Yard) -> None:
    store, state, late, entries = await late_applier(yard)
    state.before = lambda: overtake(yard, store, entries)
    await late.apply(entries)
    await verify_untouched(yard, store)


async def test_an_applier_overtaken_after_it_read_the_floor_opens_nothing(yard: Yard) -> None:
    store, state, late, entries = await late_applier(yard)
    state.after = lambda: overtake(yard, store, entries)
    marks = await late.apply(entries)
    assert marks.floor == 0
    await verify_untouched(yard, store)


async def test_what_a_late_applier_inserts_is_never_seen(yard: Yard) -> None:
    store, state, late, entries = await late_applier(yard)
    await overtake(yard, store, entries)

    async def look() -> None:
        items = (await yard.contents())["kind.item"]
        assert [d["_id"] for d in items] == ["1:a", "1:gone", "2:a", "4:a"]
        assert [(r.name, r.revision) for r in await collect(store.scan(Query("item")))] == [("a", 4)]
        assert await store.get("item", "gone") is None
        assert await store.count(Query("item")) == 1
        assert [version.revision for version in await store.history("item", "gone")] == []

    state.before = look
    await late.apply(entries)
    await verify_untouched(yard, store)


async def test_what_a_dead_applier_left_pending_is_swept(yard: Yard) -> None:
    store, state, late, entries = await late_applier(yard)
    await overtake(yard, store, entries)

    async def die() -> None:
        raise ConnectionAbortedError

    state.before = die
    with pytest.raises(ConnectionAbortedError):
        await late.apply(entries)
    assert len((await yard.contents())["kind.item"]) == 4
    assert await store.compact(4) == 0
    await verify_untouched(yard, store)


async def test_what_a_dead_writer_left_half_applied_is_finished_by_the_next(yard: Yard) -> None:
    store, state, late, entries = await late_applier(yard)
    await yard.parts["state"].update_one({"_id": "store"}, {"$set": {"applied": 0, "begun": 0, "latest": {}}})

    async def die() -> None:
        raise ConnectionAbortedError

    state.after = die
    with pytest.raises(ConnectionAbortedError):
        await late.apply(entries)
    # All is inserted, nothing is open.
    heir = await yard.store()
    assert await heir.head() == 3
    assert [(r.name, r.revision) for r in await collect(heir.scan(Query("item")))] == [("a", 2)]
    assert [r.name for r in await collect(heir.scan(Query("item"), at=2))] == ["a", "gone"]
    assert [entry.revision for entry in await heir.audit()] == [3, 2, 1]
    assert [c.before for commit in await heir.changes(1, 9) for c in commit.changes] == [body(size=1)] * 2
    await store.close()
