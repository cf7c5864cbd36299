"""One event stream a page: what the page would now show, as far as it differs.

Events: `parts` (HTML by element id), `rows` (order, changed rows, by table id), `state` (live or
reconnecting), `end` (signed-out or denied: the browser stops). docs/console.md describes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import orjson
from aiohttp import web

from admin_ui import render
from admin_ui.live import Feed, Reader, Signal
from admin_ui.middleware import METRICS
from shared.rpc.client import CallFailed

# Seconds between two renderings of one stream: a burst of changes costs each reader a few.
PACE: Final = 0.25
# Seconds without a change after which the reader's right to look is checked again.
HEARTBEAT: Final = 15.0
# What takes long is rendered half of the time, however much changes; but so many seconds later at most.
REST: Final = 1.0
RETRY_MS: Final = 1000
AFTER_FAILURE: Final = 1.0
_ENDS: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "signed-out",
    grpc.StatusCode.PERMISSION_DENIED: "denied",
    # The page's own place in the list is no longer valid: a reload shows the first page.
    grpc.StatusCode.INVALID_ARGUMENT: "reload",
    grpc.StatusCode.OUT_OF_RANGE: "reload",
    # What the page was about is gone.
    grpc.StatusCode.NOT_FOUND: "reload",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows: HTML by element id, and tables by element id."""

    parts: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    # Nothing will change any more.
    final: bool = False


Render = Callable[[], Awaitable[View]]


class Screen:
    """What the browser at the other end shows."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self._rows: dict[str, dict[str, str]] = {}
        self._order: dict[str, list[str]] = {}

    def difference(self, view: View) -> list[tuple[str, Any]]:
        """The events that make the screen show `view`."""
        events: list[tuple[str, Any]] = []
        changed = {}
        for name, html in view.parts.items():
            tag = render.etag(html)
            if self._parts.get(name) != tag:
                self._parts[name] = tag
                changed[name] = html
        if changed:
            events.append(("parts", changed))
        for name, html in view.tables.items():
            found = render.rows(html)
            tags = {key: render.etag(row) for key, row in found}
            order = [key for key, _ in found]
            known = self._rows.get(name)
            fresh = {key: row for key, row in found if known is None or known.get(key) != tags[key]}
            if known is None or fresh or order != self._order[name]:
                events.append(("rows", {"table": name, "order": order, "rows": fresh}))
            self._rows[name], self._order[name] = tags, order
        return events


async def stream(
    request: web.Request,
    look: Render,
    signals: Sequence[Signal],
    *,
    feeds: Sequence[Feed] = (),
    excused: Callable[[Feed], bool] = lambda feed: False,
) -> web.StreamResponse:
    """Sends `look()` whenever a signal or a feed moves, until the browser leaves, the right to look
    ends or the console stops. The page is live while each feed is, or is `excused`."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    )
    with contextlib.ExitStack() as stack:
        # Browsers leave at any time, even before the answer began.
        stack.enter_context(contextlib.suppress(ConnectionResetError))
        await response.prepare(request)
        await response.write(f"retry: {RETRY_MS}\n\n".encode())
        stack.enter_context(request.app[METRICS].streams.track_inprogress())
        token = render.caller(request).token
        readers = [stack.enter_context(feed.read(token)) for feed in feeds]
        session = _Session(request, response, look, [*signals, *feeds], feeds, readers, excused)
        await session.run()
    return response


async def parts(
    request: web.Request,
    load: Callable[[], Awaitable[Mapping[str, Any]]],
    template: str,
    names: Sequence[str],
    *,
    feeds: Sequence[Feed],
) -> web.StreamResponse:
    """A stream of the elements `names`, each from the template of its name: `jobs/_{}.html`. `load`
    answers what these need; it raises CallFailed."""

    async def look() -> View:
        values = await load()
        return View({name: render.part(request, template.format(name), values) for name in names})

    return await stream(request, look, (), feeds=feeds)


@dataclass(slots=True)
class _Session:
    request: web.Request
    response: web.StreamResponse
    look: Render
    signals: Sequence[Signal]
    feeds: Sequence[Feed]
    readers: Sequence[Reader]
    excused: Callable[[Feed], bool]
    screen: Screen = field(default_factory=Screen)
    told: str = ""
    failed: bool = False

    async def run(self) -> None:
        closing = asyncio.create_task(self.request.app[render.HUB].closing.wait())
        try:
            while not closing.done():
                seen = [signal.version for signal in self.signals]
                begun = time.monotonic()
                if await self._show():
                    return
                took = time.monotonic() - begun
                await self._wait(seen, closing)
                await asyncio.sleep(max(0.0, begun + PACE - time.monotonic(), min(took, REST)))
        finally:
            closing.cancel()

    async def _show(self) -> bool:
        """Renders and sends. True when nothing will follow."""
        try:
            view = await self.look()
        except CallFailed as error:
            self.failed = True
            reason = _ENDS.get(error.failure.code)
            if reason is not None:
                await self._send("end", {"reason": reason})
                return True
            await self._state("reconnecting")
            return False
        self.failed = False
        for name, data in self.screen.difference(view):
            await self._send(name, data)
        if any(reader.refused for reader in self.readers):
            await self._send("end", {"reason": "denied"})
            return True
        if all(feed.live or self.excused(feed) for feed in self.feeds):
            await self._state("live")
        elif self.told:
            await self._state("reconnecting")
        if view.final:
            await self._send("end", {"reason": "final"})
        return view.final

    async def _wait(self, seen: Sequence[int], closing: asyncio.Task[Any]) -> None:
        """Until a signal moved, it is time to look anyway, or the console stops."""
        tasks = [
            asyncio.create_task(signal.wait(version))
            for signal, version in zip(self.signals, seen, strict=True)
        ]
        timeout = AFTER_FAILURE if self.failed else HEARTBEAT
        try:
            done, _ = await asyncio.wait(
                [*tasks, closing], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
        if not done:
            await self.response.write(b": still here\n\n")

    async def _state(self, state: str) -> None:
        if state != self.told:
            self.told = state
            await self._send("state", {"state": state})

    async def _send(self, event: str, data: Any) -> None:
        await self.response.write(b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(data)))
