"""Jobs: the list, live, and what every page of one job begins with."""

from __future__ import annotations

from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JOBS, Endpoint
from admin_ui.job_state import STATES, JobListState
from admin_ui.jobs import JOB, Jobs, jobs_of
from admin_ui.list_state import PAGE_SIZES, Column
from admin_ui.presenters import failures, filters, job_commands, job_pools
from admin_ui.presenters import jobs as presenter
from admin_ui.views import common
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import CallFailed, Failure

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


async def list_(request: web.Request) -> web.StreamResponse:
    state = JobListState.parse(request.query)
    try:
        values = await _load(request, state)
    except CallFailed as error:
        return await _list_failed(request, state, error)
    return await render.page(request, "jobs/list.html", values)


async def list_live(request: web.Request) -> web.StreamResponse:
    state = JobListState.parse(request.query)

    async def look() -> sse.View:
        values = await _load(request, state)
        return sse.View(
            parts={
                name: render.part(request, f"jobs/_{name}.html", values)
                for name in ("count", "pager", "empty", "all")
            },
            tables={"rows": render.part(request, "jobs/_rows.html", values)},
        )

    return await sse.stream(request, look, (), feeds=common.feeds(request, JOBS, JOB))


def frame(state: JobListState, pool: str = "") -> dict[str, Any]:
    """What the page needs, whatever is in its table."""
    return {
        "base": BASE,
        "list": state,
        "here": f"{BASE}{state.here()}",
        "columns": COLUMNS,
        "examples": EXAMPLES,
        "states": STATES,
        "sentence": presenter.sentence(state, pool),
        "page_sizes": PAGE_SIZES,
        "rows": [],
        "total": 0,
        "pages": None,
        "commands": [],
        "first": [],
        "errors": {},
        "caret": None,
        "problem": None,
    }


async def _load(request: web.Request, state: JobListState) -> dict[str, Any]:
    asked = state.request()
    answer = await jobs(request).list(asked)
    rows = [presenter.row(job) for job in jobs_of(answer)]
    return {
        **frame(state, await _path(request, state.pool)),
        "commands": job_commands.for_list(endpoint(request), asked.filter),
        "first": job_commands.for_first(endpoint(request)),
        "rows": rows,
        "total": answer.total_size,
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
    }


async def known_pools(request: web.Request) -> list[job_pools.Pool]:
    """None when they cannot be known: they are a help."""
    found = await common.attempt(jobs(request).pools())
    return [] if isinstance(found, Failure) else job_pools.pools(found)


async def _path(request: web.Request, pool: str) -> str:
    if not pool:
        return ""
    return next((one.path for one in await known_pools(request) if one.id == pool), "")


async def _list_failed(request: web.Request, state: JobListState, error: CallFailed) -> web.StreamResponse:
    """A place or an order that there is not leads to where there is something; an expression that is
    wrong is shown under its box with a caret; anything else in place of the table."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    elsewhere = await common.recovered(request, failure, state, BASE, order_field="order_by")
    if elsewhere is not None:
        return elsewhere
    values = {**frame(state), "problem": failure}
    if common.is_invalid(failure) and state.filter:
        values |= await _mistake(request, state, failure)
    return await render.page(request, "jobs/list.html", values, status=failures.explain(failure).status)


async def _mistake(request: web.Request, state: JobListState, failure: Failure) -> dict[str, Any]:
    """What the service says of the typed expression alone: the page added more to it."""
    alone = admin_pb2.ListRequest(kind=JOB, filter=state.filter, page_size=1)
    told = await common.attempt(jobs(request).list(alone))
    wrong = told if isinstance(told, Failure) else failure
    text = failures.by_field(wrong).get("filter", wrong.message)
    known = isinstance(told, Failure) and wrong.position is not None
    caret = filters.caret(state.filter, wrong.position or 0) if known else None
    return {"errors": {"filter": text}, "caret": caret, "problem": None}


# --- one job ------------------------------------------------------------------------------------


async def load_detail(request: web.Request) -> dict[str, Any]:
    """What every page of one job needs. Raises CallFailed."""
    answer = await jobs(request).get(request.match_info["id"])
    return {"answer": answer, "job": presenter.one(answer), "spec": answer.job_info.spec}
