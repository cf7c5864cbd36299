"""Live pages of pods: counts, rows and one pod follow the feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.pods import CLUSTER, OTHER, Fleet, fleet, web
from tests.console.test_live import DEADLINE, Stream, open_stream
from tests.contract.pods_yard import id_of, pod


@pytest.fixture
async def found(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as one:
        await one.fill()
        yield one


async def wait(stream: Stream, event: str, holds: Any) -> Any:
    async with asyncio.timeout(DEADLINE):
        while True:
            data = await stream.until(event)
            if holds(data):
                return data


async def test_counts_follow_a_feed(found: Fleet):
    async with open_stream(found.console, "/pods/-/live?by=clusters") as stream:
        first = await stream.until("rows")
        assert first["order"] == [f"{OTHER}/", f"{CLUSTER}/"]
        await stream.live()
        begun = asyncio.get_running_loop().time()
        await found.yard.upsert(web(80), web(81))
        rows = await wait(stream, "rows", lambda data: data["rows"])
        assert list(rows["rows"]) == [f"{CLUSTER}/"] and ">8<" in rows["rows"][f"{CLUSTER}/"]
        assert asyncio.get_running_loop().time() - begun < 1.5
        await found.yard.sync(source="import", cluster=OTHER)
        await wait(stream, "rows", lambda data: data["order"] == [f"{CLUSTER}/"])


async def test_rows_of_pods_follow_a_feed(found: Fleet):
    async with open_stream(found.console, "/pods/-/live?by=pods&filter=Pod+Name%3Aweb-") as stream:
        assert (await stream.until("rows"))["order"] == [id_of(1), id_of(2), id_of(3)]
        await stream.live()
        await found.yard.upsert(pod(2, name="web-2", live_instances=[{"container_name": "app"}]))
        rows = await wait(stream, "rows", lambda data: id_of(2) in data["rows"])
        assert "Waiting" in rows["rows"][id_of(2)]
        await found.yard.upsert(web(4))
        await wait(stream, "rows", lambda data: id_of(4) in data["order"])


async def test_one_pod_follows_its_run_to_the_end(found: Fleet):
    async with open_stream(found.console, f"/pods/{id_of(1)}/live") as stream:
        assert "Running" in (await stream.until("parts"))["heading"]
        await stream.live()
        over = web(1)
        over.live_instances[0].finished.seconds = 1_700_000_200
        over.live_instances[0].exit_code = 3
        over.live_instances[0].termination_reason = "Error"
        await found.yard.upsert(over)
        parts = await wait(stream, "parts", lambda data: "instances" in data)
        assert "exit code 3, Error" in parts["instances"] and "Failed" in parts["heading"]


async def test_a_viewer_hears_of_their_own_namespaces(found: Fleet):
    async with found.console.stranger() as viewer:
        await viewer.sign_in("viewer")
        async with open_stream(viewer, "/pods/-/live?by=pods") as stream:
            assert len((await stream.until("rows"))["order"]) == 2
            await stream.live()
            await found.yard.upsert(web(90))
            await found.yard.upsert(pod(91, name="mine", namespace="dev"))
            rows = await wait(stream, "rows", lambda data: len(data["order"]) == 3)
            assert id_of(91) in rows["order"]
