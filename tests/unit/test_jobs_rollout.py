"""Roll-outs step by step (jobs contract, section 6). Each test runs twice: as the controller remembers, and
with everything read anew from the store before each pass."""

from __future__ import annotations

from typing import Any

import pytest

from services.jobs import machines, ranges
from services.jobs.engine.board import Start, Stop
from services.jobs.runtime.port import Ending, Health
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from tests.unit.jobs_yard import Yard, short, spec


@pytest.fixture(params=[False, True], ids=["remembered", "forgotten"])
def yard(request: pytest.FixtureRequest) -> Yard:
    return Yard(forgetful=request.param)


def created(yard: Yard, count: int, command: str = "run", **how: Any) -> stateless.JobSpec:
    wanted = spec(count, command)
    yard.create(wanted, **how)
    yard.settle()
    yard.asked.clear()
    yard.served = 0
    return wanted


def about(yard: Yard) -> dict[str, list[tuple[int, int]]]:
    found = yard.workflow
    return {
        name: [ranges.bounds(entry) for entry in getattr(found, name)]
        for name in ("added", "updated", "removed")
        if getattr(found, name)
    }


def events(yard: Yard) -> list[str]:
    return [short(stateless.WorkflowState.Name(event.state)) for event in yard.workflow.events]


def progress(yard: Yard) -> tuple[int, int, int]:
    found = yard.job.workflow_status
    return found.num_instances_completed, found.num_instances_failed, found.num_instances_remaining


def why(yard: Yard, instance: int) -> str:
    """Why its last run but one was ended."""
    name = f"{yard.pod(instance).name}-{yard.pod(instance).run - 1:012}"
    found = pb.Run.FromString(yard.records["run", name][0])
    reason = found.status.containers_status[0].terminationStatus.reason
    return pod_pb2.TerminationStatus.Reason.Name(reason).removeprefix("TERMINATION_STATUS_REASON_")


# -- creation


def test_a_job_is_created_in_batches(yard: Yard) -> None:
    yard.create(spec(5), batch_size=2)
    assert yard.version == "1-1-1"
    assert yard.job_state == "PENDING"
    yard.look()
    assert yard.taken() == [0, 1]
    assert list(yard.job.workflow_status.instances_current) == [0, 1]
    assert progress(yard) == (0, 0, 5)
    assert yard.job_state == "PENDING"
    yard.settle()
    assert yard.taken() == [0, 1, 2, 3, 4]
    assert yard.most_flying == 2
    assert yard.states() == {"RUNNING": 5}
    assert about(yard) == {"added": [(0, 5)]}
    assert progress(yard) == (5, 0, 0)
    assert events(yard) == ["INITIALIZED", "ROLLING_FORWARD", "SUCCEEDED"]
    assert yard.job_state == "RUNNING"
    assert yard.version == "1-1-1"
    assert yard.job.workflow_status.version.value == "1-1-1"
    assert yard.job.workflow_status.prev_version.value == "0-1-1"


def test_a_batch_of_nothing_is_everything_at_once(yard: Yard) -> None:
    created(yard, 7)
    assert yard.most_flying == 7


def test_a_job_of_no_instances_is_created_at_once(yard: Yard) -> None:
    created(yard, 0)
    assert yard.workflow_state == "SUCCEEDED"
    assert yard.job_state == "PENDING"


def test_a_creation_that_is_paused_begins_when_it_is_resumed(yard: Yard) -> None:
    created(yard, 2, start_paused=True)
    assert yard.workflow_state == "PAUSED"
    assert yard.workflow.prev_state == machines.W_INITIALIZED
    assert not yard.board.pods
    assert yard.resume() and yard.workflow_state == "INITIALIZED"
    yard.settle()
    assert yard.workflow_state == "SUCCEEDED"
    assert events(yard) == ["INITIALIZED", "PAUSED", "INITIALIZED", "ROLLING_FORWARD", "SUCCEEDED"]


def test_a_creation_fails_with_its_first_failed_instance_and_never_rolls_back(yard: Yard) -> None:
    yard.create(spec(3, "broken"), batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=1)
    yard.settle()
    assert yard.workflow_state == "FAILED"
    assert yard.configurations() == {0: 1}
    assert progress(yard) == (0, 1, 2)
    assert yard.version == "1-1-1"


