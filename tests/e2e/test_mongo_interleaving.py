"""Several MongoDB stores whose every driver call is interleaved at random with all others', and loses
its connection now and then: before it arrives, or after it was carried out.

Multi-document operations go document by document, as MongoDB's do. The seeds make runs repeatable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from mongomock_motor import AsyncMongoMockClient
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError

from shared.storage.errors import Compacted, Conflict, StoreUnavailable
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Check, Commit, Delete, Expect, Kind, Order, Put, Query
from shared.storage.testing import body, collect, sample_kinds

T = TypeVar("T")

STORES = 3
WRITES = 14


class Weather:
    """Decides when a call goes on, and whether its connection breaks."""

    def __init__(self, seed: int, breaks: float) -> None:
        self.random = random.Random(seed)
        self._breaks = breaks
        self.calm = False
        self.broken = 0

    async def turn(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    def maybe_break(self, factor: int = 1) -> None:
        if not self.calm and self.random.random() < factor * self._breaks:
            self.broken += 1
            raise AutoReconnect("the wire broke")


class StormyClient:
    def __init__(self, raw: Any, weather: Weather) -> None:
        self._raw, self._weather = raw, weather

    def __getitem__(self, name: str) -> StormyDatabase:
        return StormyDatabase(self._raw[name], self._weather)


class StormyDatabase:
    def __init__(self, raw: Any, weather: Weather) -> None:
        self._raw, self._weather = raw, weather

    def __getitem__(self, name: str) -> StormyCollection:
        return StormyCollection(self._raw[name], self._weather)


class StormyCursor:
    def __init__(self, raw: Any, weather: Weather, query: Mapping[str, Any], fields: Any) -> None:
        self._raw, self._weather, self._query, self._fields = raw, weather, query, fields
        self._sort: list[tuple[str, int]] = []
        self._limit = 0

    def sort(self, keys: list[tuple[str, int]]) -> StormyCursor:
        self._sort = keys
        return self

    def limit(self, limit: int) -> StormyCursor:
        self._limit = limit
        return self

    async def to_list(self, _: None) -> list[dict[str, Any]]:
        await self._weather.turn()
        self._weather.maybe_break()
        cursor = self._raw.find(self._query, self._fields)
        planned = await (cursor.sort(self._sort) if self._sort else cursor).to_list(None)
        met: list[dict[str, Any]] = []
        for document in planned:
            # A document that leaves the range while the cursor walks is not met.
            if self._weather.random.random() < 0.2:
                await self._weather.turn()
            again = {"$and": [{"_id": document["_id"]}, self._query]}
            if (now := await self._raw.find_one(again, self._fields)) is not None:
                met.append(now)
            if self._limit and len(met) == self._limit:
                break
        return met


class StormyCollection:
    def __init__(self, raw: Any, weather: Weather) -> None:
        self._raw, self._weather = raw, weather

    def find(self, query: Mapping[str, Any], fields: Any = None) -> StormyCursor:
        return StormyCursor(self._raw, self._weather, query, fields)

    async def find_one(self, query: Mapping[str, Any], fields: Any = None) -> Any:
        await self._weather.turn()
        self._weather.maybe_break()
        return await self._raw.find_one(query, fields)

    async def count_documents(self, query: Mapping[str, Any]) -> int:
        return len(await self.find(query).to_list(None))

    async def create_index(self, keys: Any) -> None:
        await self._raw.create_index(keys)

    async def insert_many(self, documents: Sequence[Mapping[str, Any]], ordered: bool) -> None:
        await self._weather.turn()
        self._weather.maybe_break()
        errors, inserted = [], 0
        for position, document in enumerate(documents):
            try:
                await self._raw.insert_one(dict(document))
                inserted += 1
            except DuplicateKeyError as error:
                errors.append({"index": position, "code": 11000, "errmsg": str(error)})
                if ordered:
                    break
            await self._weather.turn()
            # An answer that is lost is the hard case.
            self._weather.maybe_break(factor=10)
        if errors:
            raise BulkWriteError({"writeErrors": errors, "nInserted": inserted})

    async def update_one(self, query: Mapping[str, Any], change: Mapping[str, Any]) -> Any:
        await self._weather.turn()
        self._weather.maybe_break()
        result = await self._raw.update_one(query, change)
        self._weather.maybe_break()
        return result

    async def find_one_and_update(
        self, query: Mapping[str, Any], change: Mapping[str, Any], return_document: bool
    ) -> Any:
        await self._weather.turn()
        self._weather.maybe_break()
        document = await self._raw.find_one_and_update(query, change, return_document=return_document)
        self._weather.maybe_break()
        return document

    async def update_many(self, query: Mapping[str, Any], change: Mapping[str, Any]) -> Any:
        result = await self._raw.update_one({"_id": {"$in": []}}, change)
        for document in await self.find(query, {"_id": 1}).to_list(None):
            result = await self.update_one({"$and": [{"_id": document["_id"]}, query]}, change)
        return result

    async def delete_many(self, query: Mapping[str, Any]) -> Any:
        result = await self._raw.delete_many({"_id": {"$in": []}})
        for document in await self.find(query, {"_id": 1}).to_list(None):
            await self._weather.turn()
            self._weather.maybe_break()
            await self._raw.delete_many({"$and": [{"_id": document["_id"]}, query]})
        return result


class World:
    """What the tasks know for certain, for checking what the stores say."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.acknowledged: dict[int, Commit] = {}
        self.unknown = 0
        self.pair = 0
        self.counted = 0
        self.writing = STORES

    async def commit(
        self, store: MongoStore, changes: Sequence[Put | Delete], **options: Any
    ) -> Commit | None:
        """None when the outcome is not known."""
        try:
            commit = await store.commit(changes, by=Author("storm"), **options)
        except StoreUnavailable as error:
            self.unknown += error.outcome_unknown
            return None
        if commit.changes:
            assert commit.revision not in self.acknowledged
            self.acknowledged[commit.revision] = commit
        return commit


