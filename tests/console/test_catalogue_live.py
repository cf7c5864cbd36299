"""The catalogue's pages follow what anybody writes."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest

from admin_ui import render
from tests.console.catalogue import catalogue_client
from tests.console.harness import Console
from tests.console.test_live import DEADLINE, open_stream


@pytest.fixture
async def viewer(catalogue: Console) -> Console:
    await catalogue.sign_in("viewer")
    return catalogue


async def test_rows_follow_the_filter(viewer: Console):
    query = urlencode({"filter": 'metadata.labels.env = "prod"', "order_by": "title desc"})
    async with (
        catalogue_client(viewer.service) as client,
        open_stream(viewer, f"/regions/-/live?{query}") as stream,
    ):
        first = await stream.until("rows")
        assert first["table"] == "rows" and len(first["order"]) == 7
        await stream.live()
        begun = asyncio.get_running_loop().time()
        await client.region("za", title="ZA", metadata={"labels": {"env": "prod"}})
        rows = await stream.until("rows")
        assert asyncio.get_running_loop().time() - begun < 1.0
        assert rows["order"] == ["regions/za", *first["order"]] and list(rows["rows"]) == ["regions/za"]
        # Into the filter, inside it, and out of it again.
        await client.region("jp", metadata={"labels": {"env": "prod"}})
        assert "regions/jp" in (await stream.until("rows"))["rows"]
        await client.region("jp", title="Nippon")
        assert "Nippon" in (await stream.until("rows"))["rows"]["regions/jp"]
        await client.region("jp", metadata={"labels": {"env": "test"}})
        gone = await stream.until("rows")
        assert "regions/jp" not in gone["order"] and gone["rows"] == {}


async def test_counts_and_pages_follow_too(viewer: Console):
    async with (
        catalogue_client(viewer.service) as client,
        open_stream(viewer, "/deployments/-/live?parent=jp") as stream,
    ):
        await stream.live()
        new = {"name": "regions/jp/deployments/pods", "service": "services/pods.example.com"}
        await client.apply({"deployments": [new]})
        parts = await stream.until("parts")
        assert parts["count"].strip() == "2" and "1–2 of 2" in parts["pager"]


async def test_a_region_follows_its_own_kind_and_its_deployments(viewer: Console):
    async with catalogue_client(viewer.service) as client, open_stream(viewer, "/regions/jp/live") as stream:
        await stream.live()
        new = {"name": "regions/jp/deployments/pods", "service": "services/pods.example.com"}
        await client.apply({"deployments": [new]})
        assert "pods.example.com" in (await stream.until("parts"))["deployments"]
        await client.region("uk", connectivity_scores=[{"dest": "regions/jp", "score": 17}])
        links = (await stream.until("parts"))["links"]
        assert "/regions/uk" in links and "17" in links
        await client.delete("regions/jp/deployments/jobs")
        await stream.until("parts")
        await client.delete("regions/jp/deployments/pods")
        await stream.until("parts")
        await client.region("uk", connectivity_scores=[])
        await stream.until("parts")
        await client.region("us-west", connectivity_scores=[])
        await stream.until("parts")
        await client.delete("regions/jp")
        assert (await stream.until("end"))["reason"] == "reload"


async def test_the_picture_follows(viewer: Console):
    async with (
        catalogue_client(viewer.service) as client,
        open_stream(viewer, "/regions/-/connectivity/live") as stream,
    ):
        await stream.live()
        await client.region("sa-east", connectivity_scores=[{"dest": "regions/jp", "score": 3}])
        network = (await stream.until("parts"))["network"]
        assert "sa-east → jp: 3" in network and "<svg" in network


async def test_an_editor_is_told_who_changes_what_meanwhile(catalogue: Console):
    await catalogue.sign_in("operator")
    page = await catalogue.get("/regions/jp/edit")
    [main] = page.dom.find("main")
    async with (
        catalogue_client(catalogue.service, "admin") as client,
        open_stream(catalogue, main.attrs["data-live"]) as stream,
    ):
        await stream.live()
        await client.region("jp", title="Nippon")
        stale = (await stream.until("parts"))["stale"]
        assert "Changed while you edit" in stale and "admin" in stale and "Nippon" in stale
        # Its end is told as well; the page stays, and the text in it.
        await client.delete("regions/jp/deployments/jobs")
        await client.region("us-west", connectivity_scores=[])
        await client.delete("regions/jp")
        assert "Deleted" in (await stream.until("parts"))["stale"]


async def test_history_home_and_activity_follow(catalogue: Console):
    await catalogue.sign_in("admin")
    async with (
        catalogue_client(catalogue.service) as client,
        open_stream(catalogue, "/regions/jp/history/live") as history,
        open_stream(catalogue, "/live") as home,
        open_stream(catalogue, "/activity/live") as trail,
    ):
        for stream in (history, home, trail):
            await stream.live()
        await client.region("jp", title="Nippon")
        assert "Nippon" in (await history.until("parts"))["timeline"]
        while "Changed" not in (parts := await home.until("parts")).get("recent", ""):
            pass
        await client.region("za", title="ZA")
        while "9" not in (parts := await home.until("parts")).get("catalogue", ""):
            pass
        assert "regions" in parts["catalogue"]
        assert any("jp" in row for row in (await trail.until("rows"))["rows"].values())


async def test_many_pages_share_one_watch_a_kind(viewer: Console):
    hub = viewer.app[render.HUB]
    async with (
        open_stream(viewer, "/regions/-/live") as one,
        open_stream(viewer, "/regions/-/live?filter=name+%3D+%22regions%2Fjp%22") as two,
        open_stream(viewer, "/regions/-/connectivity/live") as three,
        open_stream(viewer, "/regions/jp/live") as four,
    ):
        for stream in (one, two, three, four):
            await stream.live()
        # Regions for all four, deployments for the last.
        assert viewer.service.running.environment.metrics.rpc.streams._value.get() == 2
    feed = hub.feed("meta", "region")
    async with asyncio.timeout(DEADLINE), catalogue_client(viewer.service) as client:
        while feed.live:
            await client.region("jp", title=f"unseen {feed.version}")
            await feed.wait(feed.version)


async def test_a_place_that_is_gone_ends_with_a_reload(viewer: Console):
    async with open_stream(viewer, "/regions/-/live?page_token=forged") as stream:
        assert (await stream.until("end"))["reason"] == "reload"
