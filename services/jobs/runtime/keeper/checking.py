"""The series of liveness checks of one attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.jobs.runtime.keeper import health, launch
from services.jobs.runtime.keeper.health import Spawn
from services.jobs.runtime.keeper.reaper import Reaper


@dataclass(frozen=True)
class Result:
    """`final`: it failed too often in a row."""

    state: str
    output: str = ""
    final: bool = False


def filled(description: Mapping[str, Any], ports: Mapping[str, int]) -> dict[str, Any]:
    """The check with the attempt's ports."""
    check = dict(description["check"])
    names = launch.named(description["ports"], ports)
    if check["type"] == "http":
        check["port"] = names.get(check["port_name"], check["port"])
        check["path"] = launch.filled(check["path"], names)
    else:
        check["argv"] = [launch.filled(text, names) for text in check["argv"]]
    return check


async def results(
    wanted: Mapping[str, Any], spawn: Spawn, reaper: Reaper, mark: int
) -> AsyncIterator[Result]:
    """Every failure, and each time that it becomes healthy; without end, for a cancelled task ends it."""
    failures = successes = 0
    state = "unknown"
    await asyncio.sleep(wanted["initial"])
    while True:
        if wanted["type"] == "http":
            wrong = await health.http(wanted, wanted["timeout"])
        else:
            wrong = await health.command(spawn, reaper, mark, wanted["timeout"])
        if wrong:
            failures, successes, state = failures + 1, 0, "unhealthy"
            output = f"{wrong} ({failures} in a row)"
            yield Result(state, output, final=failures == wanted["failures"])
        else:
            failures, successes = 0, successes + 1
            if successes >= wanted["successes"] and state != "healthy":
                state = "healthy"
                yield Result(state)
        await asyncio.sleep(wanted["interval"])
