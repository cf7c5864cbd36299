"""`make demo`: a newcomer finds exporters, leases one and sees it come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.jumpstarter.simulation.fleet import FLEET
from tests.e2e.process import DEADLINE, Up

PARENT = "/v1/namespaces/default"


def until(found: Callable[[], Any]) -> Any:
    """What `found` answers, once it answers something; asks over the network, never sleeps long."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
    raise AssertionError("in vain")


def test_something_to_lease(tmp_path: Path) -> None:
    with Up(tmp_path / "data", "--demo", "--only", "jumpstarter", "--no-console") as up:
        up.ready()
        token = up.token()

        def get(path: str) -> Any:
            status, body = up.request("jumpstarter", "GET", f"{PARENT}{path}", token=token)
            assert status == 200, body
            return body

        def free() -> list[str]:
            found = get("/exporters?filter=simulated%3Dtrue")["exporters"]
            assert len(found) in (0, len(FLEET))
            return [e["name"] for e in found if e["status"] == "EXPORTER_STATUS_AVAILABLE"]

        running = [device for device in FLEET if device.runs and device.enabled]
        until(lambda: len(free()) == len(running))

        status, lease = up.request(
            "jumpstarter",
            "POST",
            f"{PARENT}/leases",
            {"selector": "board=qemu", "duration": "600s"},
            token=token,
        )
        assert status == 200
        assert lease["exporter"] == "namespaces/default/exporters/qemu-1"
        until(lambda: get("/exporters/qemu-1")["status"] == "EXPORTER_STATUS_LEASE_READY")

        status, _ = up.request("jumpstarter", "DELETE", "/v1/" + lease["name"], token=token)
        assert status == 200
        until(lambda: get("/exporters/qemu-1")["status"] == "EXPORTER_STATUS_AVAILABLE")
    assert "simulation died" not in up.output
