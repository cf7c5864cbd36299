"""How long leases that have ended stay readable."""

from __future__ import annotations

import contextlib
from typing import Final

from services.jumpstarter import kinds
from shared.storage.errors import Conflict
from shared.storage.port import Author, Condition, Delete, Order, Query, Store

_SECOND: Final = 1_000_000_000
_EVERY: Final = 60 * _SECOND
_BATCH: Final = 256
_FORGOTTEN: Final = Author("controller", "controller:lease:forget")


class Retention:
    """`keep`: nanoseconds."""

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self._keep = keep
        self._next = 0

    async def tidy(self, now: int) -> None:
        """Now and then remove a few of the leases that ended too long ago. Raises StoreError."""
        if now < self._next:
            return
        old = (Condition("ended", "=", 1), Condition("ended_time", "<", now - self._keep))
        query = Query(kinds.LEASE, where=old, order=(Order("ended_time"),), limit=_BATCH)
        changes = [Delete(kinds.LEASE, r.name, r.revision) async for r in self._store.scan(query)]
        if changes:
            with contextlib.suppress(Conflict):
                await self._store.commit(changes, by=_FORGOTTEN)
        # The rest soon, but others come first.
        self._next = now + (_SECOND if len(changes) == _BATCH else _EVERY)
