"""Tells watches of changed jobs and pods (jobs contract, section 8).

One reader of the log parses each change once, whoever wants it. A watch has a buffer of its own; one
that is not read is ended, and never holds up others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from services.jobs import kinds, machines, names, spec
from services.jobs.engine import job as jobs
from shared.errors import Aborted, Cancelled, NotFound, ResourceExhausted, Unavailable
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.peloton_pb2 import Label
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.errors import Compacted, StoreError
from shared.storage.port import Change, Commit, Store
from shared.watch.tailer import Tailer

# Messages that may wait for a client, and the seconds in which it must take one of them then. One commit
# may hold more than that; beyond `_MOST` the client is given up in any case.
BUFFER: Final = 100
PATIENCE: Final = 1.0
_MOST: Final = 10_000
# Watches of one kind.
MAX_WATCHES: Final = 1000
_PREFIX: Final = {kinds.JOB: "job_", kinds.POD: "task_"}
# Configurations whose labels are remembered.
_KEPT_LABELS: Final = 256
# Changes after which others get their turn.
_BREATH: Final = 64


@dataclass(frozen=True, slots=True)
class Event:
    """`message`: a JobSummary or a PodSummary."""

    revision: int
    job: str
    name: str
    labels: frozenset[tuple[str, str]]
    message: stateless.JobSummary | pod_pb2.PodSummary


@dataclass(frozen=True)
class Wanted:
    """Of jobs or pods: those of `jobs` and of these `names` (empty: all), with all of `labels`."""

    kind: str
    jobs: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()

    def fits(self, event: Event) -> bool:
        return (
            (not self.jobs or event.job in self.jobs)
            and (not self.names or event.name in self.names)
            and self.labels <= event.labels
        )


@dataclass
class Watch:
    """What a client waits for, of what is committed after revision `after`; and what waits for the
    client."""

    id: str
    wanted: Wanted
    after: int = 0
    _events: deque[Event] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _taken_at: float = field(default_factory=time.monotonic)
    _end: Exception | None = None

    def put(self, event: Event) -> bool:
        """False: the client is given up."""
        if not self.wanted.fits(event):
            return True
        if not self._events:
            self._taken_at = time.monotonic()
        idle = time.monotonic() - self._taken_at
        if len(self._events) >= BUFFER and (idle > PATIENCE or len(self._events) >= _MOST):
            self.end(Aborted(f"more than {BUFFER} changes were not read; watch again"))
            return False
        self._events.append(event)
        self._news.set()
        return True

    def end(self, error: Exception) -> None:
        """The stream fails with `error`, whatever it was not told yet."""
        self._end = self._end or error
        self._events.clear()
        self._news.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        while True:
            await self._news.wait()
            if self._end is not None:
                raise self._end
            if not self._events:
                self._news.clear()
                continue
            self._taken_at = time.monotonic()
            yield self._events.popleft()


class Watches:
    """All watches of this process."""

    def __init__(self, store: Store, tailer: Tailer) -> None:
        self._store = store
        self._tailer = tailer
        self._watches: dict[str, Watch] = {}
        self._labels: OrderedDict[tuple[str, int], _PodLabels] = OrderedDict()
        self._somebody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watches:
        self._task = asyncio.create_task(self._run(), name="job watches")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def open(self, wanted: Wanted) -> Watch:
        """Raises ResourceExhausted. `close` ends it."""
        prefix = _PREFIX[wanted.kind]
        if sum(watch.wanted.kind == wanted.kind for watch in self._watches.values()) >= MAX_WATCHES:
            raise ResourceExhausted(f"there are {MAX_WATCHES} watches of that kind already")
        watch = Watch(f"{prefix}{uuid.uuid4()}", wanted, self._tailer.head)
        self._watches[watch.id] = watch
        self._somebody.set()
        return watch

    def close(self, watch: Watch) -> None:
        self._watches.pop(watch.id, None)

    def cancel(self, id: str) -> None:
        """Its stream ends with Cancelled. Raises NotFound."""
        watch = self._watches.get(id)
        if watch is None:
            raise NotFound(f"there is no watch {id[:100]!r} in this process", kind="watch", name=id[:100])
        watch.end(Cancelled("the watch was cancelled"))

    # -- following the log

    async def _run(self) -> None:
        """Reads no log while nobody watches."""
        after = 0
        while True:
            if not self._watches:
                self._somebody.clear()
                await self._somebody.wait()
                after = min((w.after for w in self._watches.values()), default=self._tailer.head)
            try:
                async with aclosing(self._tailer.follow(after)) as commits:
                    async for commit in commits:
                        after = commit.revision
                        if not self._watches:
                            break
                        await self._tell(commit)
            except Compacted:
                after = self._tailer.head
                self._end(Aborted("changes were missed; watch again"))
            except StoreError as error:
                # Also: the process stops.
                self._end(Unavailable(f"watch again: {error}"))
                await asyncio.sleep(PATIENCE)

    def _end(self, error: Exception) -> None:
        for watch in self._watches.values():
            watch.end(error)

    async def _tell(self, commit: Commit) -> None:
        for index, change in enumerate(commit.changes):
            if change.kind not in _PREFIX:
                continue
            waiting = [
                watch
                for watch in self._watches.values()
                if watch.wanted.kind == change.kind and watch.after < commit.revision
            ]
            if not waiting:
                continue
            if change.kind == kinds.JOB:
                event = _of_job(commit.revision, change)
            else:
                labels = any(watch.wanted.labels for watch in waiting)
                event = await self._of_pod(commit.revision, change, labels=labels)
            for watch in waiting:
                if not watch.put(event):
                    # Its stream may hang for long: somebody else may have its place.
                    self.close(watch)
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)

    async def _of_pod(self, revision: int, change: Change, *, labels: bool) -> Event:
        pod = pb.Pod.FromString(change.after or change.before or b"")
        summary = pod_pb2.PodSummary(status=pod.status)
        summary.pod_name.value = pod.name
        if change.after is None:
            summary.status.state = machines.DELETED
        own = (await self._labels_of(pod.job, pod.configuration)).of(pod.instance) if labels else frozenset()
        return Event(revision, pod.job, pod.name, own, summary)

    async def _labels_of(self, job: str, configuration: int) -> _PodLabels:
        known = self._labels.get((job, configuration))
        if known is None:
            record = await self._store.get(kinds.CONFIGURATION, names.configuration(job, configuration))
            if record is None:
                return _PodLabels()
            known = _PodLabels.of_spec(pb.Configuration.FromString(record.body).spec)
            self._labels[job, configuration] = known
            if len(self._labels) > _KEPT_LABELS:
                self._labels.popitem(last=False)
        return known


@dataclass(frozen=True)
class _PodLabels:
    """The labels of the pods of one configuration."""

    default: frozenset[tuple[str, str]] = frozenset()
    own: dict[int, frozenset[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of_spec(cls, of: stateless.JobSpec) -> _PodLabels:
        own = {i: labels_of(spec.effective(of, i).labels) for i in of.instance_spec}
        return cls(labels_of(of.default_spec.labels), own)

    def of(self, instance: int) -> frozenset[tuple[str, str]]:
        return self.own.get(instance, self.default)


def labels_of(labels: Iterable[Label]) -> frozenset[tuple[str, str]]:
    return frozenset((label.key, label.value) for label in labels)


def _of_job(revision: int, change: Change) -> Event:
    job = pb.Job.FromString(change.after or change.before or b"")
    summary = jobs.summary(job)
    if change.after is None:
        summary.status.state = machines.J_DELETED
    return Event(revision, job.id, job.id, labels_of(job.labels), summary)
