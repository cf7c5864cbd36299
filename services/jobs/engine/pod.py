"""The rules of one pod: what it needs next, and what is written when something happens to it
(jobs contract, section 5). Pure. Times are nanoseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.jobs import machines, moments, names
from services.jobs.engine import events
from services.jobs.machines import Action
from services.jobs.runtime.port import Ending, Health, Observation, Phase
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

LAUNCH_FAILED: Final = "CONTAINER_LAUNCH_FAILED"
THROTTLED: Final = "Task throttled due to failure"
_SECOND: Final = 1_000_000_000
_HOUR: Final = 3600 * _SECOND

Reason = pod_pb2.TerminationStatus.Reason
_FOR: Final = pod_pb2.TerminationStatus
_PHASES: Final = {
    Phase.WAITING: machines.LAUNCHED,
    Phase.STARTING: machines.STARTING,
    Phase.RUNNING: machines.RUNNING,
}
_HEALTH: Final = {
    Health.UNKNOWN: pod_pb2.HEALTH_STATE_UNKNOWN,
    Health.HEALTHY: pod_pb2.HEALTH_STATE_HEALTHY,
    Health.UNHEALTHY: pod_pb2.HEALTH_STATE_UNHEALTHY,
}


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long things may take or must wait."""

    first_backoff: int = 30 * _SECOND
    longest_backoff: int = _HOUR
    launch: int = 3 * _HOUR
    start: int = 3 * _HOUR
    # After the grace of a stop.
    kill: int = 10 * _SECOND


def stale(pod: pb.Pod) -> bool:
    """The run is not the one that is wanted."""
    return pod.configuration != pod.desired_configuration or pod.run != pod.desired_run


def action(pod: pb.Pod) -> Action:
    """What it needs next, whether or not the time for it has come."""
    goal = machines.GOALS[pod.status.desired_state]
    return machines.ACTIONS[goal, stale(pod)][pod.status.state]


def due(pod: pb.Pod, pauses: Pauses) -> int | None:
    """When the time for its next action comes; None: now, or never by itself."""
    match action(pod):
        case Action.RERUN:
            pause = backoff(pod.status.failure_count, pauses)
            return pod.changed_at + pause if pause else None
        case Action.TIME_OUT:
            limit = pauses.launch if pod.status.state == machines.LAUNCHED else pauses.start
            return pod.changed_at + limit
        case Action.PRESS:
            return pod.changed_at + pauses.kill
    return None


def backoff(failures: int, pauses: Pauses) -> int:
    """How long a run after so many failures waits."""
    if not failures:
        return 0
    return min(pauses.first_backoff << min(failures - 1, 32), pauses.longest_backoff)


# -- what happens to it


def new(
    job: str,
    instance: int,
    version: int,
    *,
    after_run: int,
    desired: int,
    now: int,
    container: pod_pb2.ContainerSpec,
) -> pb.Pod:
    """An instance that there was not. `after_run`: its last run before it was removed. `container`: what
    it is to run."""
    pod = pb.Pod(
        name=names.pod_name(job, instance),
        job=job,
        instance=instance,
        run=after_run,
        configuration=version,
        desired_configuration=version,
    )
    pod.status.desired_state = desired  # type: ignore[assignment]  # one of the enum's numbers
    renew(pod, now, container)
    if desired != machines.RUNNING:
        become(pod, machines.KILLED, now, reason="Created stopped")
    return pod


def renew(pod: pb.Pod, now: int, container: pod_pb2.ContainerSpec) -> pb.Run | None:
    """A new run of the version that is wanted, which is `container`. Answers the one before, to be kept,
    unless that never began: then it is the one that changes."""
    if pod.status.state in machines.UNBORN:
        pod.run = pod.desired_run = max(pod.run, pod.desired_run)
        pod.configuration = pod.desired_configuration
        _describe(pod.status.containers_status[0], container)
        _identify(pod, now)
        return None
    before = archive(pod) if pod.run and pod.status.state else None
    status = pod.status
    previous = names.pod_id(pod.name, pod.run)
    pod.run = max(pod.run + 1, pod.desired_run)
    pod.desired_run = pod.run
    pod.configuration = pod.desired_configuration
    pod.admitted = False
    pod.killing_for = _FOR.TERMINATION_STATUS_REASON_INVALID
    for field in ("host", "host_id", "message", "reason", "start_time", "completion_time"):
        status.ClearField(field)
    status.ClearField("containers_status")
    status.ClearField("resource_usage")
    shown = status.containers_status.add(state=events.CONTAINER[machines.INITIALIZED])
    _describe(shown, container)
    status.prev_pod_id.value = previous
    del pod.events[:]
    status.state = machines.INITIALIZED
    pod.changed_at = now
    _identify(pod, now)
    events.record(pod, now)
    return before


