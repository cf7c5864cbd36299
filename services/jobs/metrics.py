"""The numbers of the jobs service, beside those that every service has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.jobs import kinds, machines, moments
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.resource.counter import Counter as Counts
from shared.service.service import Clock
from shared.storage.errors import Compacted
from shared.storage.port import Condition, Query, Store

# Nanoseconds.
_STALE: Final = 30 * 60 * 1_000_000_000
_GOING_ON: Final = tuple(sorted(machines.ROLLING | {machines.W_INITIALIZED}))
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class JobMetrics:
    """Without a registry the numbers are kept for nobody."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.jobs = Gauge("roundhouse_jobs", "Jobs by state.", ["state"], registry=registry)
        self.pods = Gauge("roundhouse_pods", "Pods by state.", ["state"], registry=registry)
        self.launches = Counter(
            "roundhouse_pod_launches", "Runs that the runtime was asked to start.", registry=registry
        )
        self.failures = Counter(
            "roundhouse_job_pass_failures", "Passes over a job that are to be made again.", registry=registry
        )
        self.passes = Histogram(
            "roundhouse_job_pass_seconds",
            "How long one pass over a job takes, its commit and the runtime's answers included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stale = Gauge(
            "roundhouse_jobs_stale_workflows",
            "Workflows that go on and have not come further for 30 minutes.",
            registry=registry,
        )
        self.writes = Gauge("roundhouse_jobs_writer", "1 in the process that writes jobs.", registry=registry)


class States:
    """Counts what is stored, for whoever asks any process."""

    def __init__(self, store: Store, metrics: JobMetrics, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._counts = Counts(store)

    async def count(self) -> None:
        """Bring the numbers forward to now."""
        self._metrics.stale.set(await self._stale())
        head = await self._store.head()
        # Should somebody write very much in between, the next scrape counts again.
        with contextlib.suppress(Compacted):
            for state, name in _names(stateless.JobState, "JOB_STATE_").items():
                query = Query(kinds.JOB, where=(Condition("state", "=", state),))
                self._metrics.jobs.labels(name).set(await self._counts.count(query, _job(state), head))
            for state, name in _names(pod_pb2.PodState, "POD_STATE_").items():
                query = Query(kinds.POD, where=(Condition("status.state", "=", state),))
                self._metrics.pods.labels(name).set(await self._counts.count(query, _pod(state), head))

    async def _stale(self) -> int:
        since = moments.text(self._clock() - _STALE)
        query = Query(kinds.WORKFLOW, where=(Condition("state", "in", _GOING_ON),))
        async with aclosing(self._store.scan(query)) as records:
            jobs = [pb.Workflow.FromString(record.body).job async for record in records]
        found = (await self._store.get_many(kinds.JOB, jobs)).values() if jobs else ()
        return sum(pb.Job.FromString(record.body).workflow_status.update_time < since for record in found)


def _names(enum: object, prefix: str) -> Mapping[int, str]:
    """Of the states that there may be; 0 is none."""
    return {number: name.removeprefix(prefix).lower() for name, number in enum.items() if number}  # type: ignore[attr-defined]


def _job(state: int) -> Callable[[bytes], bool]:
    return lambda body: pb.Job.FromString(body).state == state


def _pod(state: int) -> Callable[[bytes], bool]:
    return lambda body: pb.Pod.FromString(body).status.state == state
