"""The scripted fake passes the runtime contract, and has tricks of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from services.jobs.runtime.fake import FakeEngine, FakeRuntime
from services.jobs.runtime.port import Attempt, Ending, Health, Phase, Runtime, RuntimeUnavailable
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.testing import RuntimeContract
from shared.pb.peloton.api.v1alpha.pod import pod_pb2


class TestFakeRuntime(RuntimeContract):
    engine: FakeEngine
    scripts: dict[str, Script]

    @pytest.fixture
    async def runtime(self) -> AsyncIterator[Runtime]:
        yield await self._begin(FakeEngine(self._fresh()))

    @pytest.fixture
    async def slow_runtime(self) -> AsyncIterator[Runtime]:
        yield await self._begin(FakeEngine(self._fresh(), launch_rate=0.01))

    def _fresh(self) -> dict[str, Script]:
        self.scripts = {}
        return self.scripts

    async def _begin(self, engine: FakeEngine) -> Runtime:
        self.engine = engine
        runtime = FakeRuntime(engine)
        await runtime.open()
        return runtime

    def spec(self, script: Script, *, checked: bool = False) -> pod_pb2.PodSpec:
        command = f"script {len(self.scripts)}"
        self.scripts[command] = script
        spec = _spec(command)
        if checked:
            spec.containers[0].liveness_check.enabled = True
            spec.containers[0].liveness_check.initial_interval_secs = 1
        return spec

    async def reopen(self, runtime: Runtime) -> Runtime:
        await runtime.close()
        other = FakeRuntime(self.engine)
        await other.open()
        return other

    async def break_down(self, runtime: Runtime) -> None:
        self.engine.crash()

    async def tick(self) -> None:
        await asyncio.sleep(0)
        self.engine.advance(0.01)

    def now(self) -> int:
        return self.engine.clock()


def _spec(command: str) -> pod_pb2.PodSpec:
    spec = pod_pb2.PodSpec()
    spec.containers.add().entrypoint.value = command
    return spec


async def _opened(scripts: dict[str, Script]) -> FakeRuntime:
    runtime = FakeRuntime(FakeEngine(scripts))
    await runtime.open()
    return runtime


async def test_a_slow_start_is_starting_meanwhile() -> None:
    runtime = await _opened({"slow": Script(starts_after=10)})
    await runtime.start(Attempt("a-0-1", _spec("slow")))
    runtime.engine.advance(9.9)
    assert runtime.engine.observe("a-0-1").phase is Phase.STARTING
    runtime.engine.advance(0.1)
    found = runtime.engine.observe("a-0-1")
    assert (found.phase, found.started_at) == (Phase.RUNNING, runtime.engine.clock())


async def test_what_is_lost_is_lost_at_its_time() -> None:
    runtime = await _opened({"lost": Script(lost_after=5)})
    await runtime.start(Attempt("a-0-1", _spec("lost")))
    runtime.engine.advance(100)
    found = runtime.engine.observe("a-0-1")
    assert found.ending is Ending.LOST
    assert found.ended_at == runtime.engine.clock() - 95 * 1_000_000_000


async def test_a_check_that_fails_later_was_healthy_before() -> None:
    runtime = await _opened({"sick": Script(unhealthy_after=60)})
    spec = _spec("sick")
    spec.containers[0].liveness_check.enabled = True
    await runtime.start(Attempt("a-0-1", spec))
    runtime.engine.advance(15)
    assert runtime.engine.observe("a-0-1").health is Health.HEALTHY
    runtime.engine.advance(45)
    assert runtime.engine.observe("a-0-1").ending is Ending.UNHEALTHY


async def test_it_can_hide_and_attempts_go_on() -> None:
    runtime = await _opened({"short": Script(lasts=1)})
    await runtime.start(Attempt("a-0-1", _spec("short")))
    runtime.engine.hide()
    with pytest.raises(RuntimeUnavailable):
        await runtime.attempts()
    runtime.engine.advance(2)
    runtime.engine.available = True
    assert [found.ending for found in await runtime.attempts()] == [Ending.EXITED]


async def test_it_knows_what_ever_began_and_what_lives() -> None:
    runtime = await _opened({"bad": Script(launch_error="no"), "short": Script(lasts=1)})
    for number, command in enumerate(("bad", "short", "anything")):
        await runtime.start(Attempt(f"a-{number}-1", _spec(command)))
    runtime.engine.advance(1)
    assert runtime.engine.launched == ["a-1-1", "a-2-1"]
    assert runtime.engine.alive() == ["a-2-1"]


async def test_nine_thousand_attempts_take_no_time() -> None:
    runtime = FakeRuntime(FakeEngine(lambda attempt: FOREVER if "7" in attempt.pod_id else Script(lasts=3)))
    await runtime.open()
    spec, begun = _spec("any"), time.process_time()
    for number in range(9_000):
        await runtime.start(Attempt(f"a-{number}-1", spec))
    runtime.engine.advance(10)
    ended = sum(found.phase is Phase.ENDED for found in await runtime.attempts())
    assert ended == sum("7" not in f"a-{number}-1" for number in range(9_000))
    assert time.process_time() - begun < 2
