"""The logs of several pods of a job on one page, with whose each line is."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from admin_ui import logs_together, render
from admin_ui.clients import JOBS
from admin_ui.job_logs import STDERR, STDOUT, Logs, Source, Window
from admin_ui.job_pods import PodListState, Pods, pods_of
from admin_ui.jobs import POD
from admin_ui.logs_together import MOST, Position
from admin_ui.presenters import job_pods as presenter
from admin_ui.presenters.job_pods import Pod
from admin_ui.views import common, jobs
from shared.rpc.client import CallFailed, Failure

# Lines of each pod that a first screen shows.
SCREEN: Final = 25


def _stream(request: web.Request) -> str:
    return STDERR if request.query.get("stream") == STDERR else STDOUT


async def page(request: web.Request) -> web.StreamResponse:
    """Of the first MOST instances that the address names: by ranges, and by state."""
    state = PodListState.parse(request.query)
    values = await jobs.load_detail(request)
    base = render.url(request.app, "job_pods.together", id=values["job"].id)
    values |= {
        "tab": "logs",
        "base": base,
        "list": state,
        "stream": _stream(request),
        "streams": (STDOUT, STDERR),
        "most": MOST,
        "errors": {},
        "problem": None,
        "shown": [],
        "total": 0,
        "positions": "",
    }
    try:
        values |= await _load(request, state)
    except ValueError as error:
        values |= {"errors": {"instances": str(error)}}
        return await render.page(request, "job_pods/together.html", values, status=400)
    except CallFailed as error:
        values |= {"problem": error.failure}
    return await render.page(request, "job_pods/together.html", values)


async def _load(request: web.Request, state: PodListState) -> dict[str, Any]:
    """Raises CallFailed, and ValueError for instances that cannot be read."""
    asked = state.replace(page_token="", order_by="").request(request.match_info["id"])
    asked.page_size = MOST
    answer = await Pods(render.caller(request)).page(asked)
    pods = [presenter.row(pod) for pod in pods_of(answer)]
    output = _stream(request)
    windows = await asyncio.gather(*(common.attempt(_window(request, pod, output)) for pod in pods))
    shown = [(pod, _closed(window)) for pod, window in zip(pods, windows, strict=True)]
    ends = {pod.instance: Position(pod.run.number, window.end if window else 0) for pod, window in shown}
    return {"shown": shown, "total": answer.total_size, "positions": logs_together.written(ends)}


async def _window(request: web.Request, pod: Pod, output: str) -> Window:
    source = Source(pod.name, pod.run.id, output)
    return await Logs(render.caller(request)).tail(source, SCREEN)


def _closed(found: Window | Failure) -> Window | None:
    """Without a line that has no end yet: it comes once it has; None of a log that cannot be read."""
    if isinstance(found, Failure):
        return None
    whole = [line for line in found.lines if line.at < found.end]
    return Window(whole, found.start, found.end, found.first, found.last)


async def live(request: web.Request) -> web.StreamResponse:
    """`positions`: where each pod is to be read on. A browser that comes again says it by itself."""
    text = request.headers.get("Last-Event-ID") or request.query.get("positions", "")
    return await logs_together.stream(
        request,
        request.match_info["id"],
        _stream(request),
        logs_together.positions_of(text),
        common.feeds(request, JOBS, POD),
    )
