"""One job: what it is and does now, its roll-outs, versions and history, and most of it live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JOBS
from admin_ui.jobs import JOB, POD, WORKFLOW
from admin_ui.presenters import job_commands, job_specs, job_workflows
from admin_ui.presenters import job_pods as pods
from admin_ui.views import common, job_pods, jobs
from admin_ui.views.job_past import Past
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.rpc.client import CallFailed, Failure

# What was done to a job: how much of it the overview tells, and a page of its history.
RECENT: Final = 5
PAGE: Final = 50
# Of the elements of its pages that follow live.
TEMPLATE: Final = "jobs/_{}.html"
# Configurations that are compared: more are not kept.
VERSIONS: Final = 100
CONFIGURATION: Final = "configuration"
# Instances that are named with why they failed, or wait.
SOME: Final = 6


# --- overview -----------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    instances = job_pods.Instances(request, request.match_info["id"])
    found = _load(request, instances, Past(request, RECENT))
    return await common.overview(request, "jobs/detail.html", found, _gone)


async def detail_live(request: web.Request) -> web.StreamResponse:
    instances, past = job_pods.Instances(request, request.match_info["id"]), Past(request, RECENT)

    names = ("heading", "rollout", "troubles", "instances", "summary", "events", "recent")
    return await sse.parts(
        request, lambda: _load(request, instances, past), TEMPLATE, names, feeds=_feeds(request)
    )


def _feeds(request: web.Request) -> Any:
    return common.feeds(request, JOBS, JOB, POD, WORKFLOW)


async def _load(request: web.Request, instances: job_pods.Instances, past: Past) -> dict[str, Any]:
    """Raises CallFailed; what stands beside the job does not."""
    values, grid, known, told, sick, waiting = await asyncio.gather(
        jobs.load_detail(request),
        instances.look(),
        jobs.known_pools(request),
        past.look(),
        _some_pods(request, "POD_STATE_FAILED"),
        _some_pods(request, "POD_STATE_PENDING"),
    )
    entries, problem = told
    job = values["job"]
    return {
        **values,
        "grid": grid,
        "pool": next((one for one in known if one.id == job.pool), None),
        "rollout": job_workflows.roll_out(values["answer"].workflow_info),
        "entries": entries[:RECENT],
        "problem": problem,
        "sick": sick,
        "waiting": waiting,
        "failed": lambda value: isinstance(value, Failure),
    }


async def _some_pods(request: web.Request, state: str) -> dict[str, list[int]]:
    """Why some are in that state, with their instances: a help, so none when it cannot be known."""
    filter = f'job = {_own(request)} AND status.state = "{state}"'
    asked = admin_pb2.ListRequest(kind=POD, filter=filter, order_by="instance", page_size=SOME)
    found = await common.attempt(jobs.jobs(request).records.page(asked))
    if isinstance(found, Failure):
        return {}
    told: dict[str, list[int]] = {}
    for one in found.objects:
        pod = stored.Pod.FromString(one.body.value)
        run = pods.run(pod.status)
        told.setdefault(" · ".join(part for part in (run.exit, run.why) if part) or "not said", []).append(
            pod.instance
        )
    return told


def _own(request: web.Request) -> str:
    """The id of the job as a filter has it."""
    return json.dumps(request.match_info["id"], ensure_ascii=False)


async def _gone(request: web.Request, error: CallFailed) -> web.StreamResponse:
    """What is left of a deleted job is its history. Raises `error` when there never was one."""
    entries, _ = await Past(request, PAGE).look()
    if not entries:
        raise error
    values = {"id": request.match_info["id"], "entries": entries, "problem": None}
    return await render.page(request, "jobs/gone.html", values, status=404)


# --- roll-outs ----------------------------------------------------------------------------------


async def workflows(request: web.Request) -> web.StreamResponse:
    values = await _load_workflows(request)
    return await render.page(request, "jobs/workflows.html", {**values, "tab": "workflows"})


async def workflows_live(request: web.Request) -> web.StreamResponse:
    names, feeds = ("heading", "workflows"), common.feeds(request, JOBS, JOB, WORKFLOW)
    return await sse.parts(request, lambda: _load_workflows(request), TEMPLATE, names, feeds=feeds)


async def _load_workflows(request: web.Request) -> dict[str, Any]:
    values, found = await asyncio.gather(
        jobs.load_detail(request), jobs.jobs(request).workflows(request.match_info["id"])
    )
    told = [job_workflows.roll_out(info) for info in found]
    return {**values, "rollouts": [one for one in told if one is not None]}


# --- versions -----------------------------------------------------------------------------------


async def versions(request: web.Request) -> web.StreamResponse:
    """`from` and `to` are configurations; without them the present one and the one before."""
    values, kept = await asyncio.gather(jobs.load_detail(request), configurations(request))
    numbers = [one.version for one in kept]
    now = values["job"].configuration
    to = _chosen(request.query.get("to"), numbers, now)
    before = max((number for number in numbers if number < to), default=to)
    base = _chosen(request.query.get("from"), numbers, before)
    specs = {one.version: one.spec for one in kept}
    values |= {
        "tab": "versions",
        "kept": kept,
        "now": now,
        "from": base,
        "to": to,
        "lines": _compared(specs.get(base), specs.get(to)),
        "changes": job_specs.changes(specs[base], specs[to]) if base in specs and to in specs else (),
        "moment_of": jobs.presenter.moment,
    }
    return await render.page(request, "jobs/versions.html", values)


async def configurations(request: web.Request) -> list[stored.Configuration]:
    """All that are kept, newest first. Raises CallFailed."""
    asked = admin_pb2.ListRequest(
        kind=CONFIGURATION,
        filter=f"job = {_own(request)}",
        order_by="version desc",
        page_size=VERSIONS,
    )
    found = await jobs.jobs(request).records.page(asked)
    return [stored.Configuration.FromString(one.body.value) for one in found.objects]


def _chosen(text: str | None, numbers: Sequence[int], default: int) -> int:
    found = int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else default
    return found if found in numbers else default


def _compared(before: JobSpec | None, after: JobSpec | None) -> Sequence[Any]:
    if before is None or after is None:
        return ()
    return job_specs.difference(job_specs.text(before), job_specs.text(after))


# --- history, raw, commands ---------------------------------------------------------------------


async def history(request: web.Request) -> web.StreamResponse:
    values = await _load_history(request, Past(request, PAGE, request.query.get("before", "")))
    return await render.page(request, "jobs/history.html", {**values, "tab": "history"})


async def history_live(request: web.Request) -> web.StreamResponse:
    past = Past(request, PAGE)
    names, feeds = ("heading", "timeline"), common.feeds(request, JOBS, JOB)
    return await sse.parts(request, lambda: _load_history(request, past), TEMPLATE, names, feeds=feeds)


async def _load_history(request: web.Request, past: Past) -> dict[str, Any]:
    values, (entries, problem) = await asyncio.gather(jobs.load_detail(request), past.look())
    return {**values, "entries": entries, "problem": problem, "older": past.older, "before": past.before}


async def raw(request: web.Request) -> web.StreamResponse:
    values = await jobs.load_detail(request)
    values |= {"tab": "raw", **common.raw_view(request, values["answer"])}
    return await render.page(request, "jobs/raw.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    """`what=spec`: the spec alone, as the editor takes it."""
    values = await jobs.load_detail(request)
    job, answer = values["job"], values["answer"]
    if request.query.get("what") == "spec":
        return common.download(request.match_info["form"], job_specs.bare(values["spec"]), job.title)
    return common.download(request.match_info["form"], answer, job.title)


async def commands(request: web.Request) -> web.StreamResponse:
    values = await jobs.load_detail(request)
    told = job_commands.for_one(jobs.endpoint(request), values["job"])
    return await render.page(request, "jobs/commands.html", {**values, "tab": "commands", "commands": told})
