"""What a runtime's test class must provide, and how the suite waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import pytest

from services.jobs.runtime.port import STDOUT, Attempt, Ending, Observation, Phase, Runtime
from services.jobs.runtime.script import Script
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

# Real seconds, for a machine that does other things as well.
DEADLINE: Final = 30.0
_PHASES: Final = list(Phase)


class RuntimeHooks:
    """Derive from `RuntimeContract` and override these. Runtimes are open when handed out, and whoever
    hands one out closes it and ends what it ran."""

    @pytest.fixture
    async def runtime(self) -> AsyncIterator[Runtime]:
        """A runtime without attempts that launches as fast as it can, for one test."""
        raise NotImplementedError("a runtime's test class hands out its own runtime")
        yield

    @pytest.fixture
    async def slow_runtime(self) -> AsyncIterator[Runtime]:
        """One that launches no more than one in a hundred seconds."""
        raise NotImplementedError("a runtime's test class hands out its own runtime")
        yield

    def spec(self, script: Script, *, checked: bool = False) -> pod_pb2.PodSpec:
        """One that makes an attempt do that. `checked`: with a liveness check, first after a second, of
        which one failure is enough. A runtime needs `starts_after` and `lost_after` only where its own
        tests use them."""
        raise NotImplementedError("a runtime's test class says how it makes attempts do things")

    async def reopen(self, runtime: Runtime) -> Runtime:
        """Another one on the same data, open, after `runtime` was closed, as when a service starts
        anew."""
        raise NotImplementedError("a runtime's test class opens its own runtime")

    async def break_down(self, runtime: Runtime) -> None:
        """Whatever holds its attempts dies without a word."""
        raise NotImplementedError("a runtime's test class breaks its own runtime")

    async def tick(self) -> None:
        """A little time passes."""
        raise NotImplementedError("a runtime's test class has its own time")

    def now(self) -> int:
        """Nanoseconds since 1970, by the clock of observations."""
        raise NotImplementedError("a runtime's test class has its own time")

    # -- for the suite

    async def run(self, runtime: Runtime, pod_id: str, script: Script, *, checked: bool = False) -> None:
        environment = {"POD_ID": pod_id, "JOB_ID": "job"}
        await runtime.start(Attempt(pod_id, self.spec(script, checked=checked), environment))

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that in time"
            await self.tick()

    async def says(self, runtime: Runtime, pod_id: str, text: bytes) -> None:
        """It has written that and nothing else, so it has come that far."""
        deadline = time.monotonic() + DEADLINE
        while (await runtime.read_log(pod_id, STDOUT)).data != text:
            assert time.monotonic() < deadline, f"{pod_id} never said {text!r}"
            await self.tick()

    @asynccontextmanager
    async def watched(self, runtime: Runtime) -> AsyncGenerator[Seen, None]:
        """What is said of attempts, from now on."""
        seen = Seen(self)
        task = asyncio.create_task(seen.follow(runtime))
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Seen:
    """Every observation, by attempt; fails for one that goes back."""

    def __init__(self, hooks: RuntimeHooks) -> None:
        self._hooks = hooks
        self.of: dict[str, list[Observation]] = {}
        self.wrong: list[str] = []

    async def follow(self, runtime: Runtime) -> None:
        async with aclosing(runtime.watch()) as observations:
            async for found in observations:
                before = self.of.setdefault(found.pod_id, [])
                if before and _PHASES.index(found.phase) < _PHASES.index(before[-1].phase):
                    self.wrong.append(f"{found.pod_id} went from {before[-1].phase} to {found.phase}")
                if before and before[-1].phase is Phase.ENDED and found != before[-1]:
                    self.wrong.append(f"{found.pod_id} has another end now")
                before.append(found)

    def last(self, pod_id: str) -> Observation | None:
        return self.of[pod_id][-1] if self.of.get(pod_id) else None

    async def reaches(self, pod_id: str, phase: Phase) -> Observation:
        """Its observation once it is there, or past it."""

        def there() -> bool:
            last = self.last(pod_id)
            return last is not None and _PHASES.index(last.phase) >= _PHASES.index(phase)

        await self._hooks.until(there)
        assert not self.wrong
        found = self.last(pod_id)
        assert found is not None
        return found

    async def running(self, pod_id: str) -> Observation:
        found = await self.reaches(pod_id, Phase.RUNNING)
        assert found.phase is Phase.RUNNING, found
        return found

    async def ended(self, pod_id: str, ending: Ending) -> Observation:
        found = await self.reaches(pod_id, Phase.ENDED)
        assert found.ending is ending, found
        return found
