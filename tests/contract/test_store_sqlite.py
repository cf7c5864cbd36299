from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.storage.port import Kind, Store
from shared.storage.sqlite import SqliteStore
from shared.storage.testing import PeerContract, RestartContract, StoreContract, sample_kinds


class TestSqliteStore(StoreContract, RestartContract, PeerContract):
    capabilities = SqliteStore.capabilities

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        self.path = tmp_path / "odd name#%?.sqlite"
        store = SqliteStore(self.path, sample_kinds())
        await store.open()
        yield store
        await store.close()

    async def reopen(self, store: Store, kinds: tuple[Kind, ...] | None = None) -> Store:
        await store.close()
        again = SqliteStore(self.path, kinds or tuple(store.kinds.values()))
        await again.open()
        return again

    async def peer(self, store: Store) -> Store:
        peer = SqliteStore(self.path, tuple(store.kinds.values()))
        await peer.open()
        return peer
