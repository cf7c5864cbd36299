"""Real processes under a real keeper pass the runtime contract."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.jobs.runtime.port import Runtime
from services.jobs.runtime.process import ProcessRuntime
from services.jobs.runtime.script import Script
from services.jobs.runtime.testing import RuntimeContract
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from tests.contract import keeper_yard
from tests.contract.keeper_yard import NODE


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """One keeper for all of them: it is cleared for each."""
    with keeper_yard.yard() as home:
        yield home


class TestProcessRuntime(RuntimeContract):
    home: Path

    @pytest.fixture
    async def runtime(self, home: Path) -> AsyncIterator[Runtime]:
        self.home = home
        async with keeper_yard.opened(home) as runtime:
            yield runtime
            await keeper_yard.clear(runtime)

    @pytest.fixture
    async def slow_runtime(self, home: Path) -> AsyncIterator[Runtime]:
        self.home = home
        async with keeper_yard.opened(home, dataclasses.replace(NODE, launch_rate=0.01)) as runtime:
            yield runtime
            await keeper_yard.clear(runtime)

    def spec(self, script: Script, *, checked: bool = False) -> pod_pb2.PodSpec:
        spec = keeper_yard.shell(_command(script))
        if script.launch_error:
            spec.containers[0].entrypoint.value = "/nonexistent/command"
            spec.mesos_spec.shell = False
        if checked:
            check = spec.containers[0].liveness_check
            check.enabled = True
            check.type = pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
            check.command_check.command = "true" if script.unhealthy_after is None else "echo sick; exit 1"
            check.initial_interval_secs = check.interval_secs = check.max_consecutive_failures = 1
        return spec

    async def reopen(self, runtime: Runtime) -> Runtime:
        await runtime.close()
        other = ProcessRuntime(self.home, NODE)
        await other.open()
        return other

    async def break_down(self, runtime: Runtime) -> None:
        await keeper_yard.kill_keeper(self.home)

    async def tick(self) -> None:
        await asyncio.sleep(0.005)

    def now(self) -> int:
        return time.time_ns()


def _command(script: Script) -> str:
    lines = [
        "trap '' TERM" if script.ends_after is None else "",
        f"printf '%b' '{script.output.decode().encode('unicode_escape').decode()}'" if script.output else "",
        f"sleep {script.lasts or 0}" if script.lasts is not None else "sleep 10000",
        f"kill -{script.signal.removeprefix('SIG')} $$" if script.signal else f"exit {script.exit_code}",
    ]
    return "\n".join(filter(None, lines))
