"""Stateless watches of a collection over gRPC (docs/apis/meta.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from shared.rpc import interceptors
from shared.service.config import Config
from shared.storage.errors import StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Query, Record
from shared.watch import stateless
from tests.contract.meta_clients import Stateless, revision_of
from tests.contract.meta_yard import (
    APIS,
    BACKENDS,
    LASTING,
    MEGABYTES,
    Clock,
    Stream,
    Yard,
    changes_of,
    kinds,
    lasting,
    numbered,
    opened,
    rows_of,
    told,
)

STATELESS = 1


@pytest.fixture(params=BACKENDS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path, request.param) as found:
        yield found


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def watched(yard: Yard, kind: str = "region", **fields: Any) -> Any:
    return yard.watch(kind, type=STATELESS, **fields)


async def one_set(client: Stateless, stream: Stream) -> list[tuple[str, str]]:
    """Reads to the end of a change set; what it said."""
    found = []
    while True:
        message = await stream.message()
        found += [told(change) for change in changes_of(message)]
        if client.take(message):
            return found


async def listed(yard: Yard, kind: str = "region", **fields: Any) -> dict[str, bytes]:
    page = await yard.list(kind, page_size=1000, **fields)
    return {row.name: row.SerializeToString(deterministic=True) for row in rows_of(page)}


async def token_of(yard: Yard, **fields: Any) -> str:
    async with watched(yard, **fields) as stream:
        return (await stream.change_set())[-1].resume_token


# -- snapshot and changes


async def test_an_empty_query_is_an_empty_change_set(yard: Yard) -> None:
    async with watched(yard) as stream:
        client = Stateless()
        assert await one_set(client, stream) == []
        await yard.apply(regions=numbered(1))
        assert await one_set(client, stream) == [("current", "regions/r000")]
        await yard.delete("region", "regions/r000")
        assert await one_set(client, stream) == [("removed", "regions/r000")]
        assert client.held == {}


async def test_snapshot_changes_and_removals(yard: Yard) -> None:
    await yard.apply(regions=numbered(5, title="x"))
    async with watched(yard) as stream:
        client = Stateless()
        await one_set(client, stream)
        assert client.held == await listed(yard)
        await yard.apply(
            prune=True,
            regions=[
                *numbered(2, title="x"),
                {"name": "regions/r002", "title": "y"},
                {"name": "regions/new"},
            ],
        )
        assert sorted(await one_set(client, stream)) == [
            ("current", "regions/new"),
            ("current", "regions/r002"),
            ("removed", "regions/r003"),
            ("removed", "regions/r004"),
        ]
        assert client.held == await listed(yard)


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (7, 7), (100, 100)])
async def test_chunks(memory: Yard, asked: int, size: int) -> None:
    await memory.apply(regions=numbered(205))
    async with watched(memory, max_chunk_size=asked) as stream:
        messages = await stream.change_set()
        sizes = [len(changes_of(message)) for message in messages]
        assert sizes == [size] * (205 // size) + [205 % size] * bool(205 % size)
        assert [message.is_current for message in messages] == [False] * (len(sizes) - 1) + [True]
        await memory.apply(prune=True, regions=numbered(100, title="t"))
        later = await stream.change_set()
        assert sum(len(changes_of(message)) for message in later) == 205
        assert max(len(changes_of(message)) for message in later) == size


async def test_entering_and_leaving_the_filter(yard: Yard) -> None:
    await yard.apply(regions=[{"name": "regions/aa", "title": "no"}, {"name": "regions/bb", "title": "yes"}])
    # What is filtered on is not shown.
    async with watched(yard, filter='title = "yes"', field_mask=["domain"]) as stream:
        client = Stateless()
        assert await one_set(client, stream) == [("current", "regions/bb")]
        await yard.apply(regions=[{"name": "regions/aa", "title": "yes"}])
        assert await one_set(client, stream) == [("current", "regions/aa")]
        await yard.apply(regions=[{"name": "regions/bb", "title": "no"}])
        assert await one_set(client, stream) == [("removed", "regions/bb")]
        await yard.delete("region", "regions/aa")
        assert await one_set(client, stream) == [("removed", "regions/aa")]


async def test_a_change_of_what_is_hidden_is_not_sent(yard: Yard) -> None:
    await yard.apply(regions=numbered(2))
    async with watched(yard, field_mask=["title"]) as stream:
        client = Stateless()
        await one_set(client, stream)
        await yard.apply(regions=[{"name": "regions/r000", "domain": "hidden"}])
        await yard.apply(services=[{"name": "services/a", "current_version": "v", "all_versions": ["v"]}])
        await yard.apply(regions=[{"name": "regions/r001", "title": "shown"}])
        assert await one_set(client, stream) == [("current", "regions/r001")]


async def test_one_parent(yard: Yard) -> None:
    service = {"name": "services/a", "current_version": "v", "all_versions": ["v"]}

    def deployments(*names: str) -> list[dict[str, Any]]:
        return [{"name": name, "service": "services/a"} for name in names]

    await yard.apply(
        regions=numbered(2),
        services=[service],
        deployments=deployments("regions/r000/deployments/a", "regions/r001/deployments/a"),
    )
    async with watched(yard, "deployment", parent="regions/r000") as stream:
        client = Stateless()
        assert await one_set(client, stream) == [("current", "regions/r000/deployments/a")]
        await yard.apply(deployments=deployments("regions/r001/deployments/b"))
        await yard.apply(deployments=deployments("regions/r000/deployments/b"))
        assert await one_set(client, stream) == [("current", "regions/r000/deployments/b")]


async def test_one_apply_is_one_change_set(memory: Yard) -> None:
    async with watched(memory, max_chunk_size=3) as stream:
        client = Stateless(3)
        await one_set(client, stream)
        for count in (50, 20, 250, 0):
            await memory.apply(prune=True, regions=numbered(count, title=str(count)))
            await one_set(client, stream)
            assert len(client.held) == count


async def test_the_snapshot_has_every_acknowledged_write(yard: Yard) -> None:
    for number in range(8):
        await yard.apply(regions=[{"name": f"regions/r{number}"}])
        async with watched(yard) as stream:
            client = Stateless()
            await one_set(client, stream)
            assert len(client.held) == number + 1


async def test_what_came_and_went_between_two_reads_is_not_seen(yard: Yard) -> None:
    """The differences of a client that resumes are net."""
    await yard.apply(regions=numbered(2))
    token = await token_of(yard)
    await yard.apply(regions=[{"name": "regions/brief"}])
    await yard.apply(regions=[{"name": "regions/r000", "title": "changed"}])
    await yard.delete("region", "regions/brief")
    await yard.apply(regions=[{"name": "regions/r000", "title": "and again"}])
    await yard.delete("region", "regions/r001")
    async with watched(yard, resume_token=token) as stream:
        assert sorted(told(change) for change in await stream.changes()) == [
            ("current", "regions/r000"),
            ("removed", "regions/r001"),
        ]


# -- resuming


async def test_a_resume_is_always_answered(yard: Yard) -> None:
    await yard.apply(regions=numbered(3))
    token = await token_of(yard)
    for _ in range(2):
        async with watched(yard, resume_token=token) as stream:
            (message,) = await stream.change_set()
            assert not changes_of(message)
            assert revision_of(message.resume_token) == revision_of(token)
    await yard.apply(services=[{"name": "services/a", "current_version": "v", "all_versions": ["v"]}])
    async with watched(yard, resume_token=token) as stream:
        (message,) = await stream.change_set()
        assert not changes_of(message)
        assert revision_of(message.resume_token) == 2


async def test_a_resumed_client_holds_what_is_listed(yard: Yard) -> None:
    await yard.apply(regions=numbered(6, title="x"))
    client = Stateless(2)
    asked = {"filter": 'title != "no"', "max_chunk_size": 2}
    async with watched(yard, **asked) as stream:
        await one_set(client, stream)
    for number in range(6):
        await yard.apply(
            prune=True,
            regions=[
                *numbered(6 - number, title="no" if number % 2 else str(number)),
                {"name": "regions/z0"},
            ],
        )
        client.reconnect()
        async with watched(yard, resume_token=client.token, **asked) as stream:
            await one_set(client, stream)
            assert client.held == await listed(yard, filter=asked["filter"])


async def test_the_first_change_set_after_a_resume_may_be_many_chunks(memory: Yard) -> None:
    token = await token_of(memory)
    await memory.apply(regions=numbered(25))
    async with watched(memory, resume_token=token, max_chunk_size=10) as stream:
        assert [len(changes_of(message)) for message in await stream.change_set()] == [10, 10, 5]


@pytest.mark.parametrize("backend", LASTING)
async def test_a_token_survives_a_restart(tmp_path: Path, backend: str) -> None:
    async with lasting(backend) as store:
        async with opened(tmp_path, store=store()) as yard:
            await yard.apply(regions=numbered(3))
            token = await token_of(yard)
            await yard.delete("region", "regions/r001")
        async with opened(tmp_path, store=store()) as yard, watched(yard, resume_token=token) as stream:
            assert [told(change) for change in await stream.changes()] == [("removed", "regions/r001")]


async def test_a_token_is_bound_to_its_query(memory: Yard) -> None:
    asked = {"filter": 'title = "x"', "field_mask": ["title"]}
    token = await token_of(memory, **asked)
    # Chunks may be of another size, and the same query may be spelled in another way.
    async with watched(memory, resume_token=token, max_chunk_size=3, **asked) as stream:
        await stream.change_set()
    spelled = {"filter": ' title  == "x"', "field_mask": ["name", "title", "title"]}
    async with watched(memory, resume_token=token, **spelled) as stream:
        await stream.change_set()
    for other in (
        {},
        {**asked, "filter": 'title = "y"'},
        {**asked, "field_mask": ["domain"]},
        {**asked, "field_mask": ["title", "domain"]},
        {**asked, "view": 4},
    ):
        failure = await memory.refused(
            "region", "WatchMany", "resume_token", type=STATELESS, resume_token=token, **other
        )
        assert "another query" in failure.message
    await memory.refused("service", "WatchMany", "resume_token", type=STATELESS, resume_token=token)
    wild, one = {"parent": "regions/-"}, {"parent": "regions/aa"}
    async with watched(memory, "deployment", **wild) as stream:
        token = (await stream.change_set())[-1].resume_token
    await memory.refused("deployment", "WatchMany", "resume_token", type=STATELESS, resume_token=token, **one)


@pytest.mark.parametrize(
    "token", ["x", "e30", "eyJ2IjoxfQ", " ", "\N{ROCKET}", "a" * 40_000, "r.e.C.eA==:eA=="]
)
async def test_what_is_no_token_is_invalid(memory: Yard, token: str) -> None:
    await memory.refused("region", "WatchMany", "resume_token", type=STATELESS, resume_token=token)


# -- resets


async def test_a_token_older_than_the_log_is_a_hard_reset_in_the_stream(yard: Yard) -> None:
    await yard.apply(regions=numbered(3))
    client = Stateless()
    async with watched(yard) as stream:
        await one_set(client, stream)
    await yard.delete("region", "regions/r000")
    await yard.apply(regions=[{"name": "regions/r001", "title": "new"}])
    await yard.store.compact(3)
    async with watched(yard, resume_token=client.token) as stream:
        first = await stream.message()
        assert first.is_hard_reset
        client.take(first)
        assert sorted(await one_set(client, stream)) == [
            ("current", "regions/r001"),
            ("current", "regions/r002"),
        ]
        # The stream goes on as any other.
        await yard.delete("region", "regions/r002")
        assert await one_set(client, stream) == [("removed", "regions/r002")]
        assert client.held == await listed(yard)
    assert client.hard_resets == 1


async def test_a_token_at_the_end_of_the_log_still_resumes(yard: Yard) -> None:
    await yard.apply(regions=numbered(2))
    await yard.apply(regions=numbered(2, title="t"))
    token = await token_of(yard)
    await yard.store.compact(2)
    await yard.delete("region", "regions/r000")
    async with watched(yard, resume_token=token) as stream:
        assert [told(change) for change in await stream.changes()] == [("removed", "regions/r000")]


async def test_a_token_of_another_store_is_a_hard_reset(yard: Yard, tmp_path: Path) -> None:
    async with opened(tmp_path / "other") as other:
        await other.apply(regions=numbered(1))
        token = await token_of(other)
    await yard.apply(regions=[{"name": "regions/mine"}])
    async with watched(yard, resume_token=token) as stream:
        assert (await stream.message()).is_hard_reset
        assert [told(change) for change in await stream.changes()] == [("current", "regions/mine")]


async def test_a_token_from_a_future_that_was_lost_is_a_hard_reset(tmp_path: Path) -> None:
    """An older copy of the database was put back."""
    data = tmp_path / "meta.db"
    async with opened(tmp_path, "sqlite") as yard:
        await yard.apply(regions=numbered(1))
    copy = data.read_bytes()
    async with opened(tmp_path, "sqlite") as yard:
        await yard.apply(regions=numbered(3))
        token = await token_of(yard)
    data.write_bytes(copy)
    for name in ("meta.db-wal", "meta.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    async with opened(tmp_path, "sqlite") as yard, watched(yard, resume_token=token) as stream:
        assert (await stream.message()).is_hard_reset
        assert [told(change) for change in await stream.changes()] == [("current", "regions/r000")]


class Stutter(MemoryStore):
    """Fails once, in the midst of the next scan, when it is told to."""

    after: int | None = None

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        sent = 0
        async with aclosing(super().scan(query, at=at)) as records:
            async for record in records:
                if self.after is not None and sent == self.after:
                    self.after = None
                    raise StoreUnavailable("the disk went away for a moment")
                sent += 1
                yield record


async def test_a_snapshot_that_breaks_off_is_sent_anew_after_a_soft_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small one is read before anything of it is sent.
    monkeypatch.setattr(stateless, "_LITTLE", 3)
    store = Stutter(kinds())
    async with opened(tmp_path, store=store) as yard:
        await yard.apply(regions=numbered(10))
        store.after = 7
        client = Stateless(2)
        async with watched(yard, max_chunk_size=2) as stream:
            await one_set(client, stream)
        assert (client.soft_resets, client.hard_resets, client.sets) == (1, 0, 1)
        assert client.held == await listed(yard)
        # Nothing was sent yet: nothing to drop.
        store.after = 1
        client = Stateless(2)
        async with watched(yard, max_chunk_size=2) as stream:
            await one_set(client, stream)
        assert (client.soft_resets, client.sets, len(client.held)) == (0, 1, 10)


class Down(MemoryStore):
    """A store whose log cannot be read while `down`."""

    down = False

    async def changes(self, after: int, limit: int) -> Any:
        if self.down:
            raise StoreUnavailable("the log is gone")
        return await super().changes(after, limit)

    async def count(self, query: Query, *, at: int | None = None) -> int:
        if self.down:
            raise StoreUnavailable("cannot count")
        return await super().count(query, at=at)


async def test_a_store_that_stays_away_ends_the_stream_and_its_token_goes_on(tmp_path: Path) -> None:
    store = Down(kinds())
    async with opened(tmp_path, store=store) as yard:
        await yard.apply(regions=numbered(2))
        client = Stateless()
        async with watched(yard) as stream:
            await one_set(client, stream)
            store.down = True
            await yard.apply(regions=[{"name": "regions/r000", "title": "t"}])
            assert (await stream.failure()).code is StatusCode.UNAVAILABLE
        store.down = False
        async with watched(yard, resume_token=client.token) as stream:
            assert await one_set(client, stream) == [("current", "regions/r000")]


async def test_a_list_that_cannot_count_shows_0_and_0(tmp_path: Path) -> None:
    store = Down(kinds())
    async with opened(tmp_path, store=store) as yard:
        await yard.apply(regions=numbered(3))
        store.down = True
        page = await yard.list("region", include_paging_info=True)
        assert (len(page.regions), page.total_results_count, page.current_offset) == (3, 0, 0)


# -- starting_time


@pytest.fixture
async def timed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Yard, Clock]]:
    clock = Clock()
    async with opened(tmp_path, request.param, clock=clock) as found:
        yield found, clock


def at(nanoseconds: int) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(nanoseconds)
    return found


EVERYWHERE = pytest.mark.parametrize("timed", BACKENDS, indirect=True)
MEMORY = pytest.mark.parametrize("timed", ["memory"], indirect=True)


@EVERYWHERE
async def test_a_time_is_an_empty_change_set_and_then_what_happened_since(timed: tuple[Yard, Clock]) -> None:
    yard, clock = timed
    before = clock.now
    moments = []
    for number in range(4):
        clock.advance(10)
        await yard.apply(regions=[{"name": f"regions/r{number}"}])
        moments.append(clock.now)
    clock.advance(10)
    await yard.delete("region", "regions/r0")
    for moment, expected in (
        (moments[3], [("removed", "regions/r0")]),
        (moments[3] + 9_000_000_000, [("removed", "regions/r0")]),
        (moments[1] + 1, [("current", "regions/r2"), ("current", "regions/r3"), ("removed", "regions/r0")]),
        (moments[1] - 1, [("current", f"regions/r{n}") for n in (1, 2, 3)] + [("removed", "regions/r0")]),
        (before, [("current", f"regions/r{n}") for n in (1, 2, 3)]),
    ):
        async with watched(yard, starting_time=at(moment)) as stream:
            (first,) = await stream.change_set()
            assert not changes_of(first)
            assert revision_of(first.resume_token) < 5
            assert sorted(told(change) for change in await stream.changes()) == expected


@EVERYWHERE
async def test_the_time_now_starts_with_what_comes(timed: tuple[Yard, Clock]) -> None:
    yard, clock = timed
    await yard.apply(regions=numbered(2))
    for ahead in (0, 1, 59):
        async with watched(yard, starting_time=at(clock.now + ahead * 10**9)) as stream:
            (first,) = await stream.change_set()
            assert not changes_of(first)
            await yard.apply(regions=[{"name": "regions/r000", "title": str(ahead)}])
            assert [told(change) for change in await stream.changes()] == [("current", "regions/r000")]


@EVERYWHERE
async def test_a_time_older_than_the_log_is_a_hard_reset(timed: tuple[Yard, Clock]) -> None:
    yard, clock = timed
    for number in range(4):
        clock.advance(10)
        await yard.apply(regions=[{"name": f"regions/r{number}"}])
    await yard.store.compact(3)
    async with watched(yard, starting_time=at(clock.now - 11 * 10**9)) as stream:
        assert (await stream.message()).is_hard_reset
        assert len(await stream.changes()) == 4
    async with watched(yard, starting_time=at(clock.now - 10 * 10**9)) as stream:
        assert not changes_of((await stream.change_set())[0])
        assert [told(change) for change in await stream.changes()] == [("current", "regions/r3")]


@MEMORY
async def test_a_time_beyond_a_minute_ahead_is_invalid(timed: tuple[Yard, Clock]) -> None:
    yard, clock = timed
    for wrong in (
        at(clock.now + 61 * 10**9),
        Timestamp(seconds=2**40),
        Timestamp(seconds=2**62),
        Timestamp(nanos=-1),
        Timestamp(nanos=2_000_000_000),
    ):
        await yard.refused("region", "WatchMany", "starting_time", type=STATELESS, starting_time=wrong)
    # Long ago is no error: the log of a new store reaches back to everything.
    async with watched(yard, starting_time=Timestamp(seconds=-(10**9))) as stream:
        assert not changes_of((await stream.change_set())[0])


# -- request rules


async def test_what_stateless_watches_do_not_take(memory: Yard) -> None:
    page = await memory.apply(regions=numbered(3))
    token = (await memory.list("region", page_size=1)).next_page_token
    for field, value in (("page_size", 1), ("page_token", token), ("order_by", "title")):
        failure = await memory.refused("region", "WatchMany", field, type=STATELESS, **{field: value})
        assert "STATELESS" in failure.message
    resume = await token_of(memory)
    await memory.refused(
        "region",
        "WatchMany",
        "starting_time",
        type=STATELESS,
        resume_token=resume,
        starting_time=at(time.time_ns()),
    )
    assert page.revision == 1


async def test_what_stateful_watches_do_not_take(memory: Yard) -> None:
    token = await token_of(memory)
    for field, value in (("resume_token", token), ("starting_time", at(time.time_ns()))):
        failure = await memory.refused("region", "WatchMany", field, **{field: value})
        assert "STATEFUL" in failure.message


@pytest.mark.parametrize("type", [0, STATELESS])
async def test_what_no_watch_takes(memory: Yard, type: int) -> None:
    for size in (-1, 101, 2**31 - 1):
        await memory.refused("region", "WatchMany", "max_chunk_size", type=type, max_chunk_size=size)
    await memory.refused("region", "WatchMany", "page_size", type=type, page_size=-1)
    await memory.refused("region", "WatchMany", "filter", type=type, filter="title =")
    await memory.refused("region", "WatchMany", "view", type=type, view=9)
    await memory.refused("region", "WatchMany", "field_mask", type=type, field_mask=["nothing"])
    await memory.refused("region", "WatchMany", "type", type=type + 2)
    async with memory.watch("region", type=type, max_chunk_size=100) as stream:
        await stream.change_set()


# -- silence


async def test_heartbeats_say_how_much_a_client_must_hold(tmp_path: Path) -> None:
    async with opened(tmp_path, watch_heartbeat="20ms", watch_bookmark="1h") as yard:
        await yard.apply(regions=numbered(3, title="x"))
        client = Stateless()
        async with watched(yard, filter='title = "x"') as stream:
            for number in range(3):
                await one_set(client, stream)
                beats = client.heartbeats
                while client.heartbeats < beats + 2:
                    client.take(await stream.message())
                assert len(client.held) == 3 - number
                await yard.apply(regions=[{"name": "regions/other", "title": str(number)}])
                await yard.apply(regions=[{"name": f"regions/r00{number}", "title": "y"}])


async def test_heartbeats_come_whatever_happens_outside_the_query(tmp_path: Path) -> None:
    async with opened(tmp_path, watch_heartbeat="50ms", watch_bookmark="1h") as yard:
        await yard.apply(regions=numbered(2))
        stop = asyncio.Event()

        async def write() -> int:
            number = 0
            while not stop.is_set():
                number += 1
                versions = {"current_version": str(number), "all_versions": [str(number)]}
                await yard.apply(services=[{"name": "services/busy", **versions}])
            return number

        writer = asyncio.create_task(write(), name="writer")
        try:
            client = Stateless()
            async with watched(yard) as stream:
                await one_set(client, stream)
                while client.heartbeats < 3:
                    client.take(await stream.message())
            assert client.sets == 1
        finally:
            stop.set()
        assert await writer > 3


@pytest.mark.parametrize("backend", BACKENDS)
async def test_heartbeats_of_a_resumed_watch(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend, watch_heartbeat="20ms", watch_bookmark="1h") as yard:
        await yard.apply(regions=numbered(4))
        client = Stateless()
        async with watched(yard) as stream:
            await one_set(client, stream)
        await yard.delete("region", "regions/r000")
        async with watched(yard, resume_token=client.token) as stream:
            await one_set(client, stream)
            while not client.heartbeats:
                client.take(await stream.message())
        assert len(client.held) == 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heartbeat", ["0s", "20ms"])
async def test_bookmarks_keep_a_quiet_watch_within_the_log(
    tmp_path: Path, backend: str, heartbeat: str
) -> None:
    async with opened(tmp_path, backend, watch_heartbeat=heartbeat, watch_bookmark="0s") as yard:
        client = Stateless()
        async with watched(yard, filter='title = "none"') as stream:
            await one_set(client, stream)
            for number in range(5):
                before = client.revision
                await yard.apply(regions=[{"name": "regions/other", "title": str(number)}])
                assert await one_set(client, stream) == []
                assert client.revision > before
        await yard.store.compact(5)
        async with watched(yard, filter='title = "none"', resume_token=client.token) as stream:
            assert await one_set(client, stream) == []
        assert client.hard_resets == 0


async def test_bookmarks_come_no_more_often_than_they_should(tmp_path: Path) -> None:
    async with opened(tmp_path, watch_heartbeat="20ms", watch_bookmark="1h") as yard:
        client = Stateless()
        async with watched(yard, filter='title = "none"') as stream:
            await one_set(client, stream)
            for number in range(3):
                await yard.apply(regions=[{"name": "regions/other", "title": str(number)}])
                beats = client.heartbeats
                while client.heartbeats == beats:
                    client.take(await stream.message())
            assert client.sets == 1


async def test_only_stateless_watches_have_heartbeats(tmp_path: Path) -> None:
    async with opened(tmp_path, watch_heartbeat="10ms", watch_bookmark="0s") as yard:
        await yard.apply(regions=numbered(1))
        async with (
            yard.watch("region") as page,
            yard.watch_one("region", "regions/r000") as one,
            watched(yard) as all,
        ):
            await page.change_set()
            await one.message()
            beats = Stateless()
            while beats.heartbeats < 5:
                beats.take(await all.message())
            await yard.apply(regions=numbered(1, title="t"))
            assert len(await page.changes()) == 1
            assert (await one.message()).change.modified.region.title == "t"


def test_how_long_silence_and_the_log_last_unless_set() -> None:
    config = Config.load({})
    assert (config.watch_heartbeat, config.watch_bookmark) == (timedelta(seconds=30), timedelta(seconds=60))
    assert (config.retention_age, config.retention_changes) == (timedelta(hours=24), 100_000)
    assert not config.max_stream_age


# -- slow readers


# Transports take so much on the way, and not more as they see that it moves fast.
FIXED_WINDOW = (*MEGABYTES, ("grpc.http2.bdp_probe", 0))
LARGE = "x" * 16_000
MANY = 16


@asynccontextmanager
async def slow_of(yard: Yard) -> AsyncIterator[Yard]:
    """The same service through a channel that holds little of what is not read."""
    async with grpc.aio.insecure_channel(yard.service.target, options=FIXED_WINDOW) as channel:
        yield Yard(yard.service, yard.http, channel)


async def test_a_slow_reader_is_given_longer_steps_and_loses_nothing(tmp_path: Path, backend: str) -> None:
    async with (
        opened(tmp_path, backend) as yard,
        slow_of(yard) as slow,
        watched(slow) as stream,
        watched(yard) as quick,
    ):
        client = Stateless()
        await one_set(client, stream)
        await quick.change_set()
        for number in range(MANY):
            await yard.apply(regions=numbered(4, title=f"{number} {LARGE}"))
            assert len(await quick.changes()) == 4, "nobody else waits for it"
        await yard.delete("region", "regions/r003")
        expected = await listed(yard)
        while client.held != expected:
            await one_set(client, stream)
        assert client.sets < MANY / 2, "what was passed over on the way was not sent"
        assert (client.hard_resets, client.soft_resets) == (0, 0)


async def test_a_reader_slower_than_the_log_is_reset_in_the_stream(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend) as yard, slow_of(yard) as slow, watched(slow) as stream:
        client = Stateless()
        await one_set(client, stream)
        for number in range(MANY):
            await yard.apply(regions=numbered(4, title=f"{number} {LARGE}"))
        await yard.delete("region", "regions/r003")
        await yard.store.compact(await yard.store.head())
        expected = await listed(yard)
        while client.held != expected:
            await one_set(client, stream)
        assert client.hard_resets == 1
        await yard.apply(regions=[{"name": "regions/r000", "title": "goes on"}])
        assert await one_set(client, stream) == [("current", "regions/r000")]


# -- how streams end


async def test_a_write_is_told_within_a_quarter_of_a_second(yard: Yard) -> None:
    await yard.apply(regions=[{"name": "regions/aa"}])
    async with (
        watched(yard) as stream,
        yard.watch("region") as page,
        yard.watch_one("region", "regions/aa") as one,
    ):
        await stream.change_set()
        await page.change_set()
        await one.message()
        took = []
        for number in range(5):
            await yard.apply(regions=[{"name": "regions/aa", "title": str(number)}])
            committed = time.monotonic()
            await asyncio.gather(stream.change_set(), page.change_set(), one.message())
            took.append(time.monotonic() - committed)
        assert sorted(took)[2] < 0.25


async def test_what_is_no_longer_allowed_ends_with_unauthenticated(
    memory: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three kinds of watch; a token that expired or was revoked opens none."""
    monkeypatch.setattr(interceptors, "_RECHECK", 0.0)
    await memory.apply(regions=numbered(1))
    access = memory.service.running.environment.access
    by = Author("test")
    token, record = await access.issue("brief", "viewer", timedelta(hours=1), creator="test", by=by)
    async with (
        watched(memory, who=token) as many,
        memory.watch("region", who=token) as page,
        memory.watch_one("region", "regions/r000", who=token) as one,
    ):
        for stream in (many, page, one):
            await stream.message()
        await access.revoke(record.id, by=by)
        await memory.apply(regions=numbered(1, title="not to be seen"))
        for stream in (many, page, one):
            assert (await stream.failure()).code is StatusCode.UNAUTHENTICATED
    await memory.fails("region", "WatchMany", StatusCode.UNAUTHENTICATED, who=token)


