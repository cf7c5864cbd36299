"""What the console asks of the jobs service, beside the admin API that all services have."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from admin_ui.clients import JOBS, Caller
from admin_ui.presenters.history import Entry
from admin_ui.records import Records
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.respool import respool_pb2
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2
from shared.pb.peloton.api.v1alpha.respool.svc.respool_svc_pb2_grpc import ResourcePoolServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.rpc.client import CallFailed

# Kinds of the admin API.
JOB: Final = "job"
POD: Final = "job_pod"
WORKFLOW: Final = "workflow"
POOL: Final = "resource_pool"
# Newest first: what people look for is what they made last.
NEWEST: Final = "created_at desc"
LARGEST_PAGE: Final = 500
# What the service says of a change that was asked for at another version than the present one.
STALE: Final = "unexpected entity version"


@dataclass(frozen=True, slots=True)
class Jobs:
    """Calls as `caller`. Every method raises CallFailed."""

    caller: Caller

    async def _ask(self, method: str, request: Message) -> Any:
        return await self.caller.call(JOBS, JobServiceStub, method, request)

    @property
    def records(self) -> Records:
        return Records(self.caller, JOBS)

    # -- reading

    async def get(self, id: str) -> pb.GetJobResponse:
        """The job with its present spec, and its current or last workflow."""
        return await self._ask("GetJob", pb.GetJobRequest(job_id=peloton.JobID(value=id)))

    async def summary(self, id: str) -> stateless.JobSummary:
        request = pb.GetJobRequest(job_id=peloton.JobID(value=id), summary_only=True)
        return (await self._ask("GetJob", request)).summary

    async def spec(self, id: str, configuration: int) -> stateless.JobSpec:
        """As it was in that configuration."""
        request = pb.GetJobRequest(job_id=peloton.JobID(value=id))
        request.version.value = f"{configuration}-0-0"
        return (await self._ask("GetJob", request)).job_info.spec

    async def workflows(self, id: str) -> Sequence[stateless.WorkflowInfo]:
        """All that are kept, newest first."""
        request = pb.ListJobWorkflowsRequest(job_id=peloton.JobID(value=id))
        return (await self._ask("ListJobWorkflows", request)).workflow_infos

    async def instance_events(self, id: str, instance: int) -> Sequence[stateless.WorkflowEvent]:
        """Of one instance in the current or last workflow, newest first."""
        request = pb.GetWorkflowEventsRequest(job_id=peloton.JobID(value=id), instance_id=instance)
        return (await self._ask("GetWorkflowEvents", request)).events

    async def list(self, request: admin_pb2.ListRequest) -> admin_pb2.ListResponse:
        """A page of jobs as they are stored: unlike QueryJobs this takes expressions and finds old ones
        as well as new."""
        return await self.records.page(request)

    async def named(self, ids: Sequence[str]) -> dict[str, stored.Job]:
        """Those of these that there are, by id."""
        found: dict[str, stored.Job] = {}
        for start in range(0, len(ids), 40):
            some = ", ".join(f'"{id}"' for id in ids[start : start + 40])
            request = admin_pb2.ListRequest(kind=JOB, filter=f"id IN ({some})", page_size=40)
            found |= {job.id: job for job in jobs_of(await self.list(request))}
        return found

    async def names_in(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The names of the jobs that `entries` wrote, as far as they can be known: a help for readers,
        so nothing when the service does not say."""
        ids = {object.name for entry in entries for object in entry.objects if object.kind == JOB}
        try:
            return {id: job.name for id, job in (await self.named(sorted(ids))).items() if job.name}
        except CallFailed:
            return {}

    async def every(self, filter: str) -> AsyncIterator[stored.Job]:
        request = admin_pb2.ListRequest(kind=JOB, filter=filter, order_by=NEWEST, page_size=LARGEST_PAGE)
        while True:
            answer = await self.list(request)
            for job in jobs_of(answer):
                yield job
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def count(self, filter: str) -> int:
        answer = await self.list(admin_pb2.ListRequest(kind=JOB, filter=filter, page_size=1))
        return answer.total_size

    async def pools(self) -> Sequence[respool_pb2.ResourcePoolInfo]:
        """All, parents before children."""
        request = respool_svc_pb2.QueryResourcePoolsRequest()
        answer = await self.caller.call(JOBS, ResourcePoolServiceStub, "QueryResourcePools", request)
        return answer.respools

    async def difference(
        self, id: str, version: str, spec: stateless.JobSpec
    ) -> pb.GetReplaceJobDiffResponse:
        """Which instances a replacement would touch. Validates as ReplaceJob does."""
        request = pb.GetReplaceJobDiffRequest(job_id=peloton.JobID(value=id), spec=spec)
        request.version.value = version
        return await self._ask("GetReplaceJobDiff", request)

    async def validate(self, spec: stateless.JobSpec) -> None:
        """Raises what CreateJob would say of the spec. ReplaceJob validates before it looks for the
        job, so one of a job that there is not writes nothing and still answers (jobs contract,
        section 3, rule 4)."""
        request = pb.ReplaceJobRequest(job_id=peloton.JobID(value=str(uuid.uuid4())), spec=spec)
        try:
            await self._ask("ReplaceJob", request)
        except CallFailed as error:
            if error.failure.code is not grpc.StatusCode.NOT_FOUND:
                raise

    # -- writing; all but `create` answer the new entity version

    async def create(
        self, spec: stateless.JobSpec, how: stateless.CreateSpec, *, id: str = ""
    ) -> pb.CreateJobResponse:
        request = pb.CreateJobRequest(spec=spec, create_spec=how)
        if id:
            request.job_id.value = id
        return await self._ask("CreateJob", request)

    async def replace(self, id: str, version: str, spec: stateless.JobSpec, how: stateless.UpdateSpec) -> str:
        return await self._at("ReplaceJob", pb.ReplaceJobRequest(spec=spec, update_spec=how), id, version)

    async def restart(self, id: str, version: str, how: stateless.RestartSpec) -> str:
        return await self._at("RestartJob", pb.RestartJobRequest(restart_spec=how), id, version)

    async def pause(self, id: str, version: str) -> str:
        return await self._at("PauseJobWorkflow", pb.PauseJobWorkflowRequest(), id, version)

    async def resume(self, id: str, version: str) -> str:
        return await self._at("ResumeJobWorkflow", pb.ResumeJobWorkflowRequest(), id, version)

    async def abort(self, id: str, version: str) -> str:
        return await self._at("AbortJobWorkflow", pb.AbortJobWorkflowRequest(), id, version)

    async def start(self, id: str, version: str) -> str:
        return await self._at("StartJob", pb.StartJobRequest(), id, version)

    async def stop(self, id: str, version: str) -> str:
        return await self._at("StopJob", pb.StopJobRequest(), id, version)

    async def delete(self, id: str, version: str, *, force: bool) -> None:
        request = pb.DeleteJobRequest(job_id=peloton.JobID(value=id), force=force)
        request.version.value = version
        await self._ask("DeleteJob", request)

    async def refresh(self, id: str) -> None:
        await self._ask("RefreshJob", pb.RefreshJobRequest(job_id=peloton.JobID(value=id)))

    async def _at(self, method: str, request: Any, id: str, version: str) -> str:
        request.job_id.value, request.version.value = id, version
        return str((await self._ask(method, request)).version.value)


def is_stale(error: CallFailed) -> bool:
    """Somebody changed the job since its version was read."""
    return error.failure.code is grpc.StatusCode.ABORTED and STALE in error.failure.message


def jobs_of(answer: admin_pb2.ListResponse) -> list[stored.Job]:
    return [stored.Job.FromString(found.body.value) for found in answer.objects]
