"""Which exporters are there, as controllers come, die and go on (jumpstarter contract, section 7)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from services.jumpstarter import kinds
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.errors import StoreUnavailable
from shared.storage.port import Store
from tests.contract.jumpstarter_model import name
from tests.contract.jumpstarter_rig import BY, Clock, Crash, Process, started

E1 = name("exporters", "e1")


async def exporter(process: Process, full: str = E1) -> None:
    await process.collections[kinds.EXPORTER].create(pb.Exporter(name=full), BY)
    await process.engine.register(full, {}, [], BY)


async def report(process: Process, status: common.ExporterStatus) -> None:
    await process.engine.report_status(E1, status, "", False, BY)


async def stored(store: Store, full: str = E1) -> pb.Exporter:
    record = await store.get(kinds.EXPORTER, full)
    assert record is not None
    return pb.Exporter.FromString(record.body)


async def passes(clock: Clock, processes: Sequence[Process], seconds: int = 1) -> None:
    """One second after the other, each seen by every process."""
    for _ in range(seconds):
        clock.advance(1)
        for process in processes:
            process.presence.wake()
            await process.idle()
            await process.engine.settle()


async def gone_after(store: Store, clock: Clock, processes: Sequence[Process], most: int = 200) -> int:
    """Seconds until the exporter is offline."""
    for second in range(most):
        found = await stored(store)
        if not found.online:
            assert found.status == common.EXPORTER_STATUS_OFFLINE
            assert "Connection lost" in found.status_message
            assert found.controller == ""
            return second
        await passes(clock, processes)
    raise AssertionError(f"online for {most} s")


@asynccontextmanager
async def lab(count: int = 1) -> AsyncIterator[tuple[Store, Clock, list[Process]]]:
    async with started(count, present=True) as (store, clock, processes):
        await exporter(processes[0])
        yield store, clock, processes


@pytest.mark.parametrize("phase", [0, 7, 14, 21, 28])
async def test_an_exporter_whose_stream_has_ended_is_offline_after_60_to_90_seconds(phase: int) -> None:
    async with lab() as (store, clock, processes):
        await passes(clock, processes, phase)
        async with processes[0].presence.stream(E1, BY):
            await report(processes[0], common.EXPORTER_STATUS_AVAILABLE)
            await passes(clock, processes, 100)
            assert (await stored(store)).online, "as long as its stream is open"
        found = await stored(store)
        assert found.online and found.status == common.EXPORTER_STATUS_AVAILABLE, "the end says nothing yet"
        assert 60 < await gone_after(store, clock, processes) <= 91


async def test_a_report_counts_as_well() -> None:
    async with lab() as (store, clock, processes):
        await report(processes[0], common.EXPORTER_STATUS_AVAILABLE)
        await passes(clock, processes, 50)
        await report(processes[0], common.EXPORTER_STATUS_LEASE_READY)
        assert 60 < await gone_after(store, clock, processes) <= 91


async def test_an_exporter_that_says_so_is_offline_at_once_whatever_its_stream() -> None:
    async with lab() as (store, clock, processes), processes[0].presence.stream(E1, BY):
        await report(processes[0], common.EXPORTER_STATUS_OFFLINE)
        assert not (await stored(store)).online
        await passes(clock, processes, 40)
        found = await stored(store)
        assert not found.online and found.status == common.EXPORTER_STATUS_OFFLINE
        await report(processes[0], common.EXPORTER_STATUS_AVAILABLE)
        assert (await stored(store)).online


async def test_a_stream_that_opens_makes_it_online() -> None:
    async with lab() as (store, _, processes):
        await report(processes[0], common.EXPORTER_STATUS_OFFLINE)
        async with processes[0].presence.stream(E1, BY):
            found = await stored(store)
            assert found.online and found.status == common.EXPORTER_STATUS_UNSPECIFIED
            await report(processes[0], common.EXPORTER_STATUS_LEASE_READY)
            async with processes[0].presence.stream(E1, BY):
                found = await stored(store)
                assert found.status == common.EXPORTER_STATUS_LEASE_READY, "kept, unless it was OFFLINE"


async def test_the_exporters_of_a_controller_that_dies_are_offline() -> None:
    """Its last heartbeat is at most ten seconds old then."""
    async with lab(2) as (store, clock, (dying, other)):
        stream = dying.presence.stream(E1, BY)
        await stream.__aenter__()
        await passes(clock, [dying, other], 105)
        await dying.kill()
        assert (await stored(store)).controller == dying.id
        assert 50 < await gone_after(store, clock, [other]) <= 91


async def test_an_exporter_that_comes_back_to_another_controller_in_time_was_never_gone() -> None:
    async with lab(2) as (store, clock, (dying, other)):
        stream = dying.presence.stream(E1, BY)
        await stream.__aenter__()
        await report(dying, common.EXPORTER_STATUS_LEASE_READY)
        await dying.kill()
        await passes(clock, [other], 30)
        async with other.presence.stream(E1, BY):
            for _ in range(150):
                found = await stored(store)
                assert found.online and found.status == common.EXPORTER_STATUS_LEASE_READY
                assert found.controller == other.id
                await passes(clock, [other])


async def test_a_graceful_stop_is_one_write_and_counts_as_the_last_sign_of_life() -> None:
    async with lab(2) as (store, clock, (leaving, other)):
        more = [name("exporters", f"m{number}") for number in range(5)]
        for full in more:
            await exporter(leaving, full)
        streams = [leaving.presence.stream(full, BY) for full in (E1, *more)]
        for stream in streams:
            await stream.__aenter__()
        await passes(clock, [leaving, other], 9)
        before = await store.head()
        leaving.presence.stop()
        for stream in streams:
            await stream.__aexit__(None, None, None)
        await leaving.stop()
        assert await store.head() == before + 1
        assert 60 < await gone_after(store, clock, [other]) <= 91


async def test_the_end_of_an_old_stream_leaves_the_new_one_elsewhere_alone() -> None:
    async with lab(2) as (store, clock, (first, second)):
        async with first.presence.stream(E1, BY):
            new = second.presence.stream(E1, BY)
            await new.__aenter__()
        assert (await stored(store)).controller == second.id
        await passes(clock, [first, second], 100)
        assert (await stored(store)).online
        await new.__aexit__(None, None, None)
        assert 60 < await gone_after(store, clock, [first, second]) <= 91


async def test_an_old_stream_that_outlives_the_new_one_elsewhere_counts_again() -> None:
    async with lab(2) as (store, clock, (first, second)), first.presence.stream(E1, BY):
        async with second.presence.stream(E1, BY):
            pass
        for _ in range(100):
            await passes(clock, [first, second])
            assert (await stored(store)).online
        assert (await stored(store)).controller == first.id


async def test_a_controller_that_was_taken_for_dead_has_its_exporters_back() -> None:
    """It was stopped for a while, as by a debugger or a suspended machine; its streams did not end."""
    async with lab(2) as (store, clock, (stalled, other)), stalled.presence.stream(E1, BY):
        await passes(clock, [other], 92)
        assert not (await stored(store)).online
        await passes(clock, [stalled, other], 11)
        found = await stored(store)
        assert found.online and found.controller == stalled.id


async def test_a_stream_that_is_cut_off_while_it_opens_holds_nothing() -> None:
    async with lab() as (store, clock, (process,)):
        await process.idle()
        stream = process.presence.stream(E1, BY)

        async def vanish() -> None:
            # The commit is made all the same.
            asyncio.get_running_loop().call_soon(caller.cancel)

        process.line.meanwhile = vanish
        caller = asyncio.create_task(stream.__aenter__())
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert 60 <= await gone_after(store, clock, [process]) <= 91


async def test_a_stream_that_ends_while_the_store_is_away_holds_nothing() -> None:
    async with lab() as (store, clock, (process,)):

        async def fail() -> None:
            raise StoreUnavailable("the disk is gone for a moment")

        async with process.presence.stream(E1, BY):
            await process.idle()
            process.line.meanwhile = fail
        assert (await stored(store)).controller == process.id, "it could not be written"
        assert 60 <= await gone_after(store, clock, [process]) <= 91


async def test_a_clock_that_is_set_back_stops_nothing() -> None:
    async with lab(2) as (store, clock, (first, second)):
        clock.advance(-3600)
        await passes(clock, [first, second], 31)
        await report(first, common.EXPORTER_STATUS_AVAILABLE)
        assert 60 < await gone_after(store, clock, [first, second]) <= 91


async def test_controllers_that_are_gone_for_long_are_forgotten() -> None:
    async with lab(2) as (store, clock, (dying, other)):
        await dying.kill()
        await passes(clock, [other], 600)
        assert set(other.lab.controllers) == {dying.id, other.id}
        await passes(clock, [other], 31)
        assert set(other.lab.controllers) == {other.id}
        assert await store.get("controller", dying.id) is None


async def test_an_exporter_that_is_removed_while_it_streams() -> None:
    async with lab() as (store, clock, (process,)):
        async with process.presence.stream(E1, BY):
            await process.collections[kinds.EXPORTER].delete(E1, BY)
            await passes(clock, [process], 45)
        assert await store.get(kinds.EXPORTER, E1) is None


@pytest.mark.parametrize("fuse", range(1, 40, 2))
async def test_a_controller_that_dies_at_any_of_its_calls_keeps_nobody_online(fuse: int) -> None:
    """As it starts, opens a stream, beats, or ends the stream; the exporter is had by the next one."""
    async with lab() as (store, clock, (other,)):
        dying = Process(store, clock, Random(fuse), "dying")
        dying.line.fuse = fuse
        with contextlib.suppress(Crash):
            await dying.start(present=True)
            async with dying.presence.stream(E1, BY):
                await passes(clock, [dying, other], 12)
            await passes(clock, [dying, other], 3)
        await dying.kill()
        if (await stored(store)).online:
            assert await gone_after(store, clock, [other]) <= 91
        async with other.presence.stream(E1, BY):
            await passes(clock, [other], 12)
            found = await stored(store)
            assert found.online and found.controller == other.id
