"""The tables of the job, pod and workflow state machines, against the contract's words (sections 5, 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.jobs import machines
from services.jobs.machines import Action, Step
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

UNBORN = ("INITIALIZED", "PENDING")
LIVE = ("LAUNCHED", "STARTING", "RUNNING")
ENDED = ("SUCCEEDED", "FAILED", "LOST", "KILLED")


def pod_state(name: str) -> int:
    return pod_pb2.PodState.Value(f"POD_STATE_{name}")


def rows(goal: str, stale: bool, **actions: Action) -> list[tuple[str, bool, str, Action]]:
    groups = {"unborn": UNBORN, "live": LIVE, "ended": ENDED}
    return [
        (goal, stale, state, action)
        for group, action in actions.items()
        for state in groups.get(group, (group,))
    ]


# What the reconciler does about a pod: desired state, whether the run is not the wanted one, state.
ACTIONS = [
    *rows("RUNNING", False, INITIALIZED=Action.SUBMIT, PENDING=Action.ADMIT, RUNNING=Action.NONE),
    *rows("RUNNING", False, LAUNCHED=Action.TIME_OUT, STARTING=Action.TIME_OUT),
    *rows("RUNNING", False, ended=Action.RERUN, KILLING=Action.PRESS),
    *rows("RUNNING", True, unborn=Action.RENEW, live=Action.STOP, KILLING=Action.PRESS, ended=Action.RENEW),
    *rows("KILLED", False, unborn=Action.CANCEL, live=Action.STOP, KILLING=Action.PRESS, ended=Action.NONE),
    *rows("KILLED", True, unborn=Action.CANCEL, live=Action.STOP, KILLING=Action.PRESS, ended=Action.STAMP),
    *rows(
        "DELETED", False, unborn=Action.REMOVE, live=Action.STOP, KILLING=Action.PRESS, ended=Action.REMOVE
    ),
    *rows("DELETED", True, unborn=Action.REMOVE, live=Action.STOP, KILLING=Action.PRESS, ended=Action.REMOVE),
]


@pytest.mark.parametrize(("desired", "stale", "state", "action"), ACTIONS)
def test_what_a_pod_needs_next(desired: str, stale: bool, state: str, action: Action) -> None:
    goal = machines.GOALS[pod_state(desired)]
    assert machines.ACTIONS[goal, stale][pod_state(state)] is action


def test_every_state_that_a_pod_can_be_in_has_a_row() -> None:
    wanted = {pod_state(name) for name in (*UNBORN, *LIVE, "KILLING", *ENDED)}
    assert len(ACTIONS) == len(machines.ACTIONS) * len(wanted)
    for goal, stale in machines.ACTIONS:
        assert machines.ACTIONS[goal, stale].keys() - {machines.DELETED} == wanted


def test_the_order_of_a_run() -> None:
    live = [pod_state(name) for name in (*UNBORN, *LIVE, "KILLING")]
    assert sorted(live, key=machines.ORDER.__getitem__) == live
    ends = {machines.ORDER[pod_state(name)] for name in ENDED}
    assert len(ends) == 1 and min(ends) > max(machines.ORDER[state] for state in live)
    assert set(machines.ORDER) == machines.UNBORN | machines.LIVE | machines.ENDED


# Workflow state -> step -> what it becomes. Everything that is not here changes nothing.
STEPS = {
    "INITIALIZED": {Step.START: "ROLLING_FORWARD", Step.PAUSE: "PAUSED", Step.ABORT: "ABORTED"},
    "ROLLING_FORWARD": {
        Step.PAUSE: "PAUSED",
        Step.ABORT: "ABORTED",
        Step.COMPLETE: "SUCCEEDED",
        Step.FAIL: "FAILED",
        Step.TURN_BACK: "ROLLING_BACKWARD",
    },
    "ROLLING_BACKWARD": {
        Step.PAUSE: "PAUSED",
        Step.ABORT: "ABORTED",
        Step.COMPLETE: "ROLLED_BACK",
        Step.FAIL: "FAILED",
    },
    "PAUSED": {Step.RESUME: "the one before", Step.ABORT: "ABORTED"},
}


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", stateless.WorkflowState.keys()[1:])
def test_what_becomes_of_a_workflow(state: str, step: Step) -> None:
    expected = STEPS.get(state.removeprefix("WORKFLOW_STATE_"), {}).get(step)
    steps = machines.TRANSITIONS[stateless.WorkflowState.Value(state)]
    if expected is None:
        assert step not in steps
    elif expected == "the one before":
        assert steps[step] is None
    else:
        assert steps[step] == stateless.WorkflowState.Value(f"WORKFLOW_STATE_{expected}")


def test_a_workflow_that_is_over_stays_so() -> None:
    over = {state for state, steps in machines.TRANSITIONS.items() if not steps}
    assert over == machines.OVER
    names = {stateless.WorkflowState.Name(state).removeprefix("WORKFLOW_STATE_") for state in over}
    assert names == {"SUCCEEDED", "ABORTED", "FAILED", "ROLLED_BACK"}


def job_state(
    count: int, desired: str = "RUNNING", previous: str = "RUNNING", creating: bool = False, **pods: int
) -> str:
    found = machines.job_state(
        count,
        {pod_state(name): number for name, number in pods.items()},
        desired=stateless.JobState.Value(f"JOB_STATE_{desired}"),
        previous=stateless.JobState.Value(f"JOB_STATE_{previous}"),
        creating=creating,
    )
    return stateless.JobState.Name(found).removeprefix("JOB_STATE_")


def test_fewer_pods_than_instances_while_they_are_created() -> None:
    assert job_state(3, creating=True, RUNNING=2) == "PENDING"
    assert job_state(3, creating=True) == "PENDING"
    assert job_state(3, "KILLED", "KILLING", creating=True, KILLED=1, FAILED=1) == "KILLED"
    assert job_state(3, "KILLED", "KILLING", creating=True, FAILED=2) == "FAILED"
    assert job_state(3, "KILLED", "KILLING", creating=True, KILLED=1, KILLING=1) == "PENDING"
    # Nothing creates them any more.
    assert job_state(3, RUNNING=2) == "RUNNING"
    assert job_state(3, "KILLED", "KILLING", KILLED=2) == "KILLED"
    assert job_state(3, "KILLED", "KILLING") == "KILLED"
    assert job_state(3, "KILLED", "KILLING", KILLED=1, KILLING=1) == "KILLING"


def test_more_pods_than_instances() -> None:
    assert job_state(2, RUNNING=3) == "PENDING"
    assert job_state(2, "KILLED", "KILLING", KILLED=2, KILLING=1) == "KILLED"
    assert job_state(2, "KILLED", "KILLING", KILLED=1, KILLING=2) == "KILLING"


def test_all_have_ended() -> None:
    assert job_state(2, SUCCEEDED=2) == "SUCCEEDED"
    assert job_state(3, SUCCEEDED=1, FAILED=1, LOST=1) == "FAILED"
    assert job_state(2, FAILED=2) == "FAILED"
    assert job_state(3, "KILLED", "KILLING", SUCCEEDED=1, FAILED=1, KILLED=1) == "KILLED"
    assert job_state(2, KILLED=2) == "KILLED"


def test_some_go_on() -> None:
    assert job_state(2, "KILLED", "KILLING", KILLED=1, RUNNING=1) == "KILLING"
    assert job_state(2, RUNNING=1, FAILED=1) == "RUNNING"
    assert job_state(2, INITIALIZED=2) == "PENDING"
    assert job_state(2, PENDING=1, KILLED=1) == "PENDING"
    assert job_state(2, LAUNCHED=1, STARTING=1) == "PENDING"


def test_a_job_of_no_instances() -> None:
    assert job_state(0) == "PENDING"
    assert job_state(0, "KILLED", "KILLING") == "KILLED"
    # It shrinks to nothing.
    assert job_state(0, RUNNING=2) == "PENDING"
    assert job_state(0, "KILLED", "KILLING", KILLING=2) == "KILLING"
    assert job_state(0, "KILLED", "KILLING", KILLED=1) == "KILLED"


@given(
    count=st.integers(0, 5),
    pods=st.dictionaries(st.sampled_from(sorted(machines.ORDER)), st.integers(1, 3), max_size=4),
    desired=st.sampled_from([machines.J_RUNNING, machines.J_KILLED, machines.J_DELETED]),
    creating=st.booleans(),
)
def test_a_job_with_a_pod_that_runs_has_not_ended(
    count: int, pods: dict[int, int], desired: int, creating: bool
) -> None:
    live = sum(number for state, number in pods.items() if state not in machines.ENDED)
    state = machines.job_state(count, pods, desired=desired, previous=machines.J_RUNNING, creating=creating)
    if live and sum(pods.values()) <= count:
        assert state not in machines.TERMINAL
    if desired == machines.J_RUNNING and not sum(pods.values()):
        assert state == machines.J_PENDING
