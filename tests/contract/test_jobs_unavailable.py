"""Without its store, or its runtime, the jobs service says UNAVAILABLE and nothing of it crashes (jobs
contract, section 4)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
import pytest

from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pods
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2 as pools
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as logs
from tests.contract.jobs_yard import KILLING, RUNNING, Job, opened

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def about(job: Job, version: str) -> dict[str, Any]:
    """A good request of every method that needs the store."""
    found: dict[str, Any] = {
        "CreateJob": pb.CreateJobRequest(spec=job.yard.spec()),
        "QueryJobs": pb.QueryJobsRequest(),
        "ListJobs": pb.ListJobsRequest(),
        "GetJobIDFromJobName": pb.GetJobIDFromJobNameRequest(job_name="x"),
        "LookupResourcePoolID": pools.LookupResourcePoolIDRequest(path={"value": "/DefaultResPool"}),
        "QueryResourcePools": pools.QueryResourcePoolsRequest(),
        "GetResourcePool": pools.GetResourcePoolRequest(),
    }
    for name in pb.DESCRIPTOR.services_by_name["JobService"].methods_by_name:
        request = getattr(pb, f"{name}Request")
        if name not in found:
            found[name] = job.ask(request, version="" if name == "GetJob" else version)
            if "spec" in request.DESCRIPTOR.fields_by_name and name != "QueryPods":
                found[name].spec.CopyFrom(job.yard.spec("run2"))
    for name in pods.DESCRIPTOR.services_by_name["PodService"].methods_by_name:
        found[name] = getattr(pods, f"{name}Request")(pod_name={"value": job.pod_name()})
    found["DeletePodEvents"].pod_id.value = job.pod_id()
    for name in ("ReadLog", "DownloadLog"):
        found[name] = logs.ReadLogRequest(pod_name={"value": job.pod_name()})
    return found


def mistakes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_without_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path, "sqlite") as yard:
        job = await yard.job(count=1)
        asked = about(job, job.version)
        assert len(asked) == 21 + 9 + 2 + 3
        await yard.store.close()
        caplog.clear()
        for name, request in asked.items():
            await yard.fails(UNAVAILABLE, name, request)
        (await yard.rest("GET", f"/v1alpha/jobs/{job.id}")).is_error(503, UNAVAILABLE)
        assert mistakes(caplog) == []


async def test_without_the_runtime(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is asked for is stored, and done once it is back."""
    async with opened(tmp_path) as yard:
        job = await yard.job(count=1)
        yard.engine.hide()
        for name in ("BrowsePodSandbox", "ReadLog"):
            await yard.fails(UNAVAILABLE, name, about(job, job.version)[name], "runtime")
        other = await yard.job(count=2, settle=False)
        assert await job.stop(wait=False) == "1-2-1"
        assert (await job.pod()).state in (RUNNING, KILLING)
        yard.engine.available = True
        for _ in range(3):
            await yard.advance(2)
        await other.until_over(passing=1)
        await job.until_pod(pod_pb2.POD_STATE_KILLED, passing=1)
        assert mistakes(caplog) == []
