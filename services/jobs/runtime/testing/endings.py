"""The contract: how attempts begin and end."""

from __future__ import annotations

import asyncio

import pytest

from services.jobs.runtime.port import Ending, Health, Phase, Runtime, UnknownAttempt
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.testing.base import RuntimeHooks

_SECOND = 1_000_000_000


class EndingContract(RuntimeHooks):
    async def test_an_attempt_runs(self, runtime: Runtime) -> None:
        before = self.now()
        await self.run(runtime, "a-0-1", FOREVER)
        async with self.watched(runtime) as seen:
            found = await seen.running("a-0-1")
        assert before - _SECOND < found.started_at <= self.now()
        assert (found.ended_at, found.ending, found.exit_code, found.signal) == (0, None, 0, "")
        assert found.health is Health.DISABLED
        assert found.host

    @pytest.mark.parametrize("code", [0, 1, 3, 255])
    async def test_it_ends_with_an_exit_code(self, runtime: Runtime, code: int) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.05, exit_code=code))
        async with self.watched(runtime) as seen:
            found = await seen.ended("a-0-1", Ending.EXITED)
        assert (found.exit_code, found.signal) == (code, "")
        assert 0 < found.started_at <= found.ended_at <= self.now()

    async def test_it_ends_by_a_signal_that_nobody_asked_for(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.05, signal="SIGSEGV"))
        async with self.watched(runtime) as seen:
            found = await seen.ended("a-0-1", Ending.SIGNALLED)
        assert (found.exit_code, found.signal) == (0, "SIGSEGV")

    async def test_what_cannot_be_launched_says_why_and_never_runs(self, runtime: Runtime) -> None:
        async with self.watched(runtime) as seen:
            await self.run(runtime, "a-0-1", Script(launch_error="no such file"))
            found = await seen.ended("a-0-1", Ending.LAUNCH_FAILED)
            phases = {observation.phase for observation in seen.of["a-0-1"]}
        assert found.message
        assert not found.started_at
        assert Phase.RUNNING not in phases

    async def test_many_end_and_none_is_missed(self, runtime: Runtime) -> None:
        async with self.watched(runtime) as seen:
            names = [f"a-{i}-1" for i in range(40)]
            scripts = [Script(lasts=0.01 * (i % 5), exit_code=i) for i in range(40)]
            await asyncio.gather(*(self.run(runtime, *pair) for pair in zip(names, scripts, strict=True)))
            found = [await seen.ended(name, Ending.EXITED) for name in names]
        assert [observation.exit_code for observation in found] == list(range(40))

    # -- stopping

    async def test_a_stop_ends_it(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", FOREVER)
        async with self.watched(runtime) as seen:
            await seen.running("a-0-1")
            asked = self.now()
            await runtime.stop("a-0-1", 60)
            found = await seen.ended("a-0-1", Ending.STOPPED)
        assert found.ended_at - asked < 30 * _SECOND

    async def test_what_ignores_a_stop_is_killed_after_its_grace(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(ends_after=None, output=b"ready"))
        async with self.watched(runtime) as seen:
            await self.says(runtime, "a-0-1", b"ready")
            asked = self.now()
            await runtime.stop("a-0-1", 0.5)
            found = await seen.ended("a-0-1", Ending.STOPPED)
        assert found.signal == "SIGKILL"
        assert found.ended_at - asked >= 0.5 * _SECOND

    async def test_a_smaller_grace_counts_and_a_greater_does_not(self, runtime: Runtime) -> None:
        for name, first, second in (("a-0-1", 300.0, 0.2), ("a-1-1", 0.2, 300.0)):
            await self.run(runtime, name, Script(ends_after=None, output=b"ready"))
            await self.says(runtime, name, b"ready")
            await runtime.stop(name, first)
            await runtime.stop(name, second)
        asked = self.now()
        async with self.watched(runtime) as seen:
            for name in ("a-0-1", "a-1-1"):
                found = await seen.ended(name, Ending.STOPPED)
                assert found.ended_at - asked < 60 * _SECOND

    async def test_without_grace_it_is_killed_at_once(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(ends_after=None, output=b"ready"))
        await self.says(runtime, "a-0-1", b"ready")
        await runtime.stop("a-0-1", 0)
        async with self.watched(runtime) as seen:
            found = await seen.ended("a-0-1", Ending.STOPPED)
        assert found.signal == "SIGKILL"

    async def test_a_stop_of_what_has_ended_changes_nothing(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0, exit_code=4))
        async with self.watched(runtime) as seen:
            before = await seen.ended("a-0-1", Ending.EXITED)
            await runtime.stop("a-0-1", 0)
            assert await runtime.attempts() == [before]

    async def test_a_stop_of_the_unknown_says_so(self, runtime: Runtime) -> None:
        with pytest.raises(UnknownAttempt):
            await runtime.stop("a-0-1", 1)

    async def test_what_waits_never_begins_once_it_is_stopped(self, slow_runtime: Runtime) -> None:
        async with self.watched(slow_runtime) as seen:
            await self.run(slow_runtime, "a-0-1", FOREVER)
            await self.run(slow_runtime, "a-1-1", Script(output=b"begun"))
            await seen.running("a-0-1")
            waiting = await seen.reaches("a-1-1", Phase.WAITING)
            assert waiting.phase is Phase.WAITING
            await slow_runtime.stop("a-1-1", 100)
            found = await seen.ended("a-1-1", Ending.STOPPED)
        assert not found.started_at
        assert (await slow_runtime.read_log("a-1-1", "stdout")).data == b""

    # -- health

    async def test_health_is_unknown_until_a_check_and_then_what_it_says(self, runtime: Runtime) -> None:
        async with self.watched(runtime) as seen:
            await self.run(runtime, "a-0-1", FOREVER, checked=True)
            await self.run(runtime, "a-1-1", Script(unhealthy_after=0.5), checked=True)
            for name in ("a-0-1", "a-1-1"):
                assert (await seen.reaches(name, Phase.WAITING)).health is Health.UNKNOWN
            sick = await seen.ended("a-1-1", Ending.UNHEALTHY)
            assert sick.health is Health.UNHEALTHY
            assert sick.health_output

            def healthy() -> bool:
                last = seen.last("a-0-1")
                return last is not None and last.health is Health.HEALTHY

            await self.until(healthy)
            assert (await seen.running("a-0-1")).health_output == ""
