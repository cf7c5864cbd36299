"""AdminService.Watch over real streams: snapshot, changes, resuming, resets, filters, peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from tests.contract.pipelines_yard import V1, V2, Yard, opened
from tests.patience import PATIENCE

ACTIVE = '{"predicates": [{"operation": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}]}'


class Watcher:
    """A client that keeps what a watch tells: names by id."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.held: dict[str, str] = {}
        self.token = ""
        self.revision = 0

    async def change_set(self) -> list[pb.WatchChange]:
        """Reads one whole set and holds it; answers its changes. A reset empties what is held."""
        changes: list[pb.WatchChange] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await self._call.read()
                assert response is not grpc.aio.EOF
                if response.is_hard_reset:
                    self.held.clear()
                for change in response.changes:
                    changes.append(change)
                    if change.HasField("removed"):
                        assert self.held.pop(change.removed, None) is not None
                    else:
                        body = Experiment.FromString(change.current.body.value)
                        self.held[change.current.name] = body.display_name
                if response.is_current:
                    assert response.resume_token
                    self.token, self.revision = response.resume_token, response.revision
                    return changes

    async def first(self) -> pb.WatchResponse:
        async with asyncio.timeout(PATIENCE):
            return await self._call.read()

    async def until(self, revision: int) -> list[pb.WatchChange]:
        """Change sets up to the one that reaches `revision`."""
        changes: list[pb.WatchChange] = []
        while self.revision < revision:
            changes += await self.change_set()
        return changes


@asynccontextmanager
async def watching(yard: Yard, **request: Any) -> AsyncIterator[Watcher]:
    call = yard.admin.Watch(pb.WatchRequest(kind="experiment", **request), metadata=yard.metadata("viewer"))
    try:
        yield Watcher(call)
    finally:
        call.cancel()


async def test_a_snapshot_and_then_every_change(any_yard: Yard) -> None:
    yard = any_yard
    one = await yard.create("one")
    async with watching(yard) as watcher:
        await watcher.change_set()
        assert watcher.held == {one.id: "one"}
        assert watcher.revision == await yard.store.head()
        two = await yard.create("two")
        (change,) = await watcher.change_set()
        assert (change.current.name, change.current.revision) == (two.id, watcher.revision)
        await yard.rest("POST", f"{V1}/{one.id}:archive")
        (change,) = await watcher.change_set()
        assert Experiment.FromString(change.current.body.value).storage_state == Experiment.ARCHIVED
        await yard.rest("DELETE", f"{V2}/{one.id}")
        (change,) = await watcher.change_set()
        assert change.removed == one.id
        assert watcher.held == {two.id: "two"}


async def test_an_empty_snapshot_is_told_too(any_yard: Yard) -> None:
    async with watching(any_yard) as watcher:
        assert await watcher.change_set() == []
        assert watcher.token


async def test_one_commit_is_one_change_set(any_yard: Yard) -> None:
    async with watching(any_yard) as watcher:
        await watcher.change_set()
        manifest = json.dumps({"experiments": [{"display_name": f"n{number}"} for number in range(250)]})
        answer = await any_yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})
        assert answer.status == 200
        assert len(await watcher.change_set()) == 250
        assert watcher.revision == 1


async def test_what_changes_nothing_is_not_told(any_yard: Yard) -> None:
    made = await any_yard.create("a")
    async with watching(any_yard) as watcher:
        await watcher.change_set()
        await any_yard.rest("POST", f"{V1}/{made.id}:unarchive")
        other = await any_yard.create("b")
        (change,) = await watcher.change_set()
        assert change.current.name == other.id


async def test_an_object_can_enter_and_leave_a_filter(any_yard: Yard) -> None:
    yard = any_yard
    one, two = await yard.create("one"), await yard.create("two")
    async with watching(yard, filter=ACTIVE) as watcher:
        await watcher.change_set()
        await yard.rest("POST", f"{V1}/{one.id}:archive")
        (change,) = await watcher.change_set()
        assert change.removed == one.id
        # Changes outside the filter are nobody's business, a deletion there neither.
        three = await yard.create("three")
        await yard.rest("POST", f"{V1}/{three.id}:archive")
        await yard.rest("DELETE", f"{V1}/{three.id}")
        await yard.rest("POST", f"{V1}/{one.id}:unarchive")
        await watcher.until(await yard.store.head())
        assert watcher.held == {one.id: "one", two.id: "two"}


async def test_from_now_skips_the_snapshot(any_yard: Yard) -> None:
    await any_yard.create("before")
    async with watching(any_yard, from_now=True) as watcher:
        assert await watcher.change_set() == []
        after = await any_yard.create("after")
        await watcher.change_set()
        assert watcher.held == {after.id: "after"}


async def test_a_token_resumes_where_it_was_given(any_yard: Yard) -> None:
    yard = any_yard
    one = await yard.create("one")
    async with watching(yard) as watcher:
        await watcher.change_set()
    two = await yard.create("two")
    await yard.rest("DELETE", f"{V1}/{one.id}")
    short = await yard.create("short-lived")
    await yard.rest("DELETE", f"{V1}/{short.id}")
    async with watching(yard, resume_token=watcher.token) as again:
        again.held = dict(watcher.held)
        await again.until(await yard.store.head())
        assert again.held == {two.id: "two"}
    # Nothing since: an empty set, at once.
    async with watching(yard, resume_token=again.token) as last:
        assert await last.change_set() == []


