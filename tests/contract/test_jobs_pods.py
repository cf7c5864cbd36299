"""PodService, and what a pod says of itself (jobs contract, sections 5 and 8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.jobs.engine import reconcile
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as svc
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pb
from tests.contract.jobs_yard import JOB_RUNNING, KILLING, RUNNING, STARTING, Job, Yard, opened, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-pods")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ABORTED = grpc.StatusCode.ABORTED
FAILED = pod_pb2.POD_STATE_FAILED
KILLED = pod_pb2.POD_STATE_KILLED
PENDING = pod_pb2.POD_STATE_PENDING
REASON = pod_pb2.TerminationStatus
NOBODY = "00000000-0000-4000-8000-000000000000"
METHODS = [
    "StartPod",
    "StopPod",
    "RestartPod",
    "GetPod",
    "GetPodEvents",
    "BrowsePodSandbox",
    "RefreshPod",
    "GetPodCache",
    "DeletePodEvents",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


def asked(method: str, name: str) -> Any:
    request = getattr(pb, f"{method}Request")()
    request.pod_name.value = name
    if method == "DeletePodEvents":
        request.pod_id.value = f"{name}-1"
    return request


async def get(job: Job, instance: int = 0, **fields: Any) -> pb.GetPodResponse:
    return await job.about_pod("GetPod", pb.GetPodRequest, instance, **fields)


async def events(job: Job, instance: int = 0, run: int = 0) -> list[pod_pb2.PodEvent]:
    request = asked("GetPodEvents", job.pod_name(instance))
    if run:
        request.pod_id.value = job.pod_id(instance, run)
    return list((await job.yard.call("GetPodEvents", request)).events)


# -- names


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["", "x", "x-1", NOBODY, f"{NOBODY}-", f"{NOBODY}-x", f"{NOBODY}-1\u0662"])
async def test_what_is_no_pod_name_is_invalid(yard: Yard, method: str, name: str) -> None:
    await yard.fails(INVALID, method, asked(method, name), "pod_name.value")


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_pod_is_not_found(yard: Yard, method: str) -> None:
    job = await yard.job(count=1)
    for name in (f"{NOBODY}-0", job.pod_name(1), f"{'x' * 36}-0"):
        await yard.fails(NOT_FOUND, method, asked(method, name))


@pytest.mark.parametrize("method", ["GetPodEvents", "BrowsePodSandbox", "DeletePodEvents"])
async def test_a_run_belongs_to_its_pod(yard: Yard, method: str) -> None:
    job = await yard.job(count=2)
    request = asked(method, job.pod_name())
    for wrong in (job.pod_id(1), "x", f"{job.pod_name()}-0", f"{job.pod_name()}-x", job.pod_name()):
        request.pod_id.value = wrong
        await yard.fails(INVALID, method, request, "pod_id.value")
    request.pod_id.value = job.pod_id(0, 9)
    await yard.fails(NOT_FOUND, method, request)


# -- what a pod tells


async def test_a_running_pod(yard: Yard) -> None:
    spec = yard.spec(count=1)
    spec.default_spec.containers[0].image = ""
    spec.default_spec.labels.add(key="a", value="b")
    port = spec.default_spec.containers[0].ports.add(name="http", env_name="PORT")
    answer = await yard.call("CreateJob", svc.CreateJobRequest(spec=spec))
    job = Job(yard, answer.job_id.value, answer.version.value)
    await job.until_over()
    found = (await get(job)).current
    status = found.status
    assert (status.state, status.desired_state) == (RUNNING, RUNNING)
    assert (status.pod_id.value, status.desired_pod_id.value) == (job.pod_id(), job.pod_id())
    assert status.prev_pod_id.value == ""
    assert (status.version.value, status.desired_version.value) == ("1-0-0", "1-0-0")
    assert status.host and status.start_time.endswith("Z") and not status.completion_time
    [container] = status.containers_status
    assert (container.name, container.state) == ("main", pod_pb2.CONTAINER_STATE_RUNNING)
    assert container.ports[port.name] >= 1024
    assert container.healthy.state == pod_pb2.HEALTH_STATE_DISABLED
    assert container.start_time == status.start_time
    assert not container.HasField("terminationStatus")
    assert found.spec.pod_name.value == job.pod_name()
    assert found.spec.containers[0].entrypoint.value == "run"
    cache = await job.about_pod("GetPodCache", pb.GetPodCacheRequest)
    assert cache.status == status
    assert [(label.key, label.value) for label in cache.labels] == [("a", "b")]


@pytest.mark.parametrize(
    ("command", "state", "reason", "code", "signal", "said"),
    [
        ("crash", FAILED, REASON.TERMINATION_STATUS_REASON_FAILED, 3, "", "status 3"),
        ("killed", FAILED, REASON.TERMINATION_STATUS_REASON_FAILED, 0, "SIGSEGV", "SIGSEGV"),
        ("done", pod_pb2.POD_STATE_SUCCEEDED, None, 0, "", ""),
    ],
)
async def test_a_pod_that_ends_by_itself_is_throttled_and_runs_again(
    yard: Yard, command: str, state: int, reason: int | None, code: int, signal: str, said: str
) -> None:
    job = await yard.job(command, count=1)
    await yard.advance(10)
    status = await job.until_pod(state)
    assert status.failure_count == 1 and status.completion_time
    [container] = status.containers_status
    assert container.healthy.state == pod_pb2.HEALTH_STATE_INVALID
    if reason is not None:
        ended = container.terminationStatus
        assert (ended.reason, ended.exit_code, ended.signal) == (reason, code, signal)
    assert any(said in event.message for event in await events(job, run=1))
    waiting = await until(job.pod, lambda found: found.message == "Task throttled due to failure")
    assert waiting.state == state
    await yard.advance(29)
    assert (await job.pod()).state == state
    again = await job.until_pod(RUNNING, run=2, passing=1)
    assert again.prev_pod_id.value == job.pod_id()
    assert not again.containers_status[0].HasField("terminationStatus")
    assert (again.message, again.reason, again.completion_time) == ("", "", "")
    await job.delete()


async def test_a_lost_pod_runs_again_at_once(yard: Yard) -> None:
    job = await yard.job("lost", count=1)
    await yard.advance(11)
    await job.until_pod(RUNNING, run=2)
    [before] = (await get(job)).previous
    assert (before.status.state, before.status.failure_count) == (pod_pb2.POD_STATE_LOST, 0)
    [event, *_] = await events(job, run=1)
    assert (event.actual_state, event.reason) == ("POD_STATE_LOST", "POD_LOST")
    await job.delete()


async def test_failures_wait_longer_and_longer(yard: Yard) -> None:
    job = await yard.job("crash at once", count=1, settle=False)
    for run, pause in ((1, 30), (2, 60), (3, 120)):
        await until(job.pod, lambda found: found.message == "Task throttled due to failure")
        assert (await job.runs())[0] == run
        await yard.advance(pause - 1)
        assert (await job.runs())[0] == run
        await yard.advance(1)
        await until(job.runs, lambda found, run=run: found[0] == run + 1)
    await job.delete()


async def test_a_launch_that_fails_says_why(yard: Yard) -> None:
    job = await yard.job("no such file", count=1, settle=False)
    status = await job.until_pod(FAILED)
    [event, *_] = await events(job, run=1)
    assert (event.reason, event.message) == ("CONTAINER_LAUNCH_FAILED", "no such file")
    assert status.reason == "CONTAINER_LAUNCH_FAILED"
    await job.delete()


async def test_a_sick_pod_is_killed_and_counts_as_failed(yard: Yard) -> None:
    job = await yard.job("sick", count=1, checked=True, settle=False)
    await job.until_over(passing=5)
    assert (await job.pod()).containers_status[0].healthy.state == pod_pb2.HEALTH_STATE_HEALTHY
    status = await job.until_pod(FAILED, passing=5)
    assert (status.failure_count, status.containers_status[0].healthy.state) == (
        1,
        pod_pb2.HEALTH_STATE_INVALID,
    )
    found = await events(job, run=1)
    assert (found[0].actual_state, found[0].reason) == ("POD_STATE_FAILED", "HEALTH_CHECK_FAILED")
    healths = [event.healthy for event in found]
    assert healths.index("HEALTH_STATE_HEALTHY") < healths.index("HEALTH_STATE_UNKNOWN")
    await job.delete()


async def test_events_are_of_one_run_newest_first(yard: Yard) -> None:
    job = await yard.job("slow start", count=1, settle=False)
    await job.until_pod(STARTING)
    await yard.advance(30)
    await job.until_over()
    found = await events(job)
    states = [event.actual_state.removeprefix("POD_STATE_") for event in found]
    assert states == ["RUNNING", "STARTING", "LAUNCHED", "PENDING", "INITIALIZED"]
    newest = found[0]
    assert (newest.desired_state, newest.healthy) == ("POD_STATE_RUNNING", "HEALTH_STATE_DISABLED")
    assert (newest.pod_id.value, newest.desired_pod_id.value) == (job.pod_id(), job.pod_id())
    assert (newest.version.value, newest.desired_version.value) == ("1-0-0", "1-0-0")
    assert newest.hostname and newest.timestamp.endswith("Z") and "." not in newest.timestamp
    assert newest.container_status[0].state == pod_pb2.CONTAINER_STATE_RUNNING
    await job.about_pod("RestartPod", pb.RestartPodRequest)
    await job.until_pod(STARTING, run=2)
    assert {event.pod_id.value for event in await events(job)} == {job.pod_id(0, 2)}
    before = await events(job, run=1)
    assert [event.actual_state for event in before][:2] == ["POD_STATE_KILLED", "POD_STATE_KILLING"]
    await job.delete()


async def test_names_may_be_written_in_capitals(yard: Yard) -> None:
    job = await yard.job(count=1)
    request = asked("GetPodEvents", job.pod_name().upper())
    request.pod_id.value = job.pod_id().upper()
    assert len((await yard.call("GetPodEvents", request)).events) == 4


async def test_events_of_one_run_are_deleted(yard: Yard) -> None:
    job = await yard.job(count=1)
    await job.about_pod("RestartPod", pb.RestartPodRequest)
    await job.until_pod(RUNNING, run=2)
    status = await get(job)
    for run in (1, 2):
        request = asked("DeletePodEvents", job.pod_name())
        request.pod_id.value = job.pod_id(0, run)
        for _ in range(2):
            await yard.call("DeletePodEvents", request)
        assert await events(job, run=run) == []
        assert len(await events(job, run=3 - run)) == (0 if run == 2 else 4)
    after = await get(job)
    assert (after.current.status.state, after.previous) == (RUNNING, status.previous)
    nameless = asked("DeletePodEvents", job.pod_name())
    nameless.ClearField("pod_id")
    await yard.fails(INVALID, "DeletePodEvents", nameless, "pod_id")


# -- runs


async def test_runs_newest_first(yard: Yard) -> None:
    job = await yard.job(count=1)
    await job.replace(yard.spec("run2", count=1))
    await job.until_over()
    await job.restart()
    await job.until_over()
    found = await get(job)
    assert found.current.status.pod_id.value == job.pod_id(0, 3)
    assert [info.status.pod_id.value for info in found.previous] == [job.pod_id(0, 2), job.pod_id(0, 1)]
    commands = [info.spec.containers[0].entrypoint.value for info in (found.current, *found.previous)]
    assert commands == ["run2", "run2", "run"]
    assert all(info.spec.pod_name.value == job.pod_name() for info in found.previous)
    last = found.previous[0].status
    assert (last.state, last.desired_pod_id.value) == (KILLED, job.pod_id(0, 3))
    assert (
        last.containers_status[0].terminationStatus.reason
        == REASON.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
    )
    first = found.previous[1].status.containers_status[0].terminationStatus
    assert first.reason == REASON.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE
    assert [len((await get(job, limit=limit)).previous) for limit in (1, 2, 3, 9)] == [0, 1, 2, 2]
    bare = await get(job, status_only=True)
    assert not any(info.HasField("spec") for info in (bare.current, *bare.previous))
    assert [info.status for info in bare.previous] == [info.status for info in found.previous]


async def test_only_the_newest_runs_are_kept(yard: Yard) -> None:
    job = await yard.job(count=1)
    runs = reconcile.KEPT_RUNS + 2
    for run in range(2, runs + 1):
        await job.about_pod("RestartPod", pb.RestartPodRequest)
        await job.until_pod(RUNNING, run=run)
    found = await get(job)
    kept = [info.status.pod_id.value for info in (found.current, *found.previous)]
    assert kept == [job.pod_id(0, run) for run in range(runs, runs - reconcile.KEPT_RUNS, -1)]
    known = {seen.pod_id for seen in yard.engine.all() if seen.pod_id.startswith(job.pod_name())}
    assert known == set(kept)


async def test_nothing_is_left_of_the_runs_of_a_removed_instance(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.about_pod("RestartPod", pb.RestartPodRequest, 1)
    await job.until_pod(RUNNING, 1, 2)
    await job.replace(yard.spec(count=1))
    await job.until_over()
    await job.replace(yard.spec(count=2))
    await job.until_over()
    found = await get(job, 1)
    assert found.current.status.pod_id.value == job.pod_id(1, 3)
    assert found.current.status.prev_pod_id.value == job.pod_id(1, 2)
    assert not found.previous


# -- StartPod, StopPod, RestartPod


async def test_a_pod_stops_and_starts_and_the_jobs_version_stays(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.stop_pod(0)
    status = await job.until_pod(KILLED, 0)
    ended = status.containers_status[0].terminationStatus
    assert ended.reason == REASON.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    found = await job.status()
    assert (found.state, found.desired_state, found.version.value) == (JOB_RUNNING, JOB_RUNNING, "1-1-1")
    await job.stop_pod(0)
    await yard.advance(3600)
    assert await job.runs() == {0: 1, 1: 1}
    await job.start_pod(0)
    await job.until_pod(RUNNING, 0, 2)
    await job.start_pod(0)
    await yard.advance(1)
    assert await job.runs() == {0: 2, 1: 1}
    assert (await job.status()).version.value == "1-1-1"


async def test_a_pod_that_starts_makes_its_stopped_job_run(yard: Yard) -> None:
    job = await yard.job(count=2)
    await job.stop()
    await job.start_pod(1)
    await job.until_pod(RUNNING, 1, 2)
    found = await job.until_state(JOB_RUNNING)
    assert (found.desired_state, found.version.value) == (JOB_RUNNING, "1-2-1")
    assert (await job.pod(0)).state == KILLED
    # It stays that way when the job is read anew.
    await yard.call("RefreshPod", asked("RefreshPod", job.pod_name(0)))
    await yard.advance(1)
    assert await job.runs() == {0: 1, 1: 2}
    await job.start()
    await job.until_pod(RUNNING, 0, 2)


async def test_a_start_after_many_failures_waits_for_nothing(yard: Yard) -> None:
    job = await yard.job("crash", count=1)
    await job.until_pod(FAILED, passing=10)
    await job.stop_pod()
    await until(job.pod, lambda found: found.desired_state == KILLED)
    await job.start_pod()
    await job.until_pod(RUNNING, run=2)
    await job.delete()


async def test_a_restart_makes_a_new_run(yard: Yard) -> None:
    job = await yard.job("slow end", count=2)
    await job.about_pod("RestartPod", pb.RestartPodRequest)
    status = await job.until_pod(KILLING)
    assert status.desired_pod_id.value == job.pod_id(0, 2)
    await job.until_pod(RUNNING, 0, 2, passing=5)
    [before] = (await get(job)).previous
    ended = before.status.containers_status[0].terminationStatus
    assert ended.reason == REASON.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
    assert before.status.failure_count == 0
    assert await job.runs() == {0: 2, 1: 1}
    assert (await job.status()).version.value == "1-1-1"


async def test_a_restart_starts_a_stopped_pod(yard: Yard) -> None:
    job = await yard.job(count=1)
    await job.stop_pod()
    await job.until_pod(KILLED)
    await job.about_pod("RestartPod", pb.RestartPodRequest)
    await job.until_pod(RUNNING, run=2)


async def test_a_restart_may_not_break_the_sla(yard: Yard) -> None:
    job = await yard.job("slow end", count=3, sla=stateless.SlaSpec(maximum_unavailable_instances=1))
    await job.about_pod("RestartPod", pb.RestartPodRequest, 0, check_sla=True)
    await job.until_pod(KILLING, 0)
    request = pb.RestartPodRequest(check_sla=True)
    request.pod_name.value = job.pod_name(1)
    await yard.fails(ABORTED, "RestartPod", request, "SLA")
    assert await job.runs() == {0: 1, 1: 1, 2: 1}
    # What is unavailable already may be restarted again; without the check anything may.
    await job.about_pod("RestartPod", pb.RestartPodRequest, 0, check_sla=True)
    await job.about_pod("RestartPod", pb.RestartPodRequest, 2)
    await job.until_pod(RUNNING, 0, 2, passing=5)
    await job.until_pod(RUNNING, 2, 2, passing=5)
    [before] = (await get(job)).previous
    reason = before.status.containers_status[0].terminationStatus.reason
    assert reason == REASON.TERMINATION_STATUS_REASON_KILLED_FOR_SLA_AWARE_RESTART
    await yard.call("RestartPod", request)
    await job.until_pod(RUNNING, 1, 2, passing=5)


async def test_pods_of_a_job_that_is_being_deleted(yard: Yard) -> None:
    job = await yard.job("slow end", count=1)
    await job.delete(wait=False)
    await job.until_pod(KILLING)
    for method in ("StartPod", "RestartPod"):
        await yard.fails(INVALID, method, asked(method, job.pod_name()), "deleted")
    await job.stop_pod()
    await job.until_gone(passing=5)


async def test_pods_that_an_update_removes(yard: Yard) -> None:
    job = await yard.job("slow end", count=2)
    await job.replace(yard.spec("slow end", count=1))
    await job.until_pod(KILLING, 1)
    for method in ("StartPod", "RestartPod"):
        await yard.fails(INVALID, method, asked(method, job.pod_name(1)), "removed")
    await job.stop_pod(1)
    await job.until_over(passing=5)
    assert set(await job.pods()) == {0}


# -- the sandbox


async def test_files_of_a_run(yard: Yard) -> None:
    job = await yard.job(count=1)
    found = await job.about_pod("BrowsePodSandbox", pb.BrowsePodSandboxRequest)
    assert (list(found.paths), found.hostname) == (["stderr", "stdout"], (await job.pod()).host)


async def test_a_pod_that_never_ran_has_no_files(yard: Yard) -> None:
    huge = await yard.job(count=1, settle=False, resource={"cpu_limit": 1e9})
    await huge.until_pod(PENDING)
    await yard.fails(ABORTED, "BrowsePodSandbox", asked("BrowsePodSandbox", huge.pod_name()))
    await huge.delete()


# -- admission


async def test_a_pod_without_room_waits_and_says_why(yard: Yard) -> None:
    job = await yard.job(count=1, settle=False, resource={"mem_limit_mb": 1e12})
    found = await until(job.pod, lambda found: found.message)
    assert (found.state, found.reason) == (PENDING, "PENDING_ADMISSION")
    assert "memory" in found.message
    assert (await job.status()).state == stateless.JOB_STATE_PENDING
    await job.replace(yard.spec(count=1, resource={"mem_limit_mb": 10}))
    await job.until_over()
