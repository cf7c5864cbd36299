"""Several processes on one store: one writes, all answer reads (jobs contract, section 4)."""

from __future__ import annotations

from pathlib import Path

import grpc

from services.jobs.runtime.fake import FakeEngine
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.roundhouse.jobs.v1 import logs_pb2
from shared.storage.sqlite import SqliteStore
from tests.contract.jobs_yard import (
    JOB_RUNNING,
    RUNNING,
    SCRIPTS,
    STARTING,
    Job,
    Yard,
    opened,
    stored_kinds,
    until,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_a_process_that_does_not_write_answers_reads(tmp_path: Path) -> None:
    engine = FakeEngine(SCRIPTS)
    async with opened(tmp_path, "sqlite", engine=engine) as first:
        job = await first.job(count=2)
        async with opened(tmp_path, "sqlite", engine=engine) as second:
            await reads(Job(second, job.id, job.version))
            await writes_are_refused(second, job)
            # Manifests may be applied anywhere.
            await second.apply(resource_pools=[{"path": "/tight", "spec": {"resources": [{"kind": "cpu"}]}}])
            pools = (await first.rest("GET", "/v1alpha/resourcePools:lookup", **{"path.value": "/tight"})).ok
            waits = await first.job(
                count=1, pool=pools["respoolId"]["value"], resource={"cpu_limit": 1}, settle=False
            )
            await until(waits.pods, lambda found: 0 in found and "/tight" in found[0].message)
            await waits.delete()
            assert "roundhouse_jobs_writer 0.0" in (await metrics(second))
            assert "roundhouse_jobs_writer 1.0" in (await metrics(first))


async def metrics(yard: Yard) -> str:
    async with yard.http.get(f"{yard.service.url}/metrics") as answer:
        return await answer.text()


async def reads(job: Job) -> None:
    yard = job.yard
    assert (await job.status()).state == JOB_RUNNING
    assert len(await job.pods()) == 2
    assert len(await job.workflows()) == 1
    diff = pb.GetReplaceJobDiffRequest(spec=yard.spec("run2", count=3))
    found = await yard.call("GetReplaceJobDiff", job.ask(pb.GetReplaceJobDiffRequest, spec=diff.spec))
    assert found.instances_added[0].to == 3
    for method, request in (
        ("GetJobCache", job.ask(pb.GetJobCacheRequest)),
        ("QueryPods", job.ask(pb.QueryPodsRequest)),
        ("QueryJobs", pb.QueryJobsRequest()),
        ("GetWorkflowEvents", job.ask(pb.GetWorkflowEventsRequest)),
    ):
        await yard.call(method, request)
    await job.about_pod("GetPodEvents", pod_svc_pb2.GetPodEventsRequest)
    [pool, *_] = (await yard.rest("GET", "/v1alpha/resourcePools")).ok["respools"]
    assert "usages" not in pool


async def writes_are_refused(yard: Yard, job: Job) -> None:
    await yard.fails(UNAVAILABLE, "CreateJob", pb.CreateJobRequest(spec=yard.spec()), "does not write")
    for method in (
        "RestartJob",
        "PauseJobWorkflow",
        "ResumeJobWorkflow",
        "AbortJobWorkflow",
        "StartJob",
        "StopJob",
        "DeleteJob",
        "RefreshJob",
        "PatchJob",
    ):
        await yard.fails(UNAVAILABLE, method, job.ask(getattr(pb, f"{method}Request")))
    await yard.fails(UNAVAILABLE, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=yard.spec("run2")))
    for method in ("StartPod", "StopPod", "RestartPod", "RefreshPod", "BrowsePodSandbox"):
        request = getattr(pod_svc_pb2, f"{method}Request")()
        request.pod_name.value = job.pod_name()
        await yard.fails(UNAVAILABLE, method, request)
    log = logs_pb2.ReadLogRequest()
    log.pod_name.value = job.pod_name()
    await yard.fails(UNAVAILABLE, "ReadLog", log)


async def test_the_next_process_goes_on_and_pods_do_not_notice(tmp_path: Path) -> None:
    engine = FakeEngine(SCRIPTS)
    async with opened(tmp_path, "sqlite", engine=engine, jobs_leader_lapse="400ms") as once:
        job = await once.job("slow start", count=3, settle=False)
        await job.until_pod(STARTING, 2)
    launched = list(engine.launched)
    async with opened(tmp_path, "sqlite", engine=engine, jobs_leader_lapse="400ms") as again:
        same = Job(again, job.id, job.version)
        await same.until_over(passing=10)
        assert set((await same.runs()).values()) == {1}
        assert engine.launched == launched
        await same.stop()


async def test_one_that_was_thought_dead_writes_nothing_more(tmp_path: Path) -> None:
    """Two data folders, one store: the first falls silent, the second takes over."""
    engine = FakeEngine(SCRIPTS)
    path = tmp_path / "shared.db"

    def store() -> SqliteStore:
        return SqliteStore(path, stored_kinds(engine.clock), clock=engine.clock)

    async with opened(tmp_path / "1", store(), engine=engine, jobs_leader_lapse="1h") as first:
        job = await first.job(count=1)
        async with opened(tmp_path / "2", store(), engine=engine, jobs_leader_lapse="200ms") as second:
            taken = Job(second, job.id, job.version)

            async def writes() -> bool:
                try:
                    await taken.start()
                except grpc.aio.AioRpcError as error:
                    assert error.code() is UNAVAILABLE
                    return False
                return True

            await until(writes, lambda found: found)
            # By all that it knows, the job is where it was.
            await first.fails(UNAVAILABLE, "StopJob", job.ask(pb.StopJobRequest), "another process")
            status = await taken.status()
            assert (status.version.value, status.desired_state) == (taken.version, JOB_RUNNING)
            await taken.restart()
            await taken.until_pod(RUNNING, 0, 2)
