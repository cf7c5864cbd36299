"""A jobs service over real sockets, copies of its pods as the pods service keeps them, and what these
must be: worked out anew from what GetPod says."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import aiohttp
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from services.jobs.runtime.fake import FakeEngine
from services.pods.jobs_feed import SOURCE, JobsFeed
from services.pods.kinds import POD
from services.pods.metrics import FeedMetrics
from services.pods.service import SERVICE
from shared.auth import access_store
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.roundhouse.pods.v1.pods_pb2 import StoredPod
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.service.config import Config
from shared.storage.memory import MemoryStore
from shared.storage.port import Kind, Query, Store
from shared.storage.sqlite import SqliteStore
from tests.contract import jobs_yard
from tests.contract.jobs_yard import Job, Yard
from tests.patience import PATIENCE

# Fixed for ever: ids of pods must not change from one version to the next.
IDS = UUID("206fd016-0a69-4d34-a4fe-380f07dbaf75")
KEPT = 10
_ENDED = {
    pod_pb2.CONTAINER_STATE_SUCCEEDED,
    pod_pb2.CONTAINER_STATE_FAILED,
    pod_pb2.CONTAINER_STATE_KILLED,
}
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ABORTED,
}


def access(data: Path) -> SqliteStore:
    """The one access store of all processes of a data folder."""
    data.mkdir(parents=True, exist_ok=True)
    return SqliteStore(data / "access.db", access_store.KINDS)


@asynccontextmanager
async def jobs_service(data: Path, **settings: Any) -> AsyncIterator[Yard]:
    async with jobs_yard.opened(data, access=access(data), **settings) as found:
        yield found


def kinds() -> list[Kind]:
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "")
    return [*(definition.storage() for definition in definitions), *SERVICE.kinds]


def feed(jobs: Yard, store: Store, **settings: str) -> JobsFeed:
    """What a pods process runs beside its API."""
    config = Config.load({}, pods_jobs=jobs.service.target, **settings)
    who = jobs.service.running.environment.access
    return JobsFeed(config, store, who, time.time_ns, FeedMetrics(CollectorRegistry()))


async def opened_store(kind: type[MemoryStore] = MemoryStore) -> Any:
    store = kind(kinds())
    await store.open()
    return store


async def ours(store: Store) -> list[Pod]:
    """The pods of jobs that a store has."""
    found = [StoredPod.FromString(record.body) async for record in store.scan(Query(POD))]
    return [stored.pod for stored in found if stored.source == SOURCE]


@dataclass(frozen=True)
class _Remote:
    """As much of a service as a caller needs."""

    target: str
    tokens: Mapping[str, str]


@asynccontextmanager
async def called(target: str, bearer: str) -> AsyncIterator[Yard]:
    """A jobs service of another process."""
    remote: Any = _Remote(target, {"operator": bearer})
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with (
        aiohttp.ClientSession() as http,
        grpc.aio.insecure_channel(target, options=options) as channel,
    ):
        yield Yard(remote, FakeEngine(), http, channel)


# -- what there must be


async def wanted(jobs: Yard) -> dict[str, Pod]:
    """By the table of the contract, of what the jobs service says now: by name."""
    found: dict[str, Pod] = {}
    for jobs_batch in await jobs.call("ListJobs", stateless_svc_pb2.ListJobsRequest()):
        for summary in jobs_batch.jobs:
            request = stateless_svc_pb2.ListPodsRequest()
            request.job_id.value = summary.job_id.value
            with gone():
                for batch in await jobs.call("ListPods", request):
                    for pod in batch.pods:
                        asked = pod_svc_pb2.GetPodRequest()
                        asked.pod_name.value = pod.pod_name.value
                        with gone():
                            answer = await jobs.call("GetPod", asked)
                            statuses = [one.status for one in (answer.current, *answer.previous)]
                            one = _pod(pod.pod_name.value, summary, statuses)
                            found[one.name] = one
    return found


@contextlib.contextmanager
def gone() -> Any:
    """What is asked for may have been deleted meanwhile."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, error


def _pod(name: str, job: Any, statuses: list[pod_pb2.PodStatus]) -> Pod:
    """`statuses`: of the present run, then of those before, newest first."""
    found = Pod(
        id=str(uuid5(IDS, name)),
        name=name,
        deployment_id=job.job_id.value,
        namespace=job.respool_id.value,
        cluster_id=str(uuid5(IDS, "roundhouse")),
        started=stamp(statuses[0].revision.created_at),
    )
    buckets: dict[str, list[ContainerInstance]] = {}
    for status in reversed(statuses):
        for container in status.containers_status:
            one = _instance(found, status, container)
            if container.state in _ENDED:
                buckets.setdefault(container.name, []).append(one)
            elif status is statuses[0]:
                found.live_instances.append(one)
    for key in sorted(buckets):
        found.terminated_instances.add(instances=buckets[key][-KEPT:])
    return found


