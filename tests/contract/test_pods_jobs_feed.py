"""The suite's own jobs in the export (pods contract, section 7): at once, whole, and whatever ends when."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest

from services.jobs.runtime.fake import FakeEngine
from services.pods import follower
from services.pods.jobs_feed import SOURCE
from services.pods.kinds import CLUSTER, DEPLOYMENT, POD
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2 import UPSERT
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.storage.errors import StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Commit, Query, Record
from tests.contract import jobs_yard, pods_yard
from tests.contract.jobs_feed_yard import (
    IDS,
    Life,
    access,
    feed,
    jobs_service,
    opened_store,
    ours,
    run,
    until_same,
)
from tests.contract.jobs_yard import JOB_RUNNING, SCRIPTS, Job, Yard, until
from tests.contract.pods_yard import BACKENDS, event, id_of, pod

RUNNING = pod_pb2.POD_STATE_RUNNING


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Yard]:
    async with jobs_service(tmp_path) as found:
        yield found


@asynccontextmanager
async def pods_service(jobs: Yard, data: Path, **settings: str) -> AsyncIterator[pods_yard.Yard]:
    """Beside a jobs service on the same data folder."""
    given: dict[str, Any] = {"access": access(data), "pods_jobs": jobs.service.target, **settings}
    async with pods_yard.opened(data, **given) as found:
        yield found


async def exported(pods: pods_yard.Yard, done: Callable[[list[Pod]], bool], query: str = "") -> list[Pod]:
    """Once it is `done`."""
    return await until(lambda: pods.export(query), done)


# -- at once


async def test_a_pod_appears_and_ends_within_a_second(jobs: Yard, tmp_path: Path) -> None:
    """Each delay counts from when the jobs service tells of the change itself."""
    delays: dict[str, list[float]] = {"appears": [], "runs": [], "ends": [], "goes": []}
    async with pods_service(jobs, tmp_path) as pods:

        async def measure(what: str, job: Job, done: Callable[[list[Pod]], bool]) -> list[Pod]:
            began = time.perf_counter()
            found = await exported(pods, done, f"Deployment ID:{job.id}")
            delays[what].append(time.perf_counter() - began)
            return found

        for _ in range(5):
            job = await jobs.job("slow start", 3, settle=False)
            await measure("appears", job, lambda found: len(found) == 3)
            await jobs.advance(30)
            await job.until_over()
            (one, *_) = await measure("runs", job, lambda found: all(map(runs, found)))
            assert [run(i) for i in one.live_instances] == [1] and not one.terminated_instances
            await job.stop()
            (one, *_) = await measure("ends", job, lambda found: all(map(ended, found)))
            (bucket,) = one.terminated_instances
            (instance,) = bucket.instances
            assert (run(instance), instance.termination_reason) == (1, "KILLED_ON_REQUEST")
            assert instance.started.ToNanoseconds() <= instance.finished.ToNanoseconds()
            await job.delete()
            await measure("goes", job, lambda found: not found)
    print({what: f"{statistics.median(times):.3f} s" for what, times in delays.items()})
    assert {what: times for what, times in delays.items() if statistics.median(times) >= 1} == {}


def runs(one: Pod) -> bool:
    return any(instance.HasField("started") for instance in one.live_instances)


def ended(one: Pod) -> bool:
    return not one.live_instances and bool(one.terminated_instances)


# -- whole


@pytest.mark.parametrize("backend", BACKENDS)
async def test_the_copy_is_what_get_pod_says(jobs: Yard, tmp_path: Path, backend: str) -> None:
    async with pods_yard.opened(tmp_path / "other", backend) as pods, feed(jobs, pods.store):
        life = Life(jobs, 4)
        for _ in range(2):
            await life.go(20)
            await until_same(jobs, pods.export)


class Stutter(MemoryStore):
    """Fails once, in the midst of the next scan of all pods, and `meanwhile` something happens."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        async with aclosing(super().scan(query, at=at)) as records:
            number = 0
            async for record in records:
                number += 1
                whole = query.kind == "job_pod" and query.parent is None
                if self.meanwhile is not None and whole and number == 110:
                    act, self.meanwhile = self.meanwhile, None
                    await act()
                    raise StoreUnavailable("the disk went away for a moment")
                yield record


async def test_a_snapshot_that_breaks_off_leaves_no_ghosts(tmp_path: Path) -> None:
    """What only the first half of it named is not there in the end."""
    source = Stutter(jobs_yard.stored_kinds(time.time_ns))
    async with jobs_service(tmp_path, backend=source) as jobs:
        job = await jobs.job("run", 120)
        store = await opened_store()

        async def shrink() -> None:
            await job.replace(jobs.spec("run", 3))
            await job.until_over()

        source.meanwhile = shrink
        async with feed(jobs, store):
            assert len(await until_same(jobs, lambda: ours(store))) == 3
        assert source.meanwhile is None


