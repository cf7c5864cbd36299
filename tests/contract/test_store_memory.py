from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.storage.memory import MemoryStore
from shared.storage.port import Store
from shared.storage.testing import StoreContract, sample_kinds


class TestMemoryStore(StoreContract):
    capabilities = MemoryStore.capabilities

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = MemoryStore(sample_kinds())
        await store.open()
        yield store
        await store.close()
