"""One event stream a log: its lines as they are written, each once, whatever breaks in between.

Events: `lines` (its id is the offset to go on from; a last line without an end comes again under the
same offset), `gap` (bytes that are not shown: rotated away, or too many), `state` (live or
reconnecting), `over` (the run has ended), `next` (there is a newer run) and `end` (signed-out, denied or
gone: the browser stops). docs/console.md describes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from admin_ui import event_stream, render
from admin_ui.event_stream import ENDS, PACE
from admin_ui.job_logs import Logs, Piece, Source
from admin_ui.live import Feed
from admin_ui.presenters import logs
from admin_ui.presenters.logs import Lines
from admin_ui.sse import AFTER_FAILURE, HEARTBEAT
from shared.rpc.client import CallFailed, Failure

# Bytes of one event; what is written faster than browsers can show it waits in its file.
BATCH: Final = 1 << 18
# Bytes that a browser which was away may be behind; beyond them it is told what it missed.
BEHIND: Final = 1 << 20
# What it then sees of that.
_AGAIN: Final = 1 << 16
# Pieces that wait for a slow browser.
_QUEUED: Final = 4

# Asked now and then: what is told of the run at its end, or of the one after it. Raises CallFailed.
Look = Callable[[], Awaitable["Outlook"]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """HTML about a run. `newer`: there is a run after it."""

    html: str
    newer: bool


async def stream(
    request: web.Request, source: Source, offset: int, look: Look, feeds: Sequence[Feed]
) -> web.StreamResponse:
    """Sends what stands at `offset` and after, until the browser leaves, the right to look ends, another
    run begins or the console stops. `feeds` wake it when something may have become of the run."""

    async def run(response: web.StreamResponse) -> None:
        await _Following(request, response, source, look, feeds, Lines(offset)).run()

    return await event_stream.serve(request, feeds, run)


@dataclass(slots=True)
class _Following:
    request: web.Request
    response: web.StreamResponse
    source: Source
    look: Look
    feeds: Sequence[Feed]
    lines: Lines
    told: str = ""
    shown: str = field(default="", init=False)
    looked: float = field(default=0.0, init=False)

    @property
    def _logs(self) -> Logs:
        return Logs(render.caller(self.request))

    async def run(self) -> None:
        while True:
            try:
                await self._check()
                await self._catch_up()
                await self._state("live")
                await self._follow()
                await self._aftermath()
                return
            except CallFailed as error:
                reason = ENDS.get(error.failure.code)
                if reason is not None:
                    await self._send("end", {"reason": reason})
                    return
                await self._state("reconnecting")
                await asyncio.sleep(AFTER_FAILURE)
                # What came of the last line comes again.
                self.lines = Lines(self.lines.next)

    async def _check(self) -> None:
        """Whether the right to look goes on. Raises CallFailed."""
        await self.look()
        self.looked = time.monotonic()

    async def _catch_up(self) -> None:
        """A browser that was away for long sees the end, and how much it missed."""
        window = await self._logs.tail(self.source, 1)
        if window.end - self.lines.next > BEHIND:
            before = await self._logs.before(self.source, window.end, _AGAIN // 64)
            await self._gap(self.lines.next, before.start)
            self.lines = Lines(before.start)

    # -- while the run goes on

    async def _follow(self) -> None:
        """Until the run ends. Raises CallFailed."""
        queue: asyncio.Queue[Piece | Failure | None] = asyncio.Queue(_QUEUED)
        pump = asyncio.create_task(self._pump(queue))
        try:
            while True:
                found = await self._some(queue)
                await self._show([piece for piece in found if isinstance(piece, tuple)])
                last = found[-1] if found else ()
                if last is None:
                    return
                if isinstance(last, Failure):
                    raise CallFailed(last)
                if time.monotonic() - self.looked > HEARTBEAT:
                    await self._check()
                await asyncio.sleep(PACE)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, queue: asyncio.Queue[Piece | Failure | None]) -> None:
        """What comes, then None at the end of the run or why it failed."""
        try:
            pieces = self._logs.read(self.source, offset=self.lines.next, follow=True)
            async with aclosing(pieces):
                async for piece in pieces:
                    await queue.put(piece)
            await queue.put(None)
        except CallFailed as error:
            await queue.put(error.failure)

    async def _some(self, queue: asyncio.Queue[Piece | Failure | None]) -> list[Piece | Failure | None]:
        """What there is, once there is something; nothing after a while in which nothing came."""
        try:
            async with asyncio.timeout(HEARTBEAT):
                found = [await queue.get()]
        except TimeoutError:
            await event_stream.still_here(self.response)
            return []
        size = 0
        while not queue.empty() and size < BATCH:
            found.append(queue.get_nowait())
            size += len(found[-1][1]) if isinstance(found[-1], tuple) else 0
        return found

    async def _show(self, pieces: Sequence[Piece]) -> None:
        found: list[logs.Line] = []
        for at, data in pieces:
            if at != self.lines.end:
                await self._lines(found)
                await self._gap(self.lines.end, at)
                found = list(filter(None, [self.lines.skip(at)]))
            found += self.lines.feed(data)
        await self._lines([*found, *filter(None, [self.lines.open])])

    async def _lines(self, found: Sequence[logs.Line]) -> None:
        if found:
            await self._send("lines", {"lines": logs.packed(found)}, id=self.lines.next)

    async def _gap(self, begin: int, end: int) -> None:
        if end > begin:
            text = f"{logs.size(end - begin)} are not shown here"
            await self._send("gap", {"from": begin, "to": end, "text": text}, id=end)

    # -- once it has ended

    async def _aftermath(self) -> None:
        """Tells what became of the run, until there is a newer one. Raises CallFailed."""
        while True:
            seen = [feed.version for feed in self.feeds]
            outlook = await self.look()
            if outlook.html != self.shown:
                self.shown = outlook.html
                await self._send("next" if outlook.newer else "over", {"html": outlook.html})
            if outlook.newer:
                return
            await event_stream.moved(self.feeds, seen)
            await event_stream.still_here(self.response)

    async def _state(self, state: str) -> None:
        if state != self.told:
            self.told = state
            await self._send("state", {"state": state})

    async def _send(self, event: str, data: Any, *, id: int | None = None) -> None:
        await event_stream.send(self.response, event, data, "" if id is None else str(id))
