"""What event streams that are no page's have in common: how they begin and end, and one event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import orjson
from aiohttp import web

from admin_ui import render
from admin_ui.live import Feed
from admin_ui.middleware import METRICS
from admin_ui.sse import AFTER_FAILURE, HEARTBEAT, RETRY_MS

# Why a browser is told to stop, by what a service says.
ENDS: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "signed-out",
    grpc.StatusCode.PERMISSION_DENIED: "denied",
    grpc.StatusCode.NOT_FOUND: "gone",
    grpc.StatusCode.INVALID_ARGUMENT: "gone",
}
# Seconds between two events: what comes meanwhile comes together.
PACE: Final = 0.1


async def serve(
    request: web.Request,
    feeds: Sequence[Feed],
    run: Callable[[web.StreamResponse], Awaitable[None]],
) -> web.StreamResponse:
    """Runs `run` until it ends, the browser leaves or the console stops. `feeds` watch meanwhile."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    )
    with contextlib.ExitStack() as stack:
        # Browsers leave at any time, even before the answer began.
        stack.enter_context(contextlib.suppress(ConnectionResetError))
        await response.prepare(request)
        await response.write(f"retry: {RETRY_MS}\n\n".encode())
        stack.enter_context(request.app[METRICS].streams.track_inprogress())
        for feed in feeds:
            stack.enter_context(feed.read(render.caller(request).token))
        closing = asyncio.ensure_future(request.app[render.HUB].closing.wait())
        work = asyncio.ensure_future(run(response))
        try:
            await asyncio.wait([work, closing], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            closing.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    return response


async def moved(feeds: Sequence[Feed], seen: Sequence[int]) -> None:
    """Until one of the feeds is beyond the version that was seen, or it is time to look anyway."""
    waits = [asyncio.create_task(feed.wait(version)) for feed, version in zip(feeds, seen, strict=True)]
    pause = asyncio.create_task(asyncio.sleep(HEARTBEAT if waits else AFTER_FAILURE))
    try:
        await asyncio.wait([*waits, pause], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*waits, pause):
            task.cancel()
    await asyncio.sleep(PACE)


async def send(response: web.StreamResponse, event: str, data: Any, id: str = "") -> None:
    """`id`: what the browser says when it comes again."""
    begin = f"id: {id}\n" if id else ""
    head = f"{begin}event: {event}\ndata: ".encode()
    await response.write(head + orjson.dumps(data) + b"\n\n")


async def still_here(response: web.StreamResponse) -> None:
    """Keeps proxies from giving up."""
    await response.write(b": still here\n\n")
