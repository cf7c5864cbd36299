"""Live pages of a lab: what anyone does appears, to whom it may."""

from __future__ import annotations

import asyncio

from admin_ui import render
from tests.console.harness import Console
from tests.console.lab import LabClient, fill
from tests.console.test_live import DEADLINE, Stream, open_stream

HERE = "/namespaces/default"
BOARD = "/exporters/-/live?namespace=default"


async def row(stream: Stream, key: str, says: str) -> str:
    """The row of `key` once it says so."""
    async with asyncio.timeout(DEADLINE):
        while True:
            rows = (await stream.until("rows"))["rows"]
            if says in rows.get(key, ""):
                return rows[key]


async def part(stream: Stream, name: str, says: str) -> str:
    async with asyncio.timeout(DEADLINE):
        while True:
            parts = await stream.until("parts")
            if says in parts.get(name, ""):
                return parts[name]


async def test_the_board_follows_a_lease_from_its_begin_to_its_end(bench: Console, lab: LabClient):
    await lab.new_client("ann")
    await lab.exporter("bench-1", board="rpi4")
    await lab.exporter("bench-2", board="imx8")
    key = lab.name("exporters", "bench-1")
    async with open_stream(bench, BOARD) as stream:
        first = await stream.until("rows")
        assert first["order"] == [key, lab.name("exporters", "bench-2")]
        await stream.live()
        begun = asyncio.get_running_loop().time()
        await lab.lease("ann", "board=rpi4", id="one")
        # The counts come with it, and the other row stays as it is.
        assert ">1</span></a>" in (await part(stream, "availability", 'aria-label="1 free, 1 leased"'))
        rows = (await stream.until("rows"))["rows"]
        assert list(rows) == [key] and "ann" in rows[key]
        assert asyncio.get_running_loop().time() - begun < 1.5
        await lab.release("ann", "one")
        await row(stream, key, "Free")
        await lab.unregister("bench-1")
        await row(stream, key, "Offline")


async def test_a_board_of_free_ones_loses_the_one_that_is_leased(bench: Console, lab: LabClient):
    await lab.new_client("ann")
    await lab.exporter("bench-1", board="rpi4")
    async with open_stream(bench, f"{BOARD}&state=free") as stream:
        assert len((await stream.until("rows"))["order"]) == 1
        await stream.live()
        await lab.lease("ann", "board=rpi4", id="one")
        assert (await stream.until("rows"))["order"] == []


async def test_a_lease_that_waits_says_when_it_has_one(bench: Console, lab: LabClient):
    await fill(lab)
    async with open_stream(bench, f"{HERE}/leases/rpi4-c/live") as stream:
        assert "at place 1 of 2" in (await stream.until("parts"))["now"]
        await stream.live()
        await lab.release("ann", "rpi4-a")
        assert "rpi4-1" in await part(stream, "now", "has")
    async with open_stream(bench, f"{HERE}/exporters/rpi4-1/live") as stream:
        parts = await stream.until("parts")
        assert "bob" in parts["now"] and "rpi4-a" in parts["timeline"] and "Nobody waits" in parts["queue"]


async def test_the_list_of_leases_and_of_clients_follow(bench: Console, lab: LabClient):
    await fill(lab)
    async with (
        open_stream(bench, "/leases/-/live?namespace=default") as leases,
        open_stream(bench, "/clients/-/live?namespace=default") as clients,
    ):
        await leases.until("rows")
        await clients.until("rows")
        await leases.live()
        await clients.live()
        await lab.new_client("zoe")
        assert lab.name("clients", "zoe") in (await clients.until("rows"))["order"]
        await lab.release("bob", "rpi4-c")
        assert lab.name("leases", "rpi4-c") not in (await leases.until("rows"))["order"]


async def test_people_who_see_different_namespaces_do_not_share_a_watch(bench: Console, lab: LabClient):
    """A watch tells what its token may see: an admin would miss what an operator's does not have."""
    await lab.absent("bench")
    lab.namespace = "third"
    await lab.absent("bench")
    async with (
        bench.stranger() as admin,
        open_stream(bench, BOARD) as confined,
    ):
        await admin.sign_in("admin")
        await confined.live()
        async with open_stream(admin, "/exporters/-/live?namespace=third") as free:
            await free.until("rows")
            await free.live()
            await lab.absent("another")
            assert len((await free.until("rows"))["order"]) == 2
    feeds = bench.app[render.HUB]._feeds
    assert {key[2] for key in feeds if key[1] == "exporter"} == {"operator", ""}


async def test_a_namespace_of_others_is_no_stream(bench: Console, lab: LabClient):
    async with open_stream(bench, "/exporters/-/live?namespace=secret") as stream:
        assert (await stream.until("end"))["reason"] == "denied"


async def test_the_editor_is_told_of_people_and_not_of_the_exporter(bench: Console, lab: LabClient):
    await lab.exporter("bench", board="rpi4")
    page = await bench.get(f"{HERE}/exporters/bench/edit")
    revision = page.dom.find("input", name="revision")[0].attrs["value"]
    async with open_stream(bench, f"{HERE}/exporters/bench/edit/live?revision={revision}") as stream:
        assert (await stream.until("parts"))["stale"].strip() == ""
        await stream.live()
        await lab.report("bench", message="still here")
        await lab.apply(exporters=[{"name": lab.name("exporters", "bench"), "labels": {"board": "rpi5"}}])
        told = (await stream.until("parts"))["stale"]
        assert "Changed while you edit" in told and "rpi5" in told and "still here" not in told
