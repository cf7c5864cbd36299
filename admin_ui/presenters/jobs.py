"""Jobs, their pods by state and their workflows, as rows and pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from admin_ui.job_state import JobListState
from admin_ui.presenters import filters
from admin_ui.presenters.catalogue import Label
from admin_ui.presenters.experiments import UNKNOWN_STATE, State
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as svc
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored

STATES: Final[Mapping[int, State]] = {
    stateless.JOB_STATE_UNINITIALIZED: State("Pending", "warn", "clock"),
    stateless.JOB_STATE_INITIALIZED: State("Pending", "warn", "clock"),
    stateless.JOB_STATE_PENDING: State("Pending", "warn", "clock"),
    stateless.JOB_STATE_RUNNING: State("Running", "ok", "play"),
    stateless.JOB_STATE_SUCCEEDED: State("Succeeded", "info", "check"),
    stateless.JOB_STATE_FAILED: State("Failed", "bad", "cross"),
    stateless.JOB_STATE_KILLING: State("Stopping", "muted", "clock"),
    stateless.JOB_STATE_KILLED: State("Stopped", "muted", "stop"),
    stateless.JOB_STATE_DELETED: State("Deleted", "muted", "trash"),
}
DELETING: Final = State("Being deleted", "bad", "trash")
WORKFLOW_STATES: Final[Mapping[int, State]] = {
    stateless.WORKFLOW_STATE_INITIALIZED: State("About to begin", "info", "clock"),
    stateless.WORKFLOW_STATE_ROLLING_FORWARD: State("Rolling out", "info", "play"),
    stateless.WORKFLOW_STATE_PAUSED: State("Paused", "warn", "pause"),
    stateless.WORKFLOW_STATE_SUCCEEDED: State("Succeeded", "ok", "check"),
    stateless.WORKFLOW_STATE_ABORTED: State("Aborted", "muted", "cross"),
    stateless.WORKFLOW_STATE_FAILED: State("Failed", "bad", "cross"),
    stateless.WORKFLOW_STATE_ROLLING_BACKWARD: State("Rolling back", "warn", "restore"),
    stateless.WORKFLOW_STATE_ROLLED_BACK: State("Rolled back", "warn", "restore"),
}
OVER: Final = frozenset(
    {
        stateless.WORKFLOW_STATE_SUCCEEDED,
        stateless.WORKFLOW_STATE_ABORTED,
        stateless.WORKFLOW_STATE_FAILED,
        stateless.WORKFLOW_STATE_ROLLED_BACK,
    }
)
_P: Final = pod_pb2
# Words for states of pods that mean the same to people, in the order of a bar.
GROUPS: Final[Mapping[str, tuple[pod_pb2.PodState, ...]]] = {
    "running": (_P.POD_STATE_RUNNING,),
    "starting": (_P.POD_STATE_LAUNCHING, _P.POD_STATE_LAUNCHED, _P.POD_STATE_STARTING),
    "waiting": (
        _P.POD_STATE_INITIALIZED,
        _P.POD_STATE_PENDING,
        _P.POD_STATE_READY,
        _P.POD_STATE_PLACING,
        _P.POD_STATE_PLACED,
        _P.POD_STATE_RESERVED,
    ),
    "ending": (_P.POD_STATE_KILLING, _P.POD_STATE_PREEMPTING),
    "failed": (_P.POD_STATE_FAILED,),
    "lost": (_P.POD_STATE_LOST,),
    "succeeded": (_P.POD_STATE_SUCCEEDED,),
    "stopped": (_P.POD_STATE_KILLED,),
}
_GROUP_OF: Final = {pod_pb2.PodState.Name(state): word for word, states in GROUPS.items() for state in states}
_LIVE: Final = ("running", "starting", "waiting", "ending")


@dataclass(frozen=True, slots=True)
class Part:
    """Of a bar: `start` and `width` are per cent."""

    word: str
    count: int
    start: float
    width: float

    @property
    def label(self) -> str:
        return "in flight" if self.word == "current" else self.word


def parts(counts: Mapping[str, int]) -> tuple[Part, ...]:
    """Of counts by word, those that are not nought."""
    total = sum(counts.values())
    found: list[Part] = []
    start = 0.0
    for word, count in counts.items():
        if count:
            width = 100 * count / total
            found.append(Part(word, count, round(start, 3), round(width, 3)))
            start += width
    return tuple(found)


def grouped(stats: Mapping[str, int]) -> dict[str, int]:
    """Pods by the words of GROUPS, from counts by names of states."""
    found = dict.fromkeys(GROUPS, 0)
    for name, count in stats.items():
        if name in _GROUP_OF:
            found[_GROUP_OF[name]] += count
    return found


@dataclass(frozen=True, slots=True)
class Workflow:
    """Progress of a roll-out. `to` and `of`: configurations; `of` is 0 for a creation."""

    title: str
    kind: str
    state: State
    going: bool
    paused: bool
    backward: bool
    done: int
    failed: int
    remaining: int
    current: tuple[int, ...]
    to: int
    of: int
    begun: datetime | None
    changed: datetime | None
    ended: datetime | None

    @property
    def total(self) -> int:
        return self.done + self.failed + self.remaining

    @property
    def bar(self) -> tuple[Part, ...]:
        flying = min(len(self.current), self.remaining)
        counts = {"done": self.done, "failed": self.failed, "current": flying}
        return parts({**counts, "remaining": self.remaining - flying})


def workflow(status: stateless.WorkflowStatus) -> Workflow | None:
    """None for a status that says nothing."""
    if status.state not in WORKFLOW_STATES:
        return None
    restart = status.type == stateless.WORKFLOW_TYPE_RESTART
    of = configuration(status.prev_version.value)
    backward = stateless.WORKFLOW_STATE_ROLLING_BACKWARD in (
        status.state,
        status.prev_state if status.state == stateless.WORKFLOW_STATE_PAUSED else 0,
    )
    return Workflow(
        title="Restart" if restart else "Update" if of else "Creation",
        kind="restart" if restart else "update",
        state=WORKFLOW_STATES[status.state],
        going=status.state not in OVER,
        paused=status.state == stateless.WORKFLOW_STATE_PAUSED,
        backward=backward or status.state == stateless.WORKFLOW_STATE_ROLLED_BACK,
        done=status.num_instances_completed,
        failed=status.num_instances_failed,
        remaining=status.num_instances_remaining,
        current=tuple(status.instances_current),
        to=configuration(status.version.value),
        of=of,
        begun=when(status.creation_time),
        changed=when(status.update_time),
        ended=when(status.completion_time),
    )


@dataclass(frozen=True, slots=True)
class Job:
    """`version`: its entity version, which every change must name. `wanted`: instances that it should
    have; `pods`: how many there are by word; `live`: that would end if it were stopped."""

    id: str
    name: str
    owner: str
    team: str
    description: str
    labels: tuple[Label, ...]
    state: State
    goal: State
    deleting: bool
    stopped: bool
    stopping: bool
    version: str
    configuration: int
    wanted: int
    pods: Mapping[str, int]
    bar: tuple[Part, ...]
    workflow: Workflow | None
    pool: str
    created: datetime | None
    changed: datetime | None
    changed_by: str

    @property
    def title(self) -> str:
        return self.name or self.id[:8]

    @property
    def live(self) -> int:
        return sum(self.pods[word] for word in _LIVE)

    @property
    def missing(self) -> int:
        """Instances without a pod yet."""
        return max(0, self.wanted - sum(self.pods.values()))


def row(job: stored.Job) -> Job:
    """Of a list: the job as it is stored."""
    return _job(
        job.id, job.name, job.owner, job.owning_team, job.description, job.labels, job.instance_count,
        job.respool_id, job.state, job.desired_state, version_of(job), job.pod_stats, job.workflow_status,
        moment(job.created_at), moment(job.updated_at), job.updated_by,
    )  # fmt: skip


def one(answer: svc.GetJobResponse) -> Job:
    """Of a page of its own."""
    info = answer.job_info
    spec, status = info.spec, info.status
    return _job(
        info.job_id.value, spec.name, spec.owner, spec.owning_team, spec.description, spec.labels,
        spec.instance_count, spec.respool_id.value, status.state, status.desired_state,
        status.version.value, status.pod_stats, status.workflow_status,
        when(status.creation_time), moment(status.revision.updated_at), status.revision.updated_by,
    )  # fmt: skip


def _job(
    id: str,
    name: str,
    owner: str,
    team: str,
    description: str,
    labels: Iterable[object],
    wanted: int,
    pool: str,
    state: int,
    desired: int,
    version: str,
    stats: Mapping[str, int],
    progress: stateless.WorkflowStatus,
    created: datetime | None,
    changed: datetime | None,
    changed_by: str,
) -> Job:
    pods = grouped(stats)
    deleting = desired == stateless.JOB_STATE_DELETED
    return Job(
        id=id,
        name=name,
        owner=owner,
        team=team,
        description=description,
        labels=label_links(labels),
        state=DELETING if deleting else STATES.get(state, UNKNOWN_STATE),
        goal=STATES.get(desired, UNKNOWN_STATE),
        deleting=deleting,
        stopped=state == stateless.JOB_STATE_KILLED,
        stopping=desired == stateless.JOB_STATE_KILLED,
        version=version,
        configuration=configuration(version),
        wanted=wanted,
        pods=pods,
        bar=parts(pods),
        workflow=workflow(progress),
        pool=pool,
        created=created,
        changed=changed,
        changed_by=changed_by,
    )


def label_links(labels: Iterable[object]) -> tuple[Label, ...]:
    found = sorted((str(getattr(label, "key", "")), str(getattr(label, "value", ""))) for label in labels)
    return tuple(Label(key, value, "?" + urlencode({"label": f"{key}={value}"})) for key, value in found)


def version_of(job: stored.Job) -> str:
    return f"{job.configuration}-{job.desired_state_version}-{job.workflow_version}"


def configuration(version: str) -> int:
    """Of an entity version; 0 for none."""
    text = version.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else 0


def moment(nanoseconds: int) -> datetime | None:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC) if nanoseconds else None


def when(text: str) -> datetime | None:
    """A time as the API writes it; None for none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def sentence(state: JobListState, pool: str = "") -> str:
    """What the list shows, in words. `pool`: the path of the one that it is of."""
    told = [state.state, "jobs"]
    if state.q:
        told.append(f"with “{state.q}”")
    if state.owner:
        told.append(f"of {state.owner}")
    if state.label:
        told.append(f"labelled {state.label}")
    if state.pool:
        told.append(f"in {pool or state.pool}")
    if state.workflow:
        words = {"going": "with a workflow that goes on", "paused": "with a paused workflow"}
        told.append(words.get(state.workflow, "whose last workflow failed"))
    text = " ".join(filter(None, told))
    whose = filters.in_words(state.filter)
    return f"{text}, whose {whose}" if whose else text


def ranges(found: Sequence[pod_pb2.InstanceIDRange], most: int = 12) -> str:
    """Half-open ranges as people say them: `0–4, 7`."""
    told = []
    for bounds in found[:most]:
        low, high = getattr(bounds, "from"), bounds.to
        told.append(str(low) if high - low == 1 else f"{low}–{high - 1}")
    if len(found) > most:
        told.append("…")
    return ", ".join(told)


def size(found: Iterable[pod_pb2.InstanceIDRange]) -> int:
    return sum(bounds.to - getattr(bounds, "from") for bounds in found)


# Kinds whose names begin with the id of their job.
BELOW: Final = frozenset({"job_pod", "run", "workflow", "configuration"})
_ID: Final = 36


def short(kind: str, name: str) -> str:
    """What tells something of a job apart, with the beginning of the job's id; empty for other kinds."""
    if kind not in BELOW or len(name) <= _ID:
        return ""
    numbers = [part.lstrip("0") or "0" for part in name[_ID + 1 :].split("-")]
    return f"{name[:8]} {'-'.join(numbers)}"
