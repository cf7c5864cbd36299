"""What a MongoDB store asks of its server, and what people find in its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import monitoring

from shared.storage.errors import FormatError
from shared.storage.mongo import MongoStore
from shared.storage.mongo_driver import connect, disconnect
from shared.storage.port import Author, Condition, Kind, Order, Position, Put, Query
from shared.storage.testing import AUTHOR, body, collect, sample_kinds
from tests.mongo_server import drop_database, new_database, server_url


class Commands(monitoring.CommandListener):
    """The commands that a client sends."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


class Watched:
    """A store of 300 items, and the plans of what it asks."""

    def __init__(self, client: Any, store: MongoStore, commands: Commands) -> None:
        self._database = client[store.database]
        self.store = store
        self._commands = commands

    async def plan(self, call: Any, *residual: str) -> dict[str, Any]:
        """The winning plan of the one query for items that awaiting `call` sends, without its tests
        of `residual` and `$or`: this server's planner does not look past them."""
        self._commands.sent.clear()
        await call
        (command,) = (command for command in self._commands.sent if "kind.item" in command.values())
        if "aggregate" in command:
            query = {"find": command["aggregate"], "filter": command["pipeline"][0]["$match"]}
        else:
            query = {key: command[key] for key in ("find", "filter", "sort", "limit") if key in command}
        tests = query["filter"].items()
        query["filter"] = {key: value for key, value in tests if key not in ("$or", *residual)}
        answer = await self._database.command({"explain": query, "verbosity": "queryPlanner"})
        plan: dict[str, Any] = answer["queryPlanner"]["winningPlan"]
        while "inputStage" in plan and plan["stage"] != "IXSCAN":
            plan = plan["inputStage"]
        return plan


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    url, name, commands = await asyncio.to_thread(server_url), new_database(), Commands()
    client: Any = AsyncIOMotorClient(url, event_listeners=[commands])
    store = MongoStore(client, name, sample_kinds())
    await store.open()
    items = [Put("item", f"n{i}", body(title=f"t{i}", size=i, state=f"s{i % 3}"), "p") for i in range(300)]
    await store.commit(items, by=AUTHOR)
    yield Watched(client, store, commands)
    await store.close()
    await disconnect(client)
    await asyncio.to_thread(drop_database, url, name)


def ordered(*fields: str, **options: Any) -> Query:
    return Query("item", order=tuple(Order(field) for field in fields), limit=5, **options)


@pytest.mark.mongo_server
async def test_lists_and_lookups_use_an_index(watched: Watched) -> None:
    store = watched.store
    by_state = ["until", "values.state", "values.size"]
    in_state = (Condition("state", "=", "s1"),)
    cases: list[tuple[Any, list[str]]] = [
        (store.get("item", "n7"), ["until", "name"]),
        (store.get_many("item", ["n7", "n8"]), ["until", "name"]),
        (collect(store.scan(Query("item", limit=5))), ["until", "name"]),
        (collect(store.scan(Query("item", parent="p", limit=5))), ["until", "parent"]),
        (collect(store.scan(ordered("size", after=Position((5,), "n5")))), ["until", "values.size"]),
        (collect(store.scan(ordered("size", where=in_state, after=Position((5,), "n5")))), by_state),
        (collect(store.scan(Query("item", where=(Condition("size", ">", 290),)))), ["until", "values.size"]),
        (store.count(Query("item", where=in_state)), by_state[:2]),
    ]
    for call, fields in cases:
        plan = await watched.plan(call)
        assert plan["stage"] == "IXSCAN", plan
        # An index that goes on differently does as well.
        assert list(plan["keyPattern"])[: len(fields)] == fields
    plan = await watched.plan(store.history("item", "n7"), "until")
    assert list(plan["keyPattern"]) == ["name", "revision"]


@pytest.mark.mongo_server
async def test_every_order_that_a_kind_declares_has_its_index(watched: Watched) -> None:
    store = watched.store
    indexes = await watched._database["kind.item"].index_information()
    assert {tuple(field for field, _ in index["key"]) for index in indexes.values()} == {
        ("_id",),
        ("name", "revision"),
        ("until", "name"),
        ("until", "parent", "name"),
        ("until", "values.title", "name"),
        ("until", "values.size", "name"),
        ("until", "values.state", "name"),
        ("until", "values.state", "values.size", "name"),
    }
    assert await store.count(Query("item")) == 300