def test_failures_that_are_tolerated_do_not_stop_it(yard: Yard) -> None:
    yard.create(spec(3, "broken"), batch_size=1, max_instance_retries=1)
    yard.settle()
    assert yard.workflow_state == "SUCCEEDED"
    assert progress(yard) == (0, 3, 0)


def test_an_instance_is_retried_until_it_counts_as_failed(yard: Yard) -> None:
    yard.create(spec(1, "broken"), max_instance_retries=3, max_tolerable_instance_failures=1)
    yard.settle()
    assert yard.workflow_state == "ROLLING_FORWARD" and yard.pod(0).status.failure_count == 1
    yard.pass_time(30)
    assert yard.workflow_state == "ROLLING_FORWARD" and yard.pod(0).status.failure_count == 2
    yard.pass_time(60)
    assert yard.workflow_state == "FAILED" and yard.pod(0).status.failure_count == 3
    # The pod goes on being run again all the same.
    yard.pass_time(120)
    assert yard.pod(0).run == 4


def test_without_a_limit_of_retries_it_goes_on_for_ever(yard: Yard) -> None:
    yard.create(spec(1, "broken"), max_tolerable_instance_failures=1)
    yard.settle()
    yard.pass_time(3600 * 10)
    assert yard.pod(0).status.failure_count > 10
    assert yard.workflow_state == "ROLLING_FORWARD"
    assert progress(yard) == (0, 0, 1)


def test_without_a_health_check_the_first_moment_counts(yard: Yard) -> None:
    created(yard, 2, "exit", max_instance_retries=1, max_tolerable_instance_failures=1)
    assert yard.workflow_state == "SUCCEEDED"
    assert yard.states() == {"FAILED": 2}


def test_with_a_health_check_it_is_in_flight_until_it_is_healthy(yard: Yard) -> None:
    yard.create(spec(2, "silent", checked=True), batch_size=1)
    yard.settle()
    yard.look(yard.running(yard.id(0), health=Health.UNKNOWN))
    assert yard.states() == {"RUNNING": 1}
    yard.look(yard.running(yard.id(0), health=Health.UNHEALTHY, health_output="no"))
    assert yard.states() == {"RUNNING": 1}
    yard.look(yard.running(yard.id(0), health=Health.HEALTHY))
    assert yard.states() == {"RUNNING": 1, "LAUNCHED": 1}
    assert progress(yard) == (1, 0, 1)


# -- updates


def test_an_update_replaces_every_pod_in_batches(yard: Yard) -> None:
    created(yard, 5)
    assert yard.replace(spec(5, "well"), batch_size=2) and yard.version == "2-1-2"
    assert yard.workflow_state == "INITIALIZED"
    assert yard.job.workflow_status.state == machines.W_INITIALIZED
    yard.settle()
    assert yard.most_flying >= 2 and yard.workflow_state == "SUCCEEDED"
    assert yard.taken() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    assert about(yard) == {"updated": [(0, 5)]}
    assert yard.configurations() == dict.fromkeys(range(5), 2)
    assert yard.runs() == dict.fromkeys(range(5), 2)
    assert {why(yard, i) for i in range(5)} == {"KILLED_FOR_UPDATE"}
    assert len(yard.alive) == 5
    assert yard.job.workflow_status.version.value == "2-1-2"
    assert yard.job.workflow_status.prev_version.value == "1-1-2"


def test_what_pods_do_not_see_touches_none_of_them(yard: Yard) -> None:
    created(yard, 3)
    wanted = spec(3, owner="somebody", labels=[{"key": "a", "value": "b"}])
    wanted.default_spec.containers[0].name = "another"
    yard.replace(wanted)
    yard.settle()
    assert not yard.asked
    assert yard.configurations() == {0: 2, 1: 2, 2: 2}
    assert yard.runs() == {0: 1, 1: 1, 2: 1}
    assert about(yard) == {} and progress(yard) == (0, 0, 0)
    assert yard.workflow_state == "SUCCEEDED"
    assert yard.job.owner == "somebody"


