"""Forgets old versions and old audit entries, in the background."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from shared.service.service import Clock
from shared.storage.errors import StoreError
from shared.storage.port import Store
from shared.storage.times import revision_at

log = logging.getLogger(__name__)
PERIOD = 60.0


async def compaction_point(store: Store, *, older_than: int, keep: int) -> int:
    """The newest revision that may be compacted: older than `older_than` (nanoseconds since 1970)
    and with more than `keep` changes behind it; 0 when there is none."""
    floor = await store.floor()
    deepest = await store.head() - keep
    if deepest <= floor:
        return 0
    found = await revision_at(store, older_than - 1, below=deepest)
    return found if found is not None and found > floor else 0


async def run(
    store: Store, clock: Clock, *, age: timedelta, keep: int, audit_age: timedelta, period: float = PERIOD
) -> None:
    """For ever: compact, and trim the audit trail."""
    while True:
        await asyncio.sleep(period)
        try:
            now = clock()
            point = await compaction_point(store, older_than=now - _nanoseconds(age), keep=keep)
            if point:
                log.info("compacted", extra={"to": point, "versions": await store.compact(point)})
            await store.trim_audit(now - _nanoseconds(audit_age))
        except StoreError as error:
            log.warning("cannot compact now; trying again later", extra={"error": str(error)})


def _nanoseconds(age: timedelta) -> int:
    return int(age.total_seconds() * 1_000_000_000)
