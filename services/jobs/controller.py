"""Runs jobs: the one writer of them.

Level-triggered. A pass over a job makes what is stored follow from what is stored and what the runtime
says; it is committed first, and only then is the runtime asked for anything. So a crash at any point
leaves a state that the next start goes on from: a run that is stored as launched and that the runtime
does not know is started, a run that it must know and does not is lost, and whatever it runs that no
record asks for is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.jobs import history, kinds, machines, names, reconcile, spec
from services.jobs.admission import Admission, Pool
from services.jobs.board import Board, Draft, Forget, Kept, Start, Stop
from services.jobs.boards import Boards
from services.jobs.metrics import JobMetrics
from services.jobs.pod import Pauses
from services.jobs.reconcile import Outcome, Pass, Progress
from services.jobs.runtime.port import (
    Attempt,
    Observation,
    Phase,
    Runtime,
    RuntimeUnavailable,
    UnknownAttempt,
)
from shared.errors import Aborted, AlreadyExists, NotFound, Unavailable
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.service.service import Clock
from shared.storage.errors import Conflict, Exists, StoreError
from shared.storage.port import Author, Check, Commit, Condition, Delete, Expect, Put, Query, Record, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

_SECOND: Final = 1_000_000_000
_NAP: Final = 1.0
_RETRY: Final = 1.0
_RETRY_MISTAKE: Final = 10.0
# Passes that go on at once: their commits share transactions.
_AT_ONCE: Final = 32
_STARTS_AT_ONCE: Final = 64
_DELETED_AT_ONCE: Final = 1000
_BY: Final = Author("controller", "controller:job:reconcile")


@dataclass
class Active:
    """A job that this process has in its hands."""

    board: Board
    progress: Progress = field(default_factory=Progress)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    seen: dict[str, Observation] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    # Asked of the runtime, which did not answer.
    requests: list[Start | Stop | Forget] = field(default_factory=list)
    # Its workflow has changed since its past was last looked through.
    untidy: bool = False
    gone: bool = False


class Controller:
    """One at a time in an installation: see leader.py. `fence` is what each commit checks: that no
    other process has taken over."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        clock: Clock,
        *,
        pauses: Pauses,
        pools: Callable[[], Awaitable[Mapping[str, Pool]]],
        fence: Sequence[Check] = (),
        metrics: JobMetrics | None = None,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._clock = clock
        self._pauses = pauses
        self._pools = pools
        self._fence = tuple(fence)
        self._metrics = metrics or JobMetrics()
        self._boards = Boards(store)
        self._jobs: dict[str, Active] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._due: list[tuple[int, str, int]] = []
        self._passes: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.admission: Admission

    async def __aenter__(self) -> Controller:
        """Has every job that something is to be done about in its hands."""
        self.admission = Admission(await self._runtime.capacity(), await self._pools())
        await self._take_up()
        self._tasks = [
            asyncio.create_task(self._run(), name="job controller"),
            asyncio.create_task(self._follow(), name="runtime observer"),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [*self._tasks, *self._passes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._clock()

    def wake(self) -> None:
        """Look at the clock again: for tests that set it."""
        self._wake.set()

    async def refresh_pools(self) -> None:
        """Pools were written."""
        self.admission.replace(await self._pools())
        self._look_at(self.admission.admit())
        for active in self._jobs.values():
            pending = [i for i, kept in active.board.pods.items() if not kept.message.admitted]
            self.touch(active.board.id, pending)

    # -- what servicers ask for

    async def create(
        self,
        job: pb.Job,
        configuration: pb.Configuration,
        first: pb.Workflow,
        by: Author,
        *,
        checks: Sequence[Check] = (),
    ) -> None:
        """Raises AlreadyExists, and Conflict when something that `checks` rely on was changed."""
        changes: list[Put | Delete] = [
            _put(kinds.JOB, job.id, job, ""),
            _put(kinds.CONFIGURATION, names.configuration(job.id, 1), configuration, job.id),
            _put(kinds.WORKFLOW, first.name, first, job.id),
            Put(kinds.BEGUN.name, job.respool_id, job.id.encode()),
        ]
        try:
            commit = await self._write(changes, by, checks)
        except Exists as error:
            raise AlreadyExists(f"job {job.id} exists", kind=kinds.JOB, name=job.id) from error
        board = Board(Kept(job, commit.revision), Kept(first, commit.revision))
        board.specs[1] = configuration.spec
        # Somebody may have found it before this caller heard of the commit.
        self._jobs.setdefault(job.id, Active(board))
        self.touch(job.id)

    async def change(
        self,
        id: str,
        change: Callable[[Draft], T],
        by: Author,
        *,
        configurations: Callable[[Draft], set[int]] | None = None,
    ) -> T:
        """Carry out `change` on the job as it is, under its lock. `configurations` names those that
        `change` reads beside the ones that pods have. Raises NotFound, and what `change` raises."""
        async with self._held(id) as active:
            draft = Draft(active.board, self.now())
            wanted = configurations(draft) if configurations is not None else set()
            await self._boards.load_specs(active.board, wanted | {draft.job.configuration})
            answer = change(draft)
            if draft.changed:
                await self._commit(active, draft, by)
            self.touch(id, draft.edited)
            return answer

    async def refresh(self, id: str) -> None:
        """Read the job anew and look at all of it. Raises NotFound."""
        async with self._held(id) as active:
            await self._reload(active)
        self.touch(id)

    def touch(self, id: str, instances: Any = None) -> None:
        """Look at the job soon; at all its instances, or at some."""
        active = self._jobs.get(id)
        if active is None:
            return
        if instances is not None:
            active.progress.touched.update(instances)
        self._dirty[id] = None
        self._wake.set()

    # -- having jobs in hand

    async def _take_up(self) -> None:
        ids: list[str] = []
        query = Query(kinds.JOB, where=(Condition("settled", "=", 0),))
        async with aclosing(self._store.scan(query)) as records:
            async for record in records:
                ids.append(record.name)
        for id in ids:
            await self._load(id)
        await self._compare(await self._runtime.attempts())

    @asynccontextmanager
    async def _held(self, id: str) -> AsyncGenerator[Active, None]:
        active = self._jobs.get(id) or await self._load(id)
        if active is None:
            raise _unknown(id)
        async with active.lock:
            if active.gone:
                raise _unknown(id)
            yield active

    async def _load(self, id: str) -> Active | None:
        """None: there is no such job."""
        async with self._loading.setdefault(id, asyncio.Lock()):
            known = self._jobs.get(id)
            if known is not None:
                return known
            board = await self._boards.read(id)
            self._loading.pop(id, None)
            if board is None:
                return None
            active = self._jobs.setdefault(id, Active(board))
            if active.board is board:
                await self._register(active)
        return active

    async def _register(self, active: Active) -> None:
        """Count its pods in, and look at all of them."""
        board = active.board
        await self._boards.load_specs(board)
        for instance, kept in board.pods.items():
            found = kept.message
            if found.admitted:
                effective = spec.effective(board.specs[found.configuration], instance)
                job = board.job.message
                self.admission.hold(
                    reconcile.Request(
                        found.name,
                        job.respool_id,
                        reconcile.amount_of(effective),
                        job.sla.priority,
                        found.changed_at,
                    )
                )
        self.touch(board.id, board.pods)

    async def _reload(self, active: Active) -> None:
        board = await self._boards.read(active.board.id)
        for kept in active.board.pods.values():
            self.admission.withdraw(kept.message.name)
            self.admission.release(kept.message.name)
        if board is None:
            active.gone = True
            self._jobs.pop(active.board.id, None)
            return
        active.board, active.progress = board, Progress()
        await self._register(active)

    # -- passes

    async def _run(self) -> None:
        while True:
            self._fall_due()
            while self._dirty and len(self._passes) < _AT_ONCE:
                id = next(iter(self._dirty))
                del self._dirty[id]
                task = asyncio.create_task(self._pass(id))
                self._passes.add(task)
                task.add_done_callback(self._passed)
            self._wake.clear()
            if not self._dirty or len(self._passes) >= _AT_ONCE:
                left = _NAP
                if self._due:
                    left = min(left, max(0.0, (self._due[0][0] - self.now()) / _SECOND))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), left)

    def _passed(self, task: asyncio.Task[None]) -> None:
        self._passes.discard(task)
        self._wake.set()

    def _fall_due(self) -> None:
        now = self.now()
        while self._due and self._due[0][0] <= now:
            _, id, instance = heapq.heappop(self._due)
            self.touch(id, () if instance < 0 else (instance,))

    async def _pass(self, id: str) -> None:
        active = self._jobs.get(id)
        if active is None:
            return
        begun = time.perf_counter()
        try:
            async with active.lock:
                if not active.gone and await self._once(active):
                    self.touch(id)
        except (StoreError, Aborted, Unavailable, RuntimeUnavailable) as error:
            self._retry(id, _RETRY)
            log.warning("a job waits", extra={"job": id, "error": str(error)})
        except Exception:
            # A mistake of ours about this job must not stop it for good, nor the others.
            self._retry(id, _RETRY_MISTAKE)
            log.exception("a pass over a job failed", extra={"job": id})
        finally:
            self._metrics.passes.observe(time.perf_counter() - begun)

    def _retry(self, id: str, seconds: float) -> None:
        self._metrics.failures.inc()
        heapq.heappush(self._due, (self.now() + int(seconds * _SECOND), id, -1))

    async def _once(self, active: Active) -> bool:
        """True: there is more to do."""
        board = active.board
        await self._boards.load_specs(board)
        draft = Draft(board, self.now())
        seen, active.seen = active.seen, {}
        lost, active.lost = active.lost, set()
        outcome = Pass(draft, active.progress, self.admission, self._pauses).run(seen, lost)
        if draft.changed:
            await self._commit(active, draft, _BY)
        self._note(board.id, outcome)
        active.requests += draft.requests
        await self._ask(active)
        job = board.job.message
        if job.desired_state == machines.J_DELETED and not board.pods and not active.requests:
            await self._remove(active)
            return False
        if active.untidy and job.highest_configuration > history.KEPT:
            await self._tidy(active)
        active.untidy = False
        return outcome.more

    def _note(self, id: str, outcome: Outcome) -> None:
        for instance, at in outcome.due.items():
            heapq.heappush(self._due, (at, id, instance))
        self._look_at(outcome.others)

    def _look_at(self, pods: Any) -> None:
        for name in pods:
            job, instance = names.parse_pod_name(name)
            self.touch(job, (instance,))

    async def _commit(self, active: Active, draft: Draft, by: Author) -> None:
        try:
            commit = await self._write(draft.changes(), by)
        except Conflict as error:
            # Nobody else may write here; whoever did, what is stored counts.
            await self._reload(active)
            raise Aborted(
                f"job {active.board.id} was changed by somebody else: unexpected version"
            ) from error
        except BaseException:
            # Whether it was written is not known.
            active.progress = Progress()
            with contextlib.suppress(StoreError):
                await asyncio.shield(self._reload(active))
            raise
        active.untidy |= draft.changes_workflow
        draft.stored(commit.revision)

    async def _write(
        self, changes: Sequence[Put | Delete], by: Author, checks: Sequence[Check] = ()
    ) -> Commit:
        """Raises Conflict, and Unavailable when another process has taken over."""
        try:
            return await self._store.commit(changes, checks=(*self._fence, *checks), by=by)
        except Conflict as error:
            if error.kind == kinds.LEADER.name:
                raise Unavailable("another process writes jobs now; try again") from error
            raise

    async def _remove(self, active: Active) -> None:
        """All that is left of a deleted job; its own record last."""
        id = active.board.id
        for kind in (
            kinds.STEP.name,
            kinds.RUN.name,
            kinds.REMOVED.name,
            kinds.WORKFLOW,
            kinds.CONFIGURATION,
        ):
            while True:
                query = Query(kind, parent=id, limit=_DELETED_AT_ONCE)
                async with aclosing(self._store.scan(query)) as records:
                    found: list[Put | Delete] = [Delete(kind, row.name) async for row in records]
                if not found:
                    break
                await self._write(found, _BY)
        await self._write([Delete(kinds.JOB, id)], _BY)
        active.gone = True
        self._jobs.pop(id, None)

    async def _tidy(self, active: Active) -> None:
        """Forget workflows that are too old, with their steps, and configurations that nothing needs."""
        board = active.board
        workflows = [pb.Workflow.FromString(row.body) async for row in self._below(kinds.WORKFLOW, board.id)]
        old = history.outdated(workflows, board.job.message.workflow)
        gone = {workflow.name for workflow in old}
        needed = history.needed(board, (found for found in workflows if found.name not in gone))
        changes: list[Delete] = []
        for name in gone:
            query = Query(kinds.STEP.name, where=(Condition("workflow", "=", name),))
            async with aclosing(self._store.scan(query)) as steps:
                changes += [Delete(kinds.STEP.name, row.name) async for row in steps]
        async for row in self._below(kinds.CONFIGURATION, board.id):
            version = pb.Configuration.FromString(row.body).version
            if version not in needed:
                changes.append(Delete(kinds.CONFIGURATION, row.name))
                board.specs.pop(version, None)
        # The workflows last: what is left of one without its steps is found again.
        changes += [Delete(kinds.WORKFLOW, name) for name in sorted(gone)]
        for begin in range(0, len(changes), _DELETED_AT_ONCE):
            await self._write(changes[begin : begin + _DELETED_AT_ONCE], _BY)

    async def _below(self, kind: str, job: str) -> AsyncGenerator[Record, None]:
        async with aclosing(self._store.scan(Query(kind, parent=job))) as records:
            async for record in records:
                yield record

    # -- the runtime

    async def _ask(self, active: Active) -> None:
        """What is stored is asked for; what finds no answer is asked for again."""
        while active.requests:
            batch = active.requests[:_STARTS_AT_ONCE]
            # Of one pod in order, of several at once.
            if any(isinstance(request, Start) for request in batch):
                starts = [r for r in batch if isinstance(r, Start)]
                await asyncio.gather(*(self._start(active, request) for request in starts))
                batch = [r for r in batch if not isinstance(r, Start)]
                active.requests = [*batch, *active.requests[_STARTS_AT_ONCE:]]
                continue
            await asyncio.gather(*(self._end(active, request) for request in batch))
            del active.requests[: len(batch)]

    async def _start(self, active: Active, request: Start) -> None:
        kept = active.board.pods.get(request.instance)
        if kept is None or names.pod_id(kept.message.name, kept.message.run) != request.pod_id:
            return
        pod = kept.message
        effective = spec.effective(active.board.specs[pod.configuration], request.instance)
        effective.pod_name.value = pod.name
        environment = {
            "JOB_ID": pod.job,
            "INSTANCE_ID": str(pod.instance),
            "POD_NAME": pod.name,
            "POD_ID": request.pod_id,
        }
        await self._runtime.start(Attempt(request.pod_id, effective, environment))
        self._metrics.launches.inc()

    async def _end(self, active: Active, request: Start | Stop | Forget) -> None:
        if isinstance(request, Forget):
            await self._runtime.forget(request.pod_id)
        elif isinstance(request, Stop):
            kept = active.board.pods.get(request.instance)
            pause = request.grace
            if pause is None:
                known = kept is not None and kept.message.configuration in active.board.specs
                pause = 0.0
                if known and kept is not None:
                    of = active.board.specs[kept.message.configuration]
                    pause = reconcile.grace(spec.effective(of, request.instance))
            try:
                await self._runtime.stop(request.pod_id, pause)
            except UnknownAttempt:
                active.lost.add(request.instance)
                self.touch(active.board.id)

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._runtime.watch()) as observations:
                    async for seen in observations:
                        self._see(seen)
            except RuntimeUnavailable as error:
                log.warning("the runtime does not answer; trying again", extra={"error": str(error)})
            await asyncio.sleep(_RETRY)
            with contextlib.suppress(RuntimeUnavailable):
                await self._runtime.open()
                await self._compare(await self._runtime.attempts())

    def _see(self, seen: Observation) -> None:
        name, _, _ = seen.pod_id.rpartition("-")
        job, _ = names.parse_pod_name(name)
        active = self._jobs.get(job)
        if active is not None:
            active.seen[seen.pod_id] = seen
            self.touch(job)

    async def _compare(self, known: Any) -> None:
        """What the runtime has with what is stored: start, lose and end what does not agree."""
        attempts = {seen.pod_id: seen for seen in known}
        wanted: set[str] = set()
        for active in self._jobs.values():
            for instance, kept in active.board.pods.items():
                pod = kept.message
                id = names.pod_id(pod.name, pod.run)
                wanted.add(id)
                if pod.status.state not in machines.LIVE or id in attempts:
                    continue
                if pod.status.state == machines.LAUNCHED:
                    active.requests.append(Start(id, instance))
                else:
                    active.lost.add(instance)
            self.touch(active.board.id)
        for id, seen in attempts.items():
            self._see(seen)
            if id not in wanted and seen.phase is not Phase.ENDED:
                log.warning("a run that no record asks for is ended", extra={"pod": id})
                with contextlib.suppress(UnknownAttempt):
                    await self._runtime.stop(id, 0.0)


def _unknown(id: str) -> NotFound:
    return NotFound(f"job {id!r} not found", kind=kinds.JOB, name=id)


def _put(kind: str, name: str, message: Any, parent: str) -> Put:
    return Put(kind, name, message.SerializeToString(deterministic=True), parent, Expect.ABSENT)