def test_only_the_instance_whose_own_spec_changes_is_updated(yard: Yard) -> None:
    wanted = created(yard, 3)
    wanted.instance_spec[1].containers.add().resource.cpu_limit = 2
    yard.replace(wanted)
    yard.settle()
    assert about(yard) == {"updated": [(1, 2)]}
    assert yard.runs() == {0: 1, 1: 2, 2: 1}
    assert yard.configurations() == {0: 2, 1: 2, 2: 2}


def test_additions_come_first_and_removals_last(yard: Yard) -> None:
    created(yard, 4)
    # 3 is stopped, 1 and 0 are not available.
    yard.change(lambda draft: _stop_pod(draft, 3))
    yard.look(yard.ended(yard.id(1), ending=Ending.EXITED, exit_code=1))
    yard.settle()
    yard.asked.clear()
    yard.served = 0
    yard.replace(spec(6, "well"), batch_size=1)
    yard.settle()
    order = [step.instance for step in sorted(_steps(yard), key=lambda step: step.events[0].timestamp)]
    assert set(order) == set(range(6))
    assert yard.taken()[:2] == [4, 5]
    assert yard.taken() == [4, 5, 1, 0, 0, 2, 2]
    assert yard.state(3) == "KILLED" and yard.configurations()[3] == 2


def _stop_pod(draft: Any, instance: int) -> None:
    found = draft.edit_pod(instance)
    found.status.desired_state = machines.KILLED


def _steps(yard: Yard) -> Any:
    return [kept.message for kept in yard.board.steps.values()]


def test_a_removal_whose_pod_changes_meanwhile_still_comes_last(yard: Yard) -> None:
    created(yard, 4)
    yard.replace(spec(3, "silent"), batch_size=1)
    yard.look()
    assert [r.instance for r in yard.asked if isinstance(r, Stop)] == [0]
    # The one to be removed fails by itself; that gives it no place among the updates.
    yard.look(yard.ended(yard.id(3), ending=Ending.EXITED, exit_code=1))
    yard.settle()
    assert {i for i, _ in yard.steps().items()} == {0}
    for instance in (0, 1):
        yard.look(yard.running(yard.id(instance)))
        yard.settle()
        assert set(yard.steps()) == set(range(instance + 2))
    yard.look(yard.running(yard.id(2)))
    assert set(yard.board.pods) == {0, 1, 2}
    assert yard.workflow_state == "SUCCEEDED"


def test_an_update_resets_failures_and_a_restart_does_not(yard: Yard) -> None:
    created(yard, 1, "exit")
    yard.pass_time(100)
    failures = yard.pod(0).status.failure_count
    assert failures >= 2
    yard.restart()
    yard.look()
    assert yard.pod(0).status.failure_count == failures
    yard.abort()
    yard.replace(spec(1, "run"))
    yard.settle()
    assert yard.state(0) == "RUNNING" and yard.pod(0).status.failure_count == 0


def test_instances_that_come_back_count_their_runs_on(yard: Yard) -> None:
    created(yard, 3)
    yard.replace(spec(1))
    yard.settle()
    assert set(yard.board.pods) == {0} and len(yard.alive) == 1
    assert about(yard) == {"removed": [(1, 3)]}
    yard.replace(spec(3))
    yard.settle()
    assert yard.runs() == {0: 1, 1: 2, 2: 2}
    assert yard.pod(1).status.prev_pod_id.value.endswith("-1-1")
    assert yard.configurations() == {0: 3, 1: 3, 2: 3}


def test_an_instance_that_is_added_while_it_is_still_being_removed(yard: Yard) -> None:
    created(yard, 2, "silent")
    for instance in (0, 1):
        yard.look(yard.running(yard.id(instance)))
    yard.replace(spec(1, "silent"))
    yard.look()
    assert yard.state(1) == "KILLING"
    yard.replace(spec(2, "silent"))
    yard.look()
    assert about(yard) == {"updated": [(1, 2)]}
    yard.settle()
    assert yard.runs() == {0: 1, 1: 2} and yard.state(1) == "LAUNCHED"
    yard.look(yard.running(yard.id(1)))
    assert yard.workflow_state == "SUCCEEDED"


