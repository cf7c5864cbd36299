"""Which exporters are attached to a controller, when their streams overlap."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from services.jumpstarter import kinds
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.presence import Presence
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.resource.definition import CLAIM
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Check, Commit, Delete, Put
from shared.watch.tailer import Tailer

BY = Author("test", "test:exporter:attach")
NAME = "namespaces/lab/exporters/bench"
START = 1_800_000_000_000_000_000


class BusyStore(MemoryStore):
    """Something can happen while the next commit is made."""

    def __init__(self) -> None:
        definitions = kinds.definitions(lambda: START, lambda: "")
        super().__init__([*(definition.storage() for definition in definitions), CLAIM, kinds.CONTROLLER])
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            await act()
        return await super().commit(changes, checks=checks, by=by)


async def test_a_stream_that_replaces_another_keeps_the_exporter() -> None:
    store = BusyStore()
    await store.open()
    exporter = lab_pb2.Exporter(name=NAME, namespace="lab", uid="1")
    await store.commit([Put(kinds.EXPORTER, NAME, exporter.SerializeToString(), "namespaces/lab")], by=BY)
    now = itertools.count(START, 1000)
    endings: list[asyncio.Task[bool | None]] = []
    async with (
        Tailer(store) as tailer,
        Engine(store, tailer, now.__next__, retention=1) as engine,
        Presence(engine, store, "here", "localhost:1") as presence,
    ):

        def holder() -> str:
            found = engine.lab.exporter(NAME)
            assert found is not None
            return found.controller

        async def end_first() -> None:
            endings.append(asyncio.create_task(first.__aexit__(None, None, None)))
            await asyncio.sleep(0)

        first = presence.stream(NAME, BY)
        await first.__aenter__()
        assert holder() == "here"
        store.meanwhile = end_first
        async with presence.stream(NAME, BY):
            await endings[0]
            assert holder() == "here"
        assert holder() == ""
    await store.close()
