"""What the console asks of LogService: windows of a log, what comes next, and where a text stands.

All of it reads by offsets, which never change their meaning, so that pieces fit together whatever is
written meanwhile. Of a log of any size a few hundred kilobytes are in memory at most.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import grpc
from aiohttp import web

from admin_ui.clients import JOBS, Caller
from admin_ui.presenters.logs import Line, Lines
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as pb
from shared.pb.roundhouse.jobs.v1.logs_pb2_grpc import LogServiceStub
from shared.rpc.client import CallFailed, failure_of

STDOUT: Final = "stdout"
STDERR: Final = "stderr"
STREAMS: Final = {STDOUT: pb.ReadLogRequest.STDOUT, STDERR: pb.ReadLogRequest.STDERR}
# Bytes that a window reads at first, and at most when its lines are long.
_SPAN: Final = 1 << 16
_WIDEST: Final = 1 << 20
# Bytes that a search looks at: the newest ones.
SEARCHED: Final = 64 << 20
# Lines that a search names: the newest ones. It counts all.
NAMED: Final = 2000
# Searches at once; each takes turns with everything else, and all of them its share of the processor.
_SEARCHES: Final = 4
# Seconds that reading a window, or a whole log, may take.
_WINDOW_DEADLINE: Final = 8.0
_SEARCH_DEADLINE: Final = 30.0

Piece = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Source:
    """One output of one run. `pod`: its name; `run`: the id of a run, empty for the newest."""

    pod: str
    run: str
    stream: str = STDOUT


@dataclass(frozen=True, slots=True)
class Window:
    """Lines that follow one another. `start` and `end`: offsets of the first and behind the last;
    `first`: nothing is before; `last`: nothing was behind when it was read."""

    lines: Sequence[Line]
    start: int
    end: int
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Found:
    """`count` lines have the text, the newest of which are in `lines`; `size`: bytes that were looked
    at; `whole`: they were all that there is of the log."""

    count: int = 0
    lines: Sequence[Line] = field(default_factory=tuple)
    size: int = 0
    whole: bool = True


class Searches:
    """Lets a few searches at a time look."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(_SEARCHES)


SEARCHES: Final = web.AppKey("searches", Searches)


@dataclass(frozen=True, slots=True)
class Logs:
    """Reads as `caller`. Every method raises CallFailed."""

    caller: Caller

    async def read(
        self,
        source: Source,
        *,
        offset: int = 0,
        limit: int = 0,
        follow: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """(offset, bytes) one after the other; a gap was rotated away. `offset`: negative ones count
        from the end. `limit`: bytes, 0 for all."""
        request = pb.ReadLogRequest(
            stream=STREAMS[source.stream], offset=offset, limit_bytes=limit, follow=follow
        )
        request.pod_name.value, request.pod_id.value = source.pod, source.run
        stub = LogServiceStub(self.caller.clients.channel(JOBS))
        answers = stub.ReadLog(request, metadata=self.caller.metadata, timeout=timeout)
        try:
            async for chunk in answers:
                yield chunk.offset, chunk.data
        except grpc.RpcError as error:
            raise CallFailed(failure_of(error)) from error
        finally:
            answers.cancel()

    async def download(self, source: Source) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.read(source)) as pieces:
            async for _, data in pieces:
                yield data

    async def tail(self, source: Source, count: int) -> Window:
        """The last `count` lines, or as many as fit."""
        span = _SPAN
        while True:
            begin, data = await self._all(source, -span, span)
            first = begin == 0 or len(data) < span
            window = _backward(begin, data, count, first=first, last=True)
            if first or (b"\n" in data and len(window.lines) >= count) or span >= _WIDEST:
                return window
            span *= 4

    async def before(self, source: Source, end: int, count: int) -> Window:
        """The `count` lines that end at the offset `end`, or as many as fit."""
        span = _SPAN
        while True:
            wanted = max(0, end - span)
            begin, data = await self._all(source, wanted, end - wanted) if end else (0, b"")
            if begin >= end:
                # All of it was rotated away.
                return Window((), end, end, first=True, last=False)
            data = data[: end - begin]
            first = begin == 0 or begin > wanted
            window = _backward(begin, data, count, first=first, last=False)
            if first or (b"\n" in data and len(window.lines) >= count) or span >= _WIDEST:
                return window
            span *= 4

    async def after(self, source: Source, begin: int, count: int) -> Window:
        """The `count` lines from the offset `begin` on, or as many as fit."""
        at, data = await self._all(source, begin, _WIDEST)
        reader = Lines(at)
        lines = reader.feed(data)
        if len(lines) > count:
            return Window(lines[:count], at, lines[count].at, first=False, last=False)
        if len(data) < _WIDEST and reader.open:
            return Window([*lines, reader.open], at, reader.next, first=False, last=True)
        return Window(lines, at, reader.next, first=False, last=len(data) < _WIDEST)

    async def around(self, source: Source, at: int, count: int) -> Window:
        """Lines before and after the offset `at`."""
        before = await self.before(source, at, count // 2)
        after = await self.after(source, at, count - len(before.lines))
        start = before.start if before.lines else after.start
        return Window([*before.lines, *after.lines], start, after.end, before.first, after.last)

    async def search(self, source: Source, wanted: re.Pattern[str]) -> Found:
        """All lines of the log that have the text, or of as much of it as is looked at."""
        hits: deque[Line] = deque(maxlen=NAMED)
        count = seen = 0
        begun = await self._begin(source)
        reader: Lines | None = None
        whole = True
        pieces = self.read(source, offset=-SEARCHED, limit=SEARCHED, timeout=_SEARCH_DEADLINE)
        async with aclosing(pieces):
            async for at, data in pieces:
                if reader is None:
                    reader, whole = Lines(at), at <= begun
                lost = reader.skip(at) if at != reader.end else None
                for line in [*([lost] if lost else []), *reader.feed(data)]:
                    if wanted.search(line.text):
                        hits.append(line)
                        count += 1
                seen += len(data)
                # Others have their turn between two pieces, even if they all wait already.
                await asyncio.sleep(0)
        if reader is None:
            return Found()
        if reader.open and wanted.search(reader.open.text):
            hits.append(reader.open)
            count += 1
        return Found(count, tuple(hits), seen, whole)

    async def _begin(self, source: Source) -> int:
        """The offset of the oldest byte that is still there."""
        begin, _ = await self._all(source, 0, 1)
        return begin

    async def _all(self, source: Source, offset: int, limit: int) -> Piece:
        """In one piece: of what a gap divides, the last part."""
        begin, found = max(offset, 0), bytearray()
        pieces = self.read(source, offset=offset, limit=limit, timeout=_WINDOW_DEADLINE)
        async with aclosing(pieces):
            async for at, data in pieces:
                if at != begin + len(found):
                    begin, found = at, bytearray()
                found += data
        return begin, bytes(found)


def _backward(begin: int, data: bytes, count: int, *, first: bool, last: bool) -> Window:
    """The last `count` lines of what was read. What it begins with is the rest of a line, unless it is
    the first of all."""
    whole = 0 if first else data.find(b"\n") + 1
    reader = Lines(begin + whole)
    lines = reader.feed(data[whole:])
    next = reader.next
    if reader.open:
        lines.append(reader.open)
    if not last:
        next = reader.end
    kept = lines[-count:] if count else []
    start = kept[0].at if kept else reader.end
    return Window(kept, start, next, first and len(kept) == len(lines), last)