def test_an_instance_whose_removal_an_earlier_update_began_does_not_come_back(yard: Yard) -> None:
    created(yard, 3)
    yard.replace(spec(2))
    yard.look()
    assert yard.state(2) == "KILLING"
    yard.replace(spec(1), batch_size=1)
    yard.look()
    yard.look(yard.ended(yard.id(2), ending=Ending.STOPPED))
    assert set(yard.board.pods) == {0, 1}
    yard.settle()
    assert set(yard.board.pods) == {0} and yard.workflow_state == "SUCCEEDED"
    assert yard.steps() == {1: "DONE", 2: "DONE"}


# -- failures and the way back


def test_too_many_failures_without_roll_back_leave_things_as_they_are(yard: Yard) -> None:
    created(yard, 4)
    yard.replace(spec(4, "broken"), batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=2)
    yard.settle()
    assert yard.workflow_state == "FAILED"
    assert progress(yard) == (0, 2, 2)
    assert yard.configurations() == {0: 2, 1: 2, 2: 1, 3: 1}
    assert yard.job.configuration == 2 and yard.version == "2-1-2"


def test_too_many_failures_lead_back(yard: Yard) -> None:
    created(yard, 4)
    limits = {"max_instance_retries": 1, "max_tolerable_instance_failures": 2}
    yard.replace(spec(4, "broken"), batch_size=1, rollback_on_failure=True, **limits)
    yard.settle()
    assert yard.workflow_state == "ROLLED_BACK"
    assert events(yard) == ["INITIALIZED", "ROLLING_FORWARD", "ROLLING_BACKWARD", "ROLLED_BACK"]
    assert yard.version == "3-1-2"
    assert about(yard) == {"updated": [(0, 2)]}
    assert progress(yard) == (2, 0, 0)
    assert yard.configurations() == dict.fromkeys(range(4), 3)
    assert yard.runs() == {0: 3, 1: 3, 2: 1, 3: 1}
    assert yard.states() == {"RUNNING": 4}
    assert yard.board.specs[3].default_spec == yard.board.specs[1].default_spec
    assert yard.board.specs[3].revision.version == 3


def test_the_way_back_removes_what_was_added_and_brings_back_what_was_removed(yard: Yard) -> None:
    created(yard, 3)
    grown = spec(5, "broken")
    yard.replace(
        grown,
        batch_size=1,
        rollback_on_failure=True,
        max_instance_retries=1,
        max_tolerable_instance_failures=2,
    )
    yard.settle()
    assert yard.workflow_state == "ROLLED_BACK"
    assert about(yard) == {"removed": [(3, 5)]}
    assert set(yard.board.pods) == {0, 1, 2} and yard.job.instance_count == 3
    # Removal comes last, so for the other way the update must fail after it.
    yard.replace(spec(1, "run"), batch_size=1, rollback_on_failure=True)
    yard.settle()
    assert set(yard.board.pods) == {0}


def test_the_way_back_may_fail_too(yard: Yard) -> None:
    created(yard, 2, "broken", max_instance_retries=1)
    limits = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1}
    wanted = spec(2, "broken", checked=True)
    yard.replace(wanted, batch_size=1, rollback_on_failure=True, **limits)
    yard.settle()
    assert yard.workflow_state == "FAILED"
    assert events(yard) == ["INITIALIZED", "ROLLING_FORWARD", "ROLLING_BACKWARD", "FAILED"]
    assert yard.version == "3-1-2"


def test_a_pause_on_the_way_back_leads_on_back(yard: Yard) -> None:
    created(yard, 2, "silent")
    for instance in (0, 1):
        yard.look(yard.running(yard.id(instance)))
    limits = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1}
    yard.replace(spec(2, "broken"), batch_size=1, rollback_on_failure=True, **limits)
    yard.settle()
    assert yard.workflow_state == "ROLLING_BACKWARD"
    yard.pause()
    yard.look(yard.running(yard.id(0)))
    assert yard.workflow_state == "PAUSED"
    assert progress(yard) == (1, 0, 0)
    yard.resume()
    assert yard.workflow_state == "ROLLING_BACKWARD"
    yard.settle()
    assert yard.workflow_state == "ROLLED_BACK"


# -- pause, resume, abort


