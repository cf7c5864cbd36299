"""The lease engine where something comes in between: nobody is overtaken, nothing is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from services.jumpstarter import kinds
from services.jumpstarter.leasing import lease as rules
from shared.errors import FailedPrecondition, NotFound
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.errors import StoreUnavailable
from shared.storage.port import Put, Query, Store
from tests.contract.jumpstarter_model import NAMESPACE, PARENT, SECOND, name
from tests.contract.jumpstarter_rig import BY, START, Process, settle, started
from tests.patience import PATIENCE

ANN = name("clients", "ann")
DEVICES = [DriverInstanceReport(uuid="root")]


def wanted(id: str, selector: str = "board=rpi", seconds: int = 60, **fields: Any) -> pb.Lease:
    lease = pb.Lease(name=name("leases", id), namespace=NAMESPACE, selector=selector, client=ANN, **fields)
    lease.duration.FromSeconds(seconds)
    return lease


async def ann(process: Process) -> None:
    await process.collections[kinds.CLIENT].create(pb.Client(name=ANN), BY)


async def exporter(process: Process, id: str, **labels: str) -> str:
    """Registered, online and free."""
    full = name("exporters", id)
    await process.collections[kinds.EXPORTER].create(
        pb.Exporter(name=full, labels={"board": "rpi", **labels}), BY
    )
    await process.engine.register(full, {}, DEVICES, BY)
    await process.engine.report_status(full, common.EXPORTER_STATUS_AVAILABLE, "", False, BY)
    return full


async def report(process: Process, id: str, status: common.ExporterStatus) -> None:
    await process.engine.report_status(name("exporters", id), status, "", False, BY)


async def holder(store: Store, id: str) -> str:
    """Who has that exporter."""
    record = await store.get(kinds.EXPORTER, name("exporters", id))
    assert record is not None
    return pb.Exporter.FromString(record.body).lease.rpartition("/")[2]


async def stored(store: Store, id: str) -> pb.Lease:
    record = await store.get(kinds.LEASE, name("leases", id))
    assert record is not None
    return pb.Lease.FromString(record.body)


async def put(store: Store, *found: pb.Exporter) -> None:
    """All in one commit, as another controller may write them."""
    await store.commit(
        [Put(kinds.EXPORTER, one.name, one.SerializeToString(deterministic=True), PARENT) for one in found],
        by=BY,
    )


@pytest.mark.parametrize("ids", [("e1", "e2"), ("e2", "e1")])
async def test_of_two_exporters_that_get_free_at_once_the_older_lease_gets_the_one_it_needs(ids: Any) -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        for id in ids:
            await exporter(process, id, n=id)
            await report(process, id, common.EXPORTER_STATUS_AFTER_LEASE_HOOK)
        await process.engine.create(wanted("old", "n=e1"), BY)
        clock.advance(1)
        await process.engine.create(wanted("young"), BY)
        free = []
        for id in ids:
            found = pb.Exporter()
            found.CopyFrom(process.lab.exporter(name("exporters", id)) or found)
            found.status = common.EXPORTER_STATUS_AVAILABLE
            free.append(found)
        await put(store, *free)
        await process.engine.settle()
        assert (await holder(store, "e1"), await holder(store, "e2")) == ("old", "young")


async def test_a_peer_that_writes_in_between_lets_nobody_be_overtaken() -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        await report(process, "e1", common.EXPORTER_STATUS_AFTER_LEASE_HOOK)
        for id in ("first", "second", "third"):
            await process.engine.create(wanted(id), BY)
            clock.advance(1)

        async def peer() -> None:
            other = wanted("other", "board=none")
            other.ended = True
            body = other.SerializeToString(deterministic=True)
            await store.commit([Put(kinds.LEASE, other.name, body, PARENT)], by=BY)

        # All that wait are looked at, for what they may have has changed.
        policy = pb.AccessPolicy(name=name("accessPolicies", "all"))
        getattr(policy.policies.add(), "from").add()
        await process.collections[kinds.ACCESS_POLICY].create(policy, BY)
        free = pb.Exporter()
        free.CopyFrom(process.lab.exporter(name("exporters", "e1")) or free)
        free.status = common.EXPORTER_STATUS_AVAILABLE
        await put(store, free)
        process.line.meanwhile = peer
        await process.engine.settle()
        assert await holder(store, "e1") == "first"


async def test_what_a_caller_that_gives_up_had_begun_is_done_all_the_same() -> None:
    """The end of a lease is due, and found so by a caller who is cancelled before it is written."""
    async with started() as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        await process.engine.create(wanted("held"), BY)
        await process.engine.create(wanted("next"), BY)
        await process.idle()
        clock.advance(61)
        caller = asyncio.create_task(process.engine.create(wanted("mine"), BY))

        async def vanish() -> None:
            assert asyncio.current_task() is caller
            caller.cancel()
            await asyncio.sleep(0)

        process.line.meanwhile = vanish
        with pytest.raises(asyncio.CancelledError):
            await caller
        await process.engine.settle()
        assert (await stored(store, "held")).ended
        assert await holder(store, "e1") == "next"


async def test_what_a_store_that_fails_had_begun_is_done_all_the_same() -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        await process.engine.create(wanted("held"), BY)
        await process.engine.create(wanted("next"), BY)

        async def fail() -> None:
            raise StoreUnavailable("the disk is gone for a moment")

        clock.advance(61)
        process.line.meanwhile = fail
        with contextlib.suppress(StoreUnavailable):
            await process.engine.settle()
        assert process.line.meanwhile is None, "whoever looked first ran into it"
        await process.engine.settle()
        assert (await stored(store, "held")).ended
        assert await holder(store, "e1") == "next"


async def test_time_that_passes_while_a_lease_is_made_lets_it_not_overtake_one_that_is_due() -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        for ticks in range(1, 20):
            await exporter(process, f"e{ticks}", n=str(ticks))
            early, late = wanted(f"{ticks}-early", f"n={ticks}"), wanted(f"{ticks}-late", f"n={ticks}")
            early.begin_time.FromNanoseconds(clock.now + SECOND + ticks)
            await process.engine.create(early, BY)
            await process.idle()
            clock.advance(1)
            clock.step = 1
            await process.engine.create(late, BY)
            clock.step = 0
            clock.advance(1)
            await process.engine.settle()
            places = {
                id: rules.queued_at(await stored(store, id)) for id in (f"{ticks}-early", f"{ticks}-late")
            }
            first = min(places, key=lambda id: (places[id], id))
            assert await holder(store, f"e{ticks}") == first, (ticks, places)


@pytest.mark.parametrize("later", [False, True])
async def test_a_client_that_is_removed_meanwhile_gets_no_lease(later: bool) -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        lease = wanted("mine")
        if later:
            lease.begin_time.FromNanoseconds(clock.now + 60 * SECOND)
        process.line.meanwhile = lambda: process.collections[kinds.CLIENT].delete(ANN, BY)
        with pytest.raises(NotFound, match="clients/ann"):
            await process.engine.create(lease, BY)
        assert await store.get(kinds.LEASE, name("leases", "mine")) is None
        assert await holder(store, "e1") == ""


async def test_a_client_that_leases_meanwhile_is_not_removed() -> None:
    async with started() as (store, _, (process,)):
        await ann(process)
        await exporter(process, "e1")
        process.line.meanwhile = lambda: process.engine.create(wanted("mine"), BY)
        with pytest.raises(FailedPrecondition, match=r"has the active lease .*/mine; release or transfer it"):
            await process.collections[kinds.CLIENT].delete(ANN, BY)
        assert await holder(store, "e1") == "mine"


async def test_a_client_that_is_removed_meanwhile_is_handed_no_lease() -> None:
    async with started() as (store, _, (process,)):
        await ann(process)
        bob = name("clients", "bob")
        await process.collections[kinds.CLIENT].create(pb.Client(name=bob), BY)
        await exporter(process, "e1")
        await process.engine.create(wanted("mine"), BY)

        def hand_over(lease: pb.Lease) -> None:
            lease.client = bob

        process.line.meanwhile = lambda: process.collections[kinds.CLIENT].delete(bob, BY)
        with pytest.raises(NotFound, match="clients/bob"):
            await process.engine.update(name("leases", "mine"), hand_over, BY)
        assert (await stored(store, "mine")).client == ANN


async def test_a_policy_that_is_made_meanwhile_holds() -> None:
    async with started() as (_, _, (process,)):
        await ann(process)
        await exporter(process, "e1")
        nobody = pb.AccessPolicy(name=name("accessPolicies", "nobody"))
        process.line.meanwhile = lambda: process.collections[kinds.ACCESS_POLICY].create(nobody, BY)
        lease = await process.engine.create(wanted("mine"), BY)
        assert [(c.type, c.reason) for c in lease.conditions] == [("Unsatisfiable", "NoAccess")]


async def test_a_lease_that_waits_ends_when_its_owner_loses_access() -> None:
    """Whether the owner's labels change, or the policy."""
    async with started() as (store, _, (process,)):
        clients, policies = process.collections[kinds.CLIENT], process.collections[kinds.ACCESS_POLICY]
        await clients.create(pb.Client(name=ANN, labels={"team": "a"}), BY)
        policy = pb.AccessPolicy(name=name("accessPolicies", "teams"))
        getattr(policy.policies.add(), "from").add().client_selector.match_labels["team"] = "a"
        await policies.create(policy, BY)
        await exporter(process, "e1")

        def join(client: pb.Client, team: str) -> None:
            client.labels["team"] = team

        def open_to(policy: pb.AccessPolicy, team: str) -> None:
            getattr(policy.policies[0], "from")[0].client_selector.match_labels["team"] = team

        async def reasons(id: str) -> list[str]:
            await process.engine.settle()
            return [c.reason for c in (await stored(store, id)).conditions]

        for id in ("holds", "one"):
            await process.engine.create(wanted(id), BY)
        await clients.update(ANN, lambda client: join(client, "b"), BY)
        assert await reasons("one") == ["NotAvailable", "NoAccess"]
        await clients.update(ANN, lambda client: join(client, "a"), BY)
        await process.engine.create(wanted("two"), BY)
        assert await reasons("two") == ["NotAvailable"]
        await policies.update(policy.name, lambda policy: open_to(policy, "b"), BY)
        assert await reasons("two") == ["NotAvailable", "NoAccess"]
        assert await reasons("holds") == ["Ready"], "what it has it keeps"