async def test_a_token_outlives_the_process(tmp_path: Path) -> None:
    async with opened(tmp_path, "sqlite") as yard:
        one = await yard.create("one")
        async with watching(yard, filter=ACTIVE) as watcher:
            await watcher.change_set()
        two = await yard.create("two")
    async with opened(tmp_path, "sqlite") as yard:
        await yard.rest("POST", f"{V1}/{one.id}:archive")
        async with watching(yard, filter=ACTIVE, resume_token=watcher.token) as again:
            again.held = dict(watcher.held)
            await again.until(await yard.store.head())
            assert again.held == {two.id: "two"}


async def test_a_token_that_was_compacted_away_is_a_hard_reset(any_yard: Yard) -> None:
    yard = any_yard
    one = await yard.create("one")
    async with watching(yard) as watcher:
        await watcher.change_set()
    await yard.rest("DELETE", f"{V1}/{one.id}")
    two = await yard.create("two")
    await yard.store.compact(await yard.store.head())
    async with watching(yard, resume_token=watcher.token) as again:
        again.held = dict(watcher.held)
        assert (await again.first()).is_hard_reset
        again.held.clear()
        await again.change_set()
        assert again.held == {two.id: "two"}


async def test_a_token_of_another_store_is_a_hard_reset(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as yard:
        await yard.create("theirs")
        async with watching(yard) as watcher:
            await watcher.change_set()
    async with opened(tmp_path / "b") as yard:
        ours = await yard.create("ours")
        async with watching(yard, resume_token=watcher.token) as again:
            assert (await again.first()).is_hard_reset
            await again.change_set()
            assert again.held == {ours.id: "ours"}


async def test_a_token_of_another_filter_is_refused(yard: Yard) -> None:
    async with watching(yard) as watcher:
        await watcher.change_set()
    request = pb.WatchRequest(kind="experiment", filter=ACTIVE, resume_token=watcher.token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await yard.admin.Watch(request, metadata=yard.metadata()).read()
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert "resume_token" in (caught.value.details() or "")


async def test_compaction_does_not_disturb_an_open_watch(any_yard: Yard) -> None:
    yard = any_yard
    async with watching(yard) as watcher:
        await watcher.change_set()
        for number in range(5):
            made = await yard.create(f"n{number}")
            if number % 2:
                await yard.rest("DELETE", f"{V1}/{made.id}")
            await yard.store.compact(await yard.store.head())
        await watcher.until(await yard.store.head())
        assert sorted(watcher.held.values()) == ["n0", "n2", "n4"]


async def test_two_services_on_one_file_see_each_other(tmp_path: Path) -> None:
    async with (
        opened(tmp_path, "sqlite") as one,
        opened(tmp_path, "sqlite") as other,
        watching(one) as watcher,
        watching(other) as peer,
    ):
        await watcher.change_set()
        await peer.change_set()
        theirs = await other.create("theirs")
        (change,) = await watcher.change_set()
        assert change.current.name == theirs.id
        await peer.change_set()
        await one.rest("POST", f"{V1}/{theirs.id}:archive")
        (change,) = await peer.change_set()
        assert Experiment.FromString(change.current.body.value).storage_state == Experiment.ARCHIVED
        # A name that a peer took is taken at once, and its row is read at once.
        (await one.rest("POST", V1, {"name": "theirs"})).is_error(409, 6)
        assert (await other.rest("GET", f"{V1}/{theirs.id}")).ok["storage_state"] == "STORAGESTATE_ARCHIVED"


async def test_watchers_of_every_speed_end_in_the_same_state(any_yard: Yard) -> None:
    """One reads at once, one only when all is written: both hold what is stored."""
    yard = any_yard
    async with watching(yard) as quick, watching(yard) as slow:
        await quick.change_set()
        for number in range(30):
            made = await yard.create(f"n{number}")
            if number % 3 == 0:
                await yard.rest("DELETE", f"{V1}/{made.id}")
            await quick.until(await yard.store.head())
        head = await yard.store.head()
        await slow.until(head)
        listed = {item["id"]: item["name"] for item in (await yard.list(page_size=200))["experiments"]}
        assert quick.held == slow.held == listed


async def test_a_watch_over_rest_speaks_lines_and_events(yard: Yard) -> None:
    made = await yard.create("a")
    headers = {"Authorization": f"Bearer {yard.token('viewer')}"}
    url = f"{yard.service.url}/admin/v1/experiment:watch"
    async with yard.http.get(url, headers=headers) as answer, asyncio.timeout(PATIENCE):
        first = json.loads(await answer.content.readline())["result"]
        assert first["isCurrent"] is True
        assert first["changes"][0]["current"]["name"] == made.id
        await yard.create("b")
        second = json.loads(await answer.content.readline())["result"]
        assert second["changes"][0]["current"]["body"]["displayName"] == "b"
    accept = {**headers, "Accept": "text/event-stream", "Last-Event-ID": first["resumeToken"]}
    async with yard.http.get(url, headers=accept) as answer, asyncio.timeout(PATIENCE):
        assert answer.content_type == "text/event-stream"
        lines = [(await answer.content.readline()).decode().strip() for _ in range(2)]
        fields = dict(line.split(": ", 1) for line in lines)
        assert json.loads(fields["data"])["changes"][0]["current"]["body"]["displayName"] == "b"
        assert fields["id"] == json.loads(fields["data"])["resumeToken"]
