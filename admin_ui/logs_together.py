"""One event stream of the logs of several pods, each followed from run to run.

Events: `lines` ([instance, run, offset, text, whether it goes on, tone] each; the event's id says where
every pod is to be read on), `note` (about one instance), and `state` and `end` as in `log_stream`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from admin_ui import event_stream, render
from admin_ui.event_stream import ENDS, PACE
from admin_ui.job_logs import Logs, Source
from admin_ui.job_pods import Pods, name_of
from admin_ui.live import Feed
from admin_ui.log_stream import BATCH
from admin_ui.presenters import job_pods as presenter
from admin_ui.presenters import logs
from admin_ui.presenters.logs import Lines
from admin_ui.sse import AFTER_FAILURE, HEARTBEAT
from shared.rpc.client import CallFailed

# Pods whose logs one page shows.
MOST: Final = 20
# Pieces that wait for a slow browser, of all of them.
_QUEUED: Final = 16
_POSITION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on: the number of a run, and the offset of a line in its log."""

    run: int
    offset: int


Positions = Mapping[int, Position]
_Row = tuple[int, int, int, str, bool, str]


def written(positions: Positions) -> str:
    """As addresses and ids of events have it."""
    return ",".join(f"{instance}.{at.run}.{at.offset}" for instance, at in positions.items())


def positions_of(text: str) -> dict[int, Position]:
    """What `written` wrote; what it did not is left out."""
    found = [_POSITION.fullmatch(part) for part in text.split(",")[:MOST]]
    return {int(one[1]): Position(int(one[2]), int(one[3])) for one in found if one is not None}


@dataclass(frozen=True, slots=True)
class _News:
    """Of one pod: lines and where it is now, and a note about it, if there is one."""

    instance: int
    lines: Sequence[logs.Line]
    position: Position
    size: int = 0
    note: str = ""


async def stream(
    request: web.Request, job: str, output: str, positions: Positions, feeds: Sequence[Feed]
) -> web.StreamResponse:
    """Sends what those pods write from there on, until the browser leaves, the right to look ends or the
    console stops. `output`: stdout or stderr. `feeds` wake it when something may have become of a run."""

    async def run(response: web.StreamResponse) -> None:
        await _Together(request, response, job, output, dict(positions), feeds).run()

    return await event_stream.serve(request, feeds, run)


@dataclass(slots=True)
class _Together:
    request: web.Request
    response: web.StreamResponse
    job: str
    output: str
    positions: dict[int, Position]
    feeds: Sequence[Feed]
    # Up to where each was read; what is sent may be behind.
    read: dict[int, Position] = field(init=False)
    news: asyncio.Queue[_News | CallFailed] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    # Instances whose log cannot be read just now.
    away: set[int] = field(default_factory=set)
    told: str = ""

    def __post_init__(self) -> None:
        self.read = dict(self.positions)

    async def run(self) -> None:
        tasks = [asyncio.create_task(self._follow(instance)) for instance in self.positions]
        try:
            await self._state("live")
            await self._send_all()
        except CallFailed as error:
            await event_stream.send(self.response, "end", {"reason": ENDS.get(error.failure.code, "gone")})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- reading

    async def _follow(self, instance: int) -> None:
        """One pod, run after run."""
        while True:
            try:
                await self._read(instance)
                self.away.discard(instance)
                await self._next(instance)
            except CallFailed as error:
                reason = ENDS.get(error.failure.code)
                if reason == "gone":
                    if await self._skipped(instance):
                        continue
                    await self._tell(instance, self.read[instance], note="It is gone.")
                    return
                if reason is not None:
                    await self.news.put(error)
                    return
                self.away.add(instance)
                await asyncio.sleep(AFTER_FAILURE)

    async def _skipped(self, instance: int) -> bool:
        """Whether it has gone on to a newer run than the one that is no longer kept."""
        try:
            await self._next(instance)
        except CallFailed:
            return False
        return True

    async def _tell(
        self,
        instance: int,
        position: Position,
        lines: Sequence[logs.Line] = (),
        *,
        size: int = 0,
        note: str = "",
    ) -> None:
        await self.news.put(_News(instance, lines, position, size, note))
        self.read[instance] = position

    async def _read(self, instance: int) -> None:
        """To the end of the run. Raises CallFailed."""
        at = self.read[instance]
        name = name_of(self.job, str(instance))
        source = Source(name, f"{name}-{at.run}", self.output)
        lines = Lines(at.offset)
        found = Logs(render.caller(self.request)).read(source, offset=at.offset, follow=True)
        async with aclosing(found) as pieces:
            async for begin, data in pieces:
                self.away.discard(instance)
                note = ""
                if begin > lines.end:
                    note = f"{logs.size(begin - lines.end)} are not shown here."
                if begin != lines.end:
                    lines.skip(begin)
                whole = lines.feed(data)
                await self._tell(instance, replace(at, offset=lines.next), whole, size=len(data), note=note)
        if lines.open:
            await self._tell(instance, replace(at, offset=lines.end), [lines.open])

    async def _next(self, instance: int) -> None:
        """To the beginning of the run after that one, once there is one. Raises CallFailed."""
        at = self.read[instance]
        name, told = name_of(self.job, str(instance)), False
        pods = Pods(render.caller(self.request))
        while True:
            seen = [feed.version for feed in self.feeds]
            run = presenter.run(await pods.status(name))
            if run.number > at.run:
                await self._tell(instance, Position(run.number, 0), note=f"Run {run.number} begins.")
                return
            if run.over and not told:
                told = True
                how = f": {run.exit}" if run.exit else ""
                await self._tell(instance, at, note=f"Run {run.number} has ended{how}.")
            await event_stream.moved(self.feeds, seen)

    # -- sending

    async def _send_all(self) -> None:
        """Until the right to look ends. Raises CallFailed."""
        looked = time.monotonic()
        while True:
            await self._show(await self._some())
            await self._state("reconnecting" if self.away else "live")
            if time.monotonic() - looked > HEARTBEAT and self.positions:
                await Pods(render.caller(self.request)).status(name_of(self.job, str(min(self.positions))))
                looked = time.monotonic()
            await asyncio.sleep(PACE)

    async def _some(self) -> list[_News]:
        """What there is, once there is something; nothing after a while. Raises CallFailed."""
        try:
            async with asyncio.timeout(HEARTBEAT if not self.away else AFTER_FAILURE):
                found = [await self.news.get()]
        except TimeoutError:
            await event_stream.still_here(self.response)
            return []
        while not self.news.empty() and sum(one.size for one in found if isinstance(one, _News)) < BATCH:
            found.append(self.news.get_nowait())
        told: list[_News] = []
        for one in found:
            if isinstance(one, CallFailed):
                raise one
            told.append(one)
        return told

    async def _show(self, found: Sequence[_News]) -> None:
        rows: list[_Row] = []
        for one in found:
            if one.note:
                await self._lines(rows)
                rows = []
                # Its lines follow: whoever breaks off before them must get them again.
                if not one.lines:
                    self.positions[one.instance] = one.position
                data = {"instance": one.instance, "text": one.note}
                await event_stream.send(self.response, "note", data, written(self.positions))
            self.positions[one.instance] = one.position
            rows += [(one.instance, one.position.run, *line) for line in logs.packed(one.lines)]
        await self._lines(rows)

    async def _lines(self, rows: Sequence[_Row]) -> None:
        if rows:
            await event_stream.send(self.response, "lines", {"lines": rows}, written(self.positions))

    async def _state(self, state: str) -> None:
        if state != self.told:
            self.told = state
            await event_stream.send(self.response, "state", {"state": state})
