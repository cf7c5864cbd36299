"""A lease's whole life on every backend, and what a new process finds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from tests.contract.jumpstarter_yard import BACKENDS, conditions, opened, until

SECOND = 1_000_000_000


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_life(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend) as yard:
        lab = await yard.lab(team="a")
        bob = await lab.client("bob")
        await lab.exporter("one", board="rpi", site="x")
        await lab.exporter("two", board="rpi", site="y")
        assert await lab.boards("board=rpi,site!=x") == ["two"]
        page = pb.ListExportersRequest(parent=lab.parent, page_size=1, filter="board")
        first = await yard.call("ListExporters", page, lab.alice.metadata)
        page.page_token = first.next_page_token
        second = await yard.call("ListExporters", page, lab.alice.metadata)
        assert [one.labels["site"] for one in (*first.exporters, *second.exporters)] == ["x", "y"]

        held = await lab.create("site=x", id="held", tags={"ci": "1"})
        assert held.exporter == f"{lab.parent}/exporters/one"
        assert conditions(await lab.create("site=x", id="waits", who=bob)) == ["Pending=True/NotAvailable"]
        assert (await lab.create("site=y", id="short", duration=10)).HasField("exporter")
        assert await lab.leases(tag_filter="ci=1") == ["held"]
        assert await lab.leases(filter="site in (x,y)") == ["held", "short", "waits"]

        await yard.advance(11)
        assert conditions(await lab.until_ended("short")) == ["Ready=False/Expired"]
        assert await lab.leases() == ["held", "waits"]
        moved = await lab.update("held", client=bob.name, duration=7200)
        assert (moved.client, moved.duration.seconds) == (bob.name, 7200)
        await lab.delete("held", who=bob)
        served = await until(lambda: lab.get("waits"), lambda found: found.HasField("exporter"))
        assert conditions(served)[-1] == "Ready=True/Ready"
        assert await lab.leases(only_active=False) == ["held", "short", "waits"]
        rotated = await yard.call("RotateToken", pb.RotateTokenRequest(parent=lab.parent), bob.metadata)
        assert rotated.token not in ("", bob.token)


async def test_policies_decide_who_gets_what(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        lab = await yard.lab(team="a")
        bob = await lab.client("bob", team="b")
        await lab.exporter("bench", board="rpi")
        await lab.policy("a", rule("for team a", {"team": "a"}, maximum_duration="60s"), board="rpi")
        assert conditions(await lab.create("board=rpi", duration=60, id="short")) == ["Ready=True/Ready"]
        long = await lab.create("board=rpi", duration=61, id="long")
        assert conditions(long) == ["Unsatisfiable=True/NoAccess"]
        assert "for team a (at most 0:01:00)" in long.conditions[0].message
        stranger = await lab.create("board=rpi", duration=60, id="bobs", who=bob)
        assert conditions(stranger) == ["Unsatisfiable=True/NoAccess"]
        assert "for team a" in stranger.conditions[0].message


def rule(description: str, client: dict[str, str], **fields: Any) -> dict[str, Any]:
    return {"description": description, "from": [{"client_selector": {"match_labels": client}}], **fields}


async def test_a_new_process_finds_everything(tmp_path: Path) -> None:
    async with opened(tmp_path, "sqlite") as yard:
        lab = await yard.lab()
        await lab.exporter("one")
        held = await lab.create(exporter_name="one", id="held")
        await lab.create(exporter_name="one", id="waits")
        token = (
            await yard.call("RotateToken", pb.RotateTokenRequest(parent=lab.parent), lab.alice.metadata)
        ).token
    async with opened(tmp_path, "sqlite") as again:
        lab.yard = again
        metadata = {**lab.alice.metadata, "authorization": f"Bearer {token}"}
        found = await again.call("GetLease", pb.GetLeaseRequest(name=held.name), metadata)
        assert (found.exporter, found.effective_begin_time) == (held.exporter, held.effective_begin_time)
        await lab.delete("held")
        await until(lambda: lab.get("waits"), lambda found: found.HasField("exporter"))