def _describe(shown: pod_pb2.ContainerStatus, container: pod_pb2.ContainerSpec) -> None:
    """What is known of a container before it runs."""
    shown.name, shown.image = container.name, container.image
    checked = container.liveness_check.enabled
    shown.healthy.state = pod_pb2.HEALTH_STATE_UNKNOWN if checked else pod_pb2.HEALTH_STATE_DISABLED


def archive(pod: pb.Pod) -> pb.Run:
    """The run as it ended."""
    return pb.Run(
        pod=pod.name, run=pod.run, configuration=pod.configuration, status=pod.status, events=pod.events
    )


def become(pod: pb.Pod, state: int, now: int, *, reason: str = "", message: str = "") -> None:
    """A new state of the same run. Never an earlier one."""
    assert machines.ORDER[state] >= machines.ORDER[pod.status.state], (pod.name, pod.status.state, state)
    container = pod.status.containers_status[0]
    pod.status.state = state  # type: ignore[assignment]  # one of the enum's numbers
    container.state = events.CONTAINER[state]
    pod.status.reason = container.reason = reason
    pod.status.message = container.message = message
    pod.changed_at = now
    if state in machines.ENDED:
        pod.admitted = False
        container.healthy.state = pod_pb2.HEALTH_STATE_INVALID
        if not pod.status.completion_time:
            pod.status.completion_time = container.completion_time = moments.text(now)
    _stamp(pod, now)
    events.record(pod, now)


def stop(pod: pb.Pod, why: Reason, now: int) -> None:
    """It is being ended."""
    pod.killing_for = why
    become(pod, machines.KILLING, now, reason=Reason.Name(why).removeprefix("TERMINATION_STATUS_REASON_"))


def say(pod: pb.Pod, message: str, now: int, *, reason: str = "") -> None:
    """A word about the state that it is in; no event."""
    container = pod.status.containers_status[0]
    pod.status.message = container.message = message
    if reason:
        pod.status.reason = container.reason = reason
    _stamp(pod, now)


def observe(pod: pb.Pod, seen: Observation, now: int) -> bool:
    """What the runtime says of its current run. False: nothing new."""
    if pod.status.state not in machines.LIVE:
        return False
    new = _take(pod, seen)
    if seen.phase is Phase.ENDED:
        _end(pod, seen, now)
        return True
    state = _PHASES[seen.phase]
    if machines.ORDER[state] > machines.ORDER[pod.status.state]:
        become(pod, state, now, message=seen.message)
        new = True
    elif new:
        _stamp(pod, now)
    return _take_health(pod, seen, now) or new


def lose(pod: pb.Pod, now: int) -> None:
    """The runtime knows nothing of a run that it must know."""
    killed = pod.status.state == machines.KILLING
    ending = Ending.STOPPED if killed else Ending.LOST
    _end(pod, Observation(pod_id="", phase=Phase.ENDED, ending=ending), now)


def _take(pod: pb.Pod, seen: Observation) -> bool:
    """False: nothing new."""
    container = pod.status.containers_status[0]
    new = False
    if seen.host and seen.host != pod.status.host:
        pod.status.host = pod.status.host_id = seen.host
        new = True
    for name, port in seen.ports.items():
        if container.ports.get(name) != port:
            container.ports[name] = port
            new = True
    if seen.started_at and not pod.status.start_time:
        pod.status.start_time = container.start_time = moments.text(seen.started_at)
        new = True
    if seen.ended_at and not pod.status.completion_time:
        pod.status.completion_time = container.completion_time = moments.text(seen.ended_at)
        new = True
    return new


def _take_health(pod: pb.Pod, seen: Observation, now: int) -> bool:
    """False: nothing new. Whether there is a check at all stands in the spec, not here."""
    healthy = pod.status.containers_status[0].healthy
    state = _HEALTH.get(seen.health, healthy.state)
    worse = seen.health is Health.UNHEALTHY and seen.health_output != healthy.output
    if healthy.state == state and not worse:
        return False
    healthy.state, healthy.output = state, seen.health_output
    _stamp(pod, now)
    events.record(pod, now)
    return True


