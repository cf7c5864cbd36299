"""The rules of one pod: runs, back-off, failures, health, ends and events (jobs contract, section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from services.jobs import machines
from services.jobs.engine import events
from services.jobs.engine import pod as pods
from services.jobs.engine.pod import Pauses
from services.jobs.machines import Action
from services.jobs.runtime.port import Ending, Health, Observation, Phase
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from tests.unit.jobs_yard import BEGIN, ID, SECOND, short

PAUSES = Pauses()


def running(*, checked: bool = False) -> pod_pb2.ContainerSpec:
    """What it runs."""
    return pod_pb2.ContainerSpec(
        name="main", image="some", liveness_check=pod_pb2.HealthCheckSpec(enabled=checked)
    )


def pod(
    *, checked: bool = False, state: int = machines.INITIALIZED, desired: int = machines.RUNNING
) -> pb.Pod:
    """Its first run, in `state`."""
    found = pods.new(
        ID, 0, 1, after_run=0, desired=machines.RUNNING, now=BEGIN, container=running(checked=checked)
    )
    found.status.desired_state = desired
    for step in (machines.PENDING, machines.LAUNCHED, machines.STARTING, machines.RUNNING, machines.KILLING):
        if machines.ORDER[step] <= machines.ORDER[state]:
            pods.become(found, step, BEGIN)
    if state in machines.ENDED:
        pods.become(found, state, BEGIN)
    return found


def seen(phase: Phase = Phase.RUNNING, **fields: Any) -> Observation:
    return Observation(f"{ID}-0-1", phase, **fields)


def ended(ending: Ending, **fields: Any) -> Observation:
    return seen(Phase.ENDED, ending=ending, ended_at=BEGIN + 7, **fields)


def state(found: pb.Pod) -> str:
    return short(pod_pb2.PodState.Name(found.status.state))


def told(found: pb.Pod) -> list[str]:
    return [event.actual_state.removeprefix("POD_STATE_") for event in all_events(found)]


def all_events(found: pb.Pod) -> list[pod_pb2.PodEvent]:
    """As the API tells them, oldest first."""
    return events.told(pods.archive(found))


def health(found: pb.Pod) -> str:
    return short(pod_pb2.HealthState.Name(found.status.containers_status[0].healthy.state))


def reason(found: pb.Pod) -> str:
    name = pod_pb2.TerminationStatus.Reason.Name(found.status.containers_status[0].terminationStatus.reason)
    return name.removeprefix("TERMINATION_STATUS_REASON_")


# -- runs


def test_a_new_pod() -> None:
    found = pod()
    assert found.name == f"{ID}-0" and found.run == found.desired_run == 1
    assert found.status.pod_id.value == found.status.desired_pod_id.value == f"{ID}-0-1"
    assert found.status.prev_pod_id.value == ""
    assert found.status.version.value == found.status.desired_version.value == "1-0-0"
    assert state(found) == "INITIALIZED" and told(found) == ["INITIALIZED"]
    assert len(found.status.containers_status) == 1


def test_a_new_pod_of_a_stopped_job_ends_before_it_begins() -> None:
    found = pods.new(ID, 0, 1, after_run=0, desired=machines.KILLED, now=BEGIN, container=running())
    assert state(found) == "KILLED" and pods.action(found) is Action.NONE


def test_an_instance_that_was_removed_counts_its_runs_on() -> None:
    found = pods.new(ID, 0, 3, after_run=4, desired=machines.RUNNING, now=BEGIN, container=running())
    assert found.run == 5
    assert found.status.prev_pod_id.value == f"{ID}-0-4"


def test_a_new_run_clears_what_the_last_one_left() -> None:
    found = pod(state=machines.RUNNING)
    pods.observe(
        found, seen(host="here", ports={"http": 80}, started_at=BEGIN + 1, health=Health.DISABLED), BEGIN + 2
    )
    pods.observe(found, ended(Ending.EXITED, exit_code=3, message="gone"), BEGIN + 3)
    assert found.status.host == "here" and found.status.message and found.status.completion_time
    before = pods.renew(found, BEGIN + 4, running(checked=True))
    assert before is not None and (before.run, before.pod) == (1, found.name)
    assert before.status.containers_status[0].terminationStatus.exit_code == 3
    assert events.told(before)[-1].actual_state == "POD_STATE_FAILED"
    status = found.status
    assert (status.host, status.host_id, status.message, status.reason) == ("", "", "", "")
    assert (status.start_time, status.completion_time) == ("", "")
    container = status.containers_status[0]
    assert not container.ports and not container.HasField("terminationStatus")
    assert (container.name, container.image) == ("main", "some")
    assert health(found) == "UNKNOWN" and told(found) == ["INITIALIZED"]
    assert status.pod_id.value == f"{ID}-0-2" and status.prev_pod_id.value == f"{ID}-0-1"
    # What failed before still counts.
    assert status.failure_count == container.failure_count == 1


def test_a_run_that_never_began_is_the_one_that_changes() -> None:
    found = pod(state=machines.PENDING)
    pods.want(found, BEGIN, configuration=2)
    assert pods.action(found) is Action.RENEW
    assert pods.renew(found, BEGIN + 1, running(checked=True)) is None
    assert health(found) == "UNKNOWN"
    assert (found.run, found.configuration) == (1, 2) and not pods.stale(found)


def test_a_run_never_goes_back() -> None:
    found = pod(state=machines.RUNNING)
    assert not pods.observe(found, seen(Phase.STARTING), BEGIN)
    assert not pods.observe(found, seen(Phase.WAITING), BEGIN)
    assert state(found) == "RUNNING"
    pods.observe(found, ended(Ending.EXITED), BEGIN)
    assert not pods.observe(found, seen(), BEGIN)
    assert not pods.observe(found, ended(Ending.LOST), BEGIN)
    assert state(found) == "SUCCEEDED"
    with pytest.raises(AssertionError):
        pods.become(found, machines.RUNNING, BEGIN)


def test_a_runtime_may_skip_phases() -> None:
    found = pod(state=machines.LAUNCHED)
    assert pods.observe(found, seen(started_at=BEGIN + 5, host="here"), BEGIN + 6)
    assert state(found) == "RUNNING" and found.status.start_time == "2027-01-15T08:00:00.000000005Z"
    assert found.status.host == found.status.host_id == all_events(found)[-1].hostname == "here"


def test_what_is_known_already_changes_nothing() -> None:
    found = pod(state=machines.LAUNCHED)
    one = seen(started_at=BEGIN + 5, host="here", ports={"http": 80}, health=Health.HEALTHY)
    assert pods.observe(found, one, BEGIN + 6)
    before = found.SerializeToString(deterministic=True)
    assert not pods.observe(found, one, BEGIN + 7)
    assert found.SerializeToString(deterministic=True) == before


def test_revisions_grow() -> None:
    found = pod()
    before = found.status.revision.version
    pods.become(found, machines.PENDING, BEGIN)
    assert found.status.revision.version == before + 1
    pods.say(found, "waits", BEGIN + 9)
    assert found.status.revision.version == before + 2 and found.status.revision.updated_at == BEGIN + 9
    assert found.status.revision.created_at == BEGIN
    assert told(found) == ["INITIALIZED", "PENDING"]


# -- ends


@pytest.mark.parametrize(
    ("seen", "state", "reason", "message"),
    [
        (ended(Ending.EXITED), "SUCCEEDED", "INVALID", ""),
        (ended(Ending.EXITED, exit_code=3), "FAILED", "FAILED", "Command exited with status 3"),
        (
            ended(Ending.EXITED, exit_code=3, message="Sizes of volumes are not enforced"),
            "FAILED",
            "FAILED",
            "Command exited with status 3; Sizes of volumes are not enforced",
        ),
        (ended(Ending.SIGNALLED, signal="SIGSEGV"), "FAILED", "FAILED", "signal SIGSEGV"),
        (ended(Ending.LAUNCH_FAILED, message="no such file"), "FAILED", "FAILED", "no such file"),
        (ended(Ending.UNHEALTHY, health_output="HTTP 500\n"), "FAILED", "FAILED", "often: HTTP 500"),
        (ended(Ending.LAUNCH_FAILED), "FAILED", "FAILED", "could not be launched"),
        (ended(Ending.OUT_OF_MEMORY), "FAILED", "FAILED", "memory"),
        (ended(Ending.LOST), "LOST", "FAILED", "cannot account"),
        (ended(Ending.STOPPED), "KILLED", "KILLED_ON_REQUEST", ""),
    ],
)
def test_how_it_ended(seen: Observation, state: str, reason: str, message: str) -> None:
    found = pod(state=machines.RUNNING, checked=True)
    assert pods.observe(found, seen, BEGIN + 9)
    container = found.status.containers_status[0]
    assert short(pod_pb2.PodState.Name(found.status.state)) == state
    assert globals()["reason"](found) == reason
    assert message in found.status.message and found.status.message == container.message
    assert container.terminationStatus.exit_code == seen.exit_code
    assert container.terminationStatus.signal == seen.signal
    assert found.status.completion_time == "2027-01-15T08:00:00.000000007Z"
    assert health(found) == "INVALID"
    assert not found.admitted
    assert container.state in (
        pod_pb2.CONTAINER_STATE_SUCCEEDED,
        pod_pb2.CONTAINER_STATE_FAILED,
        pod_pb2.CONTAINER_STATE_KILLED,
    )


@pytest.mark.parametrize(
    "why", ["KILLED_ON_REQUEST", "KILLED_FOR_UPDATE", "KILLED_FOR_RESTART", "DEADLINE_TIMEOUT_EXCEEDED"]
)
def test_why_it_was_stopped(why: str) -> None:
    found = pod(state=machines.RUNNING)
    pods.stop(found, pod_pb2.TerminationStatus.Reason.Value(f"TERMINATION_STATUS_REASON_{why}"), BEGIN)
    assert state(found) == "KILLING" and found.status.reason == why
    pods.observe(found, ended(Ending.STOPPED, signal="SIGTERM"), BEGIN + 1)
    assert state(found) == "KILLED" and reason(found) == why
    assert found.status.failure_count == 0


def test_a_run_that_the_runtime_forgot() -> None:
    found = pod(state=machines.RUNNING)
    pods.lose(found, BEGIN)
    assert state(found) == "LOST" and found.status.failure_count == 0
    found = pod(state=machines.RUNNING)
    pods.stop(found, pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST, BEGIN)
    pods.lose(found, BEGIN)
    assert state(found) == "KILLED" and reason(found) == "KILLED_ON_REQUEST"


# -- failures and back-off


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        (ended(Ending.EXITED, exit_code=1), 1),
        (ended(Ending.EXITED), 1),
        (ended(Ending.SIGNALLED, signal="SIGKILL"), 1),
        (ended(Ending.LAUNCH_FAILED), 1),
        (ended(Ending.UNHEALTHY), 1),
        (ended(Ending.OUT_OF_MEMORY), 1),
        (ended(Ending.STOPPED), 1),
        (ended(Ending.LOST), 0),
    ],
)
def test_what_counts_as_a_failure(seen: Observation, counts: int) -> None:
    found = pod(state=machines.RUNNING)
    pods.observe(found, seen, BEGIN)
    assert found.status.failure_count == counts == found.status.containers_status[0].failure_count
    # Not when something else was wanted of it anyway.
    found = pod(state=machines.RUNNING)
    pods.want(found, BEGIN, configuration=2)
    pods.observe(found, seen, BEGIN)
    assert found.status.failure_count == 0
    # Nor when it was asked to end.
    found = pod(state=machines.RUNNING)
    pods.stop(found, pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST, BEGIN)
    pods.observe(found, seen, BEGIN)
    assert found.status.failure_count == 0


def test_an_end_that_was_wanted_is_no_failure() -> None:
    found = pod(state=machines.RUNNING, desired=machines.KILLED)
    pods.observe(found, ended(Ending.EXITED), BEGIN)
    assert state(found) == "SUCCEEDED" and found.status.failure_count == 0


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (1000, 3600)],
)
def test_the_pause_before_the_next_run(failures: int, seconds: int) -> None:
    assert pods.backoff(failures, PAUSES) == seconds * SECOND
    found = pod(state=machines.FAILED)
    found.status.failure_count = failures
    assert pods.action(found) is Action.RERUN
    assert pods.due(found, PAUSES) == (BEGIN + seconds * SECOND if seconds else None)


def test_the_pause_counts_from_the_last_change_of_state() -> None:
    found = pod(state=machines.RUNNING)
    pods.observe(found, ended(Ending.EXITED, exit_code=1), BEGIN + 50)
    pods.say(found, pods.THROTTLED, BEGIN + 60)
    assert pods.due(found, PAUSES) == BEGIN + 50 + 30 * SECOND


def test_what_takes_too_long_falls_due() -> None:
    pauses = Pauses(launch=10, start=20, kill=5)
    assert pods.due(pod(state=machines.LAUNCHED), pauses) == BEGIN + 10
    assert pods.due(pod(state=machines.STARTING), pauses) == BEGIN + 20
    assert pods.due(pod(state=machines.KILLING), pauses) == BEGIN + 5
    assert pods.due(pod(state=machines.RUNNING), pauses) is None


# -- health


def test_without_a_check_health_is_disabled() -> None:
    found = pod(state=machines.RUNNING)
    assert health(found) == "DISABLED"
    assert not pods.observe(found, seen(), BEGIN)


def test_health_is_unknown_until_the_first_result() -> None:
    found = pod(state=machines.STARTING, checked=True)
    pods.observe(found, seen(health=Health.UNKNOWN), BEGIN)
    assert health(found) == "UNKNOWN"
    # A runtime that has nothing to say about it yet.
    pods.observe(found, seen(), BEGIN)
    assert health(found) == "UNKNOWN"
    pods.observe(found, seen(health=Health.HEALTHY), BEGIN)
    assert health(found) == "HEALTHY"


def test_negative_results_are_events_and_repeated_positives_are_not() -> None:
    found = pod(state=machines.RUNNING, checked=True)
    before = len(found.events)
    for result, output in (
        (Health.HEALTHY, ""),
        (Health.HEALTHY, ""),
        (Health.UNHEALTHY, "status 1"),
        (Health.UNHEALTHY, "status 2"),
        (Health.HEALTHY, ""),
    ):
        pods.observe(found, seen(health=result, health_output=output), BEGIN)
    results = [event.healthy.removeprefix("HEALTH_STATE_") for event in all_events(found)][before:]
    assert results == ["HEALTHY", "UNHEALTHY", "UNHEALTHY", "HEALTHY"]
    assert all_events(found)[-2].container_status[0].healthy.output == "status 2"


def test_the_record_of_a_run_does_not_grow_for_ever() -> None:
    found = pod(state=machines.RUNNING, checked=True)
    for number in range(300):
        pods.observe(found, seen(health=Health.UNHEALTHY, health_output=str(number)), BEGIN + number)
    assert len(found.events) == events.MAX_EVENTS
    assert told(found)[:2] == ["INITIALIZED", "PENDING"]
    assert all_events(found)[-1].container_status[0].healthy.output == "299"


# -- events


def test_an_event_says_how_things_stood() -> None:
    found = pod(state=machines.RUNNING)
    pods.want(found, BEGIN, configuration=2)
    pods.stop(found, pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE, BEGIN + SECOND)
    last = all_events(found)[-1]
    assert last.pod_id.value == f"{ID}-0-1"
    assert last.actual_state == "POD_STATE_KILLING" and last.desired_state == "POD_STATE_RUNNING"
    assert last.timestamp == "2027-01-15T08:00:01Z"
    assert (last.version.value, last.desired_version.value) == ("1-0-0", "2-0-0")
    assert last.reason == "KILLED_FOR_UPDATE" and last.healthy == "HEALTH_STATE_DISABLED"
    assert last.container_status[0].state == pod_pb2.CONTAINER_STATE_KILLING
    assert told(found) == ["INITIALIZED", "PENDING", "LAUNCHED", "STARTING", "RUNNING", "KILLING"]


def test_an_event_tells_nothing_that_was_not_known_yet() -> None:
    found = pod(state=machines.LAUNCHED)
    pods.observe(found, seen(host="here", ports={"http": 80}, started_at=BEGIN + 1), BEGIN + 2)
    pods.observe(found, ended(Ending.EXITED, exit_code=3), BEGIN + 3)
    launched, running, failed = (event.container_status[0] for event in all_events(found)[-3:])
    assert not launched.ports and not launched.start_time
    assert dict(running.ports) == {"http": 80} and running.start_time and not running.completion_time
    assert not running.HasField("terminationStatus")
    assert failed.completion_time and failed.terminationStatus.exit_code == 3
    assert (running.failure_count, failed.failure_count) == (0, 1)
    assert [event.hostname for event in all_events(found)[-3:]] == ["", "here", "here"]
