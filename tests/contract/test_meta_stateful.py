"""Stateful watches of a collection, and watches of one resource, over gRPC (docs/apis/meta.md)."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from services.meta import service as meta
from services.meta import servicer
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from tests.contract.meta_clients import Stateful
from tests.contract.meta_yard import BACKENDS, Stream, Yard, changes_of, numbered, opened, rows_of, told

ONE = "regions/r000"


@pytest.fixture(params=BACKENDS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path, request.param) as found:
        yield found


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path) as found:
        yield found


async def one_set(client: Stateful, stream: Stream) -> list[Any]:
    """Reads to the end of a change set; its changes."""
    found = []
    while True:
        message = await stream.message()
        found += changes_of(message)
        if client.take(message):
            return found


async def is_as_listed(client: Stateful, yard: Yard, **fields: Any) -> None:
    page = await yard.list("region", **fields)
    assert client.rows == [(row.name, row.SerializeToString(deterministic=True)) for row in rows_of(page)]
    assert client.tokens == (page.prev_page_token, page.next_page_token)


def places(changes: list[Any]) -> list[tuple[Any, ...]]:
    """(what, name, indexes...) of each change."""
    found: list[tuple[Any, ...]] = []
    for change in changes:
        kind, name = told(change)
        part = getattr(change, kind)
        before = (part.previous_view_index,) if kind == "modified" else ()
        found.append((kind, name, *before, part.view_index))
    return found


# -- the snapshot and its page


async def test_the_snapshot_is_the_page_in_order(yard: Yard) -> None:
    await yard.apply(regions=[{"name": f"regions/r{n}", "title": str(5 - n)} for n in range(6)])
    for asked in ({}, {"order_by": "title"}, {"page_size": 4}, {"page_size": 2, "order_by": "name desc"}):
        async with yard.watch("region", **asked) as stream:
            client = Stateful()
            await one_set(client, stream)
            await is_as_listed(client, yard, **asked)


async def test_an_empty_page(yard: Yard) -> None:
    async with yard.watch("region") as stream:
        message = await stream.message()
        assert message.is_current and not changes_of(message)
        assert not message.HasField("page_token_change")
        await yard.apply(regions=numbered(1))
        assert places(await stream.changes()) == [("added", ONE, 0)]


SIZES = [
    # page_size, max_chunk_size -> rows of the page, sizes of the messages
    (0, 0, 100, [100]),
    (7, 0, 7, [7]),
    (7, 3, 7, [3, 3, 1]),
    (0, 100, 130, [100, 30]),
    (0, 50, 130, [50, 50, 30]),
    (500, 0, 130, [130]),
    (120, 60, 120, [60, 60]),
]


@pytest.mark.parametrize(("page", "chunk", "rows", "messages"), SIZES)
async def test_sizes(memory: Yard, page: int, chunk: int, rows: int, messages: list[int]) -> None:
    await memory.apply(regions=numbered(130))
    async with memory.watch("region", page_size=page, max_chunk_size=chunk) as stream:
        found = await stream.change_set()
        assert [len(changes_of(message)) for message in found] == messages
        assert sum(messages) == rows
        assert bool(found[-1].page_token_change.next_page_token) == (rows < 130)


async def test_a_page_of_more_than_500_is_one_of_500(memory: Yard) -> None:
    await memory.apply(regions=numbered(505))
    async with memory.watch("region", page_size=1000) as stream:
        (message,) = await stream.change_set()
        assert len(changes_of(message)) == 500
        assert message.page_token_change.next_page_token


async def test_the_whole_collection_has_no_tokens_and_is_capped(tmp_path: Path) -> None:
    capped = replace(meta.SERVICE, assemble=functools.partial(meta.assemble, whole=5))
    async with opened(tmp_path, service=capped) as yard:
        await yard.apply(regions=numbered(4))
        async with yard.watch("region", max_chunk_size=2) as stream:
            client = Stateful(2)
            await one_set(client, stream)
            await yard.apply(regions=numbered(5))
            assert places(await one_set(client, stream)) == [("added", "regions/r004", 4)]
            assert client.tokens == ("", "") and len(client.rows) == 5
            await yard.apply(regions=numbered(6))
            failure = await stream.failure()
            assert failure.code is StatusCode.RESOURCE_EXHAUSTED
        failure = await yard.fails("region", "WatchMany", StatusCode.RESOURCE_EXHAUSTED, max_chunk_size=100)
        assert "5 rows" in failure.message
        # A filter makes it small enough, and pages have no such limit.
        async with yard.watch("region", max_chunk_size=100, filter='name != "regions/r000"') as stream:
            assert len(await stream.changes()) == 5
        async with yard.watch("region", page_size=6, max_chunk_size=100) as stream:
            assert len(await stream.changes()) == 6


def test_the_cap_is_ten_thousand() -> None:
    assert servicer.Limits().whole == 10_000


async def test_a_page_closes_at_3_mib_as_the_list_does(memory: Yard) -> None:
    """So that one message with all of it is small enough for default gRPC clients."""
    for half in (slice(0, 75), slice(75, None)):
        await memory.apply(regions=numbered(150, title="x" * 30_000)[half])
    async with memory.watch("region", page_size=500) as stream:
        client = Stateful()
        await one_set(client, stream)
        await is_as_listed(client, memory, page_size=500)
        assert 90 < len(client.rows) < 110 and client.tokens[1]


async def test_the_snapshot_has_every_acknowledged_write(yard: Yard) -> None:
    for number in range(6):
        await yard.apply(regions=[{"name": f"regions/r00{number}"}])
        async with yard.watch("region") as stream:
            assert len(await stream.changes()) == number + 1
        async with yard.watch_one("region", f"regions/r00{number}") as stream:
            assert told((await stream.message()).change) == ("added", f"regions/r00{number}")


async def test_one_apply_is_one_change_set_however_many_messages_it_takes(yard: Yard) -> None:
    """No state between is ever complete: titles are all of one apply."""
    await yard.apply(regions=numbered(9, title="0"))
    asked = {"page_size": 8, "max_chunk_size": 3, "order_by": "title desc"}
    async with yard.watch("region", **asked) as stream:
        client = Stateful(3)
        await one_set(client, stream)
        for title in range(1, 5):
            regions = numbered(9 + title % 2, title=str(title))
            await yard.apply(prune=True, regions=regions[title % 2 :])
        while True:
            titles = {Region.FromString(body).title for _, body in client.rows}
            assert len(titles) == 1
            if titles == {"4"}:
                break
            await one_set(client, stream)
        await is_as_listed(client, yard, page_size=8, order_by="title desc")


# -- changes and indexes


async def test_indexes_are_sequential(yard: Yard) -> None:
    await yard.apply(regions=numbered(6))
    async with yard.watch("region") as stream:
        client = Stateful()
        await one_set(client, stream)
        # One apply: three removals, two additions, a change where it stands.
        kept = [region for region in numbered(6) if region["name"][-1] in "135"]
        kept[1]["title"] = "changed"
        await yard.apply(prune=True, regions=[*kept, {"name": "regions/r0"}, {"name": "regions/r0035"}])
        changes = places(await one_set(client, stream))
        assert sorted(change[:2] for change in changes) == [
            ("added", "regions/r0"),
            ("added", "regions/r0035"),
            ("modified", "regions/r003"),
            ("removed", "regions/r000"),
            ("removed", "regions/r002"),
            ("removed", "regions/r004"),
        ]
        await is_as_listed(client, yard)


async def test_rows_that_only_shift_get_no_change(yard: Yard) -> None:
    await yard.apply(regions=numbered(5))
    async with yard.watch("region") as stream:
        client = Stateful()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/a0"}])
        assert places(await one_set(client, stream)) == [("added", "regions/a0", 0)]
        await yard.delete("region", "regions/r001")
        assert places(await one_set(client, stream)) == [("removed", "regions/r001", 2)]
        await is_as_listed(client, yard)


async def test_a_move_within_the_page(yard: Yard) -> None:
    await yard.apply(regions=[{"name": f"regions/r{n}", "title": f"{n}0"} for n in range(5)])
    async with yard.watch("region", order_by="title") as stream:
        client = Stateful()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/r0", "title": "25"}])
        assert places(await one_set(client, stream)) == [("modified", "regions/r0", 0, 2)]
        await is_as_listed(client, yard, order_by="title")
        # In its place: the two indexes are equal.
        await yard.apply(regions=[{"name": "regions/r0", "title": "26"}])
        assert places(await one_set(client, stream)) == [("modified", "regions/r0", 2, 2)]


async def test_a_move_by_a_hidden_field_is_sent_and_a_hidden_change_is_not(yard: Yard) -> None:
    await yard.apply(regions=[{"name": f"regions/r{n}", "domain": f"{n}0"} for n in range(3)])
    asked = {"order_by": "domain", "field_mask": ["title"]}
    async with yard.watch("region", **asked) as stream:
        client = Stateful()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/r0", "domain": "05"}])  # hidden, and in its place
        await yard.apply(regions=[{"name": "regions/r0", "domain": "25"}])
        (change,) = await one_set(client, stream)
        assert places([change]) == [("modified", "regions/r0", 0, 2)]
        assert {field.name for field, _ in change.modified.region.ListFields()} == {"name"}
        await is_as_listed(client, yard, **asked)


async def test_entering_and_leaving_the_filter(yard: Yard) -> None:
    await yard.apply(regions=[{"name": f"regions/r{n}", "title": "in" if n % 2 else "out"} for n in range(4)])
    async with yard.watch("region", filter='title = "in"') as stream:
        client = Stateful()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/r2", "title": "in"}])
        assert places(await one_set(client, stream)) == [("added", "regions/r2", 1)]
        await yard.apply(regions=[{"name": "regions/r1", "title": "out"}])
        assert places(await one_set(client, stream)) == [("removed", "regions/r1", 0)]


async def test_a_page_stays_full(yard: Yard) -> None:
    await yard.apply(regions=numbered(6))
    asked = {"page_size": 3}
    async with yard.watch("region", **asked) as stream:
        client = Stateful()
        await one_set(client, stream)
        # One leaves: the next one enters.
        await yard.delete("region", "regions/r001")
        changes = places(await one_set(client, stream))
        assert changes == [("removed", "regions/r001", 1), ("added", "regions/r003", 2)]
        await is_as_listed(client, yard, **asked)
        # One enters: the last one is pushed off.
        await yard.apply(regions=[{"name": "regions/a0"}])
        changes = places(await one_set(client, stream))
        assert sorted(change[:2] for change in changes) == [
            ("added", "regions/a0"),
            ("removed", "regions/r003"),
        ]
        await is_as_listed(client, yard, **asked)
        # All leave at once.
        await yard.apply(prune=True, regions=[{"name": "regions/r005"}])
        await one_set(client, stream)
        await is_as_listed(client, yard, **asked)


async def test_what_happens_beyond_the_page_is_not_sent(yard: Yard) -> None:
    await yard.apply(regions=numbered(6))
    async with yard.watch("region", page_size=3) as stream:
        client = Stateful()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/z0"}])
        await yard.delete("region", "regions/r004")
        await yard.apply(services=[{"name": "services/a", "current_version": "v", "all_versions": ["v"]}])
        await yard.apply(regions=[{"name": ONE, "title": "t"}])
        assert places(await one_set(client, stream)) == [("modified", ONE, 0, 0)]


# -- tokens


async def test_tokens_change_alone(yard: Yard) -> None:
    await yard.apply(regions=numbered(3))
    asked = {"page_size": 3}
    async with yard.watch("region", **asked) as stream:
        (first,) = await stream.change_set()
        assert not first.HasField("page_token_change")
        await yard.apply(regions=[{"name": "regions/z0"}])
        (message,) = await stream.change_set()
        assert not changes_of(message)
        token = message.page_token_change.next_page_token
        assert token == (await yard.list("region", **asked)).next_page_token != ""
        assert await yard.names("region", page_token=token) == ["regions/z0"]
        # "None any more" is an empty text in a message that is there.
        await yard.delete("region", "regions/z0")
        (message,) = await stream.change_set()
        assert message.HasField("page_token_change") and not changes_of(message)
        assert message.page_token_change.next_page_token == ""


async def test_the_last_chunk_alone_has_the_tokens(memory: Yard) -> None:
    await memory.apply(regions=numbered(5))
    async with memory.watch("region", page_size=4, max_chunk_size=3) as stream:
        first, last = await stream.change_set()
        assert not first.HasField("page_token_change")
        assert last.page_token_change.next_page_token


async def test_a_page_behind_a_token(yard: Yard) -> None:
    await yard.apply(regions=numbered(9))
    token = (await yard.list("region", page_size=3)).next_page_token
    asked = {"page_size": 3, "page_token": token}
    async with yard.watch("region", **asked) as stream:
        client = Stateful()
        await one_set(client, stream)
        assert client.names == ["regions/r003", "regions/r004", "regions/r005"]
        await is_as_listed(client, yard, **asked)
        # It begins behind its cursor, whatever happens before it.
        await yard.apply(regions=[{"name": "regions/a0"}])
        await yard.apply(regions=[{"name": "regions/r0021"}])
        changes = places(await one_set(client, stream))
        assert sorted(change[:2] for change in changes) == [
            ("added", "regions/r0021"),
            ("removed", "regions/r005"),
        ]
        await is_as_listed(client, yard, **asked)


async def test_a_page_before_a_token_follows_inserts_at_its_left_edge(yard: Yard) -> None:
    await yard.apply(regions=numbered(9))
    first = await yard.list("region", page_size=6)
    second = await yard.list("region", page_size=6, page_token=first.next_page_token)
    asked = {"page_size": 3, "page_token": second.prev_page_token}
    async with yard.watch("region", **asked) as stream:
        client = Stateful()
        await one_set(client, stream)
        assert client.names == ["regions/r003", "regions/r004", "regions/r005"]
        assert all(client.tokens)
        await yard.apply(regions=[{"name": "regions/r0045"}])
        await one_set(client, stream)
        assert client.names == ["regions/r004", "regions/r0045", "regions/r005"]
        await is_as_listed(client, yard, **asked)
        await yard.delete("region", "regions/r0045")
        await one_set(client, stream)
        await yard.delete("region", "regions/r005")
        await one_set(client, stream)
        assert client.names == ["regions/r002", "regions/r003", "regions/r004"]
        await is_as_listed(client, yard, **asked)


@pytest.mark.parametrize("chunk", [0, 2])
async def test_a_token_asks_for_a_page_even_without_a_size(memory: Yard, chunk: int) -> None:
    await memory.apply(regions=numbered(8))
    first = await memory.list("region", page_size=5)
    second = await memory.list("region", page_size=5, page_token=first.next_page_token)
    for token in (first.next_page_token, second.prev_page_token):
        async with memory.watch("region", page_token=token, max_chunk_size=chunk) as stream:
            client = Stateful(chunk)
            await one_set(client, stream)
            await is_as_listed(client, memory, page_token=token)


async def test_a_token_of_another_query_is_refused(memory: Yard) -> None:
    await memory.apply(regions=numbered(3))
    token = (await memory.list("region", page_size=1)).next_page_token
    for other in ({"order_by": "title"}, {"filter": 'title = "x"'}):
        await memory.refused("region", "WatchMany", "page_token", page_token=token, **other)


async def test_compaction_does_not_disturb_it(yard: Yard) -> None:
    await yard.apply(regions=numbered(3))
    async with yard.watch("region") as stream:
        client = Stateful()
        await one_set(client, stream)
        for number in range(3):
            await yard.apply(regions=[{"name": ONE, "title": str(number)}])
            await yard.store.compact(await yard.store.head())
            await one_set(client, stream)
            await is_as_listed(client, yard)


# -- one resource


async def test_one_resource(yard: Yard) -> None:
    await yard.apply(regions=numbered(2))
    async with yard.watch_one("region", ONE) as stream:
        added = (await stream.message()).change.added
        assert (added.region.name, added.view_index) == (ONE, 0)
        await yard.apply(regions=[{"name": ONE, "title": "new"}, {"name": "regions/r001", "title": "else"}])
        modified = (await stream.message()).change.modified
        assert (modified.name, modified.region.title) == (ONE, "new")
        assert (modified.previous_view_index, modified.view_index) == (0, 0)
        assert not modified.HasField("field_mask")
        await yard.delete("region", ONE)
        change = (await stream.message()).change
        assert told(change) == ("removed", ONE)
        # The stream stays open: what comes back is added.
        await yard.apply(regions=[{"name": ONE, "title": "again"}])
        change = (await stream.message()).change
        assert told(change) == ("added", ONE)
        assert change.added.region.title == "again"


async def test_one_resource_through_a_mask(yard: Yard) -> None:
    await yard.apply(regions=numbered(1, title="t"))
    async with yard.watch_one("region", ONE, field_mask=["title"]) as stream:
        await stream.message()
        await yard.apply(regions=[{"name": ONE, "domain": "hidden"}])
        await yard.apply(regions=[{"name": ONE, "title": "shown"}])
        region = (await stream.message()).change.modified.region
        assert {field.name: value for field, value in region.ListFields()} == {"name": ONE, "title": "shown"}


@pytest.mark.parametrize("kind", ["deployment", "service", "resource"])
async def test_one_resource_of_every_kind(memory: Yard, kind: str) -> None:
    version = {"current_version": "v", "all_versions": ["v"]}
    lists: dict[str, list[dict[str, Any]]] = {
        "regions": numbered(1),
        "services": [{"name": "services/a", "metadata": {"labels": {"n": "1"}}, **version}],
        "resources": [{"name": "services/a/resources/Job"}],
        "deployments": [{"name": f"{ONE}/deployments/a", "service": "services/a"}],
    }
    await memory.apply(**lists)
    name = lists[f"{kind}s"][0]["name"]
    async with memory.watch_one(kind, name) as stream:
        assert told((await stream.message()).change) == ("added", name)
        await memory.apply(**{f"{kind}s": [{"name": name, "metadata": {"labels": {"n": "2"}}}]})
        assert told((await stream.message()).change) == ("modified", name)


async def test_one_resource_survives_compaction(memory: Yard) -> None:
    await memory.apply(regions=numbered(1))
    async with memory.watch_one("region", ONE) as stream:
        await stream.message()
        for number in range(3):
            await memory.apply(regions=[{"name": "regions/other", "title": str(number)}])
            await memory.apply(regions=[{"name": ONE, "title": str(number)}])
            await memory.store.compact(await memory.store.head())
            assert (await stream.message()).change.modified.region.title == str(number)