def test_a_pause_lets_what_is_in_flight_land(yard: Yard) -> None:
    created(yard, 4)
    yard.replace(spec(4, "silent"), batch_size=2)
    yard.look()
    yard.pause()
    assert yard.job.workflow_status.state == machines.PAUSED
    yard.settle()
    yard.look(yard.running(yard.id(0)), yard.running(yard.id(1)))
    assert yard.workflow_state == "PAUSED"
    assert progress(yard) == (2, 0, 2)
    assert yard.configurations() == {0: 2, 1: 2, 2: 1, 3: 1}
    assert yard.version == "2-1-3"
    yard.pause()
    assert yard.version == "2-1-4" and events(yard)[-1] == "PAUSED" and events(yard).count("PAUSED") == 1
    yard.resume()
    yard.settle()
    for instance in (2, 3):
        yard.look(yard.running(yard.id(instance)))
    assert yard.workflow_state == "SUCCEEDED" and yard.version == "2-1-5"


def test_an_update_that_starts_paused_decides_when_it_starts(yard: Yard) -> None:
    created(yard, 2)
    yard.replace(spec(2, "well"), start_paused=True)
    yard.settle()
    assert yard.workflow_state == "PAUSED" and about(yard) == {}
    assert yard.workflow.prev_state == machines.W_INITIALIZED
    yard.resume()
    yard.look()
    assert about(yard) == {"updated": [(0, 2)]}


def test_an_abort_stops_where_it_is(yard: Yard) -> None:
    created(yard, 3)
    yard.replace(spec(3, "silent"), batch_size=1)
    yard.look()
    yard.abort()
    yard.settle()
    assert yard.workflow_state == "ABORTED" and yard.version == "2-1-3"
    assert yard.configurations() == {0: 2, 1: 1, 2: 1}
    assert yard.state(0) == "LAUNCHED"
    yard.resume()
    yard.settle()
    assert yard.workflow_state == "ABORTED" and yard.version == "2-1-4"
    assert yard.configurations() == {0: 2, 1: 1, 2: 1}


def test_an_update_overwrites_the_one_before(yard: Yard) -> None:
    created(yard, 4)
    yard.replace(spec(4, "silent"), batch_size=2)
    yard.look()
    before = yard.workflow.name
    yard.replace(spec(4, "well"), batch_size=1)
    stored = stateless.WorkflowState.Name(_workflow(yard, before).state)
    assert short(stored) == "ABORTED"
    assert progress(yard) == (0, 0, 0)
    yard.settle()
    assert yard.workflow_state == "SUCCEEDED"
    assert about(yard) == {"updated": [(0, 4)]}
    assert yard.configurations() == dict.fromkeys(range(4), 3)
    # Those in flight went straight to the new version.
    assert yard.runs()[3] == 2
    assert len(yard.alive) == 4


def _workflow(yard: Yard, name: str) -> Any:
    body = yard.records["workflow", name][0]
    return type(yard.workflow).FromString(body)


def test_an_update_overwrites_a_creation_that_goes_on(yard: Yard) -> None:
    yard.create(spec(4, "silent"), batch_size=1)
    yard.settle()
    assert set(yard.board.pods) == {0}
    yard.replace(spec(3, "run"))
    yard.settle()
    assert about(yard) == {"added": [(1, 3)], "updated": [(0, 1)]}
    assert yard.states() == {"RUNNING": 3} and yard.workflow_state == "SUCCEEDED"


def test_updates_of_a_pod_that_has_not_run_yet_wait_for_nothing() -> None:
    yard = Yard(pods=1)
    yard.create(spec(2))
    yard.settle()
    assert yard.states() == {"RUNNING": 1, "PENDING": 1}
    yard.replace(spec(2, "well"))
    yard.settle()
    assert yard.states() == {"RUNNING": 1, "PENDING": 1}
    assert set(yard.configurations().values()) == {2}
    assert len(yard.alive) == 1


# -- restarts


def test_a_restart_replaces_runs_of_the_ranges_only(yard: Yard) -> None:
    created(yard, 5)
    yard.restart((1, 3), (2, 4), (9, 12), batch_size=1)
    assert yard.version == "2-1-2"
    assert [ranges.bounds(r) for r in yard.workflow.restart_spec.ranges] == [(1, 4)]
    yard.settle()
    assert yard.workflow_state == "SUCCEEDED" and yard.most_flying >= 1
    assert yard.taken() == [1, 1, 2, 2, 3, 3]
    assert yard.runs() == {0: 1, 1: 2, 2: 2, 3: 2, 4: 1}
    assert yard.configurations() == dict.fromkeys(range(5), 2)
    assert why(yard, 1) == "KILLED_FOR_RESTART"
    assert about(yard) == {"updated": [(1, 4)]}