def _end(pod: pb.Pod, seen: Observation, now: int) -> None:
    asked = pod.killing_for != _FOR.TERMINATION_STATUS_REASON_INVALID
    container = pod.status.containers_status[0]
    ended = container.terminationStatus
    message = seen.message
    match seen.ending:
        case Ending.STOPPED:
            state = machines.KILLED
            ended.reason = pod.killing_for if asked else _FOR.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
        case Ending.LOST:
            state = machines.LOST
            ended.reason = pod.killing_for if asked else _FOR.TERMINATION_STATUS_REASON_FAILED
            message = message or "The runtime cannot account for it"
        case Ending.EXITED if seen.exit_code == 0:
            state = machines.SUCCEEDED
        case _:
            state = machines.FAILED
            ended.reason = _FOR.TERMINATION_STATUS_REASON_FAILED
            # What is said of its limits comes behind.
            message = "; ".join(filter(None, (_failure(seen), message)))
    ended.exit_code, ended.signal = seen.exit_code, seen.signal
    if state == machines.SUCCEEDED:
        container.ClearField("terminationStatus")
    reason = LAUNCH_FAILED if seen.ending is Ending.LAUNCH_FAILED else ""
    if _counts(pod, state, asked):
        pod.status.failure_count += 1
        container.failure_count = pod.status.failure_count
    become(pod, state, now, reason=reason or _reason(seen), message=message)


def _counts(pod: pb.Pod, state: int, asked: bool) -> bool:
    """Whether the end of this run is a failure that the next one waits for."""
    if stale(pod) or asked:
        return False
    if state == machines.SUCCEEDED:
        return pod.status.desired_state == machines.RUNNING
    return state in (machines.FAILED, machines.KILLED)


def _failure(seen: Observation) -> str:
    if seen.ending is Ending.LAUNCH_FAILED:
        return "" if seen.message else "It could not be launched"
    if seen.ending is Ending.SIGNALLED:
        return f"Command was ended by signal {seen.signal}"
    if seen.ending is Ending.UNHEALTHY:
        said = seen.health_output.strip()
        return f"Health check failed too often: {said}" if said else "Health check failed too often"
    if seen.ending is Ending.OUT_OF_MEMORY:
        return "Command used more memory than it may"
    return f"Command exited with status {seen.exit_code}"


def _reason(seen: Observation) -> str:
    match seen.ending:
        case Ending.UNHEALTHY:
            return "HEALTH_CHECK_FAILED"
        case Ending.OUT_OF_MEMORY:
            return "OUT_OF_MEMORY"
        case Ending.LOST:
            return "POD_LOST"
    return ""


def _stamp(pod: pb.Pod, now: int) -> None:
    """Its status is another one."""
    revision = pod.status.revision
    revision.version += 1
    revision.created_at = revision.created_at or now
    revision.updated_at = now


def _identify(pod: pb.Pod, now: int) -> None:
    """The parts of its status that follow from runs, failures and configurations, which have changed."""
    status = pod.status
    status.containers_status[0].failure_count = status.failure_count
    status.pod_id.value = names.pod_id(pod.name, pod.run)
    status.desired_pod_id.value = names.pod_id(pod.name, pod.desired_run)
    status.version.value = names.pod_version(pod.configuration)
    status.desired_version.value = names.pod_version(pod.desired_configuration)
    _stamp(pod, now)


def want(
    pod: pb.Pod,
    now: int,
    *,
    configuration: int | None = None,
    desired: int | None = None,
    rerun: bool = False,
) -> None:
    """What it is to be from now on. `rerun`: a new run even if nothing else changes."""
    if configuration is not None:
        pod.desired_configuration = configuration
    if desired is not None:
        pod.status.desired_state = desired  # type: ignore[assignment]  # one of the enum's numbers
    if rerun:
        pod.desired_run = pod.run + 1
    _identify(pod, now)


def restamp(pod: pb.Pod, now: int) -> None:
    """It carries the version that is wanted; nothing runs, or what runs means the same."""
    pod.configuration = pod.desired_configuration
    pod.desired_run = pod.run
    _identify(pod, now)
