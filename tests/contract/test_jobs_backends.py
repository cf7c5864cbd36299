"""The life of jobs on every backend; what they may be asked in full is tested on memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services.jobs.api.pools import id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.storage.port import Query
from tests.contract.jobs_yard import BACKENDS, JOB_RUNNING, RUNNING, Yard, opened, spans

pytestmark = pytest.mark.xdist_group("jobs-backends")


@pytest.fixture(params=BACKENDS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path, request.param) as found:
        yield found


async def test_the_life_of_a_job(yard: Yard) -> None:
    job = await yard.job(count=3, name="web", owner="ann", labels={"tier": "front"})
    assert (await job.status()).state == JOB_RUNNING
    await yard.fails(grpc.StatusCode.ABORTED, "StopJob", job.ask(pb.StopJobRequest, version="9-9-9"))

    assert await job.replace(yard.spec("run2", count=4, name="web"), batch_size=2) == "2-1-2"
    info = await job.until_over()
    assert (spans(info.instances_added), spans(info.instances_updated)) == ([(3, 4)], [(0, 3)])
    assert await job.runs() == {0: 2, 1: 2, 2: 2, 3: 1}

    bad = yard.spec("no such file", count=4, name="web")
    await job.replace(
        bad, batch_size=1, rollback_on_failure=True, max_instance_retries=1, max_tolerable_instance_failures=1
    )
    await job.until_over(stateless.WORKFLOW_STATE_ROLLED_BACK)
    job.version = (await job.status()).version.value
    assert job.version == "4-1-3"

    await job.restart((1, 3))
    await job.until_over()
    types = [workflow.status.type for workflow in await job.workflows(instance_events=True)]
    restart, update = stateless.WORKFLOW_TYPE_RESTART, stateless.WORKFLOW_TYPE_UPDATE
    assert types == [restart, update, update, update]
    runs = await job.about_pod("GetPod", pod_svc_pb2.GetPodRequest, 1)
    numbers = [int(one.status.pod_id.value.split("-")[-1]) for one in (runs.current, *runs.previous)]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) >= 3
    events = await job.about_pod("GetPodEvents", pod_svc_pb2.GetPodEventsRequest, 1)
    assert events.events[0].actual_state == "POD_STATE_RUNNING"

    await job.stop()
    await job.delete(force=False)
    for kind in ("job", "configuration", "job_pod", "run", "workflow", "step", "removed"):
        assert [r.name async for r in yard.store.scan(Query(kind)) if job.id in r.name] == []
    assert yard.engine.all() == []


async def test_lists_and_queries(yard: Yard) -> None:
    jobs = []
    for number in range(4):
        await yard.advance(1)
        jobs.append(await yard.job(count=number, name=f"job-{number}", labels={"parity": str(number % 2)}))
    await jobs[1].stop()

    async def query(**fields: object) -> list[str]:
        spec = stateless.QuerySpec(**fields)  # type: ignore[arg-type]
        found = await yard.call("QueryJobs", pb.QueryJobsRequest(spec=spec))
        return [one.name for one in found.records]

    assert await query() == ["job-3", "job-2", "job-1", "job-0"]
    assert await query(labels=[{"key": "parity", "value": "1"}]) == ["job-3", "job-1"]
    assert await query(job_states=[JOB_RUNNING]) == ["job-3", "job-2"]
    assert await query(job_states=[stateless.JOB_STATE_KILLED]) == ["job-1"]
    assert await query(respool={"value": "/DefaultResPool"}, name="job-0") == ["job-0"]
    order = [{"property": {"value": "instance_count"}}]
    assert await query(pagination={"order_by": order, "limit": 2, "offset": 1}) == ["job-1", "job-2"]
    found = await yard.call("GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(job_name="job-2"))
    assert [id.value for id in found.job_id] == [jobs[2].id]
    assert sorted(await jobs[3].pods()) == [0, 1, 2]
    batches = await yard.call("ListJobs", pb.ListJobsRequest())
    assert len([one for batch in batches for one in batch.jobs]) == 4


async def test_pools(yard: Yard) -> None:
    limited = {"path": "/small", "spec": {"resources": [{"kind": "cpu", "limit": 1}]}}
    await yard.apply(resource_pools=[limited])
    job = await yard.job(count=2, pool=id_of("/small"), resource={"cpu_limit": 1}, settle=False)
    await job.until_pod(RUNNING, 0)
    await job.until_pod(pod_pb2.POD_STATE_PENDING, 1)
    request = admin_pb2.DeleteRequest(kind="resource_pool", name=id_of("/small"))
    await yard.fails(grpc.StatusCode.FAILED_PRECONDITION, "Delete", request, job.id)
    limited["spec"]["resources"][0]["limit"] = 2  # type: ignore[index]
    await yard.apply(resource_pools=[limited])
    await job.until_over()
    await job.delete()
    await yard.call("Delete", request)
    answer = await yard.rest("GET", "/v1alpha/resourcePools:lookup", **{"path.value": "/small"})
    answer.is_error(404, grpc.StatusCode.NOT_FOUND)
