"""Jumpstarter's controller as processes that share a database, and that are killed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from shared.storage.mongo import MongoStore
from shared.storage.port import Store
from shared.storage.sqlite import SqliteStore
from tests.e2e.lab import (
    PARENT,
    Desk,
    History,
    Metadata,
    Work,
    creation,
    desk,
    furnish,
    name,
    stored_kinds,
    until,
)
from tests.mongo_server import drop_database, new_database, server_url
from tests.process import started


@asynccontextmanager
async def shared_store(backend: str, data: Path) -> AsyncIterator[tuple[Store, dict[str, str]]]:
    """A store for several processes, not opened yet, and the settings that lead there."""
    if backend == "sqlite":
        yield SqliteStore(data / "jumpstarter.db", stored_kinds()), {}
        return
    server, prefix = await asyncio.to_thread(server_url), new_database()
    store = MongoStore(server, f"{prefix}_jumpstarter", stored_kinds())
    try:
        yield store, {"store": server, "store_name": prefix}
    finally:
        for database in (store.database, f"{prefix}_access"):
            await asyncio.to_thread(drop_database, server, database)


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("wire", marks=pytest.mark.mongo_server)])
async def test_two_controllers_share_the_work_and_one_is_killed(
    tmp_path: Path, backend: str, soak: bool
) -> None:
    """100 leases of 20 callers for 10 exporters: all are served, once, in order. Over the test server's
    database a fifth of that, unless there is time: a commit takes it 50 ms."""
    callers, turns, exporters = (20, 5, 10) if backend == "sqlite" or soak else (5, 4, 3)
    async with shared_store(backend, tmp_path) as (store, settings):
        async with (
            started("jumpstarter", tmp_path, **settings) as first,
            started("jumpstarter", tmp_path, **settings) as second,
            desk(first.target) as here,
            desk(second.target) as there,
        ):
            work = Work([here, there])
            tasks = [
                asyncio.create_task(
                    work(client, [f"{number:02}-{turn}" for turn in range(turns)], number % 2)
                )
                for number, client in enumerate(await furnish(here, tmp_path, exporters, callers))
            ]
            while len(work.released) < callers * turns * 0.4:
                await asyncio.wait(tasks, timeout=0.02, return_when=asyncio.FIRST_EXCEPTION)
                assert not any(task.done() and task.exception() for task in tasks)
            assert not all(task.done() for task in tasks)
            await second.end(signal.SIGKILL)
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)
        await store.open()
        history = await History.of(store)
        await store.close()
    assert len(history.given) == len(set(history.given)) == callers * turns
    assert work.created == work.released == set(history.leases) == set(history.given)
    assert all(lease.ended and lease.released for lease in history.leases.values())
    assert len({lease.exporter for lease in history.leases.values()}) == exporters


async def _get(desk: Desk, client: Metadata, id: str) -> pb.Lease:
    return await desk.client.GetLease(pb.GetLeaseRequest(name=name("leases", id)), metadata=client)


def _reasons(lease: pb.Lease) -> list[str]:
    return [f"{c.type}={c.status} {c.reason}" for c in lease.conditions]


async def test_a_killed_controller_goes_on_where_it_was(tmp_path: Path) -> None:
    """Leases in all stages; those whose end came meanwhile end as it starts."""
    async with started("jumpstarter", tmp_path) as process, desk(process.target) as here:
        clients = await furnish(here, tmp_path, exporters=2, clients=1)
        (client,) = clients

        async def create(id: str, seconds: float, **times: int) -> None:
            await here.client.CreateLease(creation(id, seconds, **times), metadata=client)

        await create("over", 3600)
        await here.client.DeleteLease(pb.DeleteLeaseRequest(name=name("leases", "over")), metadata=client)
        await create("short", 0.5)
        await create("held", 3600)
        now = time.time_ns()
        await create("missed", 0.5, end_time=now + 500_000_000)
        await create("scheduled", 3600, begin_time=now + 500_000_000)
        await create("next", 3600)
        await create("last", 3600)
        before = {id: await _get(here, client, id) for id in ("over", "held", "last")}
        await process.end(signal.SIGKILL)
    while time.time_ns() < now + 700_000_000:
        await asyncio.sleep(0.05)
    async with started("jumpstarter", tmp_path) as process, desk(process.target) as here:
        found = {
            id: await _get(here, client, id)
            for id in ("over", "short", "held", "missed", "scheduled", "next", "last")
        }
        assert found["over"] == before["over"]
        assert _reasons(found["short"]) == ["Ready=False Expired", "Pending=False Expired"]
        assert _reasons(found["held"]) == ["Ready=True Ready"]
        assert found["held"].exporter == before["held"].exporter
        assert _reasons(found["missed"]) == ["Pending=False Expired", "Ready=False Expired"]
        # It waits since before the others, whose turn comes after it was to begin.
        assert _reasons(found["next"]) == ["Pending=True NotAvailable", "Ready=True Ready"]
        assert _reasons(found["scheduled"]) == ["Pending=True NotAvailable"]
        assert _reasons(found["last"]) == _reasons(before["last"]) == ["Pending=True NotAvailable"]
        for id in ("held", "next"):
            request = pb.DeleteLeaseRequest(name=name("leases", id))
            await here.client.DeleteLease(request, metadata=client)
        for id in ("last", "scheduled"):
            await until(lambda id=id: _get(here, client, id), lambda lease: lease.HasField("exporter"))
    store = SqliteStore(tmp_path / "jumpstarter.db", stored_kinds())
    await store.open()
    history = await History.of(store)
    await store.close()
    order = [name("leases", id) for id in ("over", "short", "held", "next", "last", "scheduled")]
    assert history.given == order


async def _release_all(desk: Desk, clients: Sequence[Metadata]) -> None:
    """What callers who have vanished left behind."""
    request = pb.ListLeasesRequest(parent=PARENT)
    for lease in (await desk.client.ListLeases(request, metadata=clients[0])).leases:
        own = clients[int(lease.client[-2:])]
        await desk.client.DeleteLease(pb.DeleteLeaseRequest(name=lease.name), metadata=own)


async def test_a_controller_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, scale: Callable[[int, int], int]
) -> None:
    draw = random.Random(7)
    created: set[str] = set()
    released: set[str] = set()
    clients: list[Metadata] = []
    for turn in range(scale(3, 40)):
        async with started("jumpstarter", tmp_path) as process, desk(process.target) as here:
            # Each time: exporters that are not heard of for long are offline.
            clients = await furnish(here, tmp_path, exporters=3, clients=6)
            await _release_all(here, clients)
            work = Work([here])
            callers = [
                asyncio.create_task(work(client, [f"{turn}-{number}-{n}" for n in range(100)], 0))
                for number, client in enumerate(clients)
            ]
            goal = draw.randrange(10, 40)
            while len(work.created) < goal:
                done, _ = await asyncio.wait(
                    callers, timeout=draw.random() / 50, return_when=asyncio.FIRST_EXCEPTION
                )
                assert [caller.exception() for caller in done] == []
            await process.end(signal.SIGKILL)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            created |= work.created
            released |= work.released
    async with started("jumpstarter", tmp_path) as process, desk(process.target) as here:
        await _release_all(here, clients)
    store = SqliteStore(tmp_path / "jumpstarter.db", stored_kinds())
    await store.open()
    history = await History.of(store)
    await store.close()
    assert released <= created <= set(history.leases), "what was answered is stored"
    assert released <= set(history.given) and len(history.given) == len(set(history.given))
    assert all(lease.ended for lease in history.leases.values())
