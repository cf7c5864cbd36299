"""The suite's own jobs: their pods, and the deployments that these belong to (pods contract, section 7).

A client of the jobs service like any other: it watches, and asks for what a watch does not tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from services.pods import faults
from services.pods.feed import Outcome
from services.pods.follower import FOLLOWED, Batch, Change, Follower, Plan
from services.pods.jobs_client import JOB, Credential, Jobs
from services.pods.jobs_client import POD as JOB_POD
from services.pods.jobs_mapping import Rules, newest_run
from services.pods.kinds import CLUSTER, DEPLOYMENT, INVENTORY, MARK, POD
from services.pods.metrics import FeedMetrics
from services.pods.stored import body_of
from shared.auth.access import Access
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.client import Client
from shared.service.config import Config
from shared.service.service import Clock
from shared.storage.port import Condition, Delete, Expect, Put, Query, Record, Store

# Whose the pods are; feeds of others cannot take the name.
SOURCE: Final = f"{faults.OWN}jobs"
# Pods after which others get a turn.
_TURN: Final = 50


class PodCopy:
    """Of the pods of all jobs."""

    def __init__(self, store: Store, jobs: Jobs, rules: Rules, clock: Clock, metrics: FeedMetrics) -> None:
        self._store = store
        self._jobs = jobs
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._outcome = Outcome()

    def begin(self) -> None:
        self._outcome = Outcome()

    def sealed(self, changes: Sequence[Change]) -> Sequence[Change]:
        return changes

    def committed(self) -> None:
        self._metrics.fed("jobs", self._outcome)
        self._outcome = Outcome()

    async def plan(self, batch: Batch) -> Plan:
        found = {name: jobs_pb2.Pod.FromString(body) for name, body in batch.current.items()}
        gone = {name for name, pod in found.items() if pod.status.state == pod_pb2.POD_STATE_DELETED}
        there = [pod for name, pod in found.items() if name not in gone]
        known = await self._known([*found, *batch.removed])
        namespaces, earlier = await asyncio.gather(
            self._namespaces({pod.job for pod in there}), self._earlier(there, known, batch.revision)
        )
        plan = Plan()
        for index, pod in enumerate(there):
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            namespace = namespaces.get(pod.job)
            if namespace is None:
                # The job is gone, and with it, as the watch is about to tell, its pods.
                continue
            records = known[pod.name]
            stored = [one.pod for _, one in records.values()]
            for new in self._rules.pods(pod, earlier.get(pod.name, ()), stored, namespace):
                self._put(new, records.pop(new.id, None), plan)
            self._remove(records.values(), plan)
        for name in gone | batch.removed:
            self._remove(known[name].values(), plan)
        await self._leave_others(plan)
        return plan

    async def others(self, kept: Collection[str], cluster_id: str) -> AsyncGenerator[Delete, None]:
        query = Query(POD, where=(Condition("source", "=", SOURCE),))
        async with aclosing(self._store.scan(query, at=await self._store.head())) as records:
            async for record in records:
                if record.name not in kept:
                    self._outcome.removed += 1
                    yield Delete(POD, record.name, record.revision)

    def _put(self, new: Pod, before: tuple[Record, pb.StoredPod] | None, plan: Plan) -> None:
        plan.kept.add(new.id)
        if before is not None and before[1].pod == new:
            self._outcome.unchanged += 1
            return
        self._outcome.stored += 1
        expect: Expect | int = Expect.ABSENT if before is None else before[0].revision
        plan.changes.append(Put(POD, new.id, body_of(new, SOURCE, self._clock()), expect=expect))

    def _remove(self, stored: Iterable[tuple[Record, pb.StoredPod]], plan: Plan) -> None:
        for record, _ in stored:
            self._outcome.removed += 1
            plan.changes.append(Delete(POD, record.name, record.revision))

    async def _known(self, names: Collection[str]) -> dict[str, dict[str, tuple[Record, pb.StoredPod]]]:
        """What is stored of each instance of a job, by id."""
        ids = {id: name for name in names for id in self._rules.ids(name)}
        found: dict[str, dict[str, tuple[Record, pb.StoredPod]]] = {name: {} for name in names}
        for id, record in (await self._store.get_many(POD, list(ids))).items() if ids else ():
            _add(record, found[ids[id]])
        for name in names if self._rules.each_run else ():
            query = Query(POD, where=(Condition("name_folded", "=", name.casefold()),))
            async with aclosing(self._store.scan(query)) as records:
                async for record in records:
                    _add(record, found[name])
        return found

    async def _namespaces(self, jobs: Collection[str]) -> dict[str, str]:
        """Of jobs that there are, from their rows if these are here already, and by these rules."""
        rows = await self._store.get(FOLLOWED.name, JOB) if jobs else None
        state = pb.Followed() if rows is None else pb.Followed.FromString(rows.body)
        good = state.resume_token and state.rules == self._rules.text
        records = await self._store.get_many(DEPLOYMENT, list(jobs)) if good else {}
        found = {id: pb.Deployment.FromString(record.body).namespace for id, record in records.items()}
        missing = [id for id in jobs if id not in found]
        for id, job in zip(missing, await asyncio.gather(*map(self._jobs.job, missing)), strict=True):
            if job is not None:
                found[id] = self._rules.namespace_of(job)
        return found

    async def _earlier(
        self,
        pods: Sequence[jobs_pb2.Pod],
        known: Mapping[str, Mapping[str, tuple[Record, pb.StoredPod]]],
        revision: int,
    ) -> Mapping[str, Sequence[pod_pb2.PodStatus]]:
        """How runs ended that a new one followed: the watch may never have told."""
        last = {pod.name: newest_run((one.pod for _, one in known[pod.name].values()), pod) for pod in pods}
        new = [pod.name for pod in pods if pod.run > 1 and pod.run > last[pod.name]]
        if not new:
            return {}
        return await self._jobs.earlier(new, min(last[name] for name in new), revision)

    async def _leave_others(self, plan: Plan) -> None:
        """What another source has stored stays."""
        new = [
            change.name
            for change in plan.changes
            if isinstance(change, Put) and change.expect is Expect.ABSENT
        ]
        taken = await self._store.get_many(POD, new) if new else {}
        for record in taken.values():
            self._outcome.stored -= 1
            self._outcome.refuse(record.name, pb.StoredPod.FromString(record.body).source)
        plan.changes = [change for change in plan.changes if change.name not in taken]


def _add(record: Record, found: dict[str, tuple[Record, pb.StoredPod]]) -> None:
    """If it is ours."""
    stored = pb.StoredPod.FromString(record.body)
    if stored.source == SOURCE:
        found[record.name] = (record, stored)


class RowCopy:
    """Of the jobs, as deployments of their cluster. The rows of that cluster are nobody else's."""

    def __init__(self, store: Store, jobs: Jobs, rules: Rules, clock: Clock, moved: asyncio.Event) -> None:
        """`moved` is set when the pods of a job are in another namespace than before."""
        self._store = store
        self._jobs = jobs
        self._rules = rules
        self._clock = clock
        self._moved = moved
        # Of which configuration of a job the labels of its pods are.
        self._labelled: dict[str, int] = {}
        self._moving = False

    def begin(self) -> None:
        self._labelled.clear()
        self._moving = False

    def sealed(self, changes: Sequence[Change]) -> Sequence[Change]:
        if not changes:
            return changes
        now = self._clock()
        found = [*changes, Put(MARK.name, INVENTORY, str(now).encode())]
        if self._moving:
            # Their copy counts no more.
            anew = pb.Followed(cluster_id=self._rules.cluster_id, writes=now)
            found.append(Put(FOLLOWED.name, JOB_POD, anew.SerializeToString(deterministic=True)))
        return found

    def committed(self) -> None:
        if self._moving:
            self._moving = False
            self._moved.set()

    async def plan(self, batch: Batch) -> Plan:
        jobs = [jobs_pb2.Job.FromString(body) for body in batch.current.values()]
        names = [*batch.current, *batch.removed]
        records = await self._store.get_many(DEPLOYMENT, names)
        before = {name: pb.Deployment.FromString(record.body) for name, record in records.items()}
        labels = await self._pod_labels(jobs, before)
        plan = Plan(kept={job.id for job in jobs})
        for job in jobs:
            row = self._rules.deployment(job, labels[job.id])
            old = before.get(job.id)
            if row == old:
                continue
            self._moving |= old is not None and old.namespace != row.namespace
            plan.changes.append(Put(DEPLOYMENT, row.id, row.SerializeToString(deterministic=True)))
        for name in batch.removed:
            self._labelled.pop(name, None)
            if name in records:
                plan.changes.append(Delete(DEPLOYMENT, name, Expect.ANY))
        plan.changes += await self._cluster()
        return plan

    async def others(self, kept: Collection[str], cluster_id: str) -> AsyncGenerator[Delete, None]:
        at = await self._store.head()
        for cluster in {cluster_id, self._rules.cluster_id} - {""}:
            query = Query(DEPLOYMENT, where=(Condition("cluster_id", "=", cluster),))
            async with aclosing(self._store.scan(query, at=at)) as records:
                async for record in records:
                    if record.name not in kept:
                        yield Delete(DEPLOYMENT, record.name, Expect.ANY)
        if cluster_id not in ("", self._rules.cluster_id):
            yield Delete(CLUSTER, cluster_id, Expect.ANY)

    async def _cluster(self) -> list[Change]:
        body = self._rules.cluster_row().SerializeToString(deterministic=True)
        found = await self._store.get(CLUSTER, self._rules.cluster_id)
        if found is not None and found.body == body:
            return []
        return [Put(CLUSTER, self._rules.cluster_id, body)]

    async def _pod_labels(
        self, jobs: Sequence[jobs_pb2.Job], before: Mapping[str, pb.Deployment]
    ) -> dict[str, Mapping[str, str]]:
        """Asked for where the configuration is another one: all else of a job changes far more often."""
        asked = [
            job for job in jobs if job.id not in before or self._labelled.get(job.id) != job.configuration
        ]
        answers = await asyncio.gather(*(self._jobs.pod_labels(job.id) for job in asked))
        found: dict[str, Mapping[str, str]] = {id: row.pod_labels for id, row in before.items()}
        for job, labels in zip(asked, answers, strict=True):
            found[job.id] = labels
            self._labelled[job.id] = job.configuration
        return found


