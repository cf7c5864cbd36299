"""Pods of a job: as cells of a grid, as rows, and one of them with its runs and what happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from admin_ui.clients import Endpoint
from admin_ui.presenters import commands
from admin_ui.presenters.commands import Snippet
from admin_ui.presenters.experiments import UNKNOWN_STATE, State
from admin_ui.presenters.jobs import GROUPS, configuration, moment, when
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored

SERVICE: Final = "peloton.api.v1alpha.pod.svc.PodService"
LOG_SERVICE: Final = "roundhouse.jobs.v1.LogService"

STATES: Final[Mapping[str, State]] = {
    "running": State("Running", "ok", "play"),
    "unhealthy": State("Unhealthy", "bad", "alert"),
    "starting": State("Starting", "info", "clock"),
    "waiting": State("Waiting", "warn", "clock"),
    "ending": State("Ending", "muted", "clock"),
    "failed": State("Failed", "bad", "cross"),
    "lost": State("Lost", "bad", "question"),
    "succeeded": State("Succeeded", "info", "check"),
    "stopped": State("Stopped", "muted", "stop"),
}
# One letter for each, beside its colour; small where another version or run is wanted.
LETTERS: Final[Mapping[str, str]] = {
    "running": "R",
    "unhealthy": "U",
    "starting": "S",
    "waiting": "W",
    "ending": "E",
    "failed": "F",
    "lost": "L",
    "succeeded": "D",
    "stopped": "X",
}
_WORDS: Final[Mapping[int, str]] = {state: word for word, states in GROUPS.items() for state in states}
# Of events, where the word for several states would say the same twice.
_HAPPENED: Final[Mapping[int, State]] = {
    pod_pb2.POD_STATE_INITIALIZED: State("Made", "muted", "plus"),
    pod_pb2.POD_STATE_PENDING: State("Waiting", "warn", "clock"),
    pod_pb2.POD_STATE_LAUNCHED: State("Launched", "info", "swap"),
}
HEALTH: Final[Mapping[int, State]] = {
    pod_pb2.HEALTH_STATE_UNKNOWN: State("Not known yet", "muted", "clock"),
    pod_pb2.HEALTH_STATE_HEALTHY: State("Healthy", "ok", "check"),
    pod_pb2.HEALTH_STATE_UNHEALTHY: State("Unhealthy", "bad", "alert"),
}
_KNOWN: Final = (pod_pb2.HEALTH_STATE_HEALTHY, pod_pb2.HEALTH_STATE_UNHEALTHY)
ENDED: Final = frozenset({"failed", "lost", "succeeded", "stopped"})
# Up to so many instances each has a cell of its own that leads to it.
CELLS: Final = 1000
_CELLS_A_ROW: Final = 40
_LETTERS_A_ROW: Final = 100
# So many rows of letters that are all alike are one.
_ALIKE: Final = 3
# Stretches of one row that lead somewhere: more would be a page of nothing but links.
_LINKS_A_ROW: Final = 8
_TERMINATION: Final = "TERMINATION_STATUS_REASON_"


def word_of(status: pod_pb2.PodStatus) -> str:
    """One of STATES; empty for a state that there is not."""
    word = _WORDS.get(status.state, "")
    if word == "running" and health_of(status) == pod_pb2.HEALTH_STATE_UNHEALTHY:
        return "unhealthy"
    return word


def health_of(status: pod_pb2.PodStatus) -> int:
    return status.containers_status[0].healthy.state if status.containers_status else 0


def is_stale(status: pod_pb2.PodStatus) -> bool:
    """Another version or another run is wanted than there is."""
    return (
        status.version.value != status.desired_version.value
        or status.pod_id.value != status.desired_pod_id.value
    )


def number(id: str) -> int:
    """Of the run with that id, or the instance with that name; 0 for none."""
    text = id.rpartition("-")[2]
    return int(text) if text.isascii() and text.isdigit() else 0


# -- the grid


@dataclass(frozen=True, slots=True)
class Cell:
    instance: int
    word: str
    stale: bool

    @property
    def letter(self) -> str:
        letter = LETTERS.get(self.word, "?")
        return letter.lower() if self.stale else letter

    @property
    def title(self) -> str:
        state = STATES.get(self.word, UNKNOWN_STATE).label
        return f"{self.instance} {state}{', to be replaced' if self.stale else ''}"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbours that are alike."""

    first: Cell
    count: int
    linked: bool

    @property
    def letters(self) -> str:
        return self.first.letter * self.count

    @property
    def span(self) -> str:
        """As an address has it."""
        begin = self.first.instance
        return str(begin) if self.count == 1 else f"{begin}-{begin + self.count - 1}"


