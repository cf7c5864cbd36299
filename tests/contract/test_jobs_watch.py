"""WatchService: changes of jobs and pods as they come (jobs contract, section 8)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

import grpc
import pytest
import pytest_asyncio

from services.jobs.api import watches
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.watch import watch_pb2
from shared.pb.peloton.api.v1alpha.watch.svc import watch_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.watch.svc.watch_svc_pb2_grpc import WatchServiceStub
from tests.contract.jobs_yard import RUNNING, Job, Yard, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-watch")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ABORTED = grpc.StatusCode.ABORTED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


class Watcher:
    """An open watch."""

    def __init__(self, yard: Yard, request: pb.WatchRequest, channel: grpc.aio.Channel | None = None) -> None:
        watch = yard.method("Watch") if channel is None else WatchServiceStub(channel).Watch
        self.call = watch(request, metadata=tuple(yard.who("viewer").items()))
        self.id = ""

    async def __aenter__(self) -> Self:
        first = await self.next()
        assert first == pb.WatchResponse(watch_id=first.watch_id)
        self.id = first.watch_id
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.call.cancel()

    async def next(self) -> pb.WatchResponse:
        async with asyncio.timeout(PATIENCE):
            found = await self.call.read()
        assert isinstance(found, pb.WatchResponse), "the stream has ended"
        return found

    async def until(self, done: Any) -> list[Any]:
        """The objects that come, up to the first that is `done`."""
        found = []
        revision = 0
        while True:
            answer = await self.next()
            [one] = [*answer.stateless_jobs, *answer.pods]
            assert answer.watch_id == self.id and answer.revision >= revision
            revision = answer.revision
            found.append(one)
            if done(one):
                return found

    async def code(self) -> grpc.StatusCode:
        """How it ends."""
        async with asyncio.timeout(PATIENCE):
            return await self.call.code()


def jobs(*ids: str, **labels: str) -> pb.WatchRequest:
    wanted = watch_pb2.StatelessJobFilter(job_ids=[{"value": id} for id in ids])
    wanted.labels.extend(peloton.Label(key=key, value=value) for key, value in labels.items())
    return pb.WatchRequest(stateless_job_filter=wanted)


def pods(job: str = "", *names: str, **labels: str) -> pb.WatchRequest:
    wanted = watch_pb2.PodFilter(pod_names=[{"value": name} for name in names])
    if job:
        wanted.job_id.value = job
    wanted.labels.extend(peloton.Label(key=key, value=value) for key, value in labels.items())
    return pb.WatchRequest(pod_filter=wanted)


def is_killed(job: stateless.JobSummary) -> bool:
    return job.status.state == stateless.JOB_STATE_KILLED


async def test_changes_of_a_job_from_now_on(yard: Yard) -> None:
    job, other = await yard.job(), await yard.job()
    async with Watcher(yard, jobs(job.id)) as watch:
        assert watch.id.startswith("job_") and uuid.UUID(watch.id.removeprefix("job_"))
        await other.stop()
        await job.stop()
        found = await watch.until(is_killed)
        assert {one.job_id.value for one in found} == {job.id}
        assert found[0].status.state == stateless.JOB_STATE_KILLING
        assert (found[0].name, found[0].respool_id.value) == ((await job.spec()).name, yard.pool)
        revisions = [one.status.revision.version for one in found]
        assert revisions == sorted(set(revisions))


async def test_new_and_deleted_jobs(yard: Yard) -> None:
    async with Watcher(yard, jobs()) as watch:
        job = await yard.job(count=1)
        await watch.until(lambda one: one.status.state == stateless.JOB_STATE_RUNNING)
        await job.delete()
        found = await watch.until(lambda one: one.status.state == stateless.JOB_STATE_DELETED)
        assert found[-1].job_id.value == job.id
        second = await yard.job(count=0, settle=False)
        [*_, last] = await watch.until(lambda one: one.job_id.value == second.id)
        assert last.status.state == stateless.JOB_STATE_PENDING


async def test_changes_of_pods(yard: Yard) -> None:
    job = await yard.job(count=2)
    async with Watcher(yard, pods(job.id)) as watch:
        assert watch.id.startswith("task_")
        await job.stop_pod(1)
        found = await watch.until(lambda one: one.status.state == pod_pb2.POD_STATE_KILLED)
        assert {one.pod_name.value for one in found} == {job.pod_name(1)}
        await job.replace(yard.spec(count=1))
        await watch.until(lambda one: one.status.state == pod_pb2.POD_STATE_DELETED)


async def test_names_and_labels_must_all_match(yard: Yard) -> None:
    spec = yard.spec(count=3)
    spec.default_spec.labels.add(key="tier", value="front")
    spec.instance_spec[2].labels.add(key="tier", value="back")
    first = await yard.job(count=0)
    await first.replace(spec)
    await first.until_over()
    requests = [
        pods(first.id, first.pod_name(1), first.pod_name(2)),
        pods(first.id, first.pod_name(2).upper(), tier="back"),
        pods("", tier="back"),
        pods("", first.pod_name(1), tier="back"),
    ]
    watching = [Watcher(yard, request) for request in requests]
    for watch in watching:
        await watch.__aenter__()
    for instance in range(3):
        await first.stop_pod(instance)
        await first.until_pod(pod_pb2.POD_STATE_KILLED, instance)

    def killed(one: pod_pb2.PodSummary) -> bool:
        return one.status.state == pod_pb2.POD_STATE_KILLED

    both, named, labelled, none = watching
    assert {one.pod_name.value for one in await both.until(killed)} == {first.pod_name(1)}
    for watch in (both, named, labelled):
        assert {one.pod_name.value for one in await watch.until(killed)} == {first.pod_name(2)}
    await yard.call("Cancel", pb.CancelRequest(watch_id=none.id))
    assert await none.code() is grpc.StatusCode.CANCELLED
    for watch in watching:
        await watch.__aexit__()


async def test_labels_of_jobs(yard: Yard) -> None:
    both = await yard.job(count=1, labels={"a": "1", "b": "2"})
    one = await yard.job(count=1, labels={"a": "1"})
    async with Watcher(yard, jobs(a="1", b="2")) as watch:
        await one.stop()
        await both.stop()
        found = await watch.until(is_killed)
        assert {job.job_id.value for job in found} == {both.id}


async def test_a_pod_filter_wins(yard: Yard) -> None:
    job = await yard.job(count=1)
    request = jobs(job.id)
    request.pod_filter.job_id.value = job.id
    async with Watcher(yard, request) as watch:
        await job.stop()
        found = await watch.until(lambda one: one.status.state == pod_pb2.POD_STATE_KILLED)
        assert all(isinstance(one, pod_pb2.PodSummary) for one in found)


async def test_requests_that_are_wrong(yard: Yard) -> None:
    await yard.fails(INVALID, "Watch", pb.WatchRequest(), "stateless_job_filter")
    request = jobs()
    request.start_revision = 1
    await yard.fails(grpc.StatusCode.OUT_OF_RANGE, "Watch", request)
    for id in ("", "x", f"job_{uuid.uuid4()}"):
        await yard.fails(grpc.StatusCode.NOT_FOUND, "Cancel", pb.CancelRequest(watch_id=id))


@pytest.mark.parametrize("request_of", [jobs, pods])
async def test_a_cancelled_watch_ends(yard: Yard, request_of: Any) -> None:
    async with Watcher(yard, request_of()) as watch:
        await yard.call("Cancel", pb.CancelRequest(watch_id=watch.id), role="viewer")
        assert await watch.code() is grpc.StatusCode.CANCELLED
        await yard.fails(grpc.StatusCode.NOT_FOUND, "Cancel", pb.CancelRequest(watch_id=watch.id))


async def test_there_is_room_for_so_many_of_each_kind(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "MAX_WATCHES", 2)
    async with Watcher(yard, pods()), Watcher(yard, jobs()), Watcher(yard, jobs()) as last:
        await yard.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "Watch", jobs())
        async with Watcher(yard, pods()):
            pass
        await yard.call("Cancel", pb.CancelRequest(watch_id=last.id))
        await last.code()
        async with Watcher(yard, jobs()):
            pass


async def test_a_client_that_does_not_read_is_given_up(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "PATIENCE", 0.1)
    # So large that no window on the way holds many.
    labels = {f"key-{number}": "x" * 60_000 for number in range(10)}
    job = await yard.job(count=0, labels=labels)
    async with Watcher(yard, jobs(job.id)) as watch, Watcher(yard, jobs(job.id)) as reader:
        reading = asyncio.create_task(reader.until(lambda one: one.status.version.value.startswith("1-151-")))
        for _ in range(150):
            await job.start()
            await asyncio.sleep(0)
        # Who reads gets everything all the while.
        assert len({one.status.version.value for one in await reading}) == 150
        seen = 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await watch.call.read()
                seen += 1
        assert caught.value.code() is ABORTED and seen < 50


async def test_a_stop_ends_watches_with_unavailable(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with AsyncExitStack() as stack:
        async with opened(tmp_path_factory.mktemp("own")) as yard:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(yard.service.target))
            watch = Watcher(yard, jobs(), channel)
            await watch.__aenter__()
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_large_commit_overwhelms_nobody(yard: Yard) -> None:
    job = await yard.job(count=400)
    async with Watcher(yard, pods(job.id)) as watch:
        await job.stop(wait=False)
        last: dict[str, int] = {}

        def all_killed(one: pod_pb2.PodSummary) -> bool:
            last[one.pod_name.value] = one.status.state
            return len(last) == 400 and set(last.values()) == {pod_pb2.POD_STATE_KILLED}

        await watch.until(all_killed)


async def test_over_rest(yard: Yard) -> None:
    job: Job = await yard.job(count=1)
    url = f"{yard.service.url}/v1alpha/watches?podFilter.jobId.value={job.id}"
    async with yard.http.get(url, headers=yard.who("viewer")) as answer:
        first = json.loads(await answer.content.readline())["result"]
        assert set(first) == {"watchId"}
        await job.stop_pod(0)
        change = json.loads(await answer.content.readline())["result"]
        assert change["pods"][0]["podName"]["value"] == job.pod_name(0)
        (await yard.rest("POST", f"/v1alpha/watches/{first['watchId']}:cancel")).ok  # noqa: B018
        *_, last = (await answer.content.read()).splitlines()
        assert json.loads(last)["error"]["code"] == grpc.StatusCode.CANCELLED.value[0]
    await job.start_pod(0)
    await job.until_pod(RUNNING, 0, 2)
