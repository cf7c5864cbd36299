"""Reads the log of one run piece by piece: from a place, from its last lines, and on until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from services.jobs.runtime.port import LogChunk, Runtime, UnknownAttempt

BLOCK: Final = 65_536
# Seconds between two looks at a log that is followed: more and more while it is silent.
SHORTEST: Final = 0.1
_LONGEST: Final = 1.0


@dataclass(frozen=True, slots=True)
class LogFile:
    """A stream of one run in a runtime. Every method may raise UnknownAttempt and RuntimeUnavailable."""

    runtime: Runtime
    pod_id: str
    stream: str

    async def read(self, offset: int, limit: int) -> LogChunk:
        return await self.runtime.read_log(self.pod_id, self.stream, offset=offset, limit=limit)

    async def end(self) -> int:
        """The offset behind the last byte."""
        last = await self.read(-1, 1)
        return last.offset + len(last.data)

    async def last_lines(self, count: int) -> int:
        """Where the last `count` lines begin, or what is left of the log if that has fewer. A last line
        without an end counts."""
        end = position = await self.end()
        while position > 0:
            begin, block = await self._block(max(0, position - BLOCK), position)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                # The end of the last line begins none.
                if begin + at + 1 < end:
                    count -= 1
                if not count:
                    return begin + at + 1
            if begin > position - BLOCK:
                return begin
            position = begin
        return 0

    async def _block(self, begin: int, end: int) -> tuple[int, bytes]:
        """What is left of the bytes from `begin` to `end`, and where it begins."""
        found = b""
        at = begin
        while at < end:
            chunk = await self.read(at, end - at)
            if not chunk.data or chunk.offset >= end:
                break
            if chunk.offset != at:
                # Rotated away: what was found before has a gap behind it.
                begin, found = chunk.offset, b""
            found += chunk.data[: end - chunk.offset]
            at = chunk.offset + len(chunk.data)
        return (begin, found) if found else (end, b"")


async def pieces(
    log: LogFile,
    start: Callable[[LogFile], Awaitable[int]],
    *,
    limit: int,
    over: Callable[[], Awaitable[bool]],
    stopping: asyncio.Event,
) -> AsyncGenerator[LogChunk, None]:
    """The log from where `start` says; the first piece may be empty, and tells that there is one.
    `limit`: bytes; 0 is all. At its end it is waited for more until `over`, and an unknown run is waited
    for likewise: it has not begun. Ends at once when `stopping`. Raises UnknownAttempt, and
    RuntimeUnavailable."""
    at: int | None = None
    sent, pause, last, said = 0, SHORTEST, False, False
    while True:
        try:
            at = await start(log) if at is None else at
            chunk = await log.read(at, min(BLOCK, limit - sent) if limit else BLOCK)
        except UnknownAttempt:
            if last or await over():
                raise
            chunk = LogChunk(0, b"")
        if chunk.data or not said:
            said = True
            yield chunk
        if chunk.data:
            sent, pause, last = sent + len(chunk.data), SHORTEST, False
            at = chunk.offset + len(chunk.data)
            if limit and sent >= limit:
                return
            continue
        if last:
            return
        # What was written right before the end is read once more.
        last = await over()
        if not last and await stopped(stopping, pause):
            return
        pause = min(2 * pause, _LONGEST)


async def stopped(stopping: asyncio.Event, seconds: float) -> bool:
    """Whether it is `stopping`; asked for as long as that."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
