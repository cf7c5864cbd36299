"""CreateJob, GetJob, StartJob, StopJob, DeleteJob and what they say of a job (jobs contract, sections 3
to 5)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.jobs import kinds
from services.jobs.engine import job as jobs
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.storage.port import Author, Put, Query
from tests.contract.jobs_yard import (
    JOB_RUNNING,
    KILLING,
    RUNNING,
    STARTING,
    Job,
    Yard,
    opened,
    span,
    spans,
    until,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-lifecycle")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ABORTED = grpc.StatusCode.ABORTED
_PELOTON = "peloton.api.v1alpha"
KILLED = stateless.JOB_STATE_KILLED
REASON = pod_pb2.TerminationStatus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


# -- CreateJob


async def test_a_job_is_created_and_runs(yard: Yard) -> None:
    answer = await yard.call("CreateJob", pb.CreateJobRequest(spec=yard.spec(count=3, name="web")))
    assert answer.version.value == "1-1-1"
    assert uuid.UUID(answer.job_id.value).version == 4
    request = pb.GetJobRequest(job_id=answer.job_id)

    async def status() -> stateless.JobStatus:
        return (await yard.call("GetJob", request)).job_info.status

    found = await until(status, lambda s: s.state == JOB_RUNNING)
    assert found.desired_state == JOB_RUNNING
    assert found.version.value == "1-1-1"
    assert found.pod_stats["POD_STATE_RUNNING"] == 3 and sum(found.pod_stats.values()) == 3
    assert set(found.pod_stats) == set(pod_pb2.PodState.keys()) - {"POD_STATE_INVALID"}
    assert dict(found.pod_configuration_version_stats) == {"1-0-0": 3}
    by_version = found.pod_stats_by_configuration_version
    assert {version: dict(stats.state_stats) for version, stats in by_version.items()} == {
        "1-0-0": {"POD_STATE_RUNNING": 3}
    }
    assert found.creation_time.endswith("Z") and len(found.creation_time) == len(
        "2023-11-14T22:13:20.000000000Z"
    )
    assert found.revision.version > 1


async def test_the_chosen_id_is_the_jobs(yard: Yard) -> None:
    id = str(uuid.uuid4())
    request = pb.CreateJobRequest(spec=yard.spec(count=1))
    request.job_id.value = id.upper()
    assert (await yard.call("CreateJob", request)).job_id.value == id


async def test_right_after_the_creation_all_pods_are_initialized(yard: Yard) -> None:
    job = await yard.job(count=4)
    first = (await yard.store.history("job", job.id))[-1].change.after
    status = jobs.status(stored.Job.FromString(first))
    assert status.state == stateless.JOB_STATE_PENDING
    assert (status.pod_stats["POD_STATE_INITIALIZED"], status.revision.version) == (4, 1)
    assert status.workflow_status.num_instances_remaining == 4


async def test_an_existing_job_is_untouched_by_another_creation(yard: Yard) -> None:
    job = await yard.job(owner="one")
    before = await job.get()
    request = pb.CreateJobRequest(spec=yard.spec(owner="two"))
    request.job_id.value = job.id
    await yard.fails(grpc.StatusCode.ALREADY_EXISTS, "CreateJob", request, job.id)
    assert await job.get() == before


async def test_an_id_whose_job_is_being_deleted_is_taken_until_it_is_gone(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.delete(wait=False)
    request = pb.CreateJobRequest(spec=yard.spec(count=1, name="second"))
    request.job_id.value = job.id
    await yard.fails(grpc.StatusCode.ALREADY_EXISTS, "CreateJob", request)
    await job.until_gone(passing=5)
    await yard.call("CreateJob", request)
    assert (await job.spec()).name == "second"


async def test_a_job_of_no_instances_waits(yard: Yard) -> None:
    job = await yard.job(count=0)
    assert (await job.status()).state == stateless.JOB_STATE_PENDING
    assert (await job.stop()) == "1-2-1"
    assert (await job.status()).state == KILLED


async def test_pools_are_checked_before_the_spec(yard: Yard) -> None:
    async def fails(code: grpc.StatusCode, pool: str | None, *said: str) -> None:
        request = pb.CreateJobRequest(spec=yard.spec())
        request.spec.default_spec.containers.add()
        request.spec.ClearField("respool_id")
        if pool is not None:
            request.spec.respool_id.value = pool
        await yard.fails(code, "CreateJob", request, *said)

    await fails(INVALID, None, "spec.respool_id")
    await fails(INVALID, "", "spec.respool_id")
    await fails(INVALID, "root", "spec.respool_id")
    await fails(NOT_FOUND, "no-such-pool", "no-such-pool")
    await fails(grpc.StatusCode.UNIMPLEMENTED, yard.pool, "spec.default_spec.containers")


async def test_a_job_lives_in_a_leaf(yard: Yard) -> None:
    await yard.apply(resource_pools=[{"path": "/a"}, {"path": "/a/b"}])
    pools = (await yard.rest("GET", "/v1alpha/resourcePools")).ok["respools"]
    ids = {pool["path"]["value"]: pool["respoolId"]["value"] for pool in pools}
    request = pb.CreateJobRequest(spec=yard.spec(pool=ids["/a"]))
    await yard.fails(INVALID, "CreateJob", request, "spec.respool_id", "/a/b")
    await yard.job(pool=ids["/a/b"])


async def test_creation_goes_in_batches(yard: Yard) -> None:
    job = await yard.job("slow start", count=5, create_spec=stateless.CreateSpec(batch_size=2), settle=False)
    for done in (0, 2, 4):
        found = await until(
            job.workflow,
            lambda f, d=done: f.status.num_instances_completed == d and f.status.instances_current,
        )
        batch = list(range(done, min(done + 2, 5)))
        assert list(found.status.instances_current) == batch
        await job.until_flying(*batch, state=STARTING)
        assert len(await job.pods()) == batch[-1] + 1
        await yard.advance(30)
    info = await job.until_over()
    assert info.update_spec == stateless.UpdateSpec(batch_size=2)
    assert [event.state for event in info.events] == [
        stateless.WORKFLOW_STATE_SUCCEEDED,
        stateless.WORKFLOW_STATE_ROLLING_FORWARD,
        stateless.WORKFLOW_STATE_INITIALIZED,
    ]
    assert (info.status.version.value, info.status.prev_version.value) == ("1-1-1", "0-1-1")


async def test_secrets_are_refused(yard: Yard) -> None:
    request = pb.CreateJobRequest(spec=yard.spec())
    request.secrets.add(path="/key").value.data = b"c2VjcmV0"
    await yard.fails(INVALID, "CreateJob", request, "secrets")


async def test_opaque_data_stays_with_the_creation(yard: Yard) -> None:
    job = await yard.job(opaque="mark")
    assert (await job.workflow()).opaque_data.data == "mark"


# -- GetJob


async def test_get_job_tells_spec_status_and_workflow(yard: Yard) -> None:
    job = await yard.job(owner="me", labels={"team": "x"})
    found = await job.get()
    assert found.job_info.job_id.value == job.id
    spec = found.job_info.spec
    assert (spec.owner, spec.instance_count, spec.labels[0].key) == ("me", 2, "team")
    assert (spec.revision.version, spec.revision.updated_by) == (1, "operator")
    assert not found.HasField("summary") and not found.secrets
    assert found.workflow_info.status.state == stateless.WORKFLOW_STATE_SUCCEEDED
    assert found.workflow_info.HasField("opaque_data")
    assert not found.workflow_info.instance_events


async def test_a_summary_wins_over_a_version(yard: Yard) -> None:
    job = await yard.job(owner="me", sla=stateless.SlaSpec(priority=3))
    found = await job.get("nonsense", summary_only=True)
    assert not found.HasField("job_info") and not found.HasField("workflow_info")
    assert (found.summary.owner, found.summary.sla.priority) == ("me", 3)
    assert found.summary.respool_id.value == yard.pool
    assert found.summary.status == (await job.status())


async def test_a_version_answers_the_spec_of_its_configuration_alone(yard: Yard) -> None:
    job = await yard.job()
    await job.replace(yard.spec("run2"))
    await job.until_over()
    for version in ("1-0-0", "1-99-7"):
        found = await job.get(version)
        assert found.job_info.spec.default_spec.containers[0].entrypoint.value == "run"
        assert found.job_info.job_id.value == job.id
        assert not found.job_info.HasField("status") and not found.HasField("workflow_info")
    assert (await job.get("2-0-0")).job_info.spec.default_spec.containers[0].entrypoint.value == "run2"
    for wrong in ("1", "1-1", "1-1-1-1", "a-1-1", "-1-1-1", "", "1--1", "1-1-1 ", "99999999999999999999-1-1"):
        request = pb.GetJobRequest(job_id={"value": job.id}, version={"value": wrong})
        await yard.fails(INVALID, "GetJob", request, "version")
    request = pb.GetJobRequest(job_id={"value": job.id}, version={"value": "7-1-1"})
    await yard.fails(NOT_FOUND, "GetJob", request)


async def test_a_deprecated_command_is_told_as_entrypoint_too(yard: Yard) -> None:
    spec = yard.spec()
    container = spec.default_spec.containers[0]
    container.ClearField("entrypoint")
    container.command.value = "run"
    container.command.arguments.extend(["a", "b"])
    answer = await yard.call("CreateJob", pb.CreateJobRequest(spec=spec))
    found = await yard.call("GetJob", pb.GetJobRequest(job_id=answer.job_id))
    shown = found.job_info.spec.default_spec.containers[0]
    assert shown.command == container.command
    assert (shown.entrypoint.value, list(shown.entrypoint.arguments)) == ("run", ["a", "b"])
    # Who sends back what they read changes nothing.
    asked = pb.GetReplaceJobDiffRequest(job_id=answer.job_id, version=answer.version)
    asked.spec.CopyFrom(found.job_info.spec)
    diff = await yard.call("GetReplaceJobDiff", asked)
    assert spans(diff.instances_unchanged) == [(0, 2)] and not diff.instances_updated


@pytest.mark.parametrize(
    "id", ["", "x", "00000000-0000-0000-0000-00000000000", "6d1c9a52-7f0e-4c3b-9d55-2f8f0f4b7a11"]
)
@pytest.mark.parametrize(
    "method",
    [
        "GetJob",
        "ListPods",
        "QueryPods",
        "GetJobCache",
        "RefreshJob",
        "RestartJob",
        "PauseJobWorkflow",
        "ResumeJobWorkflow",
        "AbortJobWorkflow",
        "StartJob",
        "StopJob",
        "DeleteJob",
    ],
)
async def test_what_is_no_job_is_not_found(yard: Yard, method: str, id: str) -> None:
    request = getattr(pb, f"{method}Request")()
    request.job_id.value = id
    await yard.fails(NOT_FOUND, method, request)


@pytest.mark.parametrize("method", ["ReplaceJob", "PatchJob", "GetReplaceJobDiff", "GetWorkflowEvents"])
async def test_an_id_that_is_none_is_invalid_where_the_contract_says_so(yard: Yard, method: str) -> None:
    request = getattr(pb, f"{method}Request")()
    request.job_id.value = "x"
    if method == "ReplaceJob":
        request.spec.CopyFrom(yard.spec())
    await yard.fails(INVALID, method, request, "job_id.value")
    request.job_id.value = str(uuid.uuid4())
    await yard.fails(NOT_FOUND, method, request)


async def test_workflows_of_nothing(yard: Yard) -> None:
    await yard.fails(INVALID, "ListJobWorkflows", pb.ListJobWorkflowsRequest(), "job_id")
    request = pb.ListJobWorkflowsRequest(job_id={"value": str(uuid.uuid4())})
    await yard.fails(NOT_FOUND, "ListJobWorkflows", request)


# -- versions


@pytest.mark.parametrize("version", ["", "1", "1-1-0", "01-1-1", "2-1-1", " 1-1-1"])
async def test_every_change_wants_the_present_version(yard: Yard, version: str) -> None:
    job = await yard.job(count=1)
    before = await job.get()
    requests = {
        "ReplaceJob": pb.ReplaceJobRequest(spec=yard.spec("run2")),
        "PatchJob": pb.PatchJobRequest(spec=stateless.JobSpec(owner="x")),
        "RestartJob": pb.RestartJobRequest(),
        "PauseJobWorkflow": pb.PauseJobWorkflowRequest(),
        "ResumeJobWorkflow": pb.ResumeJobWorkflowRequest(),
        "AbortJobWorkflow": pb.AbortJobWorkflowRequest(),
        "StartJob": pb.StartJobRequest(),
        "StopJob": pb.StopJobRequest(),
        "DeleteJob": pb.DeleteJobRequest(force=True),
        "GetReplaceJobDiff": pb.GetReplaceJobDiffRequest(spec=yard.spec("run2")),
    }
    for name, request in requests.items():
        request.job_id.value = job.id
        if version:
            request.version.value = version
        await yard.fails(ABORTED, name, request, "unexpected entity version")
    assert await job.get() == before
    await yard.fails(
        NOT_FOUND, "GetJob", pb.GetJobRequest(job_id={"value": job.id}, version={"value": "2-0-0"})
    )


async def test_the_revision_grows_with_every_write(yard: Yard) -> None:
    job = await yard.job(count=1)
    last = (await job.status()).revision.version
    for change in (job.stop, job.start):
        await change()
        found = (await job.status()).revision.version
        assert found > last
        last = found


# -- StartJob and StopJob


async def test_a_job_stops_and_starts(yard: Yard) -> None:
    job = await yard.job(count=2)
    assert await job.stop() == "1-2-1"
    pods = await job.pods()
    assert {status.state for status in pods.values()} == {pod_pb2.POD_STATE_KILLED}
    container = pods[0].containers_status[0]
    assert (
        container.terminationStatus.reason
        == pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    )
    assert container.healthy.state == pod_pb2.HEALTH_STATE_INVALID
    status = await job.status()
    assert (status.state, status.desired_state) == (KILLED, KILLED)
    assert await job.start() == "1-3-1"
    assert (await job.until_state(JOB_RUNNING)).desired_state == JOB_RUNNING
    await job.until_pod(RUNNING, 1)
    assert await job.runs() == {0: 2, 1: 2}


async def test_a_start_leaves_what_runs_alone(yard: Yard) -> None:
    job = await yard.job()
    assert await job.start() == "1-2-1"
    assert await job.start() == "1-3-1"
    await yard.advance(1)
    assert await job.runs() == {0: 1, 1: 1}
    assert (await job.status()).state == JOB_RUNNING


async def test_a_start_lets_pods_that_have_ended_wait_no_longer(yard: Yard) -> None:
    job = await yard.job("crash", count=2)
    await job.until_pod(pod_pb2.POD_STATE_FAILED, 0, passing=10)
    found = await job.until_pod(pod_pb2.POD_STATE_FAILED, 1)
    assert found.failure_count == 1 and found.message == "Task throttled due to failure"
    assert await job.start() == "1-2-1"
    for instance in (0, 1):
        await job.until_pod(RUNNING, instance, 2)
    # The same after a stop: however often they have failed, they need not wait for their pause.
    await job.stop()
    await job.start()
    for instance in (0, 1):
        assert (await job.until_pod(RUNNING, instance, 3)).failure_count == 1


async def test_a_stopping_job_is_killing_until_the_last_pod_has_ended(yard: Yard) -> None:
    job = await yard.job("slow end")
    await job.stop(wait=False)
    await job.until_pod(KILLING)
    assert (await job.status()).state == stateless.JOB_STATE_KILLING
    await job.until_state(KILLED, passing=5)


async def test_a_stubborn_pod_dies_after_its_grace(yard: Yard) -> None:
    job = await yard.job("stubborn", count=1)
    await job.stop(wait=False)
    await job.until_pod(KILLING)
    await yard.advance(29)
    assert (await job.pod()).state == KILLING
    await job.until_state(KILLED, passing=1)


async def test_an_update_that_starts_pods_forbids_a_stop(yard: Yard) -> None:
    job = await yard.job(count=1)
    await job.replace(yard.spec("slow start", count=1), start_pods=True)
    await yard.fails(ABORTED, "StopJob", job.ask(pb.StopJobRequest), "abort")
    await job.abort()
    await job.stop(wait=False)
    assert job.version == "2-2-3"


async def test_an_update_goes_on_while_the_job_is_stopped(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.stop()
    await job.replace(yard.spec("run2", count=3))
    await job.until_over()
    pods = await job.pods()
    assert {(status.state, status.version.value) for status in pods.values()} == {
        (pod_pb2.POD_STATE_KILLED, "2-0-0")
    }
    assert (await job.status()).state == KILLED
    assert await job.runs() == {0: 1, 1: 1, 2: 1}


# -- DeleteJob


async def test_only_a_stopped_job_is_deleted_without_force(yard: Yard) -> None:
    job = await yard.job(name="doomed")
    await yard.fails(ABORTED, "DeleteJob", job.ask(pb.DeleteJobRequest), "not stopped")
    await job.stop()
    await job.delete(force=False)
    await yard.fails(NOT_FOUND, "GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(job_name="doomed"))
    for kind in ("job", "configuration", "job_pod", "run", "workflow", "step", "removed"):
        assert [
            r
            async for r in yard.store.scan(Query(kind, parent=None if kind == "job" else job.id))
            if job.id in r.name
        ] == []


async def test_a_job_that_has_failed_is_not_stopped(yard: Yard) -> None:
    job = await yard.job("crash", count=1)
    await job.until_state(stateless.JOB_STATE_FAILED, passing=10)
    await yard.fails(ABORTED, "DeleteJob", job.ask(pb.DeleteJobRequest), "JOB_STATE_FAILED")


async def test_force_stops_the_pods_first(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.delete(wait=False)
    await job.until_gone()
    assert [id for id in yard.engine.alive() if id.startswith(job.id)] == []
    assert not any(seen.pod_id.startswith(job.id) for seen in yard.engine.all())


async def test_nothing_is_asked_of_a_job_that_is_being_deleted(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.delete(wait=False)
    status = await job.status()
    assert status.desired_state == stateless.JOB_STATE_DELETED
    job.version = status.version.value
    assert job.version == "1-2-1"
    for name, request in (
        ("StartJob", pb.StartJobRequest),
        ("StopJob", pb.StopJobRequest),
        ("RestartJob", pb.RestartJobRequest),
    ):
        await yard.fails(INVALID, name, job.ask(request), "being deleted")
    replaced = job.ask(pb.ReplaceJobRequest, spec=yard.spec("run2"))
    await yard.fails(INVALID, "ReplaceJob", replaced, "being deleted")
    await job.until_gone(passing=5)


async def test_deletion_wins_over_a_restart(yard: Yard) -> None:
    job = await yard.job("slow end", count=2)
    await job.restart()
    await job.until_pod(KILLING)
    await job.delete(wait=False)
    await job.until_gone(passing=5)
    assert [id for id in yard.engine.alive() if id.startswith(job.id)] == []


# -- by name


async def test_ids_by_name_newest_first(yard: Yard) -> None:
    first = await yard.job(name="twin", count=1)
    await yard.advance(1)
    second = await yard.job(name="twin", count=1)
    found = await yard.call("GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(job_name="twin"))
    assert [id.value for id in found.job_id] == [second.id, first.id]
    await yard.fails(NOT_FOUND, "GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(job_name="twi"))
    await second.replace(yard.spec("run", count=1, name="renamed"))
    found = await yard.call("GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(job_name="twin"))
    assert [id.value for id in found.job_id] == [first.id]


async def test_a_job_without_a_name_is_found_without_one(yard: Yard) -> None:
    job = await yard.job(name="", count=1)
    found = await yard.call("GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest())
    assert job.id in [id.value for id in found.job_id]


# -- what is taken


async def test_what_the_contract_accepts(yard: Yard) -> None:
    spec = yard.spec(count=1, sla=stateless.SlaSpec(maximum_unavailable_instances=2**32 - 1))
    spec.default_spec.restart_policy.max_failures = 500
    spec.instance_spec[0].restart_policy.max_failures = 101
    spec.instance_spec[7].controller = True
    request = pb.CreateJobRequest(spec=spec)
    job = Job(yard, (await yard.call("CreateJob", request)).job_id.value, "1-1-1")
    await job.until_over()
    found = await job.spec()
    assert found.default_spec.restart_policy.max_failures == 100
    assert found.instance_spec[0].restart_policy.max_failures == 100
    assert set(await job.pods()) == {0}
    # The same once more is no other spec, nor is what was read.
    for wanted in (spec, found):
        diff = await yard.call("GetReplaceJobDiff", job.ask(pb.GetReplaceJobDiffRequest, spec=wanted))
        assert spans(diff.instances_unchanged) == [(0, 1)]
    assert await job.patch(spec) == "1-1-1"


async def test_the_largest_job(yard: Yard) -> None:
    job = await yard.job(count=1)
    wanted = job.ask(pb.GetReplaceJobDiffRequest, spec=yard.spec(count=100_000))
    diff = await yard.call("GetReplaceJobDiff", wanted)
    assert (spans(diff.instances_added), spans(diff.instances_unchanged)) == ([(1, 100_000)], [(0, 1)])
    wanted.spec.instance_count += 1
    await yard.fails(INVALID, "GetReplaceJobDiff", wanted, "spec.instance_count", "100000")


async def test_metadata_that_means_nothing_is_ignored(yard: Yard) -> None:
    job = await yard.job(count=1)
    metadata = (
        *yard.who().items(),
        ("rpc-caller", "peloton-client"),
        ("rpc-service", "peloton-jobmgr"),
        ("rpc-encoding", "proto"),
        ("x-unheard-of", "1"),
    )
    found = await yard.method("GetJob")(job.ask(pb.GetJobRequest, version=""), metadata=metadata)
    assert found.job_info.job_id.value == job.id


async def test_a_client_without_stubs(yard: Yard) -> None:
    """As grpcurl: everything it knows is what the server described."""
    job = await yard.job(count=3)

    def called() -> tuple[set[str], int, Any]:
        with grpc.insecure_channel(yard.service.target) as channel:
            described = ProtoReflectionDescriptorDatabase(channel)
            names = set(described.get_services())
            service = DescriptorPool(described).FindServiceByName(f"{_PELOTON}.job.stateless.svc.JobService")
            method = service.methods_by_name["GetJob"]
            asked, answer = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))
            call = channel.unary_unary(
                f"/{service.full_name}/GetJob", asked.SerializeToString, answer.FromString
            )
            found = call(asked(job_id={"value": job.id}), metadata=tuple(yard.who().items()))
            return names, len(service.methods), found

    names, methods, found = await asyncio.to_thread(called)
    assert {
        f"{_PELOTON}.job.stateless.svc.JobService",
        f"{_PELOTON}.pod.svc.PodService",
        f"{_PELOTON}.watch.svc.WatchService",
        f"{_PELOTON}.respool.ResourcePoolService",
        "grpc.health.v1.Health",
    } <= names
    assert methods == 21
    assert found.job_info.spec.instance_count == 3
    assert found.job_info.spec.default_spec.containers[0].command.shell is True, "proto2 keeps its defaults"


# -- somebody else who writes


async def overtake(yard: Yard, job: Job) -> None:
    """The job's record changes behind the controller's back."""
    record = await yard.store.get(kinds.JOB, job.id)
    changed = stored.Job.FromString(record.body)
    changed.revision += 1
    body = changed.SerializeToString(deterministic=True)
    await yard.store.commit([Put(kinds.JOB, job.id, body, expect=record.revision)], by=Author("test", "test"))


async def test_a_change_that_was_overtaken_is_made_of_what_is_there_now(yard: Yard) -> None:
    job = await yard.job(count=1)
    await until_idle(yard)
    before = (await job.status()).revision.version
    await overtake(yard, job)
    assert await job.stop() == "1-2-1"
    assert (await job.status()).revision.version > before + 1


async def test_a_change_that_is_overtaken_again_and_again_is_aborted(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await yard.job(count=1)
    await until_idle(yard)
    commit, tries = yard.store.commit, 0

    async def overtaken(changes: Any, **options: Any) -> Any:
        nonlocal tries
        if options["by"].action.endswith("job:stop"):
            tries += 1
            await overtake(yard, job)
        return await commit(changes, **options)

    monkeypatch.setattr(yard.store, "commit", overtaken)
    await yard.fails(ABORTED, "StopJob", job.ask(pb.StopJobRequest), "unexpected version")
    assert tries == 6
    monkeypatch.undo()
    assert await job.stop() == "1-2-1"


async def until_idle(yard: Yard) -> None:
    async def idle() -> bool:
        return yard.controller.idle

    await until(idle, lambda found: found)


# -- RefreshJob and GetJobCache


async def test_refresh_changes_nothing_that_is_right(yard: Yard) -> None:
    job = await yard.job()
    before = await job.get()
    for _ in range(2):
        assert await yard.call("RefreshJob", job.ask(pb.RefreshJobRequest)) == pb.RefreshJobResponse()
    await job.stop_pod(0)
    await job.until_pod(pod_pb2.POD_STATE_KILLED, 0)
    assert (await job.get()).job_info.spec == before.job_info.spec


async def test_the_cache_has_four_fields_of_the_spec_and_the_whole_status(yard: Yard) -> None:
    job = await yard.job(owner="me", sla=stateless.SlaSpec(priority=2))
    found = await yard.call("GetJobCache", job.ask(pb.GetJobCacheRequest))
    spec = await job.spec()
    assert found.spec == stateless.JobSpec(
        instance_count=2, respool_id=spec.respool_id, sla=spec.sla, revision=spec.revision
    )
    assert found.status == await job.status()


async def test_ranges_beyond_the_end_are_no_error(yard: Yard) -> None:
    job = await yard.job()
    found = await yard.call("ListPods", job.ask(pb.ListPodsRequest, range=span(1, 4_000_000_000)))
    assert [pod.pod_name.value for batch in found for pod in batch.pods] == [job.pod_name(1)]
