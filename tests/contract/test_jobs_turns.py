"""The controller leaves room for others: between two of its passes the event loop has a turn, in which
calls are taken, and what a pass hears and changes is bounded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from services.jobs import kinds, machines
from services.jobs.api import lifecycle
from services.jobs.engine.controller import Controller
from services.jobs.engine.reconcile import BUDGET
from services.jobs.runtime.fake import FakeEngine, FakeRuntime
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Commit, Condition, Query
from tests.contract.jobs_faults import PAUSES, POOLS, job_id, spec

BY = Author("test", "test:jobs:ask")


class Watched(MemoryStore):
    """Knows in which turn of the event loop each change of pods was committed, and of how many."""

    def __init__(self) -> None:
        super().__init__([*(d.storage() for d in kinds.definitions(None)), *kinds.KINDS])
        self.turn = 0
        self.commits: list[tuple[int, int]] = []

    async def commit(self, changes: Sequence[Any], *, checks: Sequence[Any] = (), by: Author) -> Commit:
        pods = sum(change.kind == kinds.POD for change in changes)
        if pods:
            self.commits.append((self.turn, pods))
        return await super().commit(changes, checks=checks, by=by)

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def controlled() -> AsyncIterator[tuple[Watched, Controller]]:
    async def pools() -> Any:
        return POOLS

    engine, store = FakeEngine(), Watched()
    await store.open()
    runtime = FakeRuntime(engine)
    await runtime.open()
    counting = asyncio.create_task(store.count_turns())
    try:
        async with Controller(store, runtime, engine.clock, pauses=PAUSES, pools=pools) as controller:
            yield store, controller
    finally:
        counting.cancel()
        await store.close()


async def create(controller: Controller, number: int, count: int) -> None:
    new = lifecycle.create(
        job_id(number), spec(count), stateless.CreateSpec(), OpaqueData(), "me", controller.now()
    )
    await controller.create(new.job, new.configuration, new.workflow, BY)


async def all_run(store: Watched, controller: Controller, count: int) -> None:
    async with asyncio.timeout(30):
        while True:
            if controller.idle and await running(store) == count:
                return
            await asyncio.sleep(0)


async def running(store: Watched) -> int:
    return await store.count(Query(kinds.POD, where=(Condition("status.state", "=", machines.RUNNING),)))


async def test_no_two_passes_in_one_turn() -> None:
    async with controlled() as (store, controller):
        await asyncio.gather(*(create(controller, number, 1) for number in range(20)))
        await all_run(store, controller, 20)
        turns = Counter(turn for turn, _ in store.commits)
        assert len(store.commits) >= 40
        assert max(turns.values()) == 1


async def test_a_pass_changes_no_more_pods_than_it_may() -> None:
    async with controlled() as (store, controller):
        await create(controller, 0, 3 * BUDGET)
        await all_run(store, controller, 3 * BUDGET)
        assert max(pods for _, pods in store.commits) <= BUDGET
