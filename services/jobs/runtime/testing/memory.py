"""The contract: what a runtime remembers, of whom, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from services.jobs.runtime.port import Ending, Phase, Runtime, RuntimeUnavailable, UnknownAttempt
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.testing.base import RuntimeHooks


class MemoryContract(RuntimeHooks):
    async def test_it_begins_with_nothing(self, runtime: Runtime) -> None:
        assert await runtime.attempts() == []

    async def test_it_has_room(self, runtime: Runtime) -> None:
        found = await runtime.capacity()
        assert min(found.cpu, found.memory_mb, found.pods) > 0
        assert found.gpu >= 0

    async def test_what_it_can_run_is_supported(self, runtime: Runtime) -> None:
        assert list(runtime.unsupported(self.spec(FOREVER))) == []

    async def test_an_attempt_is_started_once_however_often_that_is_asked(self, runtime: Runtime) -> None:
        script = Script(lasts=0.1, output=b"once\n")
        await asyncio.gather(*(self.run(runtime, "a-0-1", script) for _ in range(10)))
        async with self.watched(runtime) as seen:
            before = await seen.ended("a-0-1", Ending.EXITED)
            await self.run(runtime, "a-0-1", script)
            assert await runtime.attempts() == [before]
        assert (await runtime.read_log("a-0-1", "stdout")).data == b"once\n"

    async def test_the_same_id_with_another_spec_is_still_the_first_one(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", FOREVER)
        await self.run(runtime, "a-0-1", Script(launch_error="never tried"))
        async with self.watched(runtime) as seen:
            await seen.running("a-0-1")

    async def test_what_has_ended_is_known_until_it_is_forgotten(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0))
        async with self.watched(runtime) as seen:
            await seen.ended("a-0-1", Ending.EXITED)
        assert [found.pod_id for found in await runtime.attempts()] == ["a-0-1"]
        await runtime.forget("a-0-1")
        await runtime.forget("a-0-1")
        assert await runtime.attempts() == []
        for question in (
            runtime.stop("a-0-1", 1),
            runtime.read_log("a-0-1", "stdout"),
            runtime.files("a-0-1"),
        ):
            with pytest.raises(UnknownAttempt):
                await question

    async def test_the_unknown_is_forgotten_already(self, runtime: Runtime) -> None:
        await runtime.forget("a-0-1")
        assert await runtime.attempts() == []

    async def test_what_lives_is_not_forgotten(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", FOREVER)
        async with self.watched(runtime) as seen:
            await seen.running("a-0-1")
            await runtime.forget("a-0-1")
        assert [found.phase for found in await runtime.attempts()] == [Phase.RUNNING]

    async def test_attempts_go_on_without_the_service(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(output=b"first\n"))
        await self.run(runtime, "a-1-1", Script(lasts=0.2, exit_code=5, output=b"last words\n"))
        async with self.watched(runtime) as seen:
            before = await seen.running("a-0-1")
        other = await self.reopen(runtime)
        async with self.watched(other) as seen:
            assert await seen.running("a-0-1") == before
            assert (await seen.ended("a-1-1", Ending.EXITED)).exit_code == 5
            assert (await other.read_log("a-1-1", "stdout")).data == b"last words\n"
            await other.stop("a-0-1", 0)
            await seen.ended("a-0-1", Ending.STOPPED)

    async def test_a_closed_runtime_does_not_answer(self, runtime: Runtime) -> None:
        await runtime.close()
        await runtime.close()
        with pytest.raises(RuntimeUnavailable):
            await runtime.attempts()
        await runtime.open()
        assert await runtime.attempts() == []

    async def test_what_a_breakdown_took_is_lost_and_nothing_is_forgotten(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(output=b"it was here\n"))
        await self.run(runtime, "a-1-1", Script(lasts=0.0, exit_code=7))
        async with self.watched(runtime) as seen:
            await seen.running("a-0-1")
            ended = await seen.ended("a-1-1", Ending.EXITED)
        await self.break_down(runtime)
        other = await self.reopen(runtime)
        async with self.watched(other) as seen:
            lost = await seen.ended("a-0-1", Ending.LOST)
            assert lost.ended_at
            assert await seen.ended("a-1-1", Ending.EXITED) == ended
        await self.run(other, "a-0-1", FOREVER)
        assert sorted(found.pod_id for found in await other.attempts()) == ["a-0-1", "a-1-1"]
        assert {found.phase for found in await other.attempts()} == {Phase.ENDED}
