"""Jobs: the list, live, and what every page of one job begins with."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from admin_ui import render
from admin_ui.clients import JOBS, Endpoint
from admin_ui.job_state import STATES, JobListState
from admin_ui.jobs import JOB, Jobs, jobs_of
from admin_ui.list_state import Column
from admin_ui.presenters import job_commands, job_pools
from admin_ui.presenters import jobs as presenter
from admin_ui.views import common
from admin_ui.views.listing import ALL, SHARED, Action, Listing
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import Failure

BASE: Final = "/jobs"
COLUMNS: Final = (
    Column("name", "Job", css="c-name"),
    Column("state", "State", css="c-state"),
    Column("instance_count", "Instances", "desc", css="c-pods"),
    Column("", "Workflow", css="narrow-hide"),
    Column("owner", "Owner", css="wide-only c-owner"),
    Column("created_at", "Age", "desc", css="c-created"),
)
EXAMPLES: Final = (
    ("of one team", 'owning_team = "search"'),
    ("with a label", 'labels CONTAINS {"key": "env", "value": "prod"}'),
    ("large ones", "instance_count >= 100"),
    ("with pods that failed", "pod_stats.POD_STATE_FAILED > 0"),
    ("whose roll-out is paused", 'workflow_status.state = "WORKFLOW_STATE_PAUSED"'),
)


def jobs(request: web.Request) -> Jobs:
    return Jobs(render.caller(request))


def endpoint(request: web.Request) -> Endpoint:
    return request.app[render.CLIENTS].endpoint(JOBS)


# --- the list -----------------------------------------------------------------------------------


async def _frame(request: web.Request, state: JobListState) -> dict[str, Any]:
    return {
        "columns": COLUMNS,
        "examples": EXAMPLES,
        "states": STATES,
        "sentence": presenter.sentence(state, await _path(request, state.pool)),
        "first": [],
    }


async def _load(request: web.Request, state: JobListState) -> dict[str, Any]:
    asked = state.request()
    answer = await jobs(request).list(asked)
    rows = [presenter.row(job) for job in jobs_of(answer)]
    return {
        "commands": job_commands.for_list(endpoint(request), asked.filter),
        "first": job_commands.for_first(endpoint(request)),
        "rows": rows,
        "total": answer.total_size,
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
    }


async def _alone(request: web.Request, state: JobListState) -> object:
    return await jobs(request).list(admin_pb2.ListRequest(kind=JOB, filter=state.filter, page_size=1))


async def known_pools(request: web.Request) -> list[job_pools.Pool]:
    """None when they cannot be known: they are a help."""
    found = await common.attempt(jobs(request).pools())
    return [] if isinstance(found, Failure) else job_pools.pools(found)


async def _path(request: web.Request, pool: str) -> str:
    if not pool:
        return ""
    return next((one.path for one in await known_pools(request) if one.id == pool), "")


LIST: Final = Listing(
    template="jobs/list.html",
    rows="jobs/_rows.html",
    parts={**SHARED, **ALL, "empty": "jobs/_empty.html"},
    parse=JobListState.parse,
    frame=_frame,
    load=_load,
    alone=_alone,
    feeds=lambda request: common.feeds(request, JOBS, JOB),
    actions=(
        Action("start", "Start", "jobs.start", "play"),
        Action("stop", "Stop…", "jobs.stop", "stop"),
        Action("delete", "Delete…", "jobs.delete", "trash"),
    ),
)


# --- one job ------------------------------------------------------------------------------------


async def load_detail(request: web.Request) -> dict[str, Any]:
    """What every page of one job needs. Raises CallFailed."""
    answer = await jobs(request).get(request.match_info["id"])
    return {"answer": answer, "job": presenter.one(answer), "spec": answer.job_info.spec}
