"""The state machines of jobs, pods and workflows, as tables (jobs contract, sections 5 and 6).

Code and tests read the same tables. States are the API's own numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2 as pod

# -- pods

INITIALIZED: Final = pod.POD_STATE_INITIALIZED
PENDING: Final = pod.POD_STATE_PENDING
LAUNCHED: Final = pod.POD_STATE_LAUNCHED
STARTING: Final = pod.POD_STATE_STARTING
RUNNING: Final = pod.POD_STATE_RUNNING
SUCCEEDED: Final = pod.POD_STATE_SUCCEEDED
FAILED: Final = pod.POD_STATE_FAILED
LOST: Final = pod.POD_STATE_LOST
KILLING: Final = pod.POD_STATE_KILLING
KILLED: Final = pod.POD_STATE_KILLED
DELETED: Final = pod.POD_STATE_DELETED

# Waiting to be run: no runtime knows of it.
UNBORN: Final = frozenset({INITIALIZED, PENDING})
# A runtime has it, or is about to.
LIVE: Final = frozenset({LAUNCHED, STARTING, RUNNING, KILLING})
ENDED: Final = frozenset({SUCCEEDED, FAILED, LOST, KILLED, DELETED})
# Within one run the state only goes to a later one of these.
ORDER: Final[Mapping[int, int]] = {
    INITIALIZED: 0,
    PENDING: 1,
    LAUNCHED: 2,
    STARTING: 3,
    RUNNING: 4,
    KILLING: 5,
    **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED), 6),
    DELETED: 7,
}


class Action(Enum):
    """What a pod needs next."""

    NONE = "none"
    # Wait for room.
    SUBMIT = "submit"
    # Take the room that there is.
    ADMIT = "admit"
    # Give up on a launch that takes too long.
    TIME_OUT = "time out"
    # End the run.
    STOP = "stop"
    # End it the hard way, once it was given time enough.
    PRESS = "press"
    # A new run after a pause that grows with its failures.
    RERUN = "rerun"
    # A new run at once.
    RENEW = "renew"
    # It ends before it began.
    CANCEL = "cancel"
    # It carries the version it is to have; nothing runs.
    STAMP = "stamp"
    REMOVE = "remove"


# What the desired state comes to.
RUN: Final = "run"
STOP: Final = "stop"
REMOVE: Final = "remove"
GOALS: Final[Mapping[int, str]] = {RUNNING: RUN, KILLED: STOP, DELETED: REMOVE}

_REMOVED: Final[Mapping[int, Action]] = {
    **dict.fromkeys(UNBORN, Action.REMOVE),
    **dict.fromkeys((LAUNCHED, STARTING, RUNNING), Action.STOP),
    KILLING: Action.PRESS,
    **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED, DELETED), Action.REMOVE),
}
# (goal, stale) -> state -> action. Stale: the run is not of the version or number that is wanted.
ACTIONS: Final[Mapping[tuple[str, bool], Mapping[int, Action]]] = {
    (RUN, False): {
        INITIALIZED: Action.SUBMIT,
        PENDING: Action.ADMIT,
        LAUNCHED: Action.TIME_OUT,
        STARTING: Action.TIME_OUT,
        RUNNING: Action.NONE,
        KILLING: Action.PRESS,
        **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED), Action.RERUN),
    },
    (RUN, True): {
        **dict.fromkeys(UNBORN, Action.RENEW),
        **dict.fromkeys((LAUNCHED, STARTING, RUNNING), Action.STOP),
        KILLING: Action.PRESS,
        **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED), Action.RENEW),
    },
    (STOP, False): {
        **dict.fromkeys(UNBORN, Action.CANCEL),
        **dict.fromkeys((LAUNCHED, STARTING, RUNNING), Action.STOP),
        KILLING: Action.PRESS,
        **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED), Action.NONE),
    },
    (STOP, True): {
        **dict.fromkeys(UNBORN, Action.CANCEL),
        **dict.fromkeys((LAUNCHED, STARTING, RUNNING), Action.STOP),
        KILLING: Action.PRESS,
        **dict.fromkeys((SUCCEEDED, FAILED, LOST, KILLED), Action.STAMP),
    },
    (REMOVE, False): _REMOVED,
    (REMOVE, True): _REMOVED,
}


# -- workflows

W_INITIALIZED: Final = stateless.WORKFLOW_STATE_INITIALIZED
ROLLING_FORWARD: Final = stateless.WORKFLOW_STATE_ROLLING_FORWARD
PAUSED: Final = stateless.WORKFLOW_STATE_PAUSED
W_SUCCEEDED: Final = stateless.WORKFLOW_STATE_SUCCEEDED
ABORTED: Final = stateless.WORKFLOW_STATE_ABORTED
W_FAILED: Final = stateless.WORKFLOW_STATE_FAILED
ROLLING_BACKWARD: Final = stateless.WORKFLOW_STATE_ROLLING_BACKWARD
ROLLED_BACK: Final = stateless.WORKFLOW_STATE_ROLLED_BACK

OVER: Final = frozenset({W_SUCCEEDED, ABORTED, W_FAILED, ROLLED_BACK})
ROLLING: Final = frozenset({ROLLING_FORWARD, ROLLING_BACKWARD})


class Step(Enum):
    """What happens to a workflow."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    COMPLETE = "complete"
    FAIL = "fail"
    TURN_BACK = "turn back"


