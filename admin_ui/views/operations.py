"""What became of a write to many objects: one line an object, live while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.middleware import require
from admin_ui.operations import Item, Operation, Verb, finished
from admin_ui.pipelines import Pipelines
from admin_ui.presenters import failures

# Lines that a page shows; failures come first, so none of them hides behind the successes.
SHOWN: Final = 200
# Seconds that an answer waits for the end: most operations are done and need no page of their own.
PATIENCE: Final = 1.5

ARCHIVE: Final = Verb("archive", "Archived", "Archiving", inverse="unarchive")
UNARCHIVE: Final = Verb("unarchive", "Restored", "Restoring", inverse="archive")
DELETE: Final = Verb("delete", "Deleted", "Deleting")
VERBS: Final = {verb.name: verb for verb in (ARCHIVE, UNARCHIVE, DELETE)}


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


async def undo(request: web.Request) -> web.StreamResponse:
    """Does the inverse to what was done, and to nothing else."""
    operation = _find(request)
    inverse = VERBS.get(operation.verb.inverse)
    if inverse is None or operation.running:
        raise web.HTTPNotFound
    await require(request, f"experiments.{inverse.name}")
    done = [Item(item.id, item.label) for item in operation.items if item.state == "done"]

    async def source() -> AsyncIterator[Item]:
        for item in done:
            yield item

    return await run(request, inverse, source(), back=operation.back)


async def run(
    request: web.Request, verb: Verb, source: AsyncIterator[Item], *, back: str
) -> web.StreamResponse:
    """Starts the operation. One that ends soon and well leads back to the list, any other to its
    own page."""
    operation = request.app[render.OPERATIONS].start(
        verb,
        "experiment",
        subject=render.person(request).subject,
        back=back,
        source=source,
        act=Pipelines(render.caller(request)).act(verb.name),
    )
    await finished(operation, PATIENCE)
    here = render.url(request.app, "operations.detail", id=operation.id)
    if not operation.clean:
        return render.redirect(here)
    count = len(operation.items)
    what = f"“{operation.items[0].label}”" if count == 1 else f"{count} experiments"
    extra: dict[str, Any] = {"link": {"href": here, "label": "Details"}}
    if verb.inverse and count:
        extra["undo"] = render.url(request.app, "operations.undo", id=operation.id)
    await session.flash(request, f"{verb.done} {what}.", **extra)
    return render.redirect(back)


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
        "undoable": bool(operation.verb.inverse) and not operation.running and operation.count("done") > 0,
        "explain": failures.explain,
    }
