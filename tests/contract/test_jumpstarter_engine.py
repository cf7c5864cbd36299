"""The lease engine as a state machine (jumpstarter contract, section 3): random clients, exporters,
policies, leases and clocks, on one controller or two, with crashes at any call of the store.

After each step the lab is what the naive model makes of it. Where operations ran at the same time, or
one was cut off, what must hold of any order is looked at, and the model goes on from there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.jumpstarter import kinds
from services.jumpstarter.leasing import lease as rules
from shared.errors import AlreadyExists, ApiError, FailedPrecondition, NotFound
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.mongo import MongoStore
from shared.storage.port import Query, Store
from shared.storage.sqlite import SqliteStore
from tests.contract.jumpstarter_model import (
    NAMESPACE,
    SCHEDULED,
    SECOND,
    Model,
    conditions,
    expiry,
    name,
    place,
)
from tests.contract.jumpstarter_rig import BY, Clock, Crash, Process, memory, settle, stored
from tests.mongo_server import drop_database, new_database, server_url

EXPORTERS = ("e1", "e2", "e3", "e4")
CLIENTS = ("ann", "bob")
POLICIES = ("p", "q")
# Mostly such that leases wait for each other: what is drawn most stands most often.
LABELS = (
    *3 * [{"board": "rpi"}],
    *2 * [{"board": "rpi", "site": "x"}],
    {"board": "jet"},
    {"board": "jet", "site": "x"},
    {"board": "rpi", "broken": ""},
    {},
)
SELECTORS = (*3 * ["board"], *2 * ["board=rpi"], "site=x", "board in (jet,rpi)", "!broken", "board=none", "")
STATUSES = (*4 * [common.EXPORTER_STATUS_AVAILABLE], *sorted(common.ExporterStatus.values()))

Opened = Callable[[Clock], Awaitable[Store]]

SPANS = (5, 60, 60, 60, 300)
MOMENTS = (-40, 0, 10, 40)
WAITS = (1, 5, 30, 61)
seeds = st.integers(0, 1 << 32)


@dataclass(frozen=True)
class Op:
    """One operation: on the engine or the store of a process, and on the model."""

    text: str
    real: Callable[[Process], Any]
    naive: Callable[[Model, int], Any]

    def __repr__(self) -> str:
        return self.text


# -- operations


def _put_exporter(id: str, labels: dict[str, str], enabled: bool) -> Op:
    async def real(process: Process) -> None:
        def change(exporter: pb.Exporter) -> None:
            exporter.labels.clear()
            exporter.labels.update(labels)
            exporter.enabled = enabled

        new = pb.Exporter(name=name("exporters", id), labels=labels, enabled=enabled)
        try:
            await process.collections[kinds.EXPORTER].create(new, BY)
        except AlreadyExists:
            await process.collections[kinds.EXPORTER].update(new.name, change, BY)

    return Op(
        f"put {id} {labels} {enabled}", real, lambda model, now: model.put_exporter(id, labels, enabled)
    )


def _delete_exporter(id: str) -> Op:
    return Op(
        f"delete {id}",
        lambda process: process.collections[kinds.EXPORTER].delete(name("exporters", id), BY),
        lambda model, now: model.delete_exporter(id),
    )


def _put_client(id: str, labels: dict[str, str]) -> Op:
    async def real(process: Process) -> None:
        def change(client: pb.Client) -> None:
            client.labels.clear()
            client.labels.update(labels)

        new = pb.Client(name=name("clients", id), labels=labels)
        try:
            await process.collections[kinds.CLIENT].create(new, BY)
        except AlreadyExists:
            await process.collections[kinds.CLIENT].update(new.name, change, BY)

    def naive(model: Model, now: int) -> None:
        full = name("clients", id)
        model.clients[full] = pb.Client(name=full, labels=labels)

    return Op(f"put {id} {labels}", real, naive)


def _delete_client(id: str) -> Op:
    return Op(
        f"delete {id}",
        lambda process: process.collections[kinds.CLIENT].delete(name("clients", id), BY),
        lambda model, now: model.delete_client(id),
    )


def _put_policy(id: str, policy: pb.AccessPolicy) -> Op:
    full = name("accessPolicies", id)

    def stored() -> pb.AccessPolicy:
        new = pb.AccessPolicy()
        new.CopyFrom(policy)
        new.name = full
        return new

    async def real(process: Process) -> None:
        def change(found: pb.AccessPolicy) -> None:
            found.ClearField("policies")
            found.MergeFrom(pb.AccessPolicy(policies=policy.policies))
            found.exporter_selector.CopyFrom(policy.exporter_selector)

        try:
            await process.collections[kinds.ACCESS_POLICY].create(stored(), BY)
        except AlreadyExists:
            await process.collections[kinds.ACCESS_POLICY].update(full, change, BY)

    def naive(model: Model, now: int) -> None:
        model.policies[full] = stored()

    return Op(f"put {id} {policy}", real, naive)


def _delete_policy(id: str) -> Op:
    full = name("accessPolicies", id)

    def naive(model: Model, now: int) -> None:
        if full not in model.policies:
            raise NotFound(full)
        del model.policies[full]

    return Op(
        f"delete {id}", lambda process: process.collections[kinds.ACCESS_POLICY].delete(full, BY), naive
    )


def _register(id: str, labels: dict[str, str]) -> Op:
    devices = [DriverInstanceReport(uuid="root")]
    return Op(
        f"register {id} {labels}",
        lambda process: process.engine.register(name("exporters", id), labels, devices, BY),
        lambda model, now: model.register(id, labels),
    )


def _unregister(id: str) -> Op:
    return Op(
        f"unregister {id}",
        lambda process: process.engine.unregister(name("exporters", id), "", BY),
        lambda model, now: model.unregister(id),
    )


def _report(id: str, status: common.ExporterStatus, release: bool) -> Op:
    return Op(
        f"report {id} {status} {release}",
        lambda process: process.engine.report_status(name("exporters", id), status, "", release, BY),
        lambda model, now: model.report(id, status, release),
    )


def _attach(id: str) -> Op:
    return Op(
        f"attach {id}",
        lambda process: process.engine.attach(name("exporters", id), process.id, BY),
        lambda model, now: model.attach(id),
    )


def _lose(id: str) -> Op:
    return Op(
        f"lose {id}",
        lambda process: process.engine.lose(name("exporters", id), "lost", lambda e: e.online, BY),
        lambda model, now: model.lose(id),
    )


def _create(lease: pb.Lease) -> Op:
    async def real(process: Process) -> None:
        await process.engine.create(lease, BY)

    return Op(f"create {lease}", real, lambda model, now: model.create(lease, now))


def _change(id: str, text: str, change: Callable[[pb.Lease], None]) -> Op:
    full = name("leases", id)

    async def real(process: Process) -> None:
        await process.engine.update(full, change, BY)

    return Op(f"{text} {id}", real, lambda model, now: model.change(full, change))


def _retime(id: str, duration: int | None, begin: int | None, end: int | None) -> Op:
    """New times as ClientService makes them, of a lease that has not ended."""

    def change(lease: pb.Lease) -> None:
        if lease.ended:
            raise FailedPrecondition("it has ended")
        old = rules.times_of(lease)
        if begin is not None and lease.HasField("effective_begin_time"):
            raise FailedPrecondition("it has begun")
        rules.set_times(lease, rules.times(duration or old.duration, begin or old.begin, end))

    return _change(id, f"retime {duration} {begin} {end}", change)


def _transfer(id: str, client: str) -> Op:
    def change(lease: pb.Lease) -> None:
        if lease.ended or not lease.exporter:
            raise FailedPrecondition("it cannot be transferred")
        lease.client = name("clients", client)

    return _change(id, f"transfer to {client}", change)


def _release(id: str) -> Op:
    def change(lease: pb.Lease) -> None:
        if lease.released:
            raise FailedPrecondition("it is released")
        lease.released = True

    return _change(id, "release", change)


# -- what they are drawn from


def seldom(draw: Random) -> bool:
    return draw.random() < 0.15


def _policy(draw: Random) -> pb.AccessPolicy:
    policy = pb.AccessPolicy()
    if draw.random() < 0.5:
        policy.exporter_selector.match_labels.update(draw.choice(LABELS))
    for _ in range(draw.choice([1, 1, 2])):
        rule = policy.policies.add(priority=draw.randrange(3), spot_access=draw.random() < 0.3)
        client = getattr(rule, "from").add()
        if draw.random() < 0.3:
            client.client_selector.match_labels["board"] = "rpi"
        if seldom(draw):
            rule.maximum_duration.seconds = draw.choice(SPANS)
    return policy


def _lease(draw: Random, id: str, now: int) -> pb.Lease:
    lease = pb.Lease(name=name("leases", id), namespace=NAMESPACE, selector=draw.choice(SELECTORS))
    if seldom(draw) or (not lease.selector and not seldom(draw)):
        lease.exporter_name = draw.choice(EXPORTERS)
    lease.client = name("clients", draw.choice(CLIENTS))
    lease.allow_disabled = seldom(draw)
    begin = now + draw.choice(MOMENTS) * SECOND if seldom(draw) else None
    end = now + draw.choice(MOMENTS) * SECOND if begin is None and seldom(draw) else None
    rules.set_times(lease, rules.times(draw.choice(SPANS) * SECOND, begin, end))
    return lease


def _update(draw: Random, id: str, now: int) -> Op:
    which = draw.randrange(5)
    if which < 3:
        return _release(id)
    if which == 3:
        return _transfer(id, draw.choice(CLIENTS))
    begin = now + draw.choice(MOMENTS) * SECOND if seldom(draw) else None
    end = now + draw.choice(MOMENTS) * SECOND if begin is None and seldom(draw) else None
    return _retime(id, draw.choice(SPANS) * SECOND, begin, end)


def _by_staff(draw: Random) -> Op:
    client, policy = draw.choice(CLIENTS), draw.choice(POLICIES)
    which = draw.randrange(10)
    if which < 3:
        return _put_exporter(draw.choice(EXPORTERS), draw.choice(LABELS), not seldom(draw))
    if which < 5:
        return _put_policy(policy, _policy(draw))
    if which < 7:
        return _delete_policy(policy)
    if which < 9:
        return _put_client(client, draw.choice([{}, {"board": "rpi"}]))
    return _delete_client(client) if draw.random() < 0.5 else _delete_exporter(draw.choice(EXPORTERS))


def _by_exporter(draw: Random) -> Op:
    id, which = draw.choice(EXPORTERS), draw.randrange(12)
    if which == 0:
        return _register(id, {f"jumpstarter.dev/{key}": value for key, value in draw.choice(LABELS).items()})
    if which == 1:
        return _unregister(id)
    if which == 2:
        return _lose(id)
    if which < 5:
        return _attach(id)
    return _report(id, draw.choice(STATUSES), seldom(draw))


def operation(draw: Random, ids: Sequence[str], new: str, now: int) -> Op:
    """`ids` are of leases that somebody has tried to make before, `new` is one that nobody has."""
    which = draw.random()
    if which < 0.35 or not ids:
        return _create(_lease(draw, new, now))
    if which < 0.6:
        return _update(draw, draw.choice(ids), now)
    return _by_exporter(draw) if which < 0.85 else _by_staff(draw)


# -- the machine


class Lab(RuleBasedStateMachine):
    """`opened` makes the store that two processes share."""

    opened: Opened = staticmethod(memory)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.model = Model()
        self.draw = Random(0)
        self.processes: list[Process] = []
        self.numbers = 0
        # Of all leases that anybody has tried to make.
        self.ids: list[str] = []
        self.seen = 0
        self.gone: dict[str, bytes] = {}
        self.run(self._open())

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    async def _open(self) -> None:
        self.store: Store = await type(self).opened(self.clock)

    @initialize(seed=seeds, two=st.booleans())
    def begin(self, seed: int, two: bool) -> None:
        self.draw = Random(seed)
        self.run(self._start(1 + two))
        for id in CLIENTS:
            self._do(_put_client(id, {}))
        for id in self.draw.sample(EXPORTERS, self.draw.randint(1, 4)):
            labels = self.draw.choice(LABELS)
            for op in (_put_exporter(id, labels, True), _register(id, {}), _attach(id)):
                self._do(op)
        for id in self.draw.sample(POLICIES, self.draw.choice([0, 0, 1, 2])):
            self._do(_put_policy(id, _policy(self.draw)))

    async def _start(self, count: int) -> None:
        while len(self.processes) < count:
            process = Process(self.store, self.clock, self.draw, f"c{self.numbers}")
            self.numbers += 1
            await process.start()
            self.processes.append(process)

    def teardown(self) -> None:
        try:
            self.run(self._close())
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.run(asyncio.wait(left)) if left else None
            self.loop.close()

    async def _close(self) -> None:
        for process in self.processes:
            await process.stop()
        await self.store.close()

    # -- one after the other

    @rule(seed=seeds, which=st.integers(0, 1))
    def operate(self, seed: int, which: int) -> None:
        self._do(self._drawn(Random(seed)), which)

    @rule(seed=seeds, count=st.integers(2, 6))
    def several(self, seed: int, count: int) -> None:
        """Leases that would end at the same time."""
        draw = Random(seed)
        for _ in range(count):
            self._do(_create(_lease(draw, self._new(), self.clock.now)))

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.run(settle(self.processes, self.store))
        self.model.settle(self.clock.now)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        count = len(self.processes)
        self.run(self.processes.pop(which % count).stop())
        self.run(self._start(count))

    def _drawn(self, draw: Random) -> Op:
        return operation(draw, self.ids[-12:], self._new(), self.clock.now)

    def _new(self) -> str:
        """An id for a lease: that it is younger does not make it greater."""
        self.ids.append(f"{(len(self.ids) * 7) % 10}-{len(self.ids)}")
        return self.ids[-1]

    def _do(self, op: Op, which: int = 0) -> None:
        process = self.processes[which % len(self.processes)]
        expected = _failure(lambda: op.naive(self.model, self.clock.now))
        found = self.run(_outcome(op.real(process)))
        assert type(found) is type(expected), (op, found, expected)
        self.model.settle(self.clock.now)
        self.run(settle(self.processes, self.store))

    # -- at the same time, and cut off

    @rule(seed=seeds, count=st.integers(2, 7))
    def together(self, seed: int, count: int) -> None:
        draw = Random(seed)
        self.run(self._together([self._drawn(draw) for _ in range(count)], seldom(draw)))
        self._resume()

    async def _together(self, ops: list[Op], compacts: bool) -> None:
        # Time passes as well: who comes later has waited for less.
        self.clock.step = 1
        tasks = [_outcome(op.real(self.processes[n % len(self.processes)])) for n, op in enumerate(ops)]
        if compacts:
            tasks.append(self.store.compact(await self.store.head()))
        for outcome in await asyncio.gather(*tasks):
            assert outcome is None or isinstance(outcome, (ApiError, int)), outcome
        self.clock.step = 0
        await settle(self.processes, self.store)

    @rule(seed=seeds, fuse=st.integers(1, 25), which=st.integers(0, 1))
    def crash(self, seed: int, fuse: int, which: int) -> None:
        draw = Random(seed)
        ops = [self._drawn(draw) for _ in range(2)]
        count = len(self.processes)
        process = self.processes.pop(which % count)
        process.line.fuse = fuse
        others = [_outcome(ops[1].real(self.processes[0]))] if self.processes else []
        self.run(_all(_outcome(ops[0].real(process)), *others))
        self.run(process.kill())
        self.run(self._start(count))
        self.run(settle(self.processes, self.store))
        self._resume()

    @rule(fuse=st.integers(1, 40))
    def crash_at_start(self, fuse: int) -> None:
        """While it catches up with what happened when nobody was there."""
        count = len(self.processes)
        for process in self.processes:
            self.run(process.kill())
        self.processes.clear()
        self.clock.advance(61)
        dying = Process(self.store, self.clock, self.draw, "dying")
        dying.line.fuse = fuse
        self.run(_outcome(dying.start()))
        self.run(dying.kill())
        self.run(self._start(count))
        self.run(settle(self.processes, self.store))
        self._resume()

    def _resume(self) -> None:
        self.model = self.run(self._stored())

    async def _stored(self, at: int | None = None) -> Model:
        model = Model()
        for kind, found, message in (
            (kinds.EXPORTER, model.exporters, pb.Exporter),
            (kinds.CLIENT, model.clients, pb.Client),
            (kinds.ACCESS_POLICY, model.policies, pb.AccessPolicy),
            (kinds.LEASE, model.leases, pb.Lease),
        ):
            async for record in self.store.scan(Query(kind), at=at):
                found[record.name] = message.FromString(record.body)
        return model

    # -- what holds

    @invariant()
    def as_the_model_says(self) -> None:
        stored = self.run(self._stored())
        for found, expected, essence in (
            (stored.exporters, self.model.exporters, _exporter_essence),
            (stored.leases, self.model.leases, _lease_essence),
        ):
            assert _each(essence, found) == _each(essence, expected)
        self._consistent(stored)

    def _consistent(self, stored: Model) -> None:
        """What holds whatever came before."""
        now = self.clock.now
        held = {e.lease: e.name for e in stored.exporters.values() if e.lease}
        assert held == {lease.name: lease.exporter for lease in stored.active if lease.exporter}
        for lease in stored.active:
            end = expiry(lease)
            assert end is None or end > now, f"it outlives its end: {lease}"
            if lease.exporter:
                assert conditions(lease)[-1][:3] == ("Ready", "True", "Ready")
                continue
            verdict = stored.verdict(lease, now)
            assert verdict is not None
            assert verdict == SCHEDULED or verdict.type == "Pending", f"{verdict} is overdue: {lease}"
            if verdict.type == "Pending":
                for process in self.processes:
                    explained = process.engine.explained(lease).conditions
                    assert [c.reason for c in explained if c.type == "Pending"] == [verdict.reason]

    @invariant()
    def orderly(self) -> None:
        """Of every commit so far."""
        self.run(self._read_log())

    async def _read_log(self) -> None:
        if self.seen < await self.store.floor():
            self.seen = await self.store.floor()
        for commit in await self.store.changes(self.seen, 1 << 20):
            self.seen = commit.revision
            at = commit.at
            for change in commit.changes:
                if change.kind != kinds.LEASE or change.after is None:
                    continue
                after = pb.Lease.FromString(change.after)
                before = pb.Lease.FromString(change.before or b"")
                if before.ended:
                    before.released = after.released
                    assert before == after, "an ended lease has changed"
                if after.exporter and not before.exporter:
                    await self._was_first(after, commit.revision - 1, at)

    async def _was_first(self, given: pb.Lease, revision: int, at: int) -> None:
        """Nobody who was there before it could have had the same."""
        if revision < await self.store.floor():
            return
        model = await self._stored(revision)
        for lease in model.active:
            if lease.exporter or place(lease) >= place(given):
                continue
            verdict = model.verdict(lease, at)
            assert verdict is None or verdict.exporter != given.exporter, f"{lease} was overtaken by {given}"


def _each(essence: Callable[[Any], Any], found: dict[str, Any]) -> dict[str, Any]:
    return {name: essence(one) for name, one in found.items()}


def _exporter_essence(exporter: pb.Exporter) -> Any:
    return (
        dict(exporter.labels),
        exporter.enabled,
        exporter.registered,
        exporter.online,
        exporter.status,
        exporter.lease,
    )


def _lease_essence(lease: pb.Lease) -> Any:
    return (
        lease.exporter,
        lease.ended,
        lease.released,
        conditions(lease),
        (lease.priority, lease.spot, lease.client),
        (lease.effective_begin_time, lease.ended_time, rules.times_of(lease)),
    )


def _failure(call: Callable[[], Any]) -> ApiError | None:
    try:
        call()
    except ApiError as error:
        return error
    return None


async def _outcome(call: Any) -> ApiError | None:
    """How it fails; a process that dies says nothing."""
    try:
        await call
    except ApiError as error:
        return error
    except Crash:
        return None
    return None


async def _all(*calls: Any) -> None:
    for outcome in await asyncio.gather(*calls):
        assert outcome is None or isinstance(outcome, ApiError), outcome


def test_the_lab_is_what_the_model_makes_of_it(soak: bool) -> None:
    """Without shrinking in the normal run: a step takes long enough to try thousands of them in vain."""
    chosen = settings(
        max_examples=3000 if soak else 60,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if soak else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(Lab, settings=chosen)


def _walk(opened: Opened, seed: int, steps: int) -> None:
    """The machine, led by a random generator: on a store that is too slow to be searched."""
    draw = Random(seed)
    lab = type("Lab", (Lab,), {"opened": staticmethod(opened)})()

    def seeded() -> dict[str, int]:
        return {"seed": draw.randrange(1 << 32)}

    def step() -> None:
        match draw.choices(range(7), [6, 3, 4, 1, 3, 3, 1])[0]:
            case 0:
                lab.operate(**seeded(), which=draw.randrange(2))
            case 1:
                lab.several(**seeded(), count=draw.randint(2, 5))
            case 2:
                lab.wait(seconds=draw.choice(WAITS))
            case 3:
                lab.restart(which=draw.randrange(2))
            case 4:
                lab.together(**seeded(), count=draw.randint(2, 7))
            case 5:
                lab.crash(**seeded(), fuse=draw.randint(1, 25), which=draw.randrange(2))
            case 6:
                lab.crash_at_start(fuse=draw.randint(1, 40))

    try:
        lab.begin(**seeded(), two=True)
        for _ in range(steps):
            step()
            lab.as_the_model_says()
            lab.orderly()
    finally:
        lab.teardown()


def test_on_sqlite(tmp_path: Path, soak: bool) -> None:
    files = itertools.count()

    async def opened(clock: Clock) -> Store:
        store = SqliteStore(tmp_path / f"{next(files)}.db", stored(clock), clock=clock)
        await store.open()
        return store

    for seed in range(100 if soak else 3):
        _walk(opened, seed, 40)


@pytest.mark.mongo_server
def test_on_mongodb(soak: bool) -> None:
    url = server_url()
    for seed in range(20 if soak else 1):
        database = new_database()

        async def opened(clock: Clock, database: str = database) -> Store:
            store = MongoStore(url, database, stored(clock), clock=clock)
            await store.open()
            return store

        try:
            _walk(opened, seed, 40 if soak else 12)
        finally:
            drop_database(url, database)
