"""The rules of one workflow: its states, events and numbers (jobs contract, section 6). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.jobs import machines, moments, names
from services.jobs.machines import Step
from services.jobs.names import Version
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb


def new(
    job: pb.Job,
    number: int,
    type: stateless.WorkflowType,
    configuration: int,
    now: int,
    *,
    paused: bool = False,
) -> pb.Workflow:
    """It leads `job` from the configuration that it has to `configuration`."""
    found = pb.Workflow(
        name=names.workflow(job.id, number),
        job=job.id,
        type=type,
        configuration=configuration,
        prev_configuration=job.configuration,
        created_at=now,
        desired_state_version=job.desired_state_version,
        workflow_version=job.workflow_version,
    )
    _become(found, machines.W_INITIALIZED, now)
    if paused:
        take(found, Step.PAUSE, now)
    return found


def over(workflow: pb.Workflow) -> bool:
    return workflow.state in machines.OVER


def take(workflow: pb.Workflow, step: Step, now: int) -> bool:
    """False: the step changes nothing in the state that it is in."""
    if step not in machines.TRANSITIONS[workflow.state]:
        return False
    following = machines.TRANSITIONS[workflow.state][step]
    _become(workflow, workflow.prev_state if following is None else following, now)
    return True


def _become(workflow: pb.Workflow, state: int, now: int) -> None:
    workflow.prev_state = workflow.state
    workflow.state = state  # type: ignore[assignment]  # one of the enum's numbers
    workflow.updated_at = now
    if state in machines.OVER:
        workflow.completed_at = now
    event(workflow.events, workflow, state, now)


def event(events: object, workflow: pb.Workflow, state: int, now: int) -> None:
    """Add one to `events`, of the workflow or of a step."""
    events.add(type=workflow.type, timestamp=moments.seconds_text(now), state=state)  # type: ignore[attr-defined]


def finish(found: pb.Step, workflow: pb.Workflow, now: int, *, failed: bool) -> None:
    found.result = pb.Step.FAILED if failed else pb.Step.DONE
    event(found.events, workflow, machines.W_FAILED if failed else machines.W_SUCCEEDED, now)


def instance_events(
    workflow: pb.Workflow, found: pb.Step | None, limit: int = 0
) -> list[stateless.WorkflowEvent]:
    """Of an instance that the workflow is about, newest first: it was known from the beginning, and a
    roll-back is about it from then on."""
    events = [
        stateless.WorkflowEvent(
            type=workflow.type,
            timestamp=moments.seconds_text(workflow.created_at),
            state=machines.W_INITIALIZED,
        )
    ]
    if workflow.rolled_back_at:
        events.append(
            stateless.WorkflowEvent(
                type=workflow.type,
                timestamp=moments.seconds_text(workflow.rolled_back_at),
                state=machines.ROLLING_BACKWARD,
            )
        )
    events += found.events if found is not None else ()
    newest = events[::-1]
    return newest[:limit] if limit else newest


def collapsed(events: Sequence[stateless.WorkflowEvent]) -> list[stateless.WorkflowEvent]:
    """Of consecutive ones of the same state the first."""
    return [e for index, e in enumerate(events) if not index or events[index - 1].state != e.state]


def status(workflow: pb.Workflow, job: pb.Job) -> stateless.WorkflowStatus:
    """Without the numbers of its progress."""
    found = stateless.WorkflowStatus(
        type=workflow.type,
        state=workflow.state,
        prev_state=workflow.prev_state,
        creation_time=moments.text(workflow.created_at),
        update_time=moments.text(workflow.updated_at),
        completion_time=moments.text(workflow.completed_at),
    )
    d, w = job.desired_state_version, job.workflow_version
    found.version.value = str(Version(workflow.configuration, d, w))
    found.prev_version.value = str(Version(workflow.prev_configuration, d, w))
    return found


def info(workflow: pb.Workflow, status: stateless.WorkflowStatus) -> stateless.WorkflowInfo:
    """Without the events of instances."""
    found = stateless.WorkflowInfo(
        status=status,
        opaque_data=workflow.opaque_data,
        events=workflow.events[::-1],
        instances_added=workflow.added,
        instances_removed=workflow.removed,
        instances_updated=workflow.updated,
    )
    if workflow.type == stateless.WORKFLOW_TYPE_RESTART:
        found.restart_spec.CopyFrom(workflow.restart_spec)
    else:
        found.update_spec.CopyFrom(workflow.update_spec)
    found.opaque_data.SetInParent()
    return found
