"""What a backend's test class must provide."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from shared.storage.port import Capabilities, Kind, Store


class StoreHooks:
    """Derive from `StoreContract` and override these. Stores are open when handed out, and whoever
    hands one out closes it (closing twice is harmless)."""

    capabilities: ClassVar[Capabilities]

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        """An open, empty store of `sample_kinds()`, for one test."""
        raise NotImplementedError("a backend's test class hands out its own store")
        yield

    async def reopen(self, store: Store, kinds: tuple[Kind, ...] | None = None) -> Store:
        """Close `store` and open another on the same data, with `kinds` or the same ones.
        Needed where `capabilities.survives_restart`."""
        raise NotImplementedError("a store that survives a restart is reopened by its own test class")

    async def peer(self, store: Store) -> Store:
        """A second open store on the same data, as another process would have.
        Needed where `capabilities.many_processes`."""
        raise NotImplementedError("a store for many processes gets its peer from its own test class")