def _instance(pod: Pod, status: pod_pb2.PodStatus, container: pod_pb2.ContainerStatus) -> ContainerInstance:
    found = ContainerInstance(
        instance_id={"id": f"{status.pod_id.value}/{container.name}", "node": status.host},
        containing_pod_id=f"{pod.name}.{pod.namespace}@{status.pod_id.value}",
        container_name=container.name,
    )
    if container.start_time:
        found.started.FromJsonString(container.start_time)
    if container.state not in _ENDED:
        return found
    if container.completion_time:
        found.finished.FromJsonString(container.completion_time)
    why = container.terminationStatus.reason
    found.exit_code = container.terminationStatus.exit_code
    found.termination_reason = (
        pod_pb2.TerminationStatus.Reason.Name(why).removeprefix("TERMINATION_STATUS_REASON_")
        if why
        else container.reason
    )
    return found


def stamp(nanoseconds: int) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(nanoseconds)
    return found


def difference(want: Mapping[str, Pod], got: Iterable[Pod]) -> str:
    """Empty when they are the same. Runs that the jobs service has forgotten may stand before those that
    it knows."""
    found = {pod.name: pod for pod in got}
    if want.keys() != found.keys():
        return f"missing {sorted(want.keys() - found.keys())}, too many {sorted(found.keys() - want.keys())}"
    for name, one in want.items():
        other = Pod()
        other.CopyFrom(found[name])
        for bucket in other.terminated_instances:
            runs = [run(instance) for instance in bucket.instances]
            if runs != sorted(set(runs)) or not runs or len(runs) > KEPT:
                return f"{name} has a bucket of the runs {runs}"
        for bucket, known in zip(other.terminated_instances, one.terminated_instances, strict=False):
            del bucket.instances[: -len(known.instances)]
        if other != one:
            return f"{name} is\n{other}\nand must be\n{one}"
    return ""


def run(instance: ContainerInstance) -> int:
    return int(instance.instance_id.id.partition("/")[0].rpartition("-")[2])


async def until_same(jobs: Yard, read: Any) -> list[Pod]:
    """Until `read` answers what it must; answers that."""
    said = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                got = await read()
                if not (said := difference(await wanted(jobs), got)):
                    return got
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"the copy stays another one: {said}") from None


# -- what happens


class Life:
    """Things that operators and pods do, one after the other, drawn from a seed."""

    def __init__(self, jobs: Yard, seed: int, *, most: int = 4, passing: bool = True) -> None:
        """`most`: instances of a job. `passing`: time passes as well."""
        self._jobs = jobs
        self._passing = passing
        self._draw = random.Random(seed)
        self._most = most
        self._alive: list[Job] = []

    async def go(self, steps: int) -> None:
        for _ in range(steps):
            await self.step()

    async def step(self) -> None:
        draw, job = self._draw, self._draw.choice(self._alive) if self._alive else None
        acts = {
            self._create: 4 if len(self._alive) < 3 else 0,
            self._pass: 3 if self._passing else 0,
            self._restart: 3,
            self._stop: 1,
            self._start: 1,
            self._replace: 2,
            self._stop_pod: 2,
            self._start_pod: 2,
            self._delete: 1,
        }
        act = draw.choices(list(acts), list(acts.values()))[0]
        try:
            await act(job)
        except grpc.aio.AioRpcError as error:
            assert error.code() in _REFUSALS, error

    async def _create(self, job: Job | None) -> None:
        command = self._draw.choice(["run", "run", "done", "crash", "crash at once", "lost"])
        count = self._draw.randint(1, self._most)
        self._alive.append(await self._jobs.job(command, count, settle=False))

    async def _pass(self, job: Job | None) -> None:
        await self._jobs.advance(self._draw.choice([1, 10, 60, 600]))

    async def _restart(self, job: Job | None) -> None:
        if job is not None:
            await self._fresh(job)
            await job.restart(batch_size=self._draw.randint(0, 2))

    async def _stop(self, job: Job | None) -> None:
        if job is not None:
            await self._fresh(job)
            await job.stop(wait=False)

    async def _start(self, job: Job | None) -> None:
        if job is not None:
            await self._fresh(job)
            await job.start()

    async def _replace(self, job: Job | None) -> None:
        if job is not None:
            await self._fresh(job)
            spec = self._jobs.spec(
                self._draw.choice(["run", "run2", "crash"]), self._draw.randint(1, self._most)
            )
            spec.name = f"again-{self._draw.randrange(100)}"
            await job.replace(spec)

    async def _stop_pod(self, job: Job | None) -> None:
        if job is not None:
            await job.stop_pod(self._draw.randrange(self._most))

    async def _start_pod(self, job: Job | None) -> None:
        if job is not None:
            await job.start_pod(self._draw.randrange(self._most))

    async def _delete(self, job: Job | None) -> None:
        if job is not None:
            self._alive.remove(job)
            await job.delete(wait=False)

    async def _fresh(self, job: Job) -> None:
        job.version = (await job.status()).version.value