async def test_acknowledged_means_durable_whatever_the_url_says() -> None:
    client = connect("mongodb://127.0.0.1:1/?w=1&journal=false&readConcernLevel=local&appName=mine")
    assert client.write_concern.document == {"w": "majority", "j": True}
    assert client.read_concern.level == "majority"
    assert client.options.pool_options.appname == "mine"
    await disconnect(client)


async def stored(kind: Kind, data: bytes, **options: Any) -> dict[str, Any]:
    """The version document that one commit leaves."""
    client = AsyncMongoMockClient()
    store = MongoStore(client, "people", [kind], **options)
    await store.open()
    await store.commit([Put(kind.name, "n", data, "p")], by=Author("me"))
    record = await store.get(kind.name, "n")
    assert record is not None and record.body == data
    (document,) = await client["people"][f"kind.{kind.name}"].find({}).to_list(None)
    return document


def shows(document: Mapping[str, object]) -> Kind:
    return Kind("thing", document=lambda data: document)


async def test_people_find_a_readable_document() -> None:
    item = sample_kinds()[0]
    document = await stored(item, body(title="x", size=3, state=None))
    assert document["document"] == {"title": "x", "size": 3, "state": None}
    assert document["values"] == {"title": "2x", "size": 3, "state": "1"}
    assert (document["name"], document["parent"], document["revision"]) == ("n", "p", 1)
    assert "document" not in await stored(item, body(title="x"), readable_documents=False)
    assert "document" not in await stored(Kind("thing"), b"x")


async def test_a_readable_document_may_hold_anything() -> None:
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"deeper": deep}
    odd = {"a.b": 1, "$set": {"x\0y": [2**70, (1, b"\x00", None, 1.5, True)]}, "": "", "%": deep}
    found = (await stored(shows(odd), b""))["document"]
    assert found["a%2Eb"] == 1
    assert found["%24set"] == {"x%00y": [str(2**70), [1, b"\x00", None, 1.5, True]]}
    assert found[""] == ""
    levels = 0
    while isinstance(found, dict):
        found = found.get("%25", found.get("deeper"))
        levels += 1
    assert 20 < levels < 100


async def test_one_that_cannot_be_shown_is_left_out() -> None:
    assert "document" not in await stored(Kind("thing", document=json.loads), b"not json")
    assert "document" not in await stored(shows({"lone": "\ud800"}), b"")
    assert "document" not in await stored(shows({"large": "x" * 2**24}), b"")


async def test_a_process_with_another_version_of_a_kind_stops_writing() -> None:
    client, (item, note) = AsyncMongoMockClient(), sample_kinds()
    old = MongoStore(client, "versions", [item, note])
    await old.open()
    await old.commit([Put("item", "a", body(size=1))], by=AUTHOR)
    new = MongoStore(client, "versions", [replace(item, version=2), note])
    await new.open()
    with pytest.raises(FormatError):
        await old.commit([Put("item", "c", body(size=3))], by=AUTHOR)
    with pytest.raises(FormatError):
        await old.get("item", "a")
    await new.commit([Put("item", "b", body(size=2))], by=AUTHOR)
    assert [record.name for record in await collect(new.scan(Query("item")))] == ["a", "b"]


async def test_a_database_that_is_dropped_or_newer_is_said() -> None:
    client = AsyncMongoMockClient()
    store = MongoStore(client, "gone", sample_kinds())
    await store.open()
    await client.drop_database("gone")
    with pytest.raises(FormatError):
        await store.epoch()
    again = MongoStore(client, "gone", sample_kinds())
    await again.open()
    with pytest.raises(FormatError):
        await store.get("item", "a")
    await client["gone"]["state"].update_one({"_id": "store"}, {"$set": {"format": 99}})
    with pytest.raises(FormatError):
        await MongoStore(client, "gone", sample_kinds()).open()
