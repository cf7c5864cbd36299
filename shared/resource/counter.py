"""How many records match, brought forward from the log instead of counted again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from shared.storage.errors import StoreError
from shared.storage.port import Query, Store


class Counter:
    """Remembers counts at a revision. Bringing one forward costs what was written since, not what
    is stored; beyond `reach` commits, and at the first time, the store counts."""

    def __init__(self, store: Store, *, entries: int = 256, reach: int = 256) -> None:
        self._store = store
        self._counts: OrderedDict[Query, tuple[int, int]] = OrderedDict()
        self._entries = entries
        self._reach = reach

    async def count(self, query: Query, matches: Callable[[bytes], bool], revision: int) -> int:
        """The matches of `query` at `revision`; `matches` must mean the same as the query."""
        known = self._counts.get(query)
        if known is None or not 0 <= revision - known[0] <= self._reach:
            found = await self._counted(query, revision)
        else:
            found = known[1] + await self._difference(query.kind, matches, known[0], revision)
        newest = self._counts.get(query)
        if newest is None or newest[0] <= revision:
            self._counts[query] = (revision, found)
            self._counts.move_to_end(query)
        if len(self._counts) > self._entries:
            self._counts.popitem(last=False)
        return found

    async def _counted(self, query: Query, revision: int) -> int:
        found = await self._store.count(query)
        # Stores count what is current faster than the past; it is the same unless someone wrote.
        if await self._store.head() == revision:
            return found
        return await self._store.count(query, at=revision)

    async def _difference(
        self, kind: str, matches: Callable[[bytes], bool], after: int, revision: int
    ) -> int:
        if after == revision:
            return 0
        change = 0
        for commit in await self._store.changes(after, revision - after):
            if commit.revision > revision:
                raise StoreError("the log answered beyond what was asked for")
            for entry in commit.changes:
                if entry.kind == kind:
                    change += _holds(matches, entry.after) - _holds(matches, entry.before)
        return change


def _holds(matches: Callable[[bytes], bool], body: bytes | None) -> int:
    return int(body is not None and matches(body))
