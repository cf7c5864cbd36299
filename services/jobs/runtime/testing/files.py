"""The contract: logs, files and ports."""

from __future__ import annotations

import pytest

from services.jobs.runtime.port import Attempt, Ending, LogChunk, Runtime, UnknownAttempt
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.testing.base import RuntimeHooks

_TEXT = b"".join(b"line %d\n" % number for number in range(100))


class FileContract(RuntimeHooks):
    async def test_logs_are_read_from_anywhere(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0, output=_TEXT))
        async with self.watched(runtime) as seen:
            await seen.ended("a-0-1", Ending.EXITED)
        size = len(_TEXT)
        for offset, limit, expected in (
            (0, 65_536, LogChunk(0, _TEXT)),
            (0, 10, LogChunk(0, _TEXT[:10])),
            (17, 30, LogChunk(17, _TEXT[17:47])),
            (-8, 65_536, LogChunk(size - 8, _TEXT[-8:])),
            (-8, 3, LogChunk(size - 8, _TEXT[-8:-5])),
            (-size - 100, 5, LogChunk(0, _TEXT[:5])),
            (size, 100, LogChunk(size, b"")),
            (size + 100, 100, LogChunk(size, b"")),
            (3, 0, LogChunk(3, b"")),
        ):
            assert await runtime.read_log("a-0-1", "stdout", offset=offset, limit=limit) == expected
        assert await runtime.read_log("a-0-1", "stderr") == LogChunk(0, b"")

    async def test_all_that_it_wrote_is_there_when_it_has_ended(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0, output=_TEXT * 100))
        async with self.watched(runtime) as seen:
            await seen.ended("a-0-1", Ending.EXITED)
        found = b""
        while data := (await runtime.read_log("a-0-1", "stdout", offset=len(found))).data:
            found += data
        assert found == _TEXT * 100

    async def test_there_is_no_other_stream(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", FOREVER)
        with pytest.raises(ValueError, match="stream"):
            await runtime.read_log("a-0-1", "../../secret")

    async def test_the_unknown_has_no_logs_and_no_files(self, runtime: Runtime) -> None:
        with pytest.raises(UnknownAttempt):
            await runtime.read_log("a-0-1", "stdout")
        with pytest.raises(UnknownAttempt):
            await runtime.files("a-0-1")

    async def test_files_are_listed_in_order(self, runtime: Runtime) -> None:
        await self.run(runtime, "a-0-1", Script(lasts=0.0, output=b"x"))
        async with self.watched(runtime) as seen:
            await seen.ended("a-0-1", Ending.EXITED)
        found = list(await runtime.files("a-0-1"))
        assert found == sorted(found)
        assert {"stdout", "stderr"} <= set(found)

    async def test_ports_are_given_and_are_different(self, runtime: Runtime) -> None:
        names = [f"a-{i}-1" for i in range(3)]
        for name in names:
            spec = self.spec(FOREVER)
            spec.containers[0].ports.add(name="web", env_name="WEB_PORT")
            spec.containers[0].ports.add(name="admin", env_name="ADMIN_PORT")
            await runtime.start(Attempt(name, spec))
        async with self.watched(runtime) as seen:
            found = [(await seen.running(name)).ports for name in names]
        assert [set(ports) for ports in found] == [{"web", "admin"}] * 3
        assert len({port for ports in found for port in ports.values()}) == 6
        assert all(0 < port < 65536 for ports in found for port in ports.values())
