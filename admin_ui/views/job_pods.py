"""Pods of a job: all as a grid, a list of them, one with its runs, and all of these live."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.clients import JOBS
from admin_ui.job_pods import PodListState, Pods, name_of, pods_of
from admin_ui.jobs import JOB, POD
from admin_ui.list_state import Column
from admin_ui.presenters import job_pods as presenter
from admin_ui.presenters.job_pods import Grid
from admin_ui.presenters.jobs import GROUPS
from admin_ui.views import common, jobs
from admin_ui.views.listing import ALL, Action, Listing
from shared.errors import Violation
from shared.rpc.client import CallFailed, Failure

COLUMNS: Final = (
    Column("instance", "Instance", css="c-instance"),
    Column("status.state", "State", css="c-state"),
    Column("", "Why", css="c-why narrow-hide"),
    Column("", "Version", css="wide-only nowrap"),
    Column("", "Run", css="wide-only nowrap"),
    Column("", "Health", css="narrow-hide nowrap"),
    Column("", "Host", css="narrow-hide"),
    Column("", "Started", css="c-created"),
    Column("", "Log", css="c-act", unseen=True),
)
# All instances are listed anew when that took at most one part in so many of the time since.
_SHARE: Final = 5


def pods(request: web.Request) -> Pods:
    return Pods(render.caller(request))


# --- the grid -----------------------------------------------------------------------------------


class Instances:
    """All instances of one job, as one page shows them again and again. The more there are, the slower
    the page follows: a job of thousands must not cost every reader a listing a moment."""

    def __init__(self, request: web.Request, job: str) -> None:
        self._pods = pods(request)
        self._job = job
        self._next = 0.0

    async def look(self) -> Grid | Failure:
        """Waits until it is time for it. Raises nothing: a page has more to show."""
        await asyncio.sleep(max(0.0, self._next - time.monotonic()))
        begun = time.monotonic()
        found = await common.attempt(self._list())
        ended = time.monotonic()
        self._next = ended + (ended - begun) * _SHARE
        return found

    async def _list(self) -> Grid:
        return presenter.grid([presenter.cell(pod) async for pod in self._pods.all(self._job)])


# --- the list -----------------------------------------------------------------------------------


async def _frame(request: web.Request, state: PodListState) -> dict[str, Any]:
    """Raises CallFailed."""
    return {
        **await jobs.load_detail(request),
        "tab": "pods",
        "columns": COLUMNS,
        "states": {word: presenter.STATES[word] for word in GROUPS},
        "sentence": sentence(state),
    }


def sentence(state: PodListState) -> str:
    word = presenter.STATES[state.state].label.lower() if state.state else ""
    told = " ".join(filter(None, (word, "instances")))
    return f"{told} among {state.instances}" if state.instances else told


async def _load(request: web.Request, state: PodListState) -> dict[str, Any]:
    job = request.match_info["id"]
    try:
        asked = state.request(job)
    except ValueError as error:
        wrong = (Violation("instances", str(error)),)
        raise CallFailed(Failure(grpc.StatusCode.INVALID_ARGUMENT, str(error), wrong)) from error
    answer = await pods(request).page(asked)
    rows = [presenter.row(pod) for pod in pods_of(answer)]
    return {
        "rows": rows,
        "total": answer.total_size,
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
        "commands": presenter.commands_for_list(jobs.endpoint(request), job, asked.filter),
    }


LIST: Final = Listing(
    template="job_pods/list.html",
    rows="job_pods/_rows.html",
    parts={
        "heading": "jobs/_heading.html",
        "states": "job_pods/_states.html",
        "pager": "lists/_pager.html",
        "empty": "job_pods/_empty.html",
        **ALL,
    },
    parse=PodListState.parse,
    frame=_frame,
    load=_load,
    feeds=lambda request: common.feeds(request, JOBS, JOB, POD),
    actions=(
        Action("restart", "Restart…", "pods.restart", "restore"),
        Action("start", "Start", "pods.start", "play"),
        Action("stop", "Stop…", "pods.stop", "stop", "small danger"),
    ),
    fields={"instances": "instances"},
)


# --- one pod ------------------------------------------------------------------------------------


def place(request: web.Request) -> tuple[str, str]:
    """The job's id and the pod's name. Raises HTTPNotFound for an instance that is no number."""
    job, instance = request.match_info["id"], request.match_info["instance"]
    if not (instance.isascii() and instance.isdigit()):
        raise web.HTTPNotFound
    return job, name_of(job, instance)


async def load_pod(request: web.Request) -> dict[str, Any]:
    """What every page of a pod needs: it, its job and its runs, the present one first. Raises
    CallFailed."""
    id, name = place(request)
    answer, job = await asyncio.gather(pods(request).get(name), jobs.jobs(request).summary(id))
    runs = [presenter.run(info.status) for info in (answer.current, *answer.previous)]
    return {
        "job": {"id": id, "title": job.name or id[:8]},
        "name": name,
        "instance": presenter.number(name),
        "pod": answer,
        "now": runs[0],
        "runs": runs,
        "shown": chosen(request, runs),
    }


def chosen(request: web.Request, runs: list[presenter.Run]) -> presenter.Run:
    """The run that the address names; the present one when it names none that there is."""
    wanted = request.query.get("run", "")
    return next((run for run in runs if str(run.number) == wanted), runs[0])


async def detail(request: web.Request) -> web.StreamResponse:
    values = await _load_detail(request)
    return await render.page(request, "job_pods/detail.html", {**values, "tab": "overview"})


async def detail_live(request: web.Request) -> web.StreamResponse:
    names, feeds = ("heading", "now", "summary", "runs", "events", "files"), common.feeds(request, JOBS, POD)
    return await sse.parts(request, lambda: _load_detail(request), "job_pods/_{}.html", names, feeds=feeds)


async def _load_detail(request: web.Request) -> dict[str, Any]:
    values = await load_pod(request)
    name, shown = values["name"], values["shown"]
    calls = pods(request)
    events, files = await asyncio.gather(
        common.attempt(calls.events(name, shown.id)), common.attempt(calls.files(name, shown.id))
    )
    spec = values["pod"].current.spec
    return {
        **values,
        "containers": presenter.containers(spec),
        "labels": sorted((label.key, label.value) for label in spec.labels),
        "events": events if isinstance(events, Failure) else presenter.events(events),
        "files": files,
        "failed": lambda value: isinstance(value, Failure),
    }


async def raw(request: web.Request) -> web.StreamResponse:
    values = await load_pod(request)
    values |= {"tab": "raw", **common.raw_view(request, values["pod"])}
    return await render.page(request, "job_pods/raw.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    values = await load_pod(request)
    return common.download(request.match_info["form"], values["pod"], values["name"])


async def commands(request: web.Request) -> web.StreamResponse:
    values = await load_pod(request)
    shown = presenter.commands_for_one(jobs.endpoint(request), values["name"])
    return await render.page(
        request, "job_pods/commands.html", {**values, "tab": "commands", "commands": shown}
    )


# --- change one ---------------------------------------------------------------------------------


async def start(request: web.Request) -> web.StreamResponse:
    _, name = place(request)
    try:
        await pods(request).start(name)
    except CallFailed as error:
        return await _failed(request, error)
    return await _back(request, "It is to run.")


async def stop(request: web.Request) -> web.StreamResponse:
    """Can be undone by starting it, which begins another run."""
    _, name = place(request)
    try:
        await pods(request).stop(name)
    except CallFailed as error:
        return await _failed(request, error)
    undo = {"undo": _url(request, "job_pods.start")} if render.person(request).may("pods.start") else {}
    return await _back(request, "It is being stopped. The job goes on without it.", **undo)


async def restart(request: web.Request) -> web.StreamResponse:
    """`check_sla`: not if that makes more instances unavailable than the job allows."""
    data = await request.post()
    _, name = place(request)
    try:
        await pods(request).restart(name, check_sla=data.get("check_sla") == "on")
    except CallFailed as error:
        return await _failed(request, error)
    return await _back(request, "It gets a new run.")


async def _failed(request: web.Request, error: CallFailed) -> web.Response:
    """What the service said, on the pod's own page."""
    failure = error.failure
    if failure.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE):
        raise error
    told = "; ".join(violation.description for violation in failure.violations) or failure.message
    return await _back(request, told, tone="bad")


async def _back(request: web.Request, text: str, *, tone: str = "ok", **extra: Any) -> web.Response:
    await session.flash(request, text, tone=tone, **extra)
    return render.redirect(_url(request, "job_pods.detail"))


def _url(request: web.Request, route: str) -> str:
    return render.url(request.app, route, **request.match_info)
