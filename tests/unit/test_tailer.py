"""The tailer keeps reading, whatever its store goes through."""

from __future__ import annotations

import asyncio

import pytest

from shared.storage.errors import FormatError, StoreError, StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Kind, Put
from shared.watch.tailer import Tailer


class Ailing(MemoryStore):
    """Fails to read its head as long as `fault` is set, and tells of nothing by itself: as a peer's."""

    fault: StoreError | None = None
    asked = 0

    async def head(self) -> int:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return await super().head()

    def _announce(self, revision: int) -> None:
        pass


@pytest.mark.parametrize("fault", [StoreUnavailable("locked"), FormatError("being restored")])
async def test_what_passes_is_waited_out(fault: StoreError) -> None:
    store = Ailing([Kind("thing")])
    await store.open()
    async with Tailer(store, poll=0.001) as tailer:
        store.fault, store.asked = fault, 0
        await store.commit([Put("thing", "a", b"x")], by=Author("peer"))
        async with asyncio.timeout(10):
            while store.asked < 3:
                await asyncio.sleep(0)
            store.fault = None
            assert await tailer.wait(0) == 1
