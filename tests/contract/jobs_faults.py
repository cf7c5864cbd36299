"""A controller over a store and a runtime that fail and die at will, and what must hold all the while."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from services.jobs import kinds, machines, names
from services.jobs.api import lifecycle
from services.jobs.engine import job as jobs
from services.jobs.engine.admission import UNLIMITED, Amount, Pool
from services.jobs.engine.board import Draft
from services.jobs.engine.controller import Controller
from services.jobs.engine.pod import Pauses
from services.jobs.runtime.fake import FakeEngine, FakeRuntime
from services.jobs.runtime.port import RuntimeUnavailable
from services.jobs.runtime.script import Script
from shared.errors import ApiError
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.errors import StoreError, StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Commit, Query

T = TypeVar("T")
_BY: Final = Author("test", "test:jobs:ask")
_SECOND: Final = 1_000_000_000

# What pods do, by their command.
SCRIPTS: Final = {
    "run": Script(),
    "run2": Script(),
    "slow": Script(starts_after=3),
    "hang": Script(starts_after=10_000),
    "crash": Script(lasts=2, exit_code=1),
    "done": Script(lasts=2),
    "broken": Script(launch_error="no such file"),
    "stubborn": Script(ends_after=None),
    "slow end": Script(ends_after=2),
    "sick": Script(unhealthy_after=2),
    "lost": Script(lost_after=2),
}
# Sooner or later these run and go on running.
LASTING: Final = ("run", "run2", "slow", "stubborn", "slow end")
CHECKED: Final = ("run2", "sick")
CPU: Final = 4.0
POOLS: Final = {
    "small": Pool("/small", Amount(CPU, 1e9, 0), ("small",)),
    "large": Pool("/large", UNLIMITED, ("large",)),
}
PAUSES: Final = Pauses(
    first_backoff=_SECOND,
    longest_backoff=4 * _SECOND,
    launch=20 * _SECOND,
    start=20 * _SECOND,
    kill=2 * _SECOND,
)


def job_id(number: int) -> str:
    return str(uuid.UUID(int=number + 1, version=4))


def spec(
    count: int, command: str = "run", *, pool: str = "large", cpu: float = 1, own: str = ""
) -> stateless.JobSpec:
    """`own`: the command of instance 0."""
    found = stateless.JobSpec(name=f"{command} {count}", instance_count=count)
    found.respool_id.value = pool
    found.default_spec.kill_grace_period_seconds = 3
    for of, what in ((found.default_spec, command), *(((found.instance_spec[0], own),) if own else ())):
        container = of.containers.add(name="main")
        container.entrypoint.value = what
        container.resource.cpu_limit = cpu
        if what in CHECKED:
            container.liveness_check.enabled = True
            container.liveness_check.initial_interval_secs = 1
    return found


class Fault(Enum):
    """What happens to one call."""

    CRASH_BEFORE = "the process dies, the call is not made"
    CRASH_AFTER = "the call is made, and the process dies"
    FAIL_BEFORE = "the call fails, and has done nothing"
    FAIL_AFTER = "the call fails, and has done what it should"


@dataclass
class Fate:
    """Of one process. `plan`: what happens at which of its calls, counted from 0."""

    plan: dict[int, Fault] = field(default_factory=dict)
    calls: int = 0
    died: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, action: Callable[[], Awaitable[T]], failure: Exception) -> T:
        if self.died.is_set():
            await self._never()
        fault = self.plan.pop(self.calls, None)
        self.calls += 1
        if fault is Fault.CRASH_BEFORE:
            await self._die()
        if fault is Fault.FAIL_BEFORE:
            raise failure
        answer = await action()
        if fault is Fault.CRASH_AFTER:
            await self._die()
        if fault is Fault.FAIL_AFTER:
            raise failure
        return answer

    async def _die(self) -> None:
        self.died.set()
        await self._never()

    async def _never(self) -> None:
        await asyncio.get_running_loop().create_future()


class Ledger:
    """What must hold after every commit and every launch."""

    def __init__(self, engine: FakeEngine) -> None:
        # The first thing that did not hold: nobody may swallow it.
        self.broken: AssertionError | None = None
        self._engine = engine
        self._runs: dict[str, int] = {}
        self._workflows: dict[str, pb.Workflow] = {}
        self._steps: dict[str, dict[int, pb.Step]] = defaultdict(dict)

    def committed(self, commit: Commit) -> None:
        self._noted(lambda: self._committed(commit))

    def launched(self) -> None:
        self._noted(self._launched)

    def _noted(self, check: Callable[[], None]) -> None:
        try:
            check()
        except AssertionError as error:
            self.broken = self.broken or error

    def _committed(self, commit: Commit) -> None:
        touched: set[str] = set()
        for change in commit.changes:
            match change.kind:
                case kinds.JOB:
                    self._job(_parsed(pb.Job, change.before), _parsed(pb.Job, change.after))
                case kinds.POD:
                    self._pod(_parsed(pb.Pod, change.before), _parsed(pb.Pod, change.after))
                case kinds.WORKFLOW:
                    self._workflow(_parsed(pb.Workflow, change.before), _parsed(pb.Workflow, change.after))
                    touched.add(change.name)
                case kinds.STEP.name if change.after is not None:
                    step = pb.Step.FromString(change.after)
                    self._steps[step.workflow][step.instance] = step
                    touched.add(step.workflow)
        for name in touched & self._workflows.keys():
            self._batch(self._workflows[name])

    def _launched(self) -> None:
        """At most one run of an instance lives, and no pool is over its limit."""
        alive = [names.parse_run(id) for id in self._engine.alive()]
        twice = [place for place, count in Counter((j, i) for j, i, _ in alive).items() if count > 1]
        assert not twice, f"two runs at once of {twice}"
        used: Counter[str] = Counter()
        for job, instance, run in alive:
            wanted = self._engine.known(names.pod_id(names.pod_name(job, instance), run)).attempt.spec
            pool = next(label.value for label in wanted.labels if label.key == "pool")
            used[pool] += wanted.containers[0].resource.cpu_limit
        assert used["small"] <= CPU, used

    def _job(self, before: pb.Job | None, after: pb.Job | None) -> None:
        if after is None:
            assert before is not None
            left = [seen.pod_id for seen in self._engine.all() if seen.pod_id.startswith(before.id)]
            assert not left, f"the job is gone and these are not: {left}"
            for name in [name for name in self._runs if name.startswith(before.id)]:
                del self._runs[name]
        elif before is not None:
            assert after.revision == before.revision + 1
            for of in ("configuration", "desired_state_version", "workflow_version", "highest_configuration"):
                assert getattr(after, of) >= getattr(before, of), of
            if before.desired_state == machines.J_DELETED:
                assert after.desired_state == machines.J_DELETED
            assert (
                sum(after.pod_stats.values())
                == sum(sum(one.state_stats.values()) for one in after.pod_stats_by_version.values())
                or not after.pod_stats_by_version
            )

    def _pod(self, before: pb.Pod | None, after: pb.Pod | None) -> None:
        if after is None:
            return
        assert after.run >= self._runs.get(after.name, 0), "a run number comes again"
        if before is None:
            assert after.run > self._runs.get(after.name, 0), "a run number comes again"
        elif before.run == after.run:
            assert machines.ORDER[after.status.state] >= machines.ORDER[before.status.state]
        else:
            # It may have ended and begun anew in one commit.
            last = names.pod_id(before.name, before.run)
            assert last not in self._engine.alive(), f"{last} is followed by another run, and it lives"
        self._runs[after.name] = after.run
        assert after.admitted == (after.status.state in machines.LIVE)

    def _workflow(self, before: pb.Workflow | None, after: pb.Workflow | None) -> None:
        if after is None:
            assert before is not None
            self._workflows.pop(before.name, None)
            self._steps.pop(before.name, None)
            return
        if before is not None and before.state in machines.OVER:
            assert after.state == before.state
        self._workflows[after.name] = after

    def _batch(self, current: pb.Workflow) -> None:
        restart = current.type == stateless.WORKFLOW_TYPE_RESTART
        batch = current.restart_spec.batch_size if restart else current.update_spec.batch_size
        flying = sum(
            step.result == pb.Step.RESULT_UNSPECIFIED and step.backward == bool(current.rolled_back_at)
            for step in self._steps[current.name].values()
        )
        assert not batch or flying <= batch, f"{flying} in flight, and the batch is {batch}"


def _parsed(kind: Any, body: bytes | None) -> Any:
    return None if body is None else kind.FromString(body)


class _Store:
    """What the controller uses of a store."""

    def __init__(self, store: MemoryStore, fate: Fate, ledger: Ledger) -> None:
        self._store = store
        self._fate = fate
        self._ledger = ledger

    async def head(self) -> int:
        return await self._fate.call(self._store.head, StoreUnavailable("head"))

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Any:
        return await self._fate.call(lambda: self._store.get(kind, name, at=at), StoreUnavailable("get"))

    async def get_many(self, kind: str, named: Sequence[str], *, at: int | None = None) -> Any:
        return await self._fate.call(
            lambda: self._store.get_many(kind, named, at=at), StoreUnavailable("get_many")
        )

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Any, None]:
        async def all() -> list[Any]:
            async with aclosing(self._store.scan(query, at=at)) as records:
                return [record async for record in records]

        for record in await self._fate.call(all, StoreUnavailable("scan")):
            yield record

    async def commit(self, changes: Sequence[Any], *, checks: Sequence[Any] = (), by: Author) -> Commit:
        async def one() -> Commit:
            commit = await self._store.commit(changes, checks=checks, by=by)
            self._ledger.committed(commit)
            return commit

        return await self._fate.call(one, StoreUnavailable("commit", outcome_unknown=True))


class _Runtime(FakeRuntime):
    def __init__(self, engine: FakeEngine, fate: Fate, ledger: Ledger) -> None:
        super().__init__(engine)
        self._fate = fate
        self._ledger = ledger

    async def _call(self, action: Callable[[], Awaitable[T]]) -> T:
        return await self._fate.call(action, RuntimeUnavailable("a fault"))

    async def open(self) -> None:
        await self._call(super().open)

    async def capacity(self) -> Any:
        return await self._call(super().capacity)

    async def start(self, attempt: Any) -> None:
        async def one() -> None:
            await FakeRuntime.start(self, attempt)
            self._ledger.launched()

        await self._call(one)

    async def stop(self, pod_id: str, grace: float) -> None:
        await self._call(lambda: FakeRuntime.stop(self, pod_id, grace))

    async def forget(self, pod_id: str) -> None:
        await self._call(lambda: FakeRuntime.forget(self, pod_id))

    async def attempts(self) -> Any:
        return await self._call(super().attempts)


class Town:
    """One process at a time runs the jobs; another takes over when it dies."""

    def __init__(self) -> None:
        self.engine = FakeEngine(SCRIPTS)
        self.store = MemoryStore([*(d.storage() for d in kinds.definitions(None)), *kinds.KINDS])
        self.ledger = Ledger(self.engine)
        self.fate = Fate()
        self.controller: Controller | None = None
        self.deaths = 0

    async def open(self) -> None:
        await self.store.open()
        await self.rest()

    async def close(self) -> None:
        if self.controller is not None:
            await self.controller.__aexit__()
        await self.store.close()

    # -- processes

    async def crash(self) -> None:
        """The process dies now."""
        self.fate.died.set()
        await self._bury()

    async def _bury(self) -> None:
        if self.controller is not None:
            await self.controller.__aexit__()
            self.controller = None
            self.deaths += 1
        self.fate = Fate(self.fate.plan if not self.fate.died.is_set() else {})

    async def _begin(self) -> None:
        """Another process takes over, if it can just now."""

        async def pools() -> Any:
            return POOLS

        fate = self.fate
        store: Any = _Store(self.store, fate, self.ledger)
        runtime = _Runtime(self.engine, fate, self.ledger)
        controller = Controller(store, runtime, self.engine.clock, pauses=PAUSES, pools=pools)

        async def enter() -> bool:
            try:
                await runtime.open()
                await controller.__aenter__()
            except (StoreError, RuntimeUnavailable):
                return False
            return True

        if await self._unless_dead(enter()):
            self.controller = controller

    async def _unless_dead(self, work: Awaitable[T]) -> T | None:
        """None: the process died of it."""
        task = asyncio.ensure_future(work)
        died = asyncio.ensure_future(self.fate.died.wait())
        await asyncio.wait([task, died], return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._bury()
        return None

    async def rest(self) -> None:
        """Until nothing more happens without somebody asking or time passing."""
        for _ in range(2000):
            if self.ledger.broken is not None:
                raise self.ledger.broken
            if self.fate.died.is_set():
                await self._bury()
            if self.controller is None:
                await self._begin()
                if self.controller is None and not self.fate.died.is_set():
                    # It cannot just now.
                    return
                continue
            before = self.fate.calls
            for _ in range(12):
                await asyncio.sleep(0)
            if self.controller.idle and self.fate.calls == before and not self.fate.died.is_set():
                return
        raise AssertionError("it never comes to rest")

    async def advance(self, seconds: float) -> None:
        self.engine.advance(seconds)
        if self.controller is not None:
            self.controller.wake()
        await self.rest()

    def heal(self) -> None:
        self.fate.plan.clear()
        self.engine.available = True

    async def settle(self, steps: int = 30, seconds: float = 5) -> None:
        """Everything works from now on, and there is time for all of it."""
        self.heal()
        for _ in range(steps):
            await self.advance(seconds)
        assert self.controller is not None

    # -- asking

    async def create(self, id: str, wanted: stateless.JobSpec, **how: Any) -> bool:
        """`True`: it was answered well. So are all of these."""
        for of in (wanted.default_spec, *wanted.instance_spec.values()):
            of.labels.add(key="pool", value=wanted.respool_id.value)
        new = lifecycle.create(
            id, wanted, stateless.CreateSpec(**how), OpaqueData(), "me", self.engine.clock()
        )
        return await self._ask(
            lambda controller: controller.create(new.job, new.configuration, new.workflow, _BY)
        )

    async def change(self, id: str, change: Callable[[str], Callable[[Draft], object]]) -> bool:
        """`change` is given the job's version."""
        record = await self.store.get(kinds.JOB, id)
        version = "" if record is None else str(jobs.version(pb.Job.FromString(record.body)))
        return await self._ask(lambda controller: controller.change(id, change(version), _BY))

    async def replace(self, id: str, wanted: stateless.JobSpec, **how: Any) -> bool:
        for of in (wanted.default_spec, *wanted.instance_spec.values()):
            of.labels.add(key="pool", value=wanted.respool_id.value)
        return await self.change(
            id, lambda version: lifecycle.replace(version, wanted, stateless.UpdateSpec(**how), None, "me")
        )

    async def _ask(self, ask: Callable[[Controller], Awaitable[object]]) -> bool:
        if self.controller is None:
            return False

        async def one() -> bool:
            assert self.controller is not None
            try:
                await ask(self.controller)
            except (ApiError, StoreError):
                return False
            return True

        answer = await self._unless_dead(one())
        return bool(answer)

    # -- looking

    async def job(self, id: str) -> pb.Job | None:
        record = await self.store.get(kinds.JOB, id)
        return None if record is None else pb.Job.FromString(record.body)

    async def jobs(self) -> list[pb.Job]:
        return await self._all(pb.Job, Query(kinds.JOB))

    async def pods(self, job: str) -> dict[int, pb.Pod]:
        found = await self._all(pb.Pod, Query(kinds.POD, parent=job))
        return {pod.instance: pod for pod in found}

    async def workflow(self, job: pb.Job) -> pb.Workflow:
        record = await self.store.get(kinds.WORKFLOW, job.workflow)
        assert record is not None
        return pb.Workflow.FromString(record.body)

    async def steps(self, workflow: pb.Workflow) -> list[pb.Step]:
        every = await self._all(pb.Step, Query(kinds.STEP.name, parent=workflow.job))
        return [step for step in every if step.workflow == workflow.name]

    async def spec(self, job: pb.Job) -> stateless.JobSpec:
        record = await self.store.get(kinds.CONFIGURATION, names.configuration(job.id, job.configuration))
        assert record is not None
        return pb.Configuration.FromString(record.body).spec

    async def count(self) -> dict[str, int]:
        """Records of every kind that a job leaves."""
        of = (kinds.JOB, kinds.CONFIGURATION, kinds.POD, kinds.WORKFLOW, "run", "step", "removed")
        found = {kind: await self.store.count(Query(kind)) for kind in of}
        return {kind: count for kind, count in found.items() if count}

    async def _all(self, kind: Any, query: Query) -> list[Any]:
        async with aclosing(self.store.scan(query)) as records:
            return [kind.FromString(record.body) async for record in records]