# State -> step -> next state. A step that is missing changes nothing. None: back to the state before.
TRANSITIONS: Final[Mapping[int, Mapping[Step, int | None]]] = {
    W_INITIALIZED: {Step.START: ROLLING_FORWARD, Step.PAUSE: PAUSED, Step.ABORT: ABORTED},
    ROLLING_FORWARD: {
        Step.PAUSE: PAUSED,
        Step.ABORT: ABORTED,
        Step.COMPLETE: W_SUCCEEDED,
        Step.FAIL: W_FAILED,
        Step.TURN_BACK: ROLLING_BACKWARD,
    },
    ROLLING_BACKWARD: {
        Step.PAUSE: PAUSED,
        Step.ABORT: ABORTED,
        Step.COMPLETE: ROLLED_BACK,
        Step.FAIL: W_FAILED,
    },
    PAUSED: {Step.RESUME: None, Step.ABORT: ABORTED},
    **{state: {} for state in (W_SUCCEEDED, ABORTED, W_FAILED, ROLLED_BACK)},
}


# -- jobs

J_PENDING: Final = stateless.JOB_STATE_PENDING
J_RUNNING: Final = stateless.JOB_STATE_RUNNING
J_SUCCEEDED: Final = stateless.JOB_STATE_SUCCEEDED
J_FAILED: Final = stateless.JOB_STATE_FAILED
J_KILLED: Final = stateless.JOB_STATE_KILLED
J_KILLING: Final = stateless.JOB_STATE_KILLING
J_DELETED: Final = stateless.JOB_STATE_DELETED
TERMINAL: Final = frozenset({J_SUCCEEDED, J_FAILED, J_KILLED, J_DELETED})


def job_state(
    count: int, pods: Mapping[int, int], *, desired: int, previous: int, creating: bool
) -> stateless.JobState:
    """The state of a job of `count` instances whose pods are in these states, so many each; first
    match wins (section 5). `creating`: a workflow still makes pods."""
    total = sum(pods.values())
    ended = sum(pods.get(state, 0) for state in (SUCCEEDED, FAILED, LOST, KILLED))
    stopping = desired in TERMINAL
    if count == 0:
        if not stopping:
            return J_PENDING
        return J_KILLED if ended == total else J_KILLING
    if total < count and stopping and ended == total:
        # Nothing creates the others any more, or they would end at once.
        return J_KILLED if pods.get(KILLED, 0) or not total else J_FAILED
    if total < count and creating:
        return J_PENDING
    if total > count and not stopping:
        return J_PENDING
    if pods.get(SUCCEEDED, 0) >= count:
        return J_SUCCEEDED
    if sum(pods.get(state, 0) for state in (SUCCEEDED, FAILED, LOST)) >= count:
        return J_FAILED
    if pods.get(KILLED, 0) and ended >= count:
        return J_KILLED
    if previous == J_KILLING:
        return J_KILLING
    return J_RUNNING if pods.get(RUNNING, 0) else J_PENDING
