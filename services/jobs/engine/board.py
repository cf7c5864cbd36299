"""One job as the process that writes it sees it, and drafts of what is to become of it.

A Draft is a unit of work: rules change it, its changes are committed as one revision, and only then
does the Board become what the Draft was. A draft that is dropped has changed nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from services.jobs import kinds, names
from services.jobs.spec import Specs
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import PodSpec
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Delete, Expect, Put

T = TypeVar("T", bound=Message)
# The configuration that a pod runs, the one that it is to run, and its state.
Counted = tuple[int, int, int]


@dataclass(slots=True)
class Kept(Generic[T]):
    """A stored message and the revision of its record."""

    message: T
    revision: int


@dataclass
class Board:
    """`specs` has what is needed of the configurations. `counts` are pods by configuration, the one
    that is wanted, and state."""

    job: Kept[pb.Job]
    workflow: Kept[pb.Workflow] | None = None
    pods: dict[int, Kept[pb.Pod]] = field(default_factory=dict)
    steps: dict[int, Kept[pb.Step]] = field(default_factory=dict)
    # The last runs of instances that were removed.
    removed: dict[int, Kept[pb.Pod]] = field(default_factory=dict)
    specs: Specs = field(default_factory=Specs)
    counts: Counter[Counted] = field(default_factory=Counter)

    def recount(self) -> None:
        """After `pods` were filled."""
        self.counts = Counter(_counted(kept.message) for kept in self.pods.values())

    @property
    def id(self) -> str:
        return self.job.message.id

    def states(self) -> Counter[int]:
        """How many pods are in which state."""
        found: Counter[int] = Counter()
        for (_, _, state), count in self.counts.items():
            found[state] += count
        return found

    def effective(self, configuration: int, instance: int) -> PodSpec:
        """What the instance runs there, for reading. Raises KeyError when it was not loaded."""
        return self.specs.effective(configuration, instance)


def _counted(pod: pb.Pod) -> Counted:
    return pod.configuration, pod.desired_configuration, pod.status.state


@dataclass(frozen=True, slots=True)
class Start:
    pod_id: str
    instance: int


@dataclass(frozen=True, slots=True)
class Stop:
    pod_id: str
    # Seconds; None: what the spec says.
    grace: float | None
    instance: int


@dataclass(frozen=True, slots=True)
class Forget:
    pod_id: str


# What the runtime is asked for once the draft is stored.
Request = Start | Stop | Forget
_GONE: Final = None


class Draft:
    """Copies what is asked for to be changed. `now`: nanoseconds since 1970."""

    def __init__(self, board: Board, now: int) -> None:
        self.board = board
        self.now = now
        self.requests: list[Request] = []
        self._job: pb.Job | None = None
        self._workflow: pb.Workflow | None = None
        self._earlier: dict[str, Kept[pb.Workflow]] = {}
        self._pods: dict[int, pb.Pod | None] = {}
        self._steps: dict[int, pb.Step] = {}
        self._removed: dict[int, pb.Pod] = {}
        # By the name of the record; None: it goes.
        self._runs: dict[str, pb.Run | None] = {}
        self._configurations: list[pb.Configuration] = []
        self._others: list[Put | Delete] = []

    # -- reading

    @property
    def job(self) -> pb.Job:
        """For reading; `edit_job` is for writing."""
        return self._job if self._job is not None else self.board.job.message

    @property
    def workflow(self) -> pb.Workflow | None:
        if self._workflow is not None:
            return self._workflow
        return self.board.workflow.message if self.board.workflow is not None else None

    def pod(self, instance: int) -> pb.Pod | None:
        if instance in self._pods:
            return self._pods[instance]
        kept = self.board.pods.get(instance)
        return kept.message if kept is not None else None

    def step(self, instance: int) -> pb.Step | None:
        if instance in self._steps:
            return self._steps[instance]
        kept = self.board.steps.get(instance)
        if kept is None or self._workflow_is_new():
            return None
        return kept.message

    def instances(self) -> Iterator[int]:
        """Of the pods that there are."""
        yield from (i for i in self.board.pods if self._pods.get(i, kinds) is not _GONE)
        yield from (i for i, pod in self._pods.items() if i not in self.board.pods and pod is not _GONE)

    def steps(self) -> Iterator[pb.Step]:
        if not self._workflow_is_new():
            yield from (kept.message for i, kept in self.board.steps.items() if i not in self._steps)
        yield from self._steps.values()

    def counts(self) -> Counter[Counted]:
        """As the draft has it."""
        found = self.board.counts.copy()
        for instance, pod in self._pods.items():
            before = self.board.pods.get(instance)
            if before is not None:
                found[_counted(before.message)] -= 1
            if pod is not None:
                found[_counted(pod)] += 1
        return +found

    def last_run(self, instance: int) -> int:
        """Of an instance that was removed; 0 when it never was."""
        found = self._removed.get(instance)
        if found is None and (kept := self.board.removed.get(instance)) is not None:
            found = kept.message
        return found.run if found is not None else 0

    def spec(self, configuration: int) -> JobSpec:
        """KeyError: it was not loaded."""
        return self.board.specs[configuration]

    def effective(self, configuration: int, instance: int) -> PodSpec:
        """What the instance runs there, for reading. KeyError: it was not loaded."""
        return self.board.specs.effective(configuration, instance)

    @property
    def changed(self) -> bool:
        return bool(
            self._job is not None
            or self._workflow is not None
            or self._pods
            or self._steps
            or self._runs
            or self._configurations
            or self._others
        )

    @property
    def edited(self) -> frozenset[int]:
        """The instances whose pods it changes."""
        return frozenset(self._pods)

    @property
    def changes_workflow(self) -> bool:
        return self._workflow is not None

    @property
    def size(self) -> int:
        """How many records it writes, about."""
        return len(self._pods) + len(self._steps) + len(self._runs)

    # -- writing

    def edit_job(self) -> pb.Job:
        if self._job is None:
            self._job = _copy(self.board.job.message)
        return self._job

    def edit_workflow(self) -> pb.Workflow:
        if self._workflow is None:
            assert self.board.workflow is not None
            self._workflow = _copy(self.board.workflow.message)
        return self._workflow

    def new_workflow(self, workflow: pb.Workflow) -> None:
        """It takes the place of the one before, whose last state is stored too."""
        if self.board.workflow is not None:
            before = self._workflow or self.board.workflow.message
            self._earlier[before.name] = Kept(before, self.board.workflow.revision)
        self._workflow = workflow
        self._steps.clear()

    def edit_pod(self, instance: int) -> pb.Pod:
        found = self._pods.get(instance)
        if found is None:
            found = self._pods[instance] = _copy(self.board.pods[instance].message)
        return found

    def add_pod(self, pod: pb.Pod) -> None:
        self._pods[pod.instance] = pod

    def drop_pod(self, instance: int) -> None:
        """Its next run, should it come back, is counted on from the last."""
        pod = self.pod(instance)
        assert pod is not None
        self._removed[instance] = pb.Pod(name=pod.name, job=pod.job, instance=instance, run=pod.run)
        self._pods[instance] = _GONE

    def edit_step(self, instance: int) -> pb.Step:
        found = self._steps.get(instance)
        if found is None:
            found = self._steps[instance] = _copy(self.board.steps[instance].message)
        return found

    def put_step(self, step: pb.Step) -> None:
        self._steps[step.instance] = step

    def keep_run(self, run: pb.Run | None) -> None:
        if run is not None:
            self._runs[names.run(run.pod, run.run)] = run

    def drop_run(self, name: str) -> None:
        """There may be no such record."""
        self._runs[name] = _GONE

    def add_configuration(self, configuration: pb.Configuration) -> None:
        """The board has its spec at once: should the draft be dropped, whoever takes the same number
        next brings another one."""
        self._configurations.append(configuration)
        self.board.specs[configuration.version] = configuration.spec

    def also(self, change: Put | Delete) -> None:
        """A change of another record."""
        self._others.append(change)

    def changes(self) -> list[Put | Delete]:
        """What is to be committed. Every write counts up the job's revision, and is checked by it."""
        self._forget_unchanged()
        board, job = self.board, self.edit_job()
        job.revision += 1
        job.updated_at = self.now
        found: list[Put | Delete] = [_put(kinds.JOB, job.id, job, "", board.job.revision)]
        for configuration in self._configurations:
            name = names.configuration(job.id, configuration.version)
            found.append(_put(kinds.CONFIGURATION, name, configuration, job.id, 0))
        for kept in self._earlier.values():
            found.append(_put(kinds.WORKFLOW, kept.message.name, kept.message, job.id, kept.revision))
        if self._workflow is not None:
            revision = 0 if self._workflow_is_new() or board.workflow is None else board.workflow.revision
            found.append(_put(kinds.WORKFLOW, self._workflow.name, self._workflow, job.id, revision))
        for instance, pod in self._pods.items():
            before = board.pods.get(instance)
            if pod is not None:
                found.append(_put(kinds.POD, pod.name, pod, job.id, before.revision if before else 0))
            elif before is not None:
                found.append(Delete(kinds.POD, before.message.name, before.revision))
        for gone in self._removed.values():
            found.append(_put(kinds.REMOVED.name, gone.name, gone, job.id, None))
        workflow = self.workflow
        for instance, step in self._steps.items():
            assert workflow is not None
            found.append(_put(kinds.STEP.name, names.step(workflow.name, instance), step, job.id, None))
        for name, run in self._runs.items():
            if run is not None:
                found.append(_put(kinds.RUN, name, run, job.id, None))
            else:
                found.append(Delete(kinds.RUN, name, Expect.ANY))
        return [*found, *self._others]

    def _forget_unchanged(self) -> None:
        """What is as it was is no change to a store either: its revision stays what it is."""
        board = self.board
        before = board.workflow
        if before is not None and self._workflow == before.message:
            self._workflow = None
        for instance, pod in list(self._pods.items()):
            kept = board.pods.get(instance)
            if kept is not None and pod == kept.message:
                del self._pods[instance]

    def stored(self, revision: int) -> None:
        """The changes were committed as `revision`: the board is what the draft was."""
        board = self.board
        board.counts = self.counts()
        board.job = Kept(self.edit_job(), revision)
        if self._workflow is not None:
            if self._workflow_is_new():
                board.steps.clear()
            board.workflow = Kept(self._workflow, revision)
        for instance, pod in self._pods.items():
            if pod is None:
                board.pods.pop(instance, None)
            else:
                board.pods[instance] = Kept(pod, revision)
                board.removed.pop(instance, None)
        for instance, gone in self._removed.items():
            if instance not in board.pods:
                board.removed[instance] = Kept(gone, revision)
        for instance, step in self._steps.items():
            board.steps[instance] = Kept(step, revision)

    def _workflow_is_new(self) -> bool:
        before = self.board.workflow
        return self._workflow is not None and (before is None or before.message.name != self._workflow.name)


def _copy(message: T) -> T:
    found = type(message)()
    found.CopyFrom(message)
    return found


def _put(kind: str, name: str, message: Message, parent: str, revision: int | None) -> Put:
    """`revision` 0: it must be new; None: whatever is there."""
    expect: Expect | int = Expect.ANY if revision is None else (revision or Expect.ABSENT)
    return Put(kind, name, message.SerializeToString(deterministic=True), parent, expect)
