"""From a time to a revision."""

from __future__ import annotations

from shared.storage.port import Store


async def revision_at(store: Store, at: int, *, below: int | None = None) -> int | None:
    """The newest revision committed at or before `at` (nanoseconds since 1970), at most `below`; 0
    when nothing was. None when the log does not reach back that far."""
    floor = await store.floor()
    low, high = floor, await store.head() if below is None else below
    while low < high:
        middle = (low + high + 1) // 2
        commits = await store.changes(middle - 1, 1)
        if commits and commits[0].at <= at:
            low = middle
        else:
            high = middle - 1
    if low > floor or floor == 0:
        return low
    entries = await store.audit(before=floor + 1, limit=1)
    return floor if entries and entries[0].revision == floor and entries[0].at <= at else None
