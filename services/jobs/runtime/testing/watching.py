"""The contract: hearing of changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from services.jobs.runtime.port import Ending, Observation, Phase, Runtime, RuntimeUnavailable
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.testing.base import RuntimeHooks


class WatchContract(RuntimeHooks):
    async def test_a_watch_begins_with_all_that_are_known(self, runtime: Runtime) -> None:
        names = [f"a-{i}-1" for i in range(5)]
        for name in names:
            await self.run(runtime, name, FOREVER)
        await self._settled(runtime, names)
        async with aclosing(runtime.watch()) as observations:
            found = [await anext(observations) for _ in names]
        assert sorted(observation.pod_id for observation in found) == names
        assert {observation.phase for observation in found} == {Phase.RUNNING}

    async def test_every_watcher_hears_of_every_attempt(self, runtime: Runtime) -> None:
        async with self.watched(runtime) as one, self.watched(runtime) as other:
            await self.run(runtime, "a-0-1", Script(lasts=0.05, exit_code=2))
            assert await one.ended("a-0-1", Ending.EXITED) == await other.ended("a-0-1", Ending.EXITED)

    async def test_a_slow_reader_never_misses_the_newest(self, runtime: Runtime) -> None:
        names = [f"a-{i}-1" for i in range(10)]
        async with aclosing(runtime.watch()) as observations:
            await self.run(runtime, "a-0-1", Script(lasts=0.05))
            newest: dict[str, Observation] = {}
            first = await anext(observations)
            newest[first.pod_id] = first
            for name in names[1:]:
                await self.run(runtime, name, FOREVER)
            await self._settled(runtime, names[1:])
            for name in names[1:]:
                await runtime.stop(name, 0)
            async with self.watched(runtime) as seen:
                for name in names:
                    await seen.reaches(name, Phase.ENDED)
            async with asyncio.timeout(20):
                while any(newest.get(name, first).phase is not Phase.ENDED for name in names):
                    found = await anext(observations)
                    newest[found.pod_id] = found
        known = {found.pod_id: found for found in await runtime.attempts()}
        assert {name: newest[name] for name in names} == known

    async def test_what_was_forgotten_is_not_heard_of(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0))
        await self.run(runtime, "a-1-1", FOREVER)
        async with self.watched(runtime) as seen:
            await seen.ended("a-0-1", Ending.EXITED)
        await runtime.forget("a-0-1")
        async with self.watched(runtime) as seen:
            await seen.running("a-1-1")
            assert "a-0-1" not in seen.of

    async def test_a_watch_ends_with_the_breakdown(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", FOREVER)
        async with aclosing(runtime.watch()) as observations:
            await anext(observations)
            await self.break_down(runtime)
            with pytest.raises(RuntimeUnavailable):
                async with asyncio.timeout(20):
                    async for _ in observations:
                        pass

    async def _settled(self, runtime: Runtime, names: list[str]) -> None:
        async with self.watched(runtime) as seen:
            for name in names:
                await seen.running(name)
