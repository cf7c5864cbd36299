"""What became of a write to many objects: one line an object, live while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.middleware import require
from admin_ui.operations import VERBS, Item, Operation
from admin_ui.presenters import failures
from admin_ui.views import catalogue_bulk, experiment_bulk, job_bulk, job_pod_bulk, lease_bulk
from admin_ui.views.bulk import Many, run

# Lines that a page shows; failures come first, so none of them hides behind the successes.
SHOWN: Final = 200


def _many(request: web.Request, noun: str) -> Many:
    """What an operation wrote, for who asks now."""
    own: dict[str, Callable[[web.Request], Many]] = {
        "experiment": experiment_bulk.Experiments,
        "lease": lease_bulk.Leases,
        "instance": job_pod_bulk.Instances,
        "job": job_bulk.ManyJobs,
    }
    return own[noun](request) if noun in own else catalogue_bulk.of_noun(request, noun)


async def detail(request: web.Request) -> web.StreamResponse:
    return await render.page(request, "operations/detail.html", _values(request, _find(request)))


async def live(request: web.Request) -> web.StreamResponse:
    operation = _find(request)

    async def look() -> sse.View:
        values = _values(request, operation)
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
    many = _many(request, operation.noun)
    await require(request, many.permission(inverse))
    done = [Item(item.id, item.label) for item in operation.items if item.state == "done"]

    async def source() -> AsyncIterator[Item]:
        for item in done:
            yield item

    return await run(request, many, inverse, source(), back=operation.back)


def _find(request: web.Request) -> Operation:
    found = request.app[render.OPERATIONS].get(request.match_info["id"], render.person(request).subject)
    if found is None:
        raise web.HTTPNotFound
    return found


def _values(request: web.Request, operation: Operation) -> dict[str, Any]:
    order = {"failed": 0, "waiting": 1, "done": 2}
    items = sorted(operation.items, key=lambda item: order[item.state])
    many = _many(request, operation.noun)
    done = operation.count("done")
    inverse = VERBS.get(operation.verb.inverse)
    return {
        "operation": operation,
        "many": many,
        "items": items[:SHOWN],
        "hidden": max(0, len(items) - SHOWN),
        "done": done,
        "failed": operation.count("failed"),
        # The permission that undoing takes; empty when there is nothing to undo.
        "undo": many.permission(inverse) if inverse is not None and done and not operation.running else "",
        "explain": failures.explain,
    }