def test_a_restart_without_ranges_is_of_all(yard: Yard) -> None:
    created(yard, 3)
    yard.restart((7, 9))
    yard.settle()
    assert yard.runs() == {0: 2, 1: 2, 2: 2}


def test_a_restart_starts_a_stopped_job(yard: Yard) -> None:
    created(yard, 3)
    yard.stop()
    yard.settle()
    assert yard.job_state == "KILLED"
    yard.restart((0, 2))
    assert yard.job.desired_state == machines.J_RUNNING
    yard.settle()
    assert [yard.state(i) for i in range(3)] == ["RUNNING", "RUNNING", "KILLED"]
    assert yard.workflow_state == "SUCCEEDED"


def test_a_stop_while_it_is_restarted_is_a_stop(yard: Yard) -> None:
    created(yard, 3)
    yard.restart(batch_size=1)
    yard.look()
    yard.stop()
    yard.settle()
    assert yard.states() == {"KILLED": 3} and not yard.alive
    assert yard.workflow_state == "SUCCEEDED" and yard.job_state == "KILLED"
    assert yard.configurations() == dict.fromkeys(range(3), 2)
    assert not [r for r in yard.asked if isinstance(r, Start)]


# -- stopped jobs


def test_a_stop_does_not_end_an_update(yard: Yard) -> None:
    created(yard, 4)
    yard.replace(spec(4, "silent"), batch_size=1)
    yard.look()
    yard.stop()
    yard.settle()
    assert yard.workflow_state == "SUCCEEDED"
    assert yard.states() == {"KILLED": 4} and not yard.alive
    assert yard.configurations() == dict.fromkeys(range(4), 2)
    assert yard.job_state == "KILLED"
    assert not [r for r in yard.asked if isinstance(r, Start)]


def test_a_stopped_job_stays_so_when_it_is_updated(yard: Yard) -> None:
    created(yard, 2)
    yard.stop()
    yard.settle()
    yard.asked.clear()
    yard.served = 0
    yard.replace(spec(3, "well"))
    yard.settle()
    assert not yard.asked
    assert yard.states() == {"KILLED": 3} and yard.workflow_state == "SUCCEEDED"
    assert yard.configurations() == {0: 2, 1: 2, 2: 2}
    assert yard.job_state == "KILLED"
    yard.start()
    yard.settle()
    assert yard.states() == {"RUNNING": 3} and yard.job_state == "RUNNING"


@pytest.mark.parametrize("command", ["run", "well"])
def test_an_update_that_starts_the_pods(yard: Yard, command: str) -> None:
    created(yard, 2)
    yard.stop()
    yard.settle()
    yard.replace(spec(3, command), start_pods=True)
    yard.settle()
    assert yard.states() == {"RUNNING": 3} and yard.job_state == "RUNNING"
    assert yard.workflow_state == "SUCCEEDED"
    assert yard.version == "2-2-2"


def test_a_start_leaves_running_pods_alone(yard: Yard) -> None:
    created(yard, 2)
    yard.start()
    yard.settle()
    assert yard.runs() == {0: 1, 1: 1} and not yard.asked
    assert yard.version == "1-2-1"


# -- deletion


@pytest.mark.parametrize("paused", [False, True])
def test_deletion_wins_over_every_workflow(yard: Yard, paused: bool) -> None:
    created(yard, 3)
    yard.restart(batch_size=2)
    yard.look()
    if paused:
        yard.pause()
    yard.delete()
    yard.settle()
    assert yard.workflow_state == "ABORTED"
    assert not yard.board.pods and not yard.alive
    assert not [r for r in yard.asked if isinstance(r, Start)]


def test_deletion_of_a_job_that_is_being_created(yard: Yard) -> None:
    yard.create(spec(5, "silent"), batch_size=2)
    yard.settle()
    yard.delete()
    yard.settle()
    assert not yard.board.pods and not yard.alive
