"""Peloton's stateless JobService (jobs contract, section 4). Thin: rules are in lifecycle, validation
and queries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from services.jobs import kinds, machines, names, ranges
from services.jobs import spec as specs
from services.jobs.api import lifecycle
from services.jobs.api.lifecycle import Change
from services.jobs.api.pools import Pools
from services.jobs.api.queries import Queries
from services.jobs.api.validation import Validation
from services.jobs.engine import job as jobs
from services.jobs.engine import rollout, workflow
from services.jobs.engine.board import Draft
from services.jobs.engine.boards import Boards
from services.jobs.engine.controller import Controller
from services.jobs.names import Version
from shared.errors import InvalidArgument, NotFound
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.rpc.method import Call
from shared.service.service import Clock
from shared.storage.errors import Conflict
from shared.storage.port import Condition, Order, Query, Store

SERVICE: Final = pb.DESCRIPTOR.services_by_name["JobService"]
_BATCH: Final = 100
# Of a creation whose pool is written at the same time.
_TRIES: Final = 5


class JobService:
    """`writer` answers the controller, or raises Unavailable when another process writes. Reads are
    answered by every process."""

    def __init__(
        self,
        store: Store,
        writer: Callable[[], Controller],
        queries: Queries,
        validation: Validation,
        pools: Pools,
        clock: Clock,
    ) -> None:
        self._store = store
        self._boards = Boards(store)
        self._writer = writer
        self._pools = pools
        self._clock = clock
        self._queries = queries
        self._validation = validation

    # -- writing

    async def CreateJob(self, request: pb.CreateJobRequest, call: Call) -> pb.CreateJobResponse:
        id = request.job_id.value
        id = names.parse_job_id(id) if id else names.new_job_id()
        relies = await self._pools.leaf(request.spec.respool_id.value)
        self._validation.check(request.spec)
        self._validation.secrets(request.secrets)
        new = lifecycle.create(
            id,
            request.spec,
            request.create_spec,
            request.opaque_data,
            call.identity.subject,
            self._clock(),
        )
        for left in reversed(range(_TRIES)):
            try:
                await self._writer().create(
                    new.job, new.configuration, new.workflow, call.author("job:create"), checks=[relies]
                )
                break
            except Conflict:
                # The pool was written; it may still be there.
                if not left:
                    raise
                relies = await self._pools.leaf(request.spec.respool_id.value)
        answer = pb.CreateJobResponse()
        answer.job_id.value = id
        answer.version.value = str(jobs.version(new.job))
        return answer

    async def ReplaceJob(self, request: pb.ReplaceJobRequest, call: Call) -> pb.ReplaceJobResponse:
        id = names.parse_job_id(request.job_id.value)
        self._validation.check(request.spec)
        change = lifecycle.replace(
            request.version.value, request.spec, request.update_spec, _opaque(request), call.identity.subject
        )
        return pb.ReplaceJobResponse(version=await self._change(id, change, call, "job:replace"))

    async def PatchJob(self, request: pb.PatchJobRequest, call: Call) -> pb.PatchJobResponse:
        id = names.parse_job_id(request.job_id.value)
        change = lifecycle.patched(
            request.version.value,
            request.spec,
            request.update_spec,
            _opaque(request),
            call.identity.subject,
            self._validation.check,
        )
        return pb.PatchJobResponse(version=await self._change(id, change, call, "job:patch"))

    async def RestartJob(self, request: pb.RestartJobRequest, call: Call) -> pb.RestartJobResponse:
        change = lifecycle.restart(
            request.version.value, request.restart_spec, _opaque(request), call.identity.subject
        )
        version = await self._change(request.job_id.value, change, call, "job:restart")
        return pb.RestartJobResponse(version=version)

    async def PauseJobWorkflow(
        self, request: pb.PauseJobWorkflowRequest, call: Call
    ) -> pb.PauseJobWorkflowResponse:
        change = lifecycle.pause(request.version.value, _opaque(request))
        version = await self._change(request.job_id.value, change, call, "workflow:pause")
        return pb.PauseJobWorkflowResponse(version=version)

    async def ResumeJobWorkflow(
        self, request: pb.ResumeJobWorkflowRequest, call: Call
    ) -> pb.ResumeJobWorkflowResponse:
        change = lifecycle.resume(request.version.value, _opaque(request))
        version = await self._change(request.job_id.value, change, call, "workflow:resume")
        return pb.ResumeJobWorkflowResponse(version=version)

    async def AbortJobWorkflow(
        self, request: pb.AbortJobWorkflowRequest, call: Call
    ) -> pb.AbortJobWorkflowResponse:
        change = lifecycle.abort(request.version.value, _opaque(request))
        version = await self._change(request.job_id.value, change, call, "workflow:abort")
        return pb.AbortJobWorkflowResponse(version=version)

    async def StartJob(self, request: pb.StartJobRequest, call: Call) -> pb.StartJobResponse:
        change = lifecycle.start(request.version.value)
        return pb.StartJobResponse(
            version=await self._change(request.job_id.value, change, call, "job:start")
        )

    async def StopJob(self, request: pb.StopJobRequest, call: Call) -> pb.StopJobResponse:
        change = lifecycle.stop(request.version.value)
        return pb.StopJobResponse(version=await self._change(request.job_id.value, change, call, "job:stop"))

    async def DeleteJob(self, request: pb.DeleteJobRequest, call: Call) -> pb.DeleteJobResponse:
        change = lifecycle.delete(request.version.value, force=request.force)
        await self._change(request.job_id.value, change, call, "job:delete")
        return pb.DeleteJobResponse()

    async def RefreshJob(self, request: pb.RefreshJobRequest, call: Call) -> pb.RefreshJobResponse:
        await self._writer().refresh(_known(request.job_id.value))
        return pb.RefreshJobResponse()

    async def _change(self, id: str, change: Change, call: Call, action: str) -> peloton.EntityVersion:
        version = await self._writer().change(_known(id), change, call.author(action))
        return peloton.EntityVersion(value=str(version))

    # -- reading

    async def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.GetJobResponse:
        job = await self._job(request.job_id.value)
        if request.summary_only:
            return pb.GetJobResponse(summary=jobs.summary(job))
        if request.HasField("version"):
            wanted = Version.parse(request.version.value).configuration
            answer = pb.GetJobResponse()
            answer.job_info.job_id.value = job.id
            answer.job_info.spec.CopyFrom(specs.shown(await self._spec(job.id, wanted)))
            return answer
        spec = specs.shown(await self._spec(job.id, job.configuration))
        answer = pb.GetJobResponse(job_info=jobs.info(job, spec))
        record = await self._store.get(kinds.WORKFLOW, job.workflow)
        if record is not None:
            current = stored.Workflow.FromString(record.body)
            answer.workflow_info.CopyFrom(workflow.info(current, job.workflow_status))
        return answer

    async def GetJobIDFromJobName(
        self, request: pb.GetJobIDFromJobNameRequest, call: Call
    ) -> pb.GetJobIDFromJobNameResponse:
        query = Query(
            kinds.JOB,
            where=(Condition("name", "=", request.job_name),),
            order=(Order("created_at", descending=True),),
        )
        answer = pb.GetJobIDFromJobNameResponse()
        async with aclosing(self._store.scan(query)) as records:
            async for record in records:
                answer.job_id.add(value=record.name)
        if not answer.job_id:
            raise NotFound(f"no job is called {request.job_name!r}", kind=kinds.JOB, name=request.job_name)
        return answer

    async def GetWorkflowEvents(
        self, request: pb.GetWorkflowEventsRequest, call: Call
    ) -> pb.GetWorkflowEventsResponse:
        job = await self._job(names.parse_job_id(request.job_id.value))
        record = await self._store.get(kinds.WORKFLOW, job.workflow)
        if record is None:
            raise _missing(job.id)
        current = stored.Workflow.FromString(record.body)
        found = await self._instance_events(current, request.instance_id, request.limit)
        return pb.GetWorkflowEventsResponse(events=workflow.collapsed(found))

    async def ListPods(
        self, request: pb.ListPodsRequest, call: Call
    ) -> AsyncGenerator[pb.ListPodsResponse, None]:
        job = await self._job(request.job_id.value)
        bounds = ranges.bounds(request.range) if request.HasField("range") else None
        async with aclosing(self._queries.pods(job.id, bounds)) as found:
            batch = pb.ListPodsResponse()
            async for pod in found:
                entry = batch.pods.add(status=pod.status)
                entry.pod_name.value = pod.name
                if len(batch.pods) == _BATCH:
                    yield batch
                    batch = pb.ListPodsResponse()
            if batch.pods:
                yield batch

    async def QueryPods(self, request: pb.QueryPodsRequest, call: Call) -> pb.QueryPodsResponse:
        return await self._queries.query_pods(await self._job(request.job_id.value), request)

    async def QueryJobs(self, request: pb.QueryJobsRequest, call: Call) -> pb.QueryJobsResponse:
        return await self._queries.query_jobs(request)

    async def ListJobs(
        self, request: pb.ListJobsRequest, call: Call
    ) -> AsyncGenerator[pb.ListJobsResponse, None]:
        async with aclosing(self._store.scan(Query(kinds.JOB))) as records:
            batch = pb.ListJobsResponse()
            async for record in records:
                batch.jobs.append(jobs.summary(stored.Job.FromString(record.body)))
                if len(batch.jobs) == _BATCH:
                    yield batch
                    batch = pb.ListJobsResponse()
            if batch.jobs:
                yield batch

    async def ListJobWorkflows(
        self, request: pb.ListJobWorkflowsRequest, call: Call
    ) -> pb.ListJobWorkflowsResponse:
        if not request.job_id.value:
            raise InvalidArgument.at("job_id", "must not be empty")
        job = await self._job(request.job_id.value)
        answer = pb.ListJobWorkflowsResponse()
        for found in await self._workflows(job, request.updates_limit):
            progress = job.workflow_status
            if found.name != job.workflow:
                progress = await self._queries.progress(found, job)
            shown = answer.workflow_infos.add()
            shown.CopyFrom(workflow.info(found, progress))
            if request.instance_events:
                for instance in (
                    *ranges.instances(found.added),
                    *ranges.instances(found.removed),
                    *ranges.instances(found.updated),
                ):
                    events = await self._instance_events(found, instance, request.instance_events_limit)
                    shown.instance_events.add(instance_id=instance, events=events)
        return answer

    async def GetReplaceJobDiff(
        self, request: pb.GetReplaceJobDiffRequest, call: Call
    ) -> pb.GetReplaceJobDiffResponse:
        id = names.parse_job_id(request.job_id.value)

        board = await self._boards.read(id)
        if board is None:
            raise _missing(id)
        draft = Draft(board, self._clock())
        lifecycle.check_version(draft, request.version.value)
        self._validation.check(request.spec)
        lifecycle.check_pool(draft, request.spec)
        await self._boards.load_specs(board)
        found = rollout.difference(draft, request.spec)
        return pb.GetReplaceJobDiffResponse(
            instances_added=ranges.compressed(found.added),
            instances_removed=ranges.compressed(found.removed),
            instances_updated=ranges.compressed(found.updated),
            instances_unchanged=ranges.compressed(found.unchanged),
        )

    async def GetJobCache(self, request: pb.GetJobCacheRequest, call: Call) -> pb.GetJobCacheResponse:
        job = await self._job(request.job_id.value)
        spec = await self._spec(job.id, job.configuration)
        short = stateless.JobSpec(
            instance_count=spec.instance_count,
            respool_id=spec.respool_id,
            sla=spec.sla,
            revision=spec.revision,
        )
        return pb.GetJobCacheResponse(spec=short, status=jobs.status(job))

    async def _job(self, id: str) -> stored.Job:
        """Raises NotFound."""
        record = await self._store.get(kinds.JOB, _known(id))
        if record is None:
            raise _missing(id)
        return stored.Job.FromString(record.body)

    async def _spec(self, id: str, configuration: int) -> stateless.JobSpec:
        """Raises NotFound for one that never was, or was pruned."""
        record = await self._store.get(kinds.CONFIGURATION, names.configuration(id, configuration))
        if record is None:
            raise NotFound(
                f"job {id!r} has no configuration {configuration} (any more)",
                kind=kinds.CONFIGURATION,
                name=names.configuration(id, configuration),
            )
        return stored.Configuration.FromString(record.body).spec

    async def _workflows(self, job: stored.Job, limit: int) -> Sequence[stored.Workflow]:
        """Newest first; `limit` 0: all that are kept."""
        query = Query(kinds.WORKFLOW, parent=job.id, name_descending=True, limit=limit or None)
        async with aclosing(self._store.scan(query)) as records:
            return [stored.Workflow.FromString(record.body) async for record in records]

    async def _instance_events(
        self, current: stored.Workflow, instance: int, limit: int
    ) -> list[stateless.WorkflowEvent]:
        about = (*current.added, *current.updated, *current.removed)
        record = await self._store.get(kinds.STEP.name, names.step(current.name, instance))
        step = None if record is None else stored.Step.FromString(record.body)
        begun = current.state != machines.W_INITIALIZED
        inside = any(low <= instance < high for low, high in map(ranges.bounds, about))
        if step is None and begun and not inside:
            return []
        return workflow.instance_events(current, step, limit)


def _known(id: str) -> str:
    """Raises NotFound: what is no UUID names no job."""
    if not names.is_job_id(id):
        raise _missing(id)
    return id.lower()


def _missing(id: str) -> NotFound:
    return NotFound(f"job {id[:100]!r} not found", kind=kinds.JOB, name=id[:100])


def _opaque(
    request: pb.ReplaceJobRequest
    | pb.PatchJobRequest
    | pb.RestartJobRequest
    | pb.PauseJobWorkflowRequest
    | pb.ResumeJobWorkflowRequest
    | pb.AbortJobWorkflowRequest,
) -> peloton.OpaqueData | None:
    return request.opaque_data if request.HasField("opaque_data") else None