async def test_a_deadline_ends_it(memory: Yard) -> None:
    request = APIS["region"].request("WatchMany", {"type": STATELESS})
    call = memory.stubs["region"].WatchRegions(request, metadata=memory.metadata(), timeout=0.3)
    stream = Stream(call)
    await stream.change_set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.message()
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


async def test_a_stop_of_the_server_ends_all_with_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.apply(regions=numbered(1))
        async with (
            watched(yard) as many,
            yard.watch("region") as page,
            yard.watch_one("region", "regions/r000") as one,
        ):
            await many.change_set()
            await page.change_set()
            await one.message()
            await yard.service.running.environment.tailer.__aexit__(None, None, None)
            for stream in (many, page, one):
                assert (await stream.failure()).code is StatusCode.UNAVAILABLE


async def test_a_greatest_age_ends_it_with_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path, max_stream_age="200ms") as yard:
        client = Stateless()
        async with watched(yard) as stream:
            await one_set(client, stream)
            assert (await stream.failure()).code is StatusCode.UNAVAILABLE
        async with watched(yard, resume_token=client.token) as stream:
            await one_set(client, stream)


async def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, max_streams=2) as yard, watched(yard) as one, watched(yard) as two:
        await one.change_set()
        await two.change_set()
        await yard.fails("region", "WatchMany", StatusCode.RESOURCE_EXHAUSTED, type=STATELESS)
