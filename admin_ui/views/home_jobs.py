"""Jobs at a glance, for the home page: how many, and which need somebody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from admin_ui.job_state import GOING, STATES
from admin_ui.jobs import POD, WORKFLOW, Jobs
from admin_ui.presenters import jobs as presenter
from admin_ui.views import jobs
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored

# States that are counted, in the words of the list's address.
COUNTED: Final = ("running", "pending", "failed", "stopped")
# Jobs that are named, of each sort; failed roll-outs that are looked through for those that still count.
NAMED: Final = 4
LOOKED_THROUGH: Final = 20


@dataclass(frozen=True, slots=True)
class Troubled:
    """A job of which a pod waits or has failed, and why that one does."""

    job: presenter.Job
    why: str


@dataclass(frozen=True, slots=True)
class Glance:
    """`counts`: jobs by word. `going`: roll-outs. `failed`: jobs whose last roll-out failed. `crashing`: jobs
    with pods that end by themselves. `queued`: pods that wait for room."""

    counts: dict[str, int]
    going: int
    failed: list[presenter.Job]
    crashing: list[Troubled]
    waiting: list[Troubled]
    queued: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())


async def load(request: web.Request) -> Glance:
    """Raises CallFailed."""
    calls = jobs.jobs(request)
    counts, going, failed, (crashing, _), (waiting, queued) = await asyncio.gather(
        asyncio.gather(*(calls.count(f"state IN ({_list(STATES[word])})") for word in COUNTED)),
        _going(calls),
        _failed(calls),
        _with_pods(calls, "POD_STATE_FAILED"),
        _with_pods(calls, "POD_STATE_PENDING"),
    )
    return Glance(dict(zip(COUNTED, counts, strict=True)), going, failed, crashing, waiting, queued)


async def _going(calls: Jobs) -> int:
    asked = admin_pb2.ListRequest(kind=WORKFLOW, filter=f"state IN ({_list(GOING)})", page_size=1)
    return (await calls.records.page(asked)).total_size


async def _failed(calls: Jobs) -> list[presenter.Job]:
    """Newest first. One that another roll-out followed no longer needs anybody."""
    filter = 'state IN ("WORKFLOW_STATE_FAILED", "WORKFLOW_STATE_ROLLED_BACK")'
    asked = admin_pb2.ListRequest(
        kind=WORKFLOW, filter=filter, order_by="created_at desc", page_size=LOOKED_THROUGH
    )
    found = (await calls.records.page(asked)).objects
    workflows = [stored.Workflow.FromString(one.body.value) for one in found]
    known = await calls.named([workflow.job for workflow in workflows])
    present = [
        known[workflow.job]
        for workflow in workflows
        if workflow.job in known and known[workflow.job].workflow == workflow.name
    ]
    return [presenter.row(job) for job in present[:NAMED]]


async def _with_pods(calls: Jobs, state: str) -> tuple[list[Troubled], int]:
    """Some jobs that have pods in the state, and how many pods are."""
    filter = f'status.state = "{state}"'
    found = await calls.records.page(admin_pb2.ListRequest(kind=POD, filter=filter, page_size=LOOKED_THROUGH))
    pods = {pod.job: pod for pod in (stored.Pod.FromString(one.body.value) for one in found.objects)}
    known = await calls.named(list(pods)[:NAMED])
    told = [Troubled(presenter.row(job), why(pods[job.id])) for job in known.values()]
    return told, found.total_size


def why(pod: stored.Pod) -> str:
    container = pod.status.containers_status[0] if pod.status.containers_status else None
    if container is not None and container.terminationStatus.exit_code:
        return f"exit {container.terminationStatus.exit_code}"
    return pod.status.message or pod.status.reason or "it waits for room"


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words)