async def insist(call: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
    """Ask again until the wire holds."""
    while True:
        try:
            return await call(*args, **options)
        except StoreUnavailable:
            await asyncio.sleep(0)


async def write(store: MongoStore, world: World, who: int) -> None:
    for number in range(WRITES):
        value = body(size=number, title=f"{who}")
        pair = await world.commit(store, [Put("item", "left", value), Put("item", "right", value)])
        if pair is not None:
            world.pair = max(world.pair, pair.revision)
        record = await insist(store.get, "note", "counter")
        assert record is not None
        change = Put("note", "counter", b"%d" % (int(record.body) + 1), expect=record.revision)
        with suppress(Conflict):
            if await world.commit(store, [change]) is not None:
                world.counted += 1
        name = f"n{world.weather.random.randrange(3)}"
        try:
            await world.commit(store, [Put("note", name, b"%d-%d" % (who, number), expect=Expect.ABSENT)])
        except Conflict:
            await world.commit(store, [Delete("note", name, Expect.ANY)])
        head = await insist(store.head)
        alone = Put("note", "alone", b"%d" % head)
        with suppress(Conflict):
            await world.commit(store, [alone], checks=[Check("note", None, head)])
    world.writing -= 1


async def listed(store: MongoStore) -> list[str]:
    return [record.name for record in await collect(store.scan(Query("item", order=(Order("size"),))))]


async def read(store: MongoStore, world: World) -> None:
    while world.writing:
        known = world.pair
        found = await insist(store.get_many, "item", ["left", "right"])
        if known:
            assert found["left"].revision == found["right"].revision >= known
            assert await insist(listed, store) == ["left", "right"]
            assert await insist(store.count, Query("item")) == 2
        head = await insist(store.head)
        try:
            snapshot = await insist(store.get_many, "item", ["left", "right"], at=head)
        except Compacted:
            continue
        assert len({(record.revision, record.body) for record in snapshot.values()}) <= 1


async def compact(store: MongoStore, world: World) -> None:
    while world.writing:
        head = await insist(store.head)
        await insist(store.compact, head - world.weather.random.randrange(4))
        for _ in range(world.weather.random.randrange(40)):
            await asyncio.sleep(0)


async def watch(store: MongoStore, world: World, seen: dict[int, Commit]) -> None:
    """Follow the log; after a compaction go on from its floor."""
    position = 0
    while world.writing or position < await insist(store.head):
        try:
            commits = await insist(store.changes, position, 5)
        except Compacted as compacted:
            position = compacted.floor
            continue
        for commit in commits:
            assert commit.revision == position + 1
            position += 1
            seen[position] = commit
        await asyncio.sleep(0)


@pytest.mark.parametrize(("breaks", "patience"), [(0.0, 0.0), (0.004, 60.0), (0.01, 0.0)])
async def test_any_interleaving_keeps_the_promises(
    breaks: float, patience: float, scale: Callable[[int, int], int]
) -> None:
    for seed in range(scale(3, 40)):
        await storm(seed, breaks, patience)


async def storm(seed: int, breaks: float, patience: float) -> None:
    """Write, read, compact and watch at once, and compare what everybody saw."""
    weather, raw = Weather(seed, breaks), AsyncMongoMockClient()
    world = World(weather)
    kinds: tuple[Kind, ...] = sample_kinds()
    stores = [
        MongoStore(StormyClient(raw, weather), "storm", kinds, patience=patience) for _ in range(STORES + 1)
    ]
    weather.calm = True
    for store in stores:
        await store.open()
    await world.commit(stores[0], [Put("note", "counter", b"0")])
    weather.calm = False
    sightings: list[dict[int, Commit]] = [{} for _ in stores]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for who in range(STORES):
            tasks.create_task(write(stores[who], world, who))
        tasks.create_task(read(stores[0], world))
        tasks.create_task(read(stores[-1], world))
        tasks.create_task(compact(stores[-1], world))
        for store, seen in zip(stores, sightings, strict=True):
            tasks.create_task(watch(store, world, seen))
    weather.calm = True

    head = await stores[0].head()
    assert head >= len(world.acknowledged) >= head - world.unknown
    if not breaks:
        assert (weather.broken, world.unknown) == (0, 0)
    # Nobody saw another commit at a revision than anybody else, nor than its author was told.
    for seen in sightings:
        for revision, commit in seen.items():
            for other in (*sightings, world.acknowledged):
                assert other.get(revision, commit) == commit
    counter = await stores[1].get("note", "counter")
    assert counter is not None
    assert world.counted <= int(counter.body) <= world.counted + world.unknown
    await verify_clean(stores, raw, head)
    for store in stores:
        await store.close()


async def verify_clean(stores: Sequence[MongoStore], raw: Any, head: int) -> None:
    """All stores agree, and after a compaction nothing is left in the database but what is current."""
    states = []
    for store in stores:
        await store.head()
        states.append([await collect(store.scan(Query(kind))) for kind in store.kinds])
    assert all(state == states[0] for state in states)
    await stores[0].compact(head)
    for kind, records in zip(stores[0].kinds, states[0], strict=True):
        documents = await raw["storm"][f"kind.{kind}"].find({}).to_list(None)
        assert sorted(d["name"] for d in documents) == [record.name for record in records]
        assert {d["until"] for d in documents} <= {2**63 - 1}
    assert [d["_id"] for d in await raw["storm"]["log"].find({}).to_list(None)] == [head]
    audit = await raw["storm"]["audit"].find({}).to_list(None)
    assert sorted(d["_id"] for d in audit) == list(range(1, head + 1))
