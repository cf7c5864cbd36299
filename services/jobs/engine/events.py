"""What happened to a run: how it is kept, and as the API tells it (jobs contract, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.jobs import machines, moments, names
from services.jobs.names import Version
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

# A run that goes on for ever must not grow its record for ever.
MAX_EVENTS: Final = 100
# The state of a container by that of its pod.
CONTAINER: Final[Mapping[int, pod_pb2.ContainerState]] = {
    machines.INITIALIZED: pod_pb2.CONTAINER_STATE_PENDING,
    machines.PENDING: pod_pb2.CONTAINER_STATE_PENDING,
    machines.LAUNCHED: pod_pb2.CONTAINER_STATE_LAUNCHED,
    machines.STARTING: pod_pb2.CONTAINER_STATE_STARTING,
    machines.RUNNING: pod_pb2.CONTAINER_STATE_RUNNING,
    machines.KILLING: pod_pb2.CONTAINER_STATE_KILLING,
    machines.KILLED: pod_pb2.CONTAINER_STATE_KILLED,
    machines.SUCCEEDED: pod_pb2.CONTAINER_STATE_SUCCEEDED,
    machines.FAILED: pod_pb2.CONTAINER_STATE_FAILED,
    machines.LOST: pod_pb2.CONTAINER_STATE_FAILED,
    machines.DELETED: pod_pb2.CONTAINER_STATE_KILLED,
}


def record(pod: pb.Pod, now: int) -> None:
    """That it has come to the state that it is in."""
    status = pod.status
    container = status.containers_status[0]
    event = pod.events.add(
        at=now,
        state=status.state,
        desired_state=status.desired_state,
        configuration=pod.configuration,
        desired_configuration=pod.desired_configuration,
        desired_run=pod.desired_run,
        health=container.healthy.state,
    )
    # Mostly there is none of these.
    for field, value in (
        ("host", status.host),
        ("reason", status.reason),
        ("message", status.message),
        ("health_output", container.healthy.output),
        ("failure_count", container.failure_count),
    ):
        if value:
            setattr(event, field, value)
    if status.state in machines.ENDED and container.HasField("terminationStatus"):
        event.termination.CopyFrom(container.terminationStatus)
    if len(pod.events) > MAX_EVENTS:
        # The first ones tell how it began, the last ones what is going on.
        del pod.events[MAX_EVENTS // 2]


def told(run: pb.Run) -> list[pod_pb2.PodEvent]:
    """Its events, oldest first."""
    return [_told(run, event) for event in run.events]


def _told(run: pb.Run, event: pb.Event) -> pod_pb2.PodEvent:
    found = pod_pb2.PodEvent(
        actual_state=pod_pb2.PodState.Name(event.state),
        desired_state=pod_pb2.PodState.Name(event.desired_state),
        timestamp=moments.seconds_text(event.at),
        agent_id=event.host,
        hostname=event.host,
        message=event.message,
        reason=event.reason,
        healthy=pod_pb2.HealthState.Name(event.health),
        container_status=[_container(run, event)],
    )
    found.pod_id.value = names.pod_id(run.pod, run.run)
    found.prev_pod_id.value = run.status.prev_pod_id.value
    found.desired_pod_id.value = names.pod_id(run.pod, event.desired_run)
    found.version.value = str(Version(event.configuration))
    found.desired_version.value = str(Version(event.desired_configuration))
    return found


def _container(run: pb.Run, event: pb.Event) -> pod_pb2.ContainerStatus:
    """As it was then: what it came to know later is left out."""
    last = run.status.containers_status[0]
    found = pod_pb2.ContainerStatus(
        name=last.name,
        image=last.image,
        state=CONTAINER[event.state],
        message=event.message,
        reason=event.reason,
        failure_count=event.failure_count,
        healthy=pod_pb2.HealthStatus(state=event.health, output=event.health_output),
    )
    if machines.ORDER[event.state] >= machines.ORDER[machines.RUNNING]:
        found.ports.update(last.ports)
        found.start_time = last.start_time
    if event.state in machines.ENDED:
        found.completion_time = last.completion_time
    if event.HasField("termination"):
        found.terminationStatus.CopyFrom(event.termination)
    return found
