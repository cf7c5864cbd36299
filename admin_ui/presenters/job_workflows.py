"""Roll-outs of a job: what each is to do, how far it came, and why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from admin_ui.presenters import jobs
from admin_ui.presenters.experiments import UNKNOWN_STATE, State
from admin_ui.presenters.jobs import Workflow
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

# Instances in flight that are named.
NAMED = 24


@dataclass(frozen=True, slots=True)
class Event:
    state: State
    at: datetime | None
    # Until the next one.
    lasted: timedelta | None


@dataclass(frozen=True, slots=True)
class Touched:
    """Instances that a workflow adds, updates, removes or restarts."""

    word: str
    count: int
    ranges: str


@dataclass(frozen=True, slots=True)
class RollOut:
    """One workflow with all that is told of it. `events`: newest first. `rules`: how it goes on, in
    words. `why`: the reason of a failure, as far as the numbers say it."""

    progress: Workflow
    batch: int
    retries: int
    tolerable: int
    rollback: bool
    rules: tuple[str, ...]
    touched: tuple[Touched, ...]
    events: tuple[Event, ...]
    opaque: str

    @property
    def named(self) -> tuple[int, ...]:
        return self.progress.current[:NAMED]

    @property
    def hidden(self) -> int:
        return max(0, len(self.progress.current) - NAMED)

    @property
    def span(self) -> timedelta | None:
        begun, ended = self.progress.begun, self.progress.ended
        return ended - begun if begun and ended else None

    @property
    def why(self) -> str:
        """Empty for one that did not fail."""
        turned = any(event.state.label == "Rolling back" for event in self.events)
        if not turned and self.progress.state.label != "Failed":
            return ""
        tries = "once" if self.retries == 1 else f"{self.retries} times"
        if not turned:
            return f"{_count(self.progress.failed)} failed {tries}; {self.tolerable} stops it."
        limit = f"{_count(self.tolerable)} failed {tries}, so it was turned back"
        if self.progress.state.label == "Failed":
            return f"{limit}; on the way back as many failed again."
        return f"{limit}: the job gets the spec that it had before, as a new configuration."


def roll_out(info: stateless.WorkflowInfo) -> RollOut | None:
    """None for a workflow that says nothing of its state."""
    progress = jobs.workflow(info.status)
    if progress is None:
        return None
    update, restart = info.update_spec, info.restart_spec
    is_restart = progress.kind == "restart"
    return RollOut(
        progress=progress,
        batch=restart.batch_size if is_restart else update.batch_size,
        retries=update.max_instance_retries,
        tolerable=update.max_tolerable_instance_failures,
        rollback=update.rollback_on_failure,
        rules=tuple(_rules(update, restart, is_restart)),
        touched=tuple(_touched(info, is_restart)),
        events=events(info.events),
        opaque=info.opaque_data.data,
    )


def _rules(update: stateless.UpdateSpec, restart: stateless.RestartSpec, is_restart: bool) -> Iterable[str]:
    batch = restart.batch_size if is_restart else update.batch_size
    yield f"{batch} at a time" if batch else "all at once"
    if is_restart:
        if restart.in_place:
            yield "on the same host"
        return
    retries, tolerable = update.max_instance_retries, update.max_tolerable_instance_failures
    yield f"an instance fails after {_times(retries)}" if retries else "instances are tried for ever"
    if tolerable:
        yield f"fails with {tolerable} failed instance{'' if tolerable == 1 else 's'}"
    elif retries:
        yield "failed instances never stop it"
    if update.rollback_on_failure:
        yield "rolls back when it fails"
    if update.start_pods:
        yield "starts the pods"
    if update.in_place:
        yield "on the same host"
    if update.start_paused:
        yield "began paused"


def _count(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _times(count: int) -> str:
    return "one failure" if count == 1 else f"{count} failures"


def _touched(info: stateless.WorkflowInfo, is_restart: bool) -> Iterable[Touched]:
    lists: tuple[tuple[str, Sequence[pod_pb2.InstanceIDRange]], ...] = (
        ("added", info.instances_added),
        ("updated", info.instances_updated),
        ("removed", info.instances_removed),
    )
    if is_restart:
        lists = (("restarted", info.restart_spec.ranges),)
    for word, found in lists:
        if found:
            yield Touched(word, jobs.size(found), jobs.ranges(found))


def events(found: Sequence[stateless.WorkflowEvent]) -> tuple[Event, ...]:
    """Newest first, as the API gives them."""
    times = [jobs.when(event.timestamp) for event in found]
    told = []
    for index, event in enumerate(found):
        at, after = times[index], times[index - 1] if index else None
        state = jobs.WORKFLOW_STATES.get(event.state, UNKNOWN_STATE)
        told.append(Event(state, at, after - at if at and after else None))
    return tuple(told)


# --- what a replacement would do ----------------------------------------------------------------


def difference(
    added: Sequence[pod_pb2.InstanceIDRange],
    updated: Sequence[pod_pb2.InstanceIDRange],
    removed: Sequence[pod_pb2.InstanceIDRange],
    unchanged: Sequence[pod_pb2.InstanceIDRange],
) -> tuple[Touched, ...]:
    lists = (("added", added), ("updated", updated), ("removed", removed), ("unchanged", unchanged))
    return tuple(Touched(word, jobs.size(found), jobs.ranges(found)) for word, found in lists)
