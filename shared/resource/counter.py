"""How many records match, brought forward from the log instead of counted again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from shared.storage.errors import Compacted, StoreError
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
        """The matches of `query` at `revision`; `matches` must mean the same as the query. Raises
        Compacted when the store cannot read `revision` any more."""
        known = self._counts.get(query)
        change = None
        if known is not None and 0 <= revision - known[0] <= self._reach:
            change = await self._difference(query.kind, matches, known[0], revision)
        if known is None or change is None:
            found = await self._counted(query, revision)
        else:
            found = known[1] + change
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
    ) -> int | None:
        """By how many matches two revisions differ; None when the log no longer reaches back."""
        if after == revision:
            return 0
        try:
            commits = await self._store.changes(after, revision - after)
        except Compacted:
            return None
        change = 0
        for commit in commits:
            if commit.revision > revision:
                raise StoreError("the log answered beyond what was asked for")
            for entry in commit.changes:
                if entry.kind == kind:
                    change += _holds(matches, entry.after) - _holds(matches, entry.before)
        return change


def _holds(matches: Callable[[bytes], bool], body: bytes | None) -> int:
    return int(body is not None and matches(body))