async def test_a_lease_ends_when_what_it_waits_for_can_be_had_as_spot_only() -> None:
    """Whatever makes it so: here the exporter that it could have had otherwise goes offline."""
    async with started() as (store, _, (process,)):
        await ann(process)
        for id in ("e1", "e2"):
            await exporter(process, id, n=id)
            await process.engine.create(wanted(f"holds-{id}", f"n={id}"), BY)
        for id, spot in (("e1", False), ("e2", True)):
            policy = pb.AccessPolicy(name=name("accessPolicies", id))
            policy.exporter_selector.match_labels["n"] = id
            getattr(policy.policies.add(spot_access=spot), "from").add()
            await process.collections[kinds.ACCESS_POLICY].create(policy, BY)
        waits = await process.engine.create(wanted("waits"), BY)
        assert [c.reason for c in waits.conditions] == ["NotAvailable"]
        await report(process, "e1", common.EXPORTER_STATUS_OFFLINE)
        await process.engine.settle()
        assert [c.reason for c in (await stored(store, "waits")).conditions] == ["NotAvailable", "SpotAccess"]


async def test_many_exporters_that_get_free_at_once_go_to_the_oldest() -> None:
    async with started() as (store, clock, (process,)):
        await ann(process)
        ids = [f"e{number:02}" for number in range(20)]
        for id in ids:
            await exporter(process, id)
            await report(process, id, common.EXPORTER_STATUS_AFTER_LEASE_HOOK)
        for number in range(30):
            await process.engine.create(wanted(f"l{number:02}"), BY)
            clock.advance(0.001)
        found = []
        for id in reversed(ids):
            one = pb.Exporter()
            one.CopyFrom(process.lab.exporter(name("exporters", id)) or one)
            one.status = common.EXPORTER_STATUS_AVAILABLE
            found.append(one)
        await put(store, *found)
        await process.engine.settle()
        assert [await holder(store, id) for id in ids] == [f"l{number:02}" for number in range(20)]