@dataclass(frozen=True, slots=True)
class GridRow:
    """`cells` of a grid of cells, `stretches` of one of letters."""

    first: int
    last: int
    cells: Sequence[Cell] = ()
    stretches: Sequence[Stretch] = ()

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def uniform(self) -> bool:
        """All in it are alike, and it stands for several rows."""
        return len(self.stretches) == 1 and self.count > _LETTERS_A_ROW


@dataclass(frozen=True, slots=True)
class Count:
    word: str
    state: State
    letter: str
    count: int


@dataclass(frozen=True, slots=True)
class Grid:
    """`dense`: of letters, because there are many. `stale`: how many are to be replaced."""

    rows: Sequence[GridRow]
    counts: Sequence[Count]
    total: int
    dense: bool
    stale: int


def cell(pod: pod_pb2.PodSummary) -> Cell:
    return Cell(number(pod.pod_name.value), word_of(pod.status), is_stale(pod.status))


def grid(cells: Sequence[Cell]) -> Grid:
    """Of the pods of one job, by instance."""
    dense = len(cells) > CELLS
    width = _LETTERS_A_ROW if dense else _CELLS_A_ROW
    rows: list[GridRow] = []
    for start in range(0, len(cells), width):
        some = cells[start : start + width]
        first, last = some[0].instance, some[-1].instance
        rows.append(
            GridRow(first, last, stretches=_stretches(some)) if dense else GridRow(first, last, cells=some)
        )
    if dense:
        rows = _merged(rows)
    counted = Counter(cell.word for cell in cells)
    counts = [Count(word, state, LETTERS[word], counted[word]) for word, state in STATES.items()]
    return Grid(
        rows,
        [count for count in counts if count.count],
        len(cells),
        dense,
        sum(cell.stale for cell in cells),
    )


def _merged(rows: Sequence[GridRow]) -> list[GridRow]:
    """With what is all alike for several rows in one."""
    found: list[GridRow] = []
    for kind, group in groupby(rows, _kind):
        some = list(group)
        found += [_one(some)] if kind is not None and len(some) >= _ALIKE else some
    return found


def _kind(row: GridRow) -> tuple[str, bool] | None:
    """What all in a full row are."""
    if len(row.stretches) != 1 or row.count < _LETTERS_A_ROW:
        return None
    return row.stretches[0].first.word, row.stretches[0].first.stale


def _one(rows: Sequence[GridRow]) -> GridRow:
    stretch = Stretch(rows[0].stretches[0].first, sum(row.count for row in rows), linked=True)
    return GridRow(rows[0].first, rows[-1].last, stretches=[stretch])


def _stretches(cells: Sequence[Cell]) -> list[Stretch]:
    found: list[list[Cell]] = []
    for cell in cells:
        if found and (found[-1][0].word, found[-1][0].stale) == (cell.word, cell.stale):
            found[-1].append(cell)
        else:
            found.append([cell])
    linked = len(found) <= _LINKS_A_ROW
    return [Stretch(some[0], len(some), linked) for some in found]


