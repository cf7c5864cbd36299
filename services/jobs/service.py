"""The composition root of the jobs service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.jobs import kinds
from services.jobs.api import job_service, log_service, pod_service, pool_service, rest, watch_service
from services.jobs.api.job_service import JobService
from services.jobs.api.log_service import LogService
from services.jobs.api.pod_service import PodService
from services.jobs.api.pool_service import PoolService
from services.jobs.api.pools import PoolRules, Pools
from services.jobs.api.queries import Queries
from services.jobs.api.runs import Runs
from services.jobs.api.validation import Validation
from services.jobs.api.watch_service import WatchService
from services.jobs.api.watches import Watches
from services.jobs.engine.admission import Admission
from services.jobs.engine.controller import Controller
from services.jobs.engine.leader import Leader
from services.jobs.engine.pod import Pauses
from services.jobs.metrics import JobMetrics, States
from services.jobs.runtime.fake import FakeRuntime
from services.jobs.runtime.keeper_process import KeeperProcess
from services.jobs.runtime.node import Node
from services.jobs.runtime.port import Runtime
from services.jobs.runtime.process import ProcessRuntime
from shared.auth.permissions import PERMISSIONS
from shared.resource.definition import Definition
from shared.rest.style import Style
from shared.rpc.method import methods_of
from shared.service.config import Config
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service
from shared.storage.errors import StoreError
from shared.storage.port import Check
from shared.watch.tailer import Tailer

log = logging.getLogger(__name__)
# A spec may take as much as a message of gRPC.
STYLE: Final = Style(max_body=4 << 20)
# Seconds between two looks at the pools.
_LOOK: Final = 0.05
# What control groups would enforce.
_LIMITED: Final = frozenset({"cpu", "memory"})


def definitions(config: Config, clock: Clock, new_id: NewId) -> Sequence[Definition]:
    return kinds.definitions(PoolRules(clock))


def runtime_of(config: Config) -> Runtime:
    """What the settings ask for."""
    if config.jobs_runtime == "fake":
        log.warning("jobs only pretend to run: ROUNDHOUSE_JOBS_RUNTIME is fake")
        return FakeRuntime()
    node = Node.of(config)
    if node.allow_root and os.geteuid() == 0:
        log.warning("pods run as root: ROUNDHOUSE_JOBS_ALLOW_ROOT is set")
    if not node.enforce and (lacking := _LIMITED - node.controllers):
        log.warning("limits are advisory, these are not enforced: %s", ", ".join(sorted(lacking)))
    return ProcessRuntime(config.data / "pods", node)


async def end_pods(home: Path) -> None:
    """Nobody must be there who would start others."""
    keeper = KeeperProcess.of(home)
    if keeper is not None:
        log.info("waiting for the pods to end")
        with keeper:
            keeper.end()
            await keeper.wait()


def pauses_of(config: Config) -> Pauses:
    return Pauses(
        first_backoff=_nanoseconds(config.jobs_first_backoff),
        longest_backoff=_nanoseconds(config.jobs_longest_backoff),
        launch=_nanoseconds(config.jobs_launch_timeout),
        start=_nanoseconds(config.jobs_launch_timeout),
    )


async def assemble(
    environment: Environment, found: Sequence[Definition], *, runtime: Runtime | None = None
) -> Assembly:
    """`runtime`: another one than the settings ask for."""
    config, store, clock = environment.config, environment.store, environment.clock
    enter = environment.stack.enter_async_context
    runtime = runtime or runtime_of(config)
    metrics = JobMetrics(environment.metrics.registry)
    pools, runs = Pools(store), Runs(store)
    await pools.ensure(clock)

    @asynccontextmanager
    async def lead(fence: Check) -> AsyncIterator[Controller]:
        await runtime.open()
        try:
            controller = Controller(
                store,
                runtime,
                clock,
                pauses=pauses_of(config),
                pools=pools.tree,
                fence=[fence],
                metrics=metrics,
            )
            async with controller, _pools_followed(controller, environment.tailer):
                metrics.writes.set(1)
                yield controller
        finally:
            metrics.writes.set(0)
            await runtime.close()

    if config.jobs_end_pods:
        environment.stack.push_async_callback(end_pods, config.data / "pods")
    leader = await enter(
        Leader(store, config.data, clock, lead, lapse=config.jobs_leader_lapse.total_seconds())
    )
    watches = await enter(Watches(store, environment.tailer))

    def admission() -> Admission | None:
        return leader.writer().admission if leader.leads else None

    validation = Validation(runtime, max_instances=config.jobs_max_instances)
    queries = Queries(store, clock, pools.at)
    jobs = JobService(store, leader.writer, queries, validation, pools, clock)
    logs = LogService(runs, leader.writer)
    served = [
        ("Peloton's stateless jobs", job_service.SERVICE, jobs, rest.JOBS),
        ("Peloton's pods", pod_service.SERVICE, PodService(runs, leader.writer), rest.PODS),
        ("Logs of pods", log_service.SERVICE, logs, rest.LOGS),
        ("Peloton's watches", watch_service.SERVICE, WatchService(store, watches), rest.WATCHES),
        ("Peloton's resource pools", pool_service.SERVICE, PoolService(pools, admission), rest.POOLS),
    ]
    return Assembly(
        apis=[
            Api(title, methods_of(service, servicer, PERMISSIONS, rules=rules), STYLE)
            for title, service, servicer, rules in served
        ],
        on_scrape=[States(store, metrics, clock).count],
        on_stop=[logs.stop],
    )


@asynccontextmanager
async def _pools_followed(controller: Controller, tailer: Tailer) -> AsyncIterator[None]:
    """Whoever writes pools, the controller hears of it."""
    task = asyncio.create_task(_follow_pools(controller, tailer), name="resource pools")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow_pools(controller: Controller, tailer: Tailer) -> None:
    """Looks at them when something was written, but not at each commit: most are of jobs, and large."""
    seen = tailer.head
    while True:
        try:
            seen = await tailer.wait(seen)
            await controller.refresh_pools()
        except StoreError:
            # The tailer says so where it must be said; the process may be stopping.
            seen = 0
        await asyncio.sleep(_LOOK)


def _nanoseconds(time: timedelta) -> int:
    return time // timedelta(microseconds=1) * 1000


SERVICE = Service("jobs", definitions, assemble, kinds=kinds.KINDS)