async def test_two_controllers_end_and_give_each_lease_once() -> None:
    """Both find the same due, at the same time."""
    async with started(2) as (store, clock, processes):
        await ann(processes[0])
        for number in range(3):
            await exporter(processes[0], f"e{number}")
        for number in range(9):
            await processes[number % 2].engine.create(wanted(f"l{number}"), BY)
            clock.advance(0.001)
        for round in range(3):
            held = [await holder(store, f"e{number}") for number in range(3)]
            assert sorted(held) == [f"l{3 * round + number}" for number in range(3)]
            clock.advance(61)
            await asyncio.gather(*(process.engine.settle() for process in processes))
            await settle(processes, store)
        leases = [await stored(store, f"l{number}") for number in range(9)]
        assert all(lease.ended for lease in leases)
        starts = [lease.effective_begin_time.ToNanoseconds() for lease in leases]
        assert starts == sorted(starts) and starts[0] >= START


async def test_a_lease_that_a_peer_has_just_accepted_is_not_overtaken() -> None:
    """The peer decided that it waits before the exporter got free, and writes it before the exporter
    is given to a younger one."""
    async with started(2) as (store, clock, (here, peer)):
        await ann(here)
        await exporter(here, "e1")
        await report(here, "e1", common.EXPORTER_STATUS_AFTER_LEASE_HOOK)
        await settle([here, peer], store)
        about_to_give, accepted = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[pb.Lease]] = []

        async def freed_meanwhile() -> None:
            await report(here, "e1", common.EXPORTER_STATUS_AVAILABLE)
            await here.idle()
            clock.advance(1)
            here.line.meanwhile = give
            tasks.append(asyncio.create_task(here.engine.create(wanted("younger"), BY)))
            await about_to_give.wait()

        async def give() -> None:
            about_to_give.set()
            await accepted.wait()

        await peer.idle()
        peer.line.meanwhile = freed_meanwhile
        assert not (await peer.engine.create(wanted("older"), BY)).exporter
        accepted.set()
        assert not (await tasks[0]).exporter
        await settle([here, peer], store)
        assert await holder(store, "e1") == "older"