# -- rows and runs


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pod. `version` and `wanted` are configurations; `exit`: how it ended; `why`: what
    the service says of its state."""

    id: str
    number: int
    wanted_run: int
    word: str
    state: State
    goal: State
    version: int
    wanted: int
    reason: str
    message: str
    exit: str
    host: str
    ports: Mapping[str, int]
    health: State | None
    health_output: str
    failures: int
    begun: datetime | None
    ended: datetime | None
    image: str

    @property
    def stale(self) -> bool:
        return self.version != self.wanted or self.number != self.wanted_run

    @property
    def over(self) -> bool:
        return self.word in ENDED

    @property
    def span(self) -> timedelta | None:
        return self.ended - self.begun if self.begun and self.ended else None

    @property
    def why(self) -> str:
        """In one line, for a table."""
        reason = self.reason.replace("_", " ").lower() if self.reason.isupper() else self.reason
        return ": ".join(filter(None, (reason, self.message)))


@dataclass(frozen=True, slots=True)
class Pod:
    """A row of a list: an instance with its present run."""

    name: str
    instance: int
    run: Run
    changed: datetime | None


def row(pod: stored.Pod) -> Pod:
    return Pod(pod.name, pod.instance, run(pod.status), moment(pod.changed_at))


def run(status: pod_pb2.PodStatus) -> Run:
    container = status.containers_status[0] if status.containers_status else pod_pb2.ContainerStatus()
    word = word_of(status)
    desired = _WORDS.get(status.desired_state, "")
    return Run(
        id=status.pod_id.value,
        number=number(status.pod_id.value),
        wanted_run=number(status.desired_pod_id.value),
        word=word,
        state=STATES.get(word, UNKNOWN_STATE),
        goal=STATES.get(desired, State("Gone", "muted", "trash")),
        version=configuration(status.version.value),
        wanted=configuration(status.desired_version.value),
        reason=status.reason,
        message=status.message,
        exit=exit_of(word, container.terminationStatus),
        host=status.host,
        ports=dict(sorted(container.ports.items())),
        health=HEALTH.get(container.healthy.state),
        health_output=container.healthy.output,
        failures=status.failure_count,
        begun=when(status.start_time),
        ended=when(status.completion_time),
        image=container.image,
    )


def exit_of(word: str, ended: pod_pb2.TerminationStatus) -> str:
    """How a run ended: its code or its signal, and why if somebody wanted it."""
    if word not in ENDED:
        return ""
    wanted = pod_pb2.TerminationStatus.Reason.Name(ended.reason).removeprefix(_TERMINATION)
    why = wanted.replace("_", " ").lower() if ended.reason and wanted != "FAILED" else ""
    how = ended.signal or (f"exit {ended.exit_code}" if ended.exit_code or word == "succeeded" else "")
    return ", ".join(filter(None, (how, why)))


# -- one pod


@dataclass(frozen=True, slots=True)
class Event:
    state: State
    goal: str
    at: datetime | None
    version: int
    wanted: int
    reason: str
    message: str
    health: str
    exit: str


def events(found: Iterable[pod_pb2.PodEvent]) -> list[Event]:
    """As the service tells them: newest first."""
    return [_event(one) for one in found]


def _event(one: pod_pb2.PodEvent) -> Event:
    actual = _state_named(one.actual_state)
    word = _WORDS.get(actual, "")
    container = one.container_status[0] if one.container_status else pod_pb2.ContainerStatus()
    states = pod_pb2.HealthState.DESCRIPTOR.values_by_name
    health = states[one.healthy].number if one.healthy in states else 0
    return Event(
        state=_HAPPENED.get(actual) or STATES.get(word, UNKNOWN_STATE),
        goal=STATES[goal].label if (goal := _WORDS.get(_state_named(one.desired_state), "")) else "",
        at=when(one.timestamp),
        version=configuration(one.version.value),
        wanted=configuration(one.desired_version.value),
        reason=one.reason,
        message=one.message,
        health=HEALTH[health].label if health in _KNOWN else "",
        exit=exit_of(word, container.terminationStatus),
    )


def _state_named(name: str) -> int:
    known = pod_pb2.PodState.DESCRIPTOR.values_by_name
    return known[name].number if name in known else 0


@dataclass(frozen=True, slots=True)
class Container:
    """What a pod is to run. `limits` and `environment`: (name, value)."""

    name: str
    image: str
    command: str
    limits: Sequence[tuple[str, str]]
    environment: Sequence[tuple[str, str]]
    check: str
    grace: int


def containers(spec: pod_pb2.PodSpec) -> list[Container]:
    return [_container(one, spec.kill_grace_period_seconds) for one in spec.containers]


def _container(one: pod_pb2.ContainerSpec, grace: int) -> Container:
    entry = one.entrypoint if one.entrypoint.value or one.entrypoint.arguments else one.command
    limits = one.resource
    told = (
        ("CPU", f"{limits.cpu_limit:g}" if limits.cpu_limit else ""),
        ("Memory", f"{limits.mem_limit_mb:g} MiB" if limits.mem_limit_mb else ""),
        ("Disk", f"{limits.disk_limit_mb:g} MiB" if limits.disk_limit_mb else ""),
        ("Files", str(limits.fd_limit or "")),
        ("GPU", f"{limits.gpu_limit:g}" if limits.gpu_limit else ""),
    )
    return Container(
        name=one.name,
        image=one.image,
        command=" ".join(filter(None, (entry.value, *entry.arguments))),
        limits=[pair for pair in told if pair[1]],
        environment=[(variable.name, variable.value) for variable in one.environment],
        check=_check(one.liveness_check) if one.liveness_check.enabled else "",
        grace=grace,
    )


def _check(check: pod_pb2.HealthCheckSpec) -> str:
    """A liveness check in words."""
    if check.type == pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP:
        probe = check.http_get if check.http_get.port or check.http_get.path else check.http_check
        what = f"GET {probe.scheme or 'http'}://…:{probe.port}{probe.path}"
    else:
        what = check.command_check.command or " ".join((check.command.value, *check.command.arguments))
    every = f", every {check.interval_secs} s" if check.interval_secs else ""
    return f"{what}{every}"


# -- the same in a terminal


def commands_for_list(endpoint: Endpoint, job: str, expression: str) -> list[Snippet]:
    url = f"{commands.rest(endpoint)}/v1alpha/jobs/{job}/pods"
    method = "peloton.api.v1alpha.job.stateless.svc.JobService/ListPods"
    asked = {"job_id": {"value": job}}
    return [
        Snippet("curl", commands.curl(url)),
        Snippet("grpcurl", commands.grpcurl(endpoint, method, asked)),
        Snippet("roundhouse · this list", commands.roundhouse("list", "job_pod", "--filter", expression)),
    ]


def commands_for_one(endpoint: Endpoint, name: str) -> list[Snippet]:
    url = f"{commands.rest(endpoint)}/v1alpha/pods/{name}"
    asked = {"pod_name": {"value": name}}
    follow = commands.query(f"{url}/log:download", {"follow": True, "tail_lines": 100})
    return [
        Snippet("curl", commands.curl(url)),
        Snippet("curl · events", commands.curl(f"{url}/events")),
        Snippet("curl · follow its log", commands.curl(follow, options="-N")),
        Snippet("curl · restart it, as the SLA allows", _post(f"{url}:restart", '{"check_sla": true}')),
        Snippet("curl · stop it", _post(f"{url}:stop", "{}")),
        Snippet("curl · start it", _post(f"{url}:start", "{}")),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{SERVICE}/GetPod", asked)),
        Snippet("grpcurl · restart it", commands.grpcurl(endpoint, f"{SERVICE}/RestartPod", asked)),
        Snippet("roundhouse", commands.roundhouse("get", "job_pod", name, "-o", "yaml")),
        Snippet("roundhouse · history", commands.roundhouse("history", "job_pod", name)),
    ]


def commands_for_log(endpoint: Endpoint, name: str, run: str, stream: str) -> list[Snippet]:
    url = f"{commands.rest(endpoint)}/v1alpha/pods/{name}/log:download"
    given: dict[str, Any] = {"pod_id.value": run, "stream": stream.upper()}
    asked = {"pod_name": {"value": name}, "pod_id": {"value": run}, "stream": stream.upper()}
    followed = {**asked, "tail_lines": 100, "follow": True}
    return [
        Snippet("curl", commands.curl(commands.query(url, given))),
        Snippet(
            "curl · follow it",
            commands.curl(commands.query(url, {**given, "tail_lines": 100, "follow": True}), options="-N"),
        ),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{LOG_SERVICE}/ReadLog", followed)),
    ]


def _post(url: str, body: str) -> str:
    return commands.curl(url, options=f"-X POST -d '{body}'")
