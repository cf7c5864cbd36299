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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

from services.jobs import kinds, machines, names
from services.jobs.engine import history
from services.jobs.engine.active import Active
from services.jobs.engine.admission import Admission, Pool
from services.jobs.engine.asking import Asker
from services.jobs.engine.board import Board, Draft, Forget, Kept
from services.jobs.engine.boards import Boards
from services.jobs.engine.observing import RETRY, Observer
from services.jobs.engine.past import Past
from services.jobs.engine.pod import Pauses
from services.jobs.engine.reconcile import BUDGET, Outcome, Pass
from services.jobs.metrics import JobMetrics
from services.jobs.runtime.port import Observation, Runtime, RuntimeUnavailable
from shared.errors import Aborted, AlreadyExists, NotFound, Unavailable
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.service.service import Clock
from shared.storage.errors import Conflict, Exists, StoreError
from shared.storage.port import Author, Check, Commit, Condition, Delete, Expect, Put, Query, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

_SECOND: Final = 1_000_000_000
_NAP: Final = 1.0
_RETRY_MISTAKE: Final = 10.0
# Of a change, when the job was written by somebody else meanwhile (jobs contract, section 3, rule 5).
_RETRIES: Final = 5
# Passes that go on at once: their commits share transactions.
_AT_ONCE: Final = 32
_BY: Final = Author("controller", "controller:job:reconcile")


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
        self._past = Past(store, lambda changes: self._write(changes, _BY))
        self._asker = Asker(runtime, self._metrics.launches.inc)
        self._jobs: dict[str, Active] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._observer = Observer(
            runtime, store, self._jobs, look=self.touch, load=self._load, rest=self._rest
        )
        # Jobs to be looked at, and those that are.
        self._dirty: dict[str, None] = {}
        self._passes: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tick = asyncio.Event()
        self._due: list[tuple[int, str, int]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.admission: Admission

    async def __aenter__(self) -> Controller:
        """Has every job that something is to be done about in its hands. Raises RuntimeUnavailable and
        what a store raises."""
        self.admission = Admission(await self._runtime.capacity(), await self._pools())
        await self._take_up()
        await self._observer.compare()
        works = {
            "job controller": self._run,
            "runtime observer": self._observer.follow,
            "stray runs": self._observer.clear,
        }
        self._tasks = [asyncio.create_task(self._for_ever(work), name=name) for name, work in works.items()]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [*self._tasks, *self._passes.values()]
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
        self._tick.set()
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Nothing is to be done until time passes or somebody says something: for tests."""
        self._fall_due()
        return not self._dirty and not self._passes

    async def refresh_pools(self) -> None:
        """Pools were written, perhaps."""
        pools = await self._pools()
        if pools == self.admission.pools:
            return
        self.admission.replace(pools)
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
        if job.respool_id not in self.admission.pools:
            # It is new, and its limits count from the first pod on.
            await self.refresh_pools()
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
        except Conflict:
            raise
        except BaseException:
            # Perhaps it is there.
            self._look_soon(job.id)
            raise
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
        for left in reversed(range(1 + _RETRIES)):
            async with self._held(id) as active:
                draft = Draft(active.board, self.now())
                wanted = configurations(draft) if configurations is not None else set()
                await self._boards.load_specs(active.board, wanted | {draft.job.configuration})
                answer = change(draft)
                try:
                    if draft.changed:
                        await self._commit(active, draft, by)
                except BaseException as error:
                    active.doubt(draft)
                    self.touch(id)
                    if left and isinstance(error, Aborted):
                        continue
                    raise
                self.touch(id, draft.edited)
                return answer
        raise AssertionError(id)

    async def refresh(self, id: str) -> None:
        """Read the job anew and look at all of it. Raises NotFound."""
        async with self._held(id) as active:
            active.stale = True
        async with self._held(id):
            self.touch(id)

    def touch(self, id: str, instances: Iterable[int] = ()) -> None:
        """Look at the job soon, and at these of its instances."""
        active = self._jobs.get(id)
        if active is not None:
            active.progress.touched.update(instances)
            self._look_soon(id)

    def _look_soon(self, id: str) -> None:
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

    @asynccontextmanager
    async def _held(self, id: str) -> AsyncGenerator[Active, None]:
        """Under its lock, and as it is stored. Raises NotFound."""
        active = self._jobs.get(id) or await self._load(id)
        if active is None:
            raise _unknown(id)
        async with active.lock:
            if active.stale:
                await self._reload(active)
            if active.gone:
                raise _unknown(id)
            yield active

    async def _load(self, id: str) -> Active | None:
        """None: there is no such job."""
        async with self._loading.setdefault(id, asyncio.Lock()):
            board = None if id in self._jobs else await self._boards.read(id)
            if board is not None:
                await self._boards.load_specs(board)
            self._loading.pop(id, None)
            # It may have been created meanwhile.
            if board is not None and id not in self._jobs:
                active = self._jobs[id] = Active(board)
                active.take_up(self.admission)
                self.touch(id)
        return self._jobs.get(id)

    async def _reload(self, active: Active) -> None:
        await active.reload(self._boards, self.admission)
        if active.gone:
            self._jobs.pop(active.board.id, None)
        self._look_at(self.admission.admit())

    # -- passes

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """A mistake of ours must not end it for good."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("a task of the controller failed")
                await self._rest(_RETRY_MISTAKE)

    async def _rest(self, seconds: float) -> None:
        until = self.now() + int(seconds * _SECOND)
        while (left := until - self.now()) > 0:
            self._tick.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_NAP, left / _SECOND)):
                    await self._tick.wait()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._fall_due()
            self._begin_passes()
            left = _NAP
            if self._due:
                left = min(left, max(0.0, (self._due[0][0] - self.now()) / _SECOND))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    def _fall_due(self) -> None:
        now = self.now()
        while self._due and self._due[0][0] <= now:
            _, id, instance = heapq.heappop(self._due)
            if instance >= 0:
                self.touch(id, (instance,))
            else:
                self._look_soon(id)

    def _begin_passes(self) -> None:
        """As many as may go on at once; of one job one."""
        begun: list[str] = []
        for id in self._dirty:
            if len(self._passes) >= _AT_ONCE:
                break
            if id not in self._passes:
                begun.append(id)
                self._passes[id] = asyncio.create_task(self._pass(id))
        for id in begun:
            del self._dirty[id]

    async def _pass(self, id: str) -> None:
        begun = time.perf_counter()
        active = self._jobs.get(id)
        try:
            active = active or await self._load(id)
            if active is not None:
                async with active.lock:
                    if active.stale:
                        await self._reload(active)
                    if not active.gone and await self._once(active):
                        self.touch(id)
        except (StoreError, Aborted, Unavailable, RuntimeUnavailable) as error:
            if isinstance(error, Conflict) and active is not None:
                active.stale = True
            self._retry(id, RETRY)
            log.warning("a job waits", extra={"job": id, "error": str(error)})
        except Exception:
            # A mistake of ours about this job must not stop it for good, nor the others.
            self._retry(id, _RETRY_MISTAKE)
            log.exception("a pass over a job failed", extra={"job": id})
        finally:
            del self._passes[id]
            self._wake.set()
            self._metrics.passes.observe(time.perf_counter() - begun)

    def _retry(self, id: str, seconds: float) -> None:
        self._metrics.failures.inc()
        heapq.heappush(self._due, (self.now() + int(seconds * _SECOND), id, -1))

    async def _once(self, active: Active) -> bool:
        """True: there is more to do."""
        board = active.board
        await self._boards.load_specs(board)
        await self._turn()
        draft = Draft(board, self.now())
        seen = active.some_seen(BUDGET)
        lost, active.lost = active.lost, set()
        this = Pass(draft, active.progress, self.admission, self._pauses)
        try:
            this.run(seen, lost)
            if draft.changed:
                await self._commit(active, draft, _BY)
        except BaseException:
            active.doubt(draft)
            active.seen = seen | active.seen
            active.lost |= lost
            raise
        finally:
            # Others may have been given room, whatever becomes of the draft.
            self._note(board.id, this.outcome)
        self._clear(active, draft, seen.values())
        await self._asker.ask(active)
        if active.lost:
            return True
        job = board.job.message
        if job.desired_state == machines.J_DELETED and not board.pods and not active.strays:
            await self._past.remove(board)
            active.gone = True
            self._jobs.pop(board.id, None)
            return False
        if active.untidy and job.highest_configuration > history.KEPT:
            await self._past.tidy(board)
        active.untidy = False
        return this.outcome.more or bool(active.seen)

    async def _turn(self) -> None:
        """Passes are work without a break: between two of them whoever else waits has a turn. A server
        of gRPC takes no more than one call a turn, so that many passes in a row would keep callers out."""
        async with self._turns:
            await asyncio.sleep(0)

    def _clear(self, active: Active, draft: Draft, seen: Iterable[Observation]) -> None:
        """What is stored now is to be asked for; what nobody wants any more is to go."""
        active.requests += draft.requests
        forgotten = {request.pod_id for request in draft.requests if isinstance(request, Forget)}
        for one in seen:
            if one.pod_id not in forgotten:
                active.clear(one)

    def _note(self, id: str, outcome: Outcome) -> None:
        for instance, at in outcome.due.items():
            heapq.heappush(self._due, (at, id, instance))
        self._look_at(outcome.others)

    def _look_at(self, pods: Iterable[str]) -> None:
        for name in pods:
            job, instance = names.parse_pod_name(name)
            self.touch(job, (instance,))

    async def _commit(self, active: Active, draft: Draft, by: Author) -> None:
        """When it raises, whether the draft was stored is not known."""
        try:
            commit = await self._write(draft.changes(), by)
        except Conflict as error:
            # Nobody else may write here; whoever did, what is stored counts.
            raise Aborted(
                f"job {active.board.id} was changed by somebody else: unexpected version"
            ) from error
        active.untidy |= draft.changes_workflow
        draft.stored(commit.revision)

    async def _write(
        self, changes: Sequence[Put | Delete], by: Author, checks: Sequence[Check] = ()
    ) -> Commit:
        """Raises Conflict, and Unavailable when another process has taken over."""
        try:
            return await self._store.commit(changes, checks=(*self._fence, *checks), by=by)
        except Conflict as error:
            if await self._deposed():
                raise Unavailable("another process writes jobs now; try again") from error
            raise

    async def _deposed(self) -> bool:
        """Whether another process has taken over: then it is no wonder that things are not as expected."""
        for check in self._fence:
            assert check.name is not None
            record = await self._store.get(check.kind, check.name)
            if record is None or record.revision != check.revision:
                return True
        return False


def _unknown(id: str) -> NotFound:
    return NotFound(f"job {id!r} not found", kind=kinds.JOB, name=id)


def _put(kind: str, name: str, message: Any, parent: str) -> Put:
    return Put(kind, name, message.SerializeToString(deterministic=True), parent, Expect.ABSENT)