async def test_a_bucket_keeps_the_ten_newest_runs(jobs: Yard) -> None:
    """Also those that the jobs service itself has forgotten."""
    store = await opened_store()
    job = await jobs.job("run", 1)
    async with feed(jobs, store):
        for number in range(2, 14):
            await job.restart()
            await job.until_pod(RUNNING, run=number)
            (found,) = await until_same(jobs, lambda: ours(store))
            assert [run(i) for i in found.live_instances] == [number]
            (bucket,) = found.terminated_instances
            assert [run(i) for i in bucket.instances] == list(range(max(1, number - 10), number))


class Mortal(MemoryStore):
    """Its process is killed at commits: before they are made, or before it hears that they were."""

    fates: Callable[[], str] = staticmethod(lambda: "")
    killed: asyncio.Event

    async def commit(self, *arguments: Any, **more: Any) -> Commit:
        fate = self.fates()
        found = None if fate == "before" else await super().commit(*arguments, **more)
        if fate or found is None:
            self.killed.set()
            await asyncio.Event().wait()
        assert found is not None
        return found


async def test_killed_at_any_commit_nothing_is_lost_or_doubled(
    jobs: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three commits kill the process that makes them; sets are of many parts."""
    for name, value in {"PART": 3, "COMMIT": 2, "LAPSE": 0.05}.items():
        monkeypatch.setattr(follower, name, value)
    store: Mortal = await opened_store(Mortal)
    store.killed, draw, deaths = asyncio.Event(), random.Random(6), 0
    store.fates = lambda: draw.choice(["", "before", "after"])

    async def processes() -> None:
        nonlocal deaths
        while True:
            async with feed(jobs, store):
                await store.killed.wait()
                store.killed.clear()
                deaths += 1

    task = asyncio.create_task(processes())
    try:
        life = Life(jobs, 7, most=12)
        for _ in range(4):
            await life.go(10)
            await until_same(jobs, lambda: ours(store))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert deaths > 30


async def test_a_set_that_broke_off_leaves_no_ghosts(jobs: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod of the part that was written, and that is gone before the process is back: no later set
    speaks of it."""
    for name, value in {"PART": 3, "LAPSE": 0.05}.items():
        monkeypatch.setattr(follower, name, value)
    store: Mortal = await opened_store(Mortal)
    store.killed = asyncio.Event()
    kept = await jobs.job("run", 1)
    async with feed(jobs, store):
        await until_same(jobs, lambda: ours(store))
    job = await jobs.job("run", 250)
    store.fates = lambda: "after"
    async with feed(jobs, store):
        await until(lambda: ours(store), lambda found: 1 < len(found) < 251)
    store.fates = lambda: ""
    await job.delete()
    async with feed(jobs, store):
        (left,) = await until_same(jobs, lambda: ours(store))
    assert left.deployment_id == kept.id


async def test_several_processes_do_not_fight(jobs: Yard) -> None:
    store = await opened_store()
    async with feed(jobs, store), feed(jobs, store), feed(jobs, store):
        life = Life(jobs, 11)
        for _ in range(3):
            await life.go(15)
            await until_same(jobs, lambda: ours(store))
    before: dict[str, tuple[int, int]] = {}
    for commit in await store.changes(0, 10_000):
        for change in commit.changes:
            if change.kind == POD:
                place = (0, 0) if change.after is None else reached(StoredPod.FromString(change.after).pod)
                assert not place[0] or place >= before.get(change.name, (0, 0)), "it went back"
                before[change.name] = place


def reached(one: Pod) -> tuple[int, int]:
    """The run that a pod has come to, and how far that is."""
    last = [(run(i), 1 + i.HasField("started")) for i in one.live_instances]
    last += [(run(bucket.instances[-1]), 3) for bucket in one.terminated_instances]
    return max(last)


# -- again


async def test_it_goes_on_by_token(jobs: Yard, tmp_path: Path) -> None:
    """A restart of the pods service reads nothing again, and writes nothing again."""
    await jobs.job("run", 250)
    settings = {"store": "sqlite"}
    async with pods_service(jobs, tmp_path, **settings) as pods:
        await exported(pods, lambda found: len(found) == 250)
        await until(lambda: lag(pods), lambda found: found == 0)
        head = await pods.store.head()
    told = await messages(jobs)
    async with pods_service(jobs, tmp_path, **settings) as pods:
        await until(lambda: lag(pods), lambda found: found == 0)
        assert await pods.store.head() == head
    # One empty set for each of the two kinds; the whole would be four messages more.
    assert await messages(jobs) == told + 2


async def metric(service: Any, pattern: str) -> float:
    text = (await service.http.get(f"{service.service.url}/metrics")).text()
    found = re.search(rf"^{pattern} (\S+)$", await text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def lag(pods: pods_yard.Yard) -> float:
    return await metric(pods, "roundhouse_pods_jobs_lag_seconds")


async def messages(jobs: Yard) -> float:
    """That admin watches were told."""
    return await metric(
        jobs,
        r'roundhouse_rpc_stream_messages_total\{method="Watch",service="roundhouse.admin.v1.AdminService",'
        r'transport="grpc"\}',
    )


async def test_the_jobs_service_may_be_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pods service is ready meanwhile, exports what it knows, and says once what is wrong, if it goes on
    for a while. It goes on where it was, with a new store from the beginning; and never touches what is not
    its own."""

    async def complained() -> list[str]:
        return complaints(caplog)

    engine = FakeEngine(SCRIPTS)
    async with AsyncExitStack() as first:
        jobs = await first.enter_async_context(jobs_service(tmp_path, backend="sqlite", engine=engine))
        port = str(jobs.service.running.grpc_port)
        job = await jobs.job("run", 2)
        async with pods_service(jobs, tmp_path) as pods:
            await pods.upsert(pod(1))
            await exported(pods, lambda found: len(found) == 3)
            await first.aclose()
            await until(lambda: lag(pods), lambda found: found > 1)
            assert complaints(caplog) == []
            monkeypatch.setattr(follower, "PATIENCE", 1.0)
            assert sorted(await until(complained, lambda found: len(found) > 1)) == BOTH
            assert (await pods.rest("GET", "/readyz", who="")).status == 200
            assert len(await pods.export()) == 3
            again = {"grpc_port": port, "engine": engine}
            async with jobs_service(tmp_path, backend="sqlite", **again) as jobs:
                other = await Job(jobs, job.id, job.version).status()
                assert other.state == JOB_RUNNING
                await jobs.job("run", 1)
                await exported(pods, lambda found: len(found) == 4)
            async with jobs_service(tmp_path, **again) as jobs:
                new = await jobs.job("run", 1)
                found = await exported(pods, lambda found: len(found) == 2)
                assert {one.id for one in found} == {id_of(1), str(uuid5(IDS, new.pod_name()))}
                await until(lambda: rows(pods), lambda found: list(found) == [new.id])


BOTH = ["job", "job_pod"]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of which kinds it was said that they cannot be followed."""
    said = [r for r in caplog.records if r.name == follower.__name__ and r.levelno > logging.INFO]
    return [getattr(r, "kind", "") for r in said if "trying on" in r.message]


async def rows(pods: pods_yard.Yard) -> dict[str, Deployment]:
    found = [Deployment.FromString(r.body) async for r in pods.store.scan(Query(DEPLOYMENT))]
    return {row.id: row for row in found}


async def test_a_log_that_is_gone_means_to_look_anew(jobs: Yard) -> None:
    store = await opened_store()
    gone, kept = await jobs.job("run", 2), await jobs.job("run", 2)
    async with feed(jobs, store):
        await until_same(jobs, lambda: ours(store))
    await gone.delete()
    await kept.restart()
    await kept.until_over()
    await jobs.store.compact(await jobs.store.head())
    async with feed(jobs, store):
        found = await until_same(jobs, lambda: ours(store))
    assert {one.deployment_id for one in found} == {kept.id}


# -- not our own


async def test_what_another_source_has_stays(jobs: Yard, tmp_path: Path) -> None:
    job = await jobs.job("run", 2, settle=True)
    taken = pod(1, id=str(uuid5(IDS, job.pod_name(0))), name="imported")
    async with pods_yard.opened(tmp_path, store="sqlite", access=access(tmp_path)) as pods:
        await pods.upsert(taken)
    async with pods_service(jobs, tmp_path, store="sqlite") as pods:
        found = await exported(pods, lambda found: len(found) == 2)
        assert taken in found
        await job.delete()
        assert await exported(pods, lambda found: len(found) == 1) == [taken]
        name = "roundhouse_pods_fed_total"
        assert await metric(pods, rf'{name}\{{result="refused",rpc="jobs"\}}') > 0
        # And nobody takes what is the feed's own.
        failure = await pods.fails(
            pods.feeds.Push(iter([event(UPSERT, pod(2), SOURCE)]), metadata=pods.metadata())
        )
        assert [v.field for v in failure.violations] == ["events[0].source"]


# -- inventory and settings


async def test_the_inventory_is_the_jobs(jobs: Yard, tmp_path: Path) -> None:
    spec = jobs.spec("run", 2, name="shop", labels={"tier": "front"})
    spec.default_spec.labels.add(key="app", value="web")
    job = await jobs.job("run", 1, name="other")
    shop = await jobs.job("run", 1, name="shop", labels={"tier": "front"})
    async with pods_service(jobs, tmp_path, pods_jobs_cluster="lab") as pods:
        await shop.replace(spec)
        await shop.until_over()
        for query in (
            'Deployment:"shop"',
            "Deployment Label:tier=front",
            "Pod Label:app=web",
            'Cluster:"lab"+Deployment:shop+Deployment Type:Job',
            f"Cluster ID:{uuid5(IDS, 'lab')}+Deployment ID:{shop.id}",
            f"Namespace:{jobs.pool}+Deployment:shop+Namespace ID:{jobs.pool}",
            "Created:<1d+Deployment:sh",
        ):
            found = await exported(pods, lambda found: len(found) == 2, query)
            assert {one.name for one in found} == {shop.pod_name(0), shop.pod_name(1)}, query
        assert await pods.names('Cluster:"lab"') == {job.pod_name(), shop.pod_name(0), shop.pod_name(1)}
        await shop.delete()
        await until(lambda: rows(pods), lambda found: list(found) == [job.id])


async def test_settings_are_rules_for_all_that_is_there(jobs: Yard, tmp_path: Path) -> None:
    """With other settings at the next start nothing of the ones before is left."""
    job = await jobs.job("run", 2, labels={"team": "blue"})
    await job.restart()
    await job.until_over()
    other = await jobs.job("run", 1)

    async def look(count: int, **settings: str) -> tuple[dict[str, list[Pod]], set[tuple[str, str]]]:
        """Pods by name; and the clusters of the inventory."""
        async with pods_service(jobs, tmp_path, store="sqlite", **settings) as pods:
            await until(lambda: lag(pods), lambda found: found == 0)
            found: dict[str, list[Pod]] = {}
            for one in await pods.export():
                found.setdefault(one.name, []).append(one)
            assert sum(map(len, found.values())) == count
            clusters = [Cluster.FromString(r.body) async for r in pods.store.scan(Query(CLUSTER))]
            assert {row.cluster_id for row in (await rows(pods)).values()} == {c.id for c in clusters}
            return found, {(cluster.id, cluster.name) for cluster in clusters}

    first, clusters = await look(3)
    assert clusters == {(str(uuid5(IDS, "roundhouse")), "roundhouse")}
    assert {one.namespace for pods in first.values() for one in pods} == {jobs.pool}
    id = "0a000000-0000-4000-8000-000000000001"
    labelled, clusters = await look(
        3, pods_jobs_namespace="label:team", pods_jobs_cluster="lab", pods_jobs_cluster_id=id.upper()
    )
    assert clusters == {(id, "lab")}
    assert [one.namespace for one in labelled[job.pod_name(1)]] == ["blue"]
    assert [one.namespace for one in labelled[other.pod_name()]] == [jobs.pool]
    each, _ = await look(5, pods_jobs_namespace="all", pods_jobs_pod="run")
    two = each[job.pod_name(0)]
    assert {one.id for one in two} == {str(uuid5(IDS, job.pod_id(0, number))) for number in (1, 2)}
    assert sorted((len(one.live_instances), len(one.terminated_instances)) for one in two) == [(0, 1), (1, 0)]
    assert {one.namespace for one in two} == {"all"}
    assert (await look(3))[0] == first


async def test_each_run_may_be_a_pod(jobs: Yard) -> None:
    """As many as a bucket keeps; and all go with their instance."""
    store = await opened_store()
    job = await jobs.job("run", 2)
    async with feed(jobs, store, pods_jobs_pod="run"):
        for number in range(2, 14):
            await job.restart((0, 1))
            await job.until_pod(RUNNING, run=number)
        found = await until(lambda: ours(store), lambda found: runs_of(found, job) == list(range(3, 14)))
        assert len(found) == 12
        await job.replace(jobs.spec("run", 1, name="less"))
        await job.until_over()
        await until(lambda: ours(store), lambda found: {one.name for one in found} == {job.pod_name(0)})
        await job.delete()
        await until(lambda: ours(store), lambda found: not found)


def runs_of(found: list[Pod], job: Job) -> list[int]:
    return sorted(reached(one)[0] for one in found if one.name == job.pod_name(0))


async def test_a_job_may_move_to_another_namespace(jobs: Yard) -> None:
    store = await opened_store()
    job = await jobs.job("run", 3, labels={"team": "blue"})
    async with feed(jobs, store, pods_jobs_namespace="label:team"):
        await until(lambda: ours(store), lambda found: [one.namespace for one in found] == ["blue"] * 3)
        await job.replace(jobs.spec("run", 3, name="moved", labels={"team": "red"}))

        def moved(found: list[Pod]) -> bool:
            return [one.namespace for one in found] == ["red"] * 3 and all(
                f".red@{job.id}" in i.containing_pod_id for one in found for i in one.live_instances
            )

        await until(lambda: ours(store), moved)