async def test_a_controller_that_fails_goes_on() -> None:
    """Whatever the failure is, and without anybody who calls."""
    async with started() as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        await process.engine.create(wanted("held"), BY)
        await process.idle()

        async def fail() -> None:
            raise ZeroDivisionError

        process.line.meanwhile = fail
        clock.advance(61)
        process.engine.wake()
        async with asyncio.timeout(PATIENCE):
            while not (await stored(store, "held")).ended:
                await asyncio.sleep(0.01)
        assert process.line.meanwhile is None


async def test_a_lease_that_waits_knows_its_place() -> None:
    async with started() as (_, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        later = wanted("later")
        later.begin_time.FromNanoseconds(clock.now + 3600 * SECOND)
        await process.engine.create(later, BY)
        for id in ("held", "second", "first"):
            await process.engine.create(wanted(id), BY)
            clock.advance(1)
        said = {id: (await process.engine.get(name("leases", id))) for id in ("second", "first", "later")}
        assert [said[id].conditions[0].message.rpartition("; ")[2] for id in ("second", "first")] == [
            "1 of 2 in the queue",
            "2 of 2 in the queue",
        ]
        assert not said["later"].conditions
        clock.advance(3600)
        now = process.engine.explained(said["later"]).conditions[0]
        assert now.message.endswith("; 3 of 3 in the queue"), "its time has come"


async def test_leases_that_have_ended_are_forgotten_in_time() -> None:
    """Those that ended long ago, a few at a time; active ones never."""
    async with started(retention=100 * SECOND) as (store, clock, (process,)):
        await ann(process)
        await exporter(process, "e1")
        await process.engine.create(wanted("held", seconds=100_000), BY)
        for number in range(300):
            await process.engine.create(wanted(f"l{number}", "board=none"), BY)
        clock.advance(99)
        await process.engine.create(wanted("young", "board=none"), BY)

        async def left() -> set[str]:
            process.engine.wake()
            await process.idle()
            return {r.name.rpartition("/")[2] async for r in store.scan(Query(kinds.LEASE))}

        assert len(await left()) == 302
        clock.advance(61)
        assert len(await left()) == 302 - 256
        clock.advance(1)
        assert await left() == {"held", "young"}
        clock.advance(61)
        assert await left() == {"held"}


async def test_a_lease_that_a_peer_has_just_assigned_is_freed_with_its_exporter() -> None:
    """It is changed by a process that does not know of it yet."""
    async with started(2) as (store, _, (here, peer)):
        await ann(here)
        await exporter(here, "e1")
        await settle([here, peer], store)
        await peer.idle()
        # After the peer has caught up, and before it looks for what it does not know.
        peer.line.looking = lambda: here.engine.create(wanted("mine"), BY)
        await peer.engine.release(name("leases", "mine"), BY)
        assert (await stored(store, "mine")).ended
        assert await holder(store, "e1") == ""


async def test_many_leases_that_end_at_once_are_few_commits() -> None:
    """On a store that takes 50 ms for each they would be late otherwise, and everybody would wait."""
    async with started() as (store, clock, (process,)):
        await ann(process)
        for number in range(40):
            await exporter(process, f"e{number:02}")
        for number in range(140):
            await process.engine.create(wanted(f"l{number:03}", seconds=60 if number < 40 else 600), BY)
        await process.idle()
        before = await store.head()
        disabled = []
        for found in list(process.lab.exporters):
            one = pb.Exporter()
            one.CopyFrom(found)
            one.enabled = False
            disabled.append(one)
        await put(store, *disabled)
        await process.engine.settle()
        assert len(process.lab.leases) == 40, "those that wait can have none any more"
        assert await store.head() - before <= 1 + 2
        clock.advance(60)
        await process.engine.settle()
        assert not process.lab.leases
        assert await store.head() - before <= 1 + 2 + 1
