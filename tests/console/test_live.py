"""Live pages over real sockets: what changes is sent, to whom it may be, and nothing piles up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from admin_ui import render
from tests.console.harness import Console, client_of
from tests.console.test_experiments import some

DEADLINE = 30.0


@dataclass
class Stream:
    """An EventSource: the events of one live page."""

    content: aiohttp.StreamReader

    async def event(self) -> tuple[str, Any]:
        name = ""
        async with asyncio.timeout(DEADLINE):
            while True:
                line = (await self.content.readline()).decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    return name, json.loads(line[6:])

    async def until(self, wanted: str) -> Any:
        while True:
            name, data = await self.event()
            if name == wanted:
                return data

    async def live(self) -> None:
        while (await self.until("state"))["state"] != "live":
            pass


@asynccontextmanager
async def open_stream(console: Console, path: str) -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"}
    async with console.http.get(console.base + path, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        yield Stream(answer.content)


async def test_a_row_that_another_client_made_arrives_within_a_second(console: Console):
    await some(console, 2)
    await console.sign_in("viewer")
    async with client_of(console.service) as client, open_stream(console, "/experiments/live") as stream:
        first = await stream.until("rows")
        assert len(first["order"]) == len(first["rows"]) == 2
        await stream.live()
        begun = asyncio.get_running_loop().time()
        id = await client.create("from elsewhere")
        rows = await stream.until("rows")
        assert asyncio.get_running_loop().time() - begun < 1.0
        assert rows["order"][0] == id or id in rows["order"]
        # Only what is new is sent.
        assert list(rows["rows"]) == [id]
        assert "from elsewhere" in rows["rows"][id]
        await client.archive(id)
        rows = await stream.until("rows")
        assert id not in rows["order"] and rows["rows"] == {}


async def test_only_what_the_lists_filter_shows_is_sent(console: Console):
    await console.sign_in("viewer")
    async with (
        client_of(console.service) as client,
        open_stream(console, "/experiments/live?q=wanted&state=all") as stream,
    ):
        await stream.live()
        await client.create("other")
        id = await client.create("wanted")
        assert (await stream.until("rows"))["order"] == [id]
        await client.archive(id)
        changed = await stream.until("rows")
        assert changed["order"] == [id] and "Archived" in changed["rows"][id]


async def test_many_pages_share_one_watch(console: Console):
    await console.sign_in("viewer")
    feed = console.app[render.HUB].feed("pipelines", "experiment")
    async with client_of(console.service) as client:
        async with (
            open_stream(console, "/experiments/live") as one,
            open_stream(console, "/experiments/live?state=all") as two,
            open_stream(console, "/live") as home,
        ):
            for stream in (one, two, home):
                await stream.live()
            watches = console.service.running.environment.metrics.rpc.streams._value.get()
            assert watches == 1
            id = await client.create("seen by all")
            assert id in (await one.until("rows"))["order"]
            assert id in (await two.until("rows"))["order"]
            assert "1" in (await home.until("parts"))["counts"]
        # Nobody looks, nobody watches: the next change finds the readers gone.
        await client.create("unseen")
        async with asyncio.timeout(DEADLINE):
            while feed.live:
                await feed.wait(feed.version)


async def test_a_burst_of_changes_is_a_few_renderings(console: Console):
    await console.sign_in("viewer")
    async with (
        client_of(console.service) as client,
        open_stream(console, "/experiments/live?page_size=200") as stream,
    ):
        await stream.live()
        ids = await asyncio.gather(*(client.create(f"burst-{n}") for n in range(100)))
        events = 0
        order: list[str] = []
        while len(order) < 100:
            order = (await stream.until("rows"))["order"]
            events += 1
        assert set(order) == set(ids)
        assert events <= 10


async def test_a_detail_page_follows_and_ends_when_its_object_is_deleted(console: Console):
    [id] = await some(console, 1)
    await console.sign_in("admin")
    async with (
        client_of(console.service) as client,
        open_stream(console, f"/experiments/{id}/live") as stream,
    ):
        await stream.live()
        await client.archive(id)
        parts = await stream.until("parts")
        assert "Archived" in parts["heading"] and "ARCHIVED" in parts["timeline"]
        await client.delete(id)
        assert (await stream.until("end"))["reason"] == "reload"


async def test_a_stream_ends_with_the_right_to_look(console: Console):
    async with console.stranger() as admin:
        await admin.sign_in("admin")
        await console.sign_in("viewer")
        async with open_stream(console, "/experiments/live") as stream, client_of(console.service) as client:
            await stream.live()
            await admin.post("/access/users", {"subject": "viewer", "role": "viewer", "disabled": "on"})
            await client.create("not for them")
            name, data = await stream.event()
            while name == "state":
                name, data = await stream.event()
            assert (name, data["reason"]) == ("end", "signed-out")


async def test_without_a_session_a_stream_says_so_and_ends(console: Console):
    async with open_stream(console, "/experiments/live") as stream:
        assert await stream.event() == ("end", {"reason": "signed-out"})


async def test_activity_is_live(console: Console):
    await console.sign_in("admin")
    async with client_of(console.service) as client, open_stream(console, "/activity/live") as stream:
        await stream.live()
        await client.create("watched")
        rows = await stream.until("rows")
        assert any("Created" in row and "watched" in row for row in rows["rows"].values())


async def test_a_console_that_stops_ends_its_streams(console: Console):
    await console.sign_in("viewer")
    async with open_stream(console, "/experiments/live") as stream:
        await stream.live()
        console.app[render.HUB].closing.set()
        async with asyncio.timeout(DEADLINE):
            await stream.content.read()