class JobsFeed:
    """Follows the jobs service at `config.pods_jobs` while it is open; whether that one runs or not."""

    def __init__(
        self, config: Config, store: Store, access: Access, clock: Clock, metrics: FeedMetrics
    ) -> None:
        rules = Rules.of(config)
        self._client = Client(config.pods_jobs, tls_ca=config.tls_ca)
        jobs = Jobs(self._client, Credential(access))
        self._moved = asyncio.Event()
        pods = PodCopy(store, jobs, rules, clock, metrics)
        rows = RowCopy(store, jobs, rules, clock, self._moved)
        about = {"rules": rules.text, "cluster_id": rules.cluster_id}
        self._pods = Follower(JOB_POD, jobs, store, pods, **about)
        self._rows = Follower(JOB, jobs, store, rows, **about)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> JobsFeed:
        self._tasks = [
            asyncio.create_task(self._rows.run(), name="jobs of the suite"),
            asyncio.create_task(self._follow_pods(), name="pods of the suite's jobs"),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    @property
    def lag(self) -> float:
        """Seconds since all of the copy was last what the jobs service has; 0 while it is."""
        return max(self._rows.lag, self._pods.lag)

    async def _follow_pods(self) -> None:
        while True:
            task = asyncio.create_task(self._pods.run())
            try:
                await self._moved.wait()
                self._moved.clear()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
