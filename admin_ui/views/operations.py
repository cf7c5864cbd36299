"""What became of a write to many objects: one line an object, live while it runs."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.operations import Operation
from admin_ui.presenters import failures

# Lines that a page shows; failures come first, so none of them hides behind the successes.
SHOWN: Final = 200


async def detail(request: web.Request) -> web.StreamResponse:
    return await render.page(request, "operations/detail.html", _values(_find(request)))


async def live(request: web.Request) -> web.StreamResponse:
    operation = _find(request)

    async def look() -> sse.View:
        values = _values(operation)
        return sse.View(
            parts={"operation": render.part(request, "operations/_operation.html", values)},
            final=not operation.running,
        )

    return await sse.stream(request, look, [operation])


def _find(request: web.Request) -> Operation:
    found = request.app[render.OPERATIONS].get(request.match_info["id"], render.person(request).subject)
    if found is None:
        raise web.HTTPNotFound
    return found


def _values(operation: Operation) -> dict[str, Any]:
    order = {"failed": 0, "waiting": 1, "done": 2}
    items = sorted(operation.items, key=lambda item: order[item.state])
    return {
        "operation": operation,
        "items": items[:SHOWN],
        "hidden": max(0, len(items) - SHOWN),
        "done": operation.count("done"),
        "failed": operation.count("failed"),
        "undoable": [item.id for item in operation.items if item.state == "done"]
        if operation.verb.inverse and not operation.running
        else [],
        "explain": failures.explain,
    }
