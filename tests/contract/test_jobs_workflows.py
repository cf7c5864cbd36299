"""ReplaceJob, PatchJob, RestartJob, pausing and what is told of workflows (jobs contract, sections 3, 4
and 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import grpc
import pytest
import pytest_asyncio

from services.jobs.engine import history
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.storage.port import Query
from tests.contract.jobs_yard import KILLING, RUNNING, STARTING, Job, Yard, opened, spans, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-workflows")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ABORTED = grpc.StatusCode.ABORTED
UPDATE, RESTART = stateless.WORKFLOW_TYPE_UPDATE, stateless.WORKFLOW_TYPE_RESTART
INITIALIZED = stateless.WORKFLOW_STATE_INITIALIZED
FORWARD = stateless.WORKFLOW_STATE_ROLLING_FORWARD
BACKWARD = stateless.WORKFLOW_STATE_ROLLING_BACKWARD
PAUSED = stateless.WORKFLOW_STATE_PAUSED
SUCCEEDED = stateless.WORKFLOW_STATE_SUCCEEDED
W_ABORTED = stateless.WORKFLOW_STATE_ABORTED
W_FAILED = stateless.WORKFLOW_STATE_FAILED
ROLLED_BACK = stateless.WORKFLOW_STATE_ROLLED_BACK
KILLED_FOR_UPDATE = pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE
KILLED_FOR_RESTART = pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


async def versions(job: Job) -> dict[int, str]:
    return {instance: status.version.value for instance, status in (await job.pods()).items()}


# -- ReplaceJob


async def test_an_update_replaces_spec_and_pods(yard: Yard) -> None:
    job = await yard.job(count=3, owner="one")
    assert await job.replace(yard.spec("run2", count=3, owner="two"), opaque="why") == "2-1-2"
    info = await job.until_over()
    assert (info.status.type, info.opaque_data.data) == (UPDATE, "why")
    assert (spans(info.instances_updated), info.instances_added, info.instances_removed) == ([(0, 3)], [], [])
    assert (info.status.num_instances_completed, info.status.num_instances_remaining) == (3, 0)
    assert (info.status.version.value, info.status.prev_version.value) == ("2-1-2", "1-1-2")
    spec = await job.spec()
    assert (spec.owner, spec.revision.version) == ("two", 2)
    assert await job.runs() == {0: 2, 1: 2, 2: 2}
    assert set((await versions(job)).values()) == {"2-0-0"}
    assert (await job.status()).pod_configuration_version_stats == {"2-0-0": 3}


async def test_an_update_grows_and_shrinks(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.replace(yard.spec(count=4))
    info = await job.until_over()
    assert (spans(info.instances_added), info.instances_updated) == ([(2, 4)], [])
    assert await job.runs() == {0: 1, 1: 1, 2: 1, 3: 1}
    assert set((await versions(job)).values()) == {"2-0-0"}
    await job.replace(yard.spec(count=1))
    info = await job.until_over()
    assert spans(info.instances_removed) == [(1, 4)]
    assert await job.runs() == {0: 1}
    await job.replace(yard.spec(count=2))
    await job.until_over()
    # Instance 1 goes on counting.
    assert await job.runs() == {0: 1, 1: 2}
    assert (await job.pod(1)).prev_pod_id.value == job.pod_id(1, 1)


async def test_job_level_changes_touch_no_process(yard: Yard) -> None:
    job = await yard.job(count=2)
    changed = yard.spec(
        count=2, owner="x", description="y", labels={"a": "b"}, sla=stateless.SlaSpec(priority=9)
    )
    await job.replace(changed)
    info = await job.until_over()
    assert not (info.instances_added or info.instances_removed or info.instances_updated)
    assert await job.runs() == {0: 1, 1: 1}
    assert set((await versions(job)).values()) == {"2-0-0"}


async def test_the_pool_cannot_be_changed(yard: Yard) -> None:
    await yard.apply(resource_pools=[{"path": "/elsewhere"}])
    pools = (await yard.rest("GET", "/v1alpha/resourcePools:lookup", **{"path.value": "/elsewhere"})).ok
    job = await yard.job()
    other = yard.spec(pool=pools["respoolId"]["value"])
    await yard.fails(INVALID, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=other), "spec.respool_id")
    await yard.fails(
        INVALID, "GetReplaceJobDiff", job.ask(pb.GetReplaceJobDiffRequest, spec=other), "spec.respool_id"
    )
    await yard.fails(
        INVALID, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=other, version="x"), "spec.respool_id"
    )


async def test_the_spec_is_checked_before_existence_and_version(yard: Yard) -> None:
    job = await yard.job()
    spec = yard.spec()
    spec.sla.revocable = True
    await yard.fails(
        INVALID, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=spec, version="x"), "spec.sla.revocable"
    )
    missing = pb.ReplaceJobRequest(job_id={"value": "00000000-0000-4000-8000-000000000000"}, spec=spec)
    await yard.fails(INVALID, "ReplaceJob", missing, "spec.sla.revocable")


async def test_batches(yard: Yard) -> None:
    job = await yard.job(count=5)
    await job.replace(yard.spec("slow start", count=5), batch_size=2)
    for batch in ((0, 1), (2, 3), (4,)):
        await job.until_flying(*batch, state=STARTING)
        assert sum(status.state == RUNNING for status in (await job.pods()).values()) == 5 - len(batch)
        await yard.advance(30)
    await job.until_over()


async def test_a_start_paused_update_waits(yard: Yard) -> None:
    job = await yard.job()
    await job.replace(yard.spec("run2"), start_paused=True)
    info = await job.workflow()
    assert (info.status.state, info.status.prev_state) == (PAUSED, INITIALIZED)
    assert [event.state for event in info.events] == [PAUSED, INITIALIZED]
    assert not info.instances_updated
    assert await job.resume() == "2-1-3"
    info = await job.until_over()
    assert [event.state for event in info.events] == [SUCCEEDED, FORWARD, INITIALIZED, PAUSED, INITIALIZED]


async def test_the_same_update_again_is_none(yard: Yard) -> None:
    job = await yard.job(count=2)
    spec = yard.spec("slow start", count=2)
    assert await job.replace(spec, batch_size=1, opaque="a") == "2-1-2"
    await job.until_flying(0, state=STARTING)
    before = await job.get()
    assert await job.replace(spec, batch_size=1, opaque="a") == "2-1-2"
    assert await job.get() == before
    assert await job.replace(spec, batch_size=1, opaque="b") == "2-1-3"
    assert (await job.workflow()).opaque_data.data == "b"
    # Other parameters make another update.
    assert await job.replace(spec, batch_size=2) == "3-1-4"
    await job.until_over(passing=10)


async def test_an_update_overwrites_another(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.replace(yard.spec("slow start", count=2), batch_size=1)
    await job.until_flying(0, state=STARTING)
    assert await job.replace(yard.spec("run2", count=2)) == "3-1-3"
    await job.until_over()
    newest, overwritten, creation = await job.workflows()
    assert [w.status.state for w in (newest, overwritten, creation)] == [SUCCEEDED, W_ABORTED, SUCCEEDED]
    assert set((await versions(job)).values()) == {"3-0-0"}
    assert await job.runs() == {0: 3, 1: 2}


async def test_an_update_overwrites_a_paused_creation(yard: Yard) -> None:
    job = await yard.job(count=2, create_spec=stateless.CreateSpec(start_paused=True), settle=False)
    await job.replace(yard.spec("run2", count=3))
    info = await job.until_over()
    assert spans(info.instances_added) == [(0, 3)]
    assert set((await versions(job)).values()) == {"2-0-0"}


async def test_a_restart_that_goes_on_forbids_an_update(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.restart()
    await yard.fails(
        INVALID, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=yard.spec("run2")), "restarted"
    )
    await job.until_over(passing=5)


async def test_start_pods_is_refused_while_the_job_stops(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.stop(wait=False)
    request = job.ask(pb.ReplaceJobRequest, spec=yard.spec("run2"))
    request.update_spec.start_pods = True
    await yard.fails(ABORTED, "ReplaceJob", request, "stopped")
    await job.until_state(stateless.JOB_STATE_KILLED, passing=5)


async def test_start_pods_starts_a_stopped_job(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.stop()
    assert await job.replace(yard.spec("run2"), start_pods=True) == "2-2-2"
    info = await job.until_over()
    assert info.update_spec.start_pods
    status = await job.status()
    assert (status.state, status.desired_state) == (stateless.JOB_STATE_RUNNING,) * 2
    assert set((await versions(job)).values()) == {"2-0-0"}


async def test_configuration_numbers_count_on_after_a_refusal(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.restart()
    for _ in range(2):
        await yard.fails(INVALID, "ReplaceJob", job.ask(pb.ReplaceJobRequest, spec=yard.spec("run2")))
    await job.until_over(passing=5)
    await yard.fails(
        NOT_FOUND, "GetJob", pb.GetJobRequest(job_id={"value": job.id}, version={"value": "3-0-0"})
    )
    assert (await job.replace(yard.spec("run2", count=1))).startswith("3-")
    await job.until_over(passing=5)


async def test_failed_updates_roll_back(yard: Yard) -> None:
    job = await yard.job(count=3, name="good", owner="good")
    await job.replace(
        yard.spec("no such file", count=4, owner="bad"),
        batch_size=1,
        rollback_on_failure=True,
        max_instance_retries=1,
        max_tolerable_instance_failures=1,
    )
    info = await job.until_over(ROLLED_BACK)
    assert [event.state for event in info.events] == [ROLLED_BACK, BACKWARD, FORWARD, INITIALIZED]
    assert job.version == "2-1-2"
    status = await job.status()
    assert status.version.value == "3-1-2"
    spec = await job.spec()
    assert (spec.owner, spec.instance_count, spec.revision.version) == ("good", 3, 3)
    assert set((await versions(job)).values()) == {"3-0-0"}
    assert all(pod.state == RUNNING for pod in (await job.pods()).values())


async def test_failures_without_rollback_leave_things_as_they_are(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.replace(
        yard.spec("no such file", count=3),
        batch_size=1,
        max_instance_retries=1,
        max_tolerable_instance_failures=2,
    )
    info = await job.until_over(W_FAILED)
    assert (info.status.num_instances_failed, info.status.num_instances_remaining) == (2, 1)
    assert (await job.spec()).default_spec.containers[0].entrypoint.value == "no such file"
    assert (await job.pod(2)).state == RUNNING
    await job.delete()


async def test_without_a_bound_failures_never_stop_an_update(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.replace(yard.spec("no such file"), max_instance_retries=1)
    info = await job.until_over()
    assert (info.status.num_instances_failed, info.status.num_instances_completed) == (2, 0)
    await job.delete()


async def test_a_health_check_decides_about_an_instance(yard: Yard) -> None:
    job = await yard.job(count=1)
    await job.replace(yard.spec("run2", count=1, checked=True))
    found = await job.until_pod(RUNNING, run=2)
    assert found.containers_status[0].healthy.state == pod_pb2.HEALTH_STATE_UNKNOWN
    assert (await job.workflow()).status.state == FORWARD
    await job.until_over(passing=5)
    assert (await job.pod()).containers_status[0].healthy.state == pod_pb2.HEALTH_STATE_HEALTHY


# -- PatchJob


async def test_a_patch_merges_and_rolls_out(yard: Yard) -> None:
    job = await yard.job(count=2, owner="one", labels={"a": "1", "b": "2"})
    wanted = stateless.JobSpec(owner="two")
    wanted.labels.add(key="c", value="3")
    wanted.default_spec.kill_grace_period_seconds = 7
    assert await job.patch(wanted, batch_size=1) == "2-1-2"
    info = await job.until_over()
    assert info.update_spec.batch_size == 1
    spec = await job.spec()
    assert (spec.owner, spec.instance_count, spec.respool_id.value) == ("two", 2, yard.pool)
    assert [(label.key, label.value) for label in spec.labels] == [("c", "3")]
    assert spec.default_spec.kill_grace_period_seconds == 7
    assert spec.default_spec.containers[0].entrypoint.value == "run"
    assert await job.runs() == {0: 2, 1: 2}


async def test_a_patch_of_nothing_is_none(yard: Yard) -> None:
    job = await yard.job(owner="one")
    before = await job.get()
    assert await job.patch(stateless.JobSpec()) == "1-1-1"
    assert await job.patch(stateless.JobSpec(owner="one")) == "1-1-1"
    assert await job.get() == before


async def test_what_a_patch_comes_to_is_checked(yard: Yard) -> None:
    job = await yard.job()
    wrong = stateless.JobSpec(sla=stateless.SlaSpec(revocable=True))
    await yard.fails(INVALID, "PatchJob", job.ask(pb.PatchJobRequest, spec=wrong), "spec.sla.revocable")
    moved = stateless.JobSpec()
    moved.respool_id.value = "root"
    await yard.fails(INVALID, "PatchJob", job.ask(pb.PatchJobRequest, spec=moved), "spec.respool_id")


# -- RestartJob


async def test_a_restart_runs_everything_anew(yard: Yard) -> None:
    job = await yard.job(count=3)
    assert await job.restart(opaque="why") == "2-1-2"
    info = await job.until_over()
    assert (info.status.type, spans(info.restart_spec.ranges), info.opaque_data.data) == (
        RESTART,
        [(0, 3)],
        "why",
    )
    assert not info.HasField("update_spec")
    assert await job.runs() == {0: 2, 1: 2, 2: 2}
    runs = await job.about_pod("GetPod", pod_svc_pb2.GetPodRequest)
    ended = runs.previous[0].status.containers_status[0].terminationStatus
    assert ended.reason == KILLED_FOR_RESTART


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        ([(1, 3), (2, 4)], [(1, 4)]),
        ([(4, 9)], [(4, 5)]),
        ([(7, 9)], [(0, 5)]),
        ([(2, 2)], [(0, 5)]),
        ([(3, 1)], [(0, 5)]),
        ([(0, 1), (3, 4)], [(0, 1), (3, 4)]),
    ],
)
async def test_ranges_of_a_restart(
    yard: Yard, asked: list[tuple[int, int]], resolved: list[tuple[int, int]]
) -> None:
    job = await yard.job(count=5)
    await job.restart(*asked)
    info = await job.until_over()
    assert spans(info.restart_spec.ranges) == resolved
    chosen = {i for low, high in resolved for i in range(low, high)}
    assert await job.runs() == {i: 2 if i in chosen else 1 for i in range(5)}
    assert set((await versions(job)).values()) == {"2-0-0"}


async def test_a_restart_starts_a_stopped_job(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.stop()
    assert await job.restart() == "2-2-2"
    await job.until_over()
    status = await job.status()
    assert (status.state, status.desired_state) == (stateless.JOB_STATE_RUNNING,) * 2


async def test_a_restart_goes_in_batches(yard: Yard) -> None:
    job = await yard.job("slow end", count=3)
    await job.restart(batch_size=2)
    await job.until_flying(0, 1, state=KILLING)
    assert (await job.pod(2)).state == RUNNING
    await yard.advance(5)
    await job.until_pod(KILLING, 2)
    await job.until_over(passing=5)


async def test_the_same_restart_again_is_none(yard: Yard) -> None:
    job = await yard.job("slow end", count=2)
    assert await job.restart(batch_size=1, opaque="a") == "2-1-2"
    await job.until_flying(0)
    assert await job.restart(batch_size=1, opaque="a") == "2-1-2"
    assert await job.restart((1, 2), batch_size=1, opaque="b") == "2-1-3"
    other = job.ask(pb.RestartJobRequest, restart_spec=stateless.RestartSpec(batch_size=2))
    await yard.fails(INVALID, "RestartJob", other, "goes on")
    await job.until_over(passing=5)


@pytest.mark.parametrize("paused", [False, True])
async def test_an_update_that_goes_on_forbids_a_restart(yard: Yard, paused: bool) -> None:
    job = await yard.job(count=1)
    await job.replace(yard.spec("slow start", count=1), start_paused=paused)
    await yard.fails(INVALID, "RestartJob", job.ask(pb.RestartJobRequest), "goes on")
    await job.abort()
    await job.restart()
    await job.until_over(passing=10)


# -- pause, resume, abort


async def test_a_pause_lets_what_flies_land_and_takes_nothing_new(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.replace(yard.spec("slow start", count=3), batch_size=1)
    await job.until_flying(0, state=STARTING)
    assert await job.pause(opaque="lunch") == "2-1-3"
    info = await job.workflow()
    assert (info.status.state, info.status.prev_state, info.opaque_data.data) == (PAUSED, FORWARD, "lunch")
    await yard.advance(30)
    info = await until(job.workflow, lambda found: found.status.num_instances_completed == 1)
    assert not info.status.instances_current and info.status.state == PAUSED
    assert await job.pause(opaque="again") == "2-1-4"
    # Nothing happened: what was said with it stays.
    assert (await job.workflow()).opaque_data.data == "lunch"
    assert len((await job.workflow()).events) == 3
    assert await job.resume(opaque="") == "2-1-5"
    assert (await job.workflow()).opaque_data.data == ""
    await job.until_flying(1, state=STARTING)
    await job.until_over(passing=10)


async def test_an_abort_keeps_what_was_done(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.replace(yard.spec("slow start", count=3), batch_size=1)
    await job.until_flying(0, state=STARTING)
    await yard.advance(30)
    await job.until_flying(1, state=STARTING)
    assert await job.abort() == "2-1-3"
    info = await job.workflow()
    assert info.status.state == W_ABORTED and info.status.completion_time
    await yard.advance(30)
    await job.until_pod(RUNNING, 1, 2)
    assert await versions(job) == {0: "2-0-0", 1: "2-0-0", 2: "1-0-0"}
    assert (await job.spec()).revision.version == 2
    assert await job.abort() == "2-1-4"
    assert await job.resume() == "2-1-5"
    assert await job.pause() == "2-1-6"
    assert len((await job.workflow()).events) == 3
    # The next update brings the rest.
    await job.replace(yard.spec("slow start", count=3))
    info = await job.until_workflow(FORWARD)
    assert spans(info.instances_updated) == [(2, 3)]
    await job.until_over(passing=10)


@pytest.mark.parametrize("act", [Job.pause, Job.resume, Job.abort])
async def test_a_workflow_that_is_over_only_counts(yard: Yard, act: Callable[[Job], object]) -> None:
    job = await yard.job(count=1)
    before = await job.workflow()
    assert await act(job) == "1-1-2"  # type: ignore[misc]
    after = await job.workflow()
    assert (after.events, after.status.state) == (before.events, before.status.state)


# -- GetWorkflowEvents and ListJobWorkflows


async def test_events_of_an_instance(yard: Yard) -> None:
    job = await yard.job(count=3)
    await job.replace(yard.spec("run2", count=3), batch_size=1)
    await job.until_over()

    async def events(instance: int, limit: int = 0) -> list[int]:
        request = job.ask(pb.GetWorkflowEventsRequest, instance_id=instance, limit=limit)
        found = (await yard.call("GetWorkflowEvents", request)).events
        assert all(event.type == UPDATE and event.timestamp for event in found)
        return [event.state for event in found]

    assert await events(1) == [SUCCEEDED, FORWARD, INITIALIZED]
    assert await events(1, 2) == [SUCCEEDED, FORWARD]
    assert await events(7) == []
    await job.restart((0, 1))
    await job.until_over()
    request = job.ask(pb.GetWorkflowEventsRequest, instance_id=1)
    assert not (await yard.call("GetWorkflowEvents", request)).events


async def test_events_of_a_rollback(yard: Yard) -> None:
    job = await yard.job(count=3)
    bad = yard.spec("no such file", count=3)
    await job.replace(
        bad, batch_size=1, rollback_on_failure=True, max_instance_retries=1, max_tolerable_instance_failures=1
    )
    await job.until_over(ROLLED_BACK)
    found = await yard.call("GetWorkflowEvents", job.ask(pb.GetWorkflowEventsRequest, instance_id=0))
    states = [event.state for event in found.events]
    assert states[0] == SUCCEEDED and states[-1] == INITIALIZED
    assert states.index(BACKWARD) < states.index(W_FAILED) < states.index(FORWARD), states
    assert all(one != other for one, other in pairwise(states))


async def test_workflows_newest_first(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.replace(yard.spec("run2", count=3), opaque="x")
    await job.until_over()
    await job.restart((0, 1), in_place=True)
    await job.until_over()
    restart, update, creation = await job.workflows()
    assert [w.status.type for w in (restart, update, creation)] == [RESTART, UPDATE, UPDATE]
    assert (restart.restart_spec.in_place, update.opaque_data.data) == (True, "x")
    assert (spans(update.instances_added), spans(update.instances_updated)) == ([(2, 3)], [(0, 2)])
    assert spans(creation.instances_added) == [(0, 2)]
    assert [w.status.num_instances_completed for w in (restart, update, creation)] == [1, 3, 2]
    assert all(w.status.completion_time and not w.instance_events for w in (restart, update, creation))
    assert [w.status.type for w in await job.workflows(updates_limit=1)] == [RESTART]


async def test_workflows_with_events_of_instances(yard: Yard) -> None:
    job = await yard.job(count=3)
    spec = yard.spec("run2", count=2)
    spec.instance_spec[0].CopyFrom(yard.spec("run", count=1).default_spec)
    await job.replace(spec)
    await job.until_over()
    await job.replace(yard.spec("run", count=3))
    await job.until_over()
    found = (await job.workflows(instance_events=True, instance_events_limit=1))[0]
    # Added, removed, updated.
    assert [entry.instance_id for entry in found.instance_events] == [2, 1]
    assert [[event.state for event in entry.events] for entry in found.instance_events] == [[SUCCEEDED]] * 2
    found = (await job.workflows(instance_events=True))[0]
    assert [event.state for event in found.instance_events[0].events] == [SUCCEEDED, FORWARD, INITIALIZED]


async def test_the_past_of_a_job_ends(yard: Yard) -> None:
    job = await yard.job(count=1)
    for number in range(history.KEPT + 3):
        await job.replace(yard.spec("run", count=1, owner=str(number)))
        await job.until_over()
        await job.restart()
        await job.until_over()
    types = [workflow.status.type for workflow in await job.workflows()]
    assert (types.count(UPDATE), types.count(RESTART)) == (history.KEPT, history.KEPT)
    newest = 2 * (history.KEPT + 3) + 1

    async def kept() -> list[int]:
        found = []
        for version in range(1, newest + 1):
            try:
                await job.get(f"{version}-0-0")
                found.append(version)
            except grpc.aio.AioRpcError as error:
                assert error.code() is NOT_FOUND
        return found

    expected = list(range(newest - 2 * history.KEPT + 1, newest + 1))
    assert await until(kept, lambda found: found == expected)
    steps = [r.name async for r in yard.store.scan(Query("step", parent=job.id))]
    workflows = [r.name async for r in yard.store.scan(Query("workflow", parent=job.id))]
    # Of restarts: the updates changed no pod.
    assert len(steps) == history.KEPT and {name.rpartition("/")[0] for name in steps} < set(workflows)


# -- GetReplaceJobDiff


async def test_a_diff_compares_with_what_runs(yard: Yard) -> None:
    job = await yard.job(count=4)

    async def diff(spec: stateless.JobSpec) -> tuple[list[tuple[int, int]], ...]:
        found = await yard.call("GetReplaceJobDiff", job.ask(pb.GetReplaceJobDiffRequest, spec=spec))
        return (
            spans(found.instances_added),
            spans(found.instances_removed),
            spans(found.instances_updated),
            spans(found.instances_unchanged),
        )

    before = await job.get()
    assert await diff(yard.spec(count=4, owner="other")) == ([], [], [], [(0, 4)])
    assert await diff(yard.spec(count=6)) == ([(4, 6)], [], [], [(0, 4)])
    assert await diff(yard.spec(count=2)) == ([], [(2, 4)], [], [(0, 2)])
    assert await diff(yard.spec("run2", count=3)) == ([], [(3, 4)], [(0, 3)], [])
    own = yard.spec(count=4)
    own.instance_spec[2].containers.add().resource.cpu_limit = 0.5
    assert await diff(own) == ([], [], [(2, 3)], [(0, 2), (3, 4)])
    renamed = yard.spec(count=4)
    renamed.default_spec.containers[0].name = "other"
    assert await diff(renamed) == ([], [], [], [(0, 4)])
    assert await job.get() == before
    # After an abort, the one that has moved already is unchanged.
    await job.replace(yard.spec("slow start", count=4), batch_size=1)
    await job.until_flying(0, state=STARTING)
    await yard.advance(30)
    await job.until_flying(1, state=STARTING)
    await job.abort()
    await yard.advance(30)
    await job.until_pod(RUNNING, 1, 2)
    assert await diff(yard.spec("slow start", count=4)) == ([], [], [(2, 4)], [(0, 2)])


async def test_a_diff_is_checked_like_an_update(yard: Yard) -> None:
    job = await yard.job()
    two = yard.spec()
    two.default_spec.containers.add().entrypoint.value = "run"

    def ask(spec: stateless.JobSpec) -> pb.GetReplaceJobDiffRequest:
        return job.ask(pb.GetReplaceJobDiffRequest, spec=spec)

    await yard.fails(
        grpc.StatusCode.UNIMPLEMENTED, "GetReplaceJobDiff", ask(two), "spec.default_spec.containers"
    )
    wrong = yard.spec(sla=stateless.SlaSpec(revocable=True))
    await yard.fails(INVALID, "GetReplaceJobDiff", ask(wrong), "spec.sla.revocable")
