"""Resource pools: limits, what is used of them and what waits, live. Manifests write them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JOBS
from admin_ui.jobs import JOB, POOL, Jobs, jobs_of
from admin_ui.presenters import job_commands, job_pools
from admin_ui.presenters import jobs as presenter
from admin_ui.views import common, jobs
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import Failure

# Jobs with pods that wait, which are looked through.
LOOKED_THROUGH: Final = 500
_WAITING: Final = "pod_stats.POD_STATE_PENDING > 0 OR pod_stats.POD_STATE_INITIALIZED > 0"


@dataclass(frozen=True, slots=True)
class Row:
    """`jobs` and `waiting` (pods): None when it is not known."""

    pool: job_pools.Pool
    jobs: int | None
    waiting: int | None


async def list_(request: web.Request) -> web.StreamResponse:
    return await render.page(request, "jobs/pools.html", await _load(request))


async def live(request: web.Request) -> web.StreamResponse:
    async def look() -> sse.View:
        values = await _load(request)
        return sse.View(tables={"rows": render.part(request, "jobs/_pool_rows.html", values)})

    return await sse.stream(request, look, (), feeds=common.feeds(request, JOBS, POOL, JOB))


async def _load(request: web.Request) -> dict[str, Any]:
    """Raises CallFailed."""
    calls = jobs.jobs(request)
    pools, waiting = await asyncio.gather(calls.pools(), common.attempt(_waiting(calls)))
    found = job_pools.pools(pools)
    counts = await asyncio.gather(*(common.attempt(_jobs(calls, pool)) for pool in found))
    return {
        "rows": [
            Row(
                pool,
                None if isinstance(count, Failure) else count,
                None if isinstance(waiting, Failure) else waiting[pool.id],
            )
            for pool, count in zip(found, counts, strict=True)
        ],
        "amount": job_pools.amount,
        "commands": job_commands.for_pools(jobs.endpoint(request)),
    }


async def _jobs(calls: Jobs, pool: job_pools.Pool) -> int:
    return await calls.count(f'respool_id = "{pool.id}"') if pool.leaf else 0


async def _waiting(calls: Jobs) -> Counter[str]:
    """Pods that wait, by pool."""
    asked = admin_pb2.ListRequest(kind=JOB, filter=_WAITING, page_size=LOOKED_THROUGH)
    found: Counter[str] = Counter()
    for job in jobs_of(await calls.list(asked)):
        found[job.respool_id] += presenter.grouped(job.pod_stats)["waiting"]
    return found
