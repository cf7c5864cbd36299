"""The controller against a fake runtime: processes die and calls fail at every await, and whatever happens
the invariants of `jobs_faults.Ledger` hold, and things come right in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.jobs import machines, names, ranges
from services.jobs.api import lifecycle, pod_lifecycle
from services.jobs.engine import job as jobs
from services.jobs.runtime.port import Ending
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import HealthState, PodState
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from tests.contract.jobs_faults import LASTING, SCRIPTS, Fault, Town, job_id, spec

JOB = job_id(0)


async def check(town: Town) -> None:
    """What holds once everything had its time."""
    wanted: set[str] = set()
    for job in await town.jobs():
        assert job.desired_state != machines.J_DELETED, "a deleted job is still there"
        pods = await town.pods(job.id)
        current = await town.workflow(job)
        count = (await town.spec(job)).instance_count
        await check_workflow(town, job, current, pods)
        check_numbers(job, pods)
        if current.state in (machines.W_SUCCEEDED, machines.ROLLED_BACK):
            # A restart neither makes nor removes what an update that was aborted has left.
            restarted = current.type == stateless.WORKFLOW_TYPE_RESTART
            assert set(pods) == set(range(count)) or restarted, (set(pods), count)
            assert {pod.configuration for pod in pods.values()} <= {job.configuration}
        for pod in pods.values():
            live = pod.status.state in machines.LIVE
            if live:
                wanted.add(names.pod_id(pod.name, pod.run))
            if pod.status.desired_state == machines.KILLED:
                assert not live, f"{pod.name} is {PodState.Name(pod.status.state)}"
            if job.desired_state == machines.J_KILLED:
                assert pod.status.desired_state != machines.RUNNING
        if job.desired_state == machines.J_KILLED and job.instance_count:
            assert job.state in (machines.J_KILLED, machines.J_FAILED, machines.J_SUCCEEDED)
            assert job.settled == (current.state in machines.OVER)
        await check_running(town, job, pods)
    alive = set(town.engine.alive())
    assert alive <= wanted, f"nobody asks for {alive - wanted}"


async def check_workflow(town: Town, job: pb.Job, current: pb.Workflow, pods: dict[int, pb.Pod]) -> None:
    shown = job.workflow_status
    assert shown.state == current.state
    steps = [s for s in await town.steps(current) if s.backward == bool(current.rolled_back_at)]
    results = [step.result for step in steps]
    flying = {step.instance for step in steps if step.result == pb.Step.RESULT_UNSPECIFIED}
    assert current.state != machines.W_INITIALIZED
    begun = current.prev_state != machines.W_INITIALIZED or current.state != machines.PAUSED
    if begun and current.state not in machines.OVER:
        total = len(list(ranges.instances([*current.added, *current.updated, *current.removed])))
        done, failed = results.count(pb.Step.DONE), results.count(pb.Step.FAILED)
        assert set(shown.instances_current) == flying
        assert (shown.num_instances_completed, shown.num_instances_failed) == (done, failed)
        assert shown.num_instances_remaining == total - done - failed
    if current.state in machines.ROLLING:
        assert flying, "it rolls on and nothing is in flight"
        for instance in flying:
            pod = pods.get(instance)
            assert pod is not None, "an instance that is gone is still in flight"
            # It cannot come to an end: its command does not run, or there is no room.
            assert pod.status.state != machines.RUNNING or not healthy(pod)


def healthy(pod: pb.Pod) -> bool:
    state = pod.status.containers_status[0].healthy.state
    return state in (HealthState.HEALTH_STATE_DISABLED, HealthState.HEALTH_STATE_HEALTHY)


def check_numbers(job: pb.Job, pods: dict[int, pb.Pod]) -> None:
    states: dict[str, int] = {}
    for pod in pods.values():
        name = PodState.Name(pod.status.state)
        states[name] = states.get(name, 0) + 1
    assert dict(job.pod_stats) == states
    by_version = {
        (version, name): count
        for version, stats in job.pod_stats_by_version.items()
        for name, count in stats.state_stats.items()
    }
    assert sum(by_version.values()) == len(pods)
    for pod in pods.values():
        assert by_version[pod.status.version.value, PodState.Name(pod.status.state)]


async def check_running(town: Town, job: pb.Job, pods: dict[int, pb.Pod]) -> None:
    """Whatever can run and should does, where there is room enough for all."""
    if job.respool_id == "small":
        return
    for instance, pod in pods.items():
        id = names.pod_id(pod.name, pod.run)
        if pod.status.desired_state != machines.RUNNING or pod.configuration != pod.desired_configuration:
            continue
        if id in town.engine.alive():
            assert pod.status.state in machines.LIVE
        command = await command_of(town, pod)
        if command in LASTING:
            assert pod.status.state == machines.RUNNING, (instance, PodState.Name(pod.status.state))
            assert id in town.engine.alive()


async def command_of(town: Town, pod: pb.Pod) -> str:
    record = await town.store.get("configuration", names.configuration(pod.job, pod.configuration))
    assert record is not None
    found = pb.Configuration.FromString(record.body).spec
    return found.instance_spec.get(pod.instance, found.default_spec).containers[0].entrypoint.value


# -- every call of a few stories


async def grow_and_shrink(town: Town) -> None:
    await insist(town, lambda: town.create(JOB, spec(3), batch_size=2))
    await insist(town, lambda: town.replace(JOB, spec(2, "run2"), batch_size=1))


async def fail_and_roll_back(town: Town) -> None:
    await insist(town, lambda: town.create(JOB, spec(3)))
    how = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1, "rollback_on_failure": True}
    await insist(town, lambda: town.replace(JOB, spec(4, "broken"), batch_size=1, **how))


async def stop_and_start(town: Town) -> None:
    await insist(town, lambda: town.create(JOB, spec(2, "slow end")))
    await insist(town, lambda: town.change(JOB, lifecycle.stop))
    await insist(town, lambda: town.change(JOB, lifecycle.start))


async def create_and_delete(town: Town) -> None:
    await insist(town, lambda: town.create(JOB, spec(2)))
    await insist(town, lambda: town.change(JOB, lambda version: lifecycle.delete(version, force=True)))


async def insist(town: Town, ask: Callable[[], Awaitable[bool]]) -> None:
    """Ask; when that fails see whether it was done after all, and ask again: as clients do."""
    before = await versions(town)
    for _ in range(5):
        if await ask():
            break
        await town.advance(2)
        if await versions(town) != before:
            break
    await town.advance(1)
    await town.advance(3)


async def versions(town: Town) -> dict[str, str]:
    return {job.id: str(jobs.version(job)) for job in await town.jobs()}


STORIES: dict[str, tuple[Callable[[Town], Awaitable[None]], Callable[..., None]]] = {}


def story(tell: Callable[[Town], Awaitable[None]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def kept(end: Callable[..., None]) -> Callable[..., None]:
        STORIES[tell.__name__] = tell, end
        return end

    return kept


@story(grow_and_shrink)
def _(pods: dict[int, pb.Pod], current: pb.Workflow | None) -> None:
    assert current is not None and current.state == machines.W_SUCCEEDED
    assert {i: pod.configuration for i, pod in pods.items()} == {0: 2, 1: 2}


@story(fail_and_roll_back)
def _(pods: dict[int, pb.Pod], current: pb.Workflow | None) -> None:
    assert current is not None and current.state == machines.ROLLED_BACK
    assert {i: pod.configuration for i, pod in pods.items()} == {0: 3, 1: 3, 2: 3}


@story(stop_and_start)
def _(pods: dict[int, pb.Pod], current: pb.Workflow | None) -> None:
    assert {i: pod.status.state for i, pod in pods.items()} == dict.fromkeys((0, 1), machines.RUNNING)


@story(create_and_delete)
def _(pods: dict[int, pb.Pod], current: pb.Workflow | None) -> None:
    assert not pods and current is None


async def told(name: str, plan: dict[int, Fault]) -> Town:
    """The story with that plan, to its end and with a look at it."""
    tell, end = STORIES[name]
    town = Town()
    try:
        town.fate.plan = dict(plan)
        await town.open()
        await tell(town)
        await town.settle(steps=12)
        await check(town)
        job = await town.job(JOB)
        end(await town.pods(JOB), await town.workflow(job) if job is not None else None)
        if job is None:
            assert await town.count() == {} and not town.engine.all()
        return town
    finally:
        await town.close()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("name", STORIES)
async def test_a_fault_at_any_call(name: str, fault: Fault, scale: Any) -> None:
    calls = (await told(name, {})).fate.calls
    for at in range(0, calls, scale(3, 1)):
        try:
            await told(name, {at: fault})
        except AssertionError as error:
            raise AssertionError(f"call {at} of {calls}") from error


# -- anything at any time

# Mostly such as take their time: then something is in flight when the next thing happens.
COMMANDS = st.sampled_from(["slow", "slow", "slow end", "slow end", "run2", *sorted(SCRIPTS)])
COUNTS = st.sampled_from([3, 2, 4, 1, 0])
LIMITS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(0, 2),
        "max_instance_retries": st.integers(0, 2),
        "max_tolerable_instance_failures": st.integers(0, 2),
        "start_paused": st.booleans(),
    }
)
UPDATES = st.fixed_dictionaries({"rollback_on_failure": st.booleans(), "start_pods": st.booleans()})
IDS = st.sampled_from([0, 0, 1]).map(job_id)


class AnythingGoes(RuleBasedStateMachine):
    """Everybody asks for anything, everything fails at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.town = Town()
        self.run(self.town.open())

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]  # an awaitable is enough

    def ask(self, work: Awaitable[Any]) -> None:
        async def one() -> None:
            await work
            await self.town.rest()

        self.run(one())

    @initialize(count=st.integers(2, 4), command=COMMANDS, batch=st.integers(0, 2))
    def begin(self, count: int, command: str, batch: int) -> None:
        self.ask(self.town.create(JOB, spec(count, command), batch_size=batch))

    @rule(
        id=IDS,
        count=COUNTS,
        command=COMMANDS,
        own=st.sampled_from(["", "run", "crash"]),
        pool=st.sampled_from(["small", "large"]),
        cpu=st.sampled_from([1.0, 2.5, 5.0]),
        how=LIMITS,
    )
    def create(self, id: str, count: int, command: str, own: str, pool: str, cpu: float, how: Any) -> None:
        self.ask(self.town.create(id, spec(count, command, pool=pool, cpu=cpu, own=own), **how))

    @rule(id=IDS, count=COUNTS, command=COMMANDS, cpu=st.sampled_from([1.0, 2.5]), how=LIMITS, more=UPDATES)
    def replace(self, id: str, count: int, command: str, cpu: float, how: Any, more: Any) -> None:
        async def one() -> None:
            job = await self.town.job(id)
            pool = "" if job is None else job.respool_id
            await self.town.replace(id, spec(count, command, pool=pool, cpu=cpu), **how, **more)

        self.ask(one())

    @rule(id=IDS, begin=COUNTS, size=st.integers(0, 3), batch=st.integers(0, 2))
    def restart(self, id: str, begin: int, size: int, batch: int) -> None:
        how = stateless.RestartSpec(batch_size=batch, ranges=[ranges.of(begin, begin + size)])
        self.ask(self.town.change(id, lambda version: lifecycle.restart(version, how, None, "me")))

    @rule(id=IDS, change=st.sampled_from([lifecycle.pause, lifecycle.resume, lifecycle.abort]))
    def step(self, id: str, change: Any) -> None:
        self.ask(self.town.change(id, lambda version: change(version, None)))

    @rule(id=IDS, change=st.sampled_from([lifecycle.start, lifecycle.stop]))
    def switch(self, id: str, change: Any) -> None:
        self.ask(self.town.change(id, change))

    @rule(id=IDS, force=st.booleans())
    def delete(self, id: str, force: bool) -> None:
        self.ask(self.town.change(id, lambda version: lifecycle.delete(version, force=force)))

    @rule(id=IDS, instance=COUNTS, what=st.sampled_from(["start", "stop", "restart", "careful restart"]))
    def one_pod(self, id: str, instance: int, what: str) -> None:
        change = {
            "start": pod_lifecycle.start(instance),
            "stop": pod_lifecycle.stop(instance),
            "restart": pod_lifecycle.restart(instance, check_sla=False),
            "careful restart": pod_lifecycle.restart(instance, check_sla=True),
        }[what]
        self.ask(self.town.change(id, lambda version: change))

    @rule(seconds=st.sampled_from([1, 3, 0.5, 2, 5, 30]))
    def wait(self, seconds: float) -> None:
        self.run(self.town.advance(seconds))

    @rule(data=st.data(), code=st.integers(0, 1))
    def end_one(self, data: st.DataObject, code: int) -> None:
        alive = sorted(self.town.engine.alive())
        if alive:
            self.town.engine.end(data.draw(st.sampled_from(alive)), Ending.EXITED, exit_code=code)
            self.run(self.town.rest())

    @rule()
    def crash(self) -> None:
        async def one() -> None:
            await self.town.crash()
            await self.town.rest()

        self.run(one())

    @rule(after=st.integers(0, 12), fault=st.sampled_from(Fault))
    def plan(self, after: int, fault: Fault) -> None:
        self.town.fate.plan[self.town.fate.calls + after] = fault

    @rule()
    def lose_everything(self) -> None:
        self.town.engine.crash()
        self.run(self.town.rest())

    @precondition(lambda self: self.town.engine.available)
    @rule()
    def hide(self) -> None:
        self.town.engine.hide()
        self.run(self.town.rest())

    @precondition(lambda self: not self.town.engine.available)
    @rule()
    def show(self) -> None:
        self.town.engine.available = True
        self.run(self.town.advance(2))

    def teardown(self) -> None:
        async def one() -> None:
            await self.town.settle()
            await check(self.town)
            for job in await self.town.jobs():
                assert await self.town.change(job.id, lambda version: lifecycle.delete(version, force=True))
            await self.town.settle(steps=8)
            assert await self.town.count() == {}
            assert not self.town.engine.all()

        try:
            self.run(one())
        finally:
            self.run(self.town.close())
            self.loop.close()


def test_anything_goes(scale: Any) -> None:
    run_state_machine_as_test(
        AnythingGoes,
        settings=settings(
            max_examples=scale(40, 1500),
            stateful_step_count=scale(30, 60),
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
