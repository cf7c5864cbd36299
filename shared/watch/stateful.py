"""Stateful watches: one page of an ordered list, kept as it would be listed anew.

The page is listed again after each revision that touched its kind and compared with what the client
holds. Changes are given in an order in which each index refers to the list as left by the change
before. Memory is the page; there is no queue, and no resuming.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import ResourceExhausted
from shared.resource.collection import Collection, Page, PageRequest
from shared.storage.errors import Compacted
from shared.storage.port import Record
from shared.watch.tailer import Tailer


@dataclass(frozen=True, slots=True)
class Added:
    record: Record
    index: int


@dataclass(frozen=True, slots=True)
class Modified:
    """Remove at `previous`, insert at `index`; they are equal when the place is the same."""

    record: Record
    previous: int
    index: int


@dataclass(frozen=True, slots=True)
class Removed:
    name: str
    index: int


RowChange = Added | Modified | Removed


@dataclass(frozen=True, slots=True)
class RowChanges:
    """One change set. `tokens` are (previous, next), given when they changed."""

    changes: tuple[RowChange, ...]
    tokens: tuple[str, str] | None
    revision: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the client holds it: `place` decides where it stands, `shown` is what it shows."""

    name: str
    place: tuple[Any, ...]
    shown: bytes


@dataclass(frozen=True)
class StatefulWatch:
    """`request` selects the page; with `whole` it is everything, at most `request.size` rows, and
    more than that is ResourceExhausted. `tokens` makes the page's tokens of it."""

    collection: Collection[Any]
    tailer: Tailer
    request: PageRequest
    shown: Callable[[bytes], bytes]
    tokens: Callable[[Page], tuple[str, str]]
    whole: bool = False

    async def run(self) -> AsyncGenerator[RowChanges, None]:
        """Change sets for ever: first all rows as Added. Raises StoreUnavailable when the process
        stops."""
        held: list[Row] = []
        known = ("", "")
        page = await self._list()
        first = True
        while True:
            rows = [self._row(record) for record in page.records]
            changes = difference(held, rows, page.records)
            tokens = ("", "") if self.whole else self.tokens(page)
            if first or changes or tokens != known:
                yield RowChanges(tuple(changes), tokens if tokens != known else None, page.revision)
            held, known, first = rows, tokens, False
            await self._touched(page.revision)
            page = await self._list()

    async def _list(self) -> Page:
        page = await self.collection.page(replace(self.request, exact=True))
        if self.whole and page.next is not None:
            raise ResourceExhausted(
                f"there are more than {self.request.size} rows; watch a page, or set a filter"
            )
        return page

    async def _touched(self, after: int) -> None:
        """Until a revision above `after` has something of this kind."""
        kind = self.collection.definition.kind
        while True:
            await self.tailer.wait(after)
            try:
                commits = await self.tailer.changes(after, 256)
            except Compacted:
                return
            for commit in commits:
                if any(change.kind == kind for change in commit.changes):
                    return
                after = commit.revision

    def _row(self, record: Record) -> Row:
        message = self.collection.definition.parse(record.body)
        place = (*self.request.ordering.values(message), record.name)
        return Row(record.name, place, self.shown(record.body))


def difference(old: Sequence[Row], new: Sequence[Row], records: Sequence[Record]) -> list[RowChange]:
    """What turns `old` into `new`, whose records are `records`, applied one after the other.

    Only a row whose place changed moves: rows that shift because of others get no change.
    """
    changes: list[RowChange] = []
    before = {row.name: row for row in old}
    wanted = {row.name: index for index, row in enumerate(new)}
    names = [row.name for row in old]
    for index in range(len(names) - 1, -1, -1):
        if names[index] not in wanted:
            changes.append(Removed(names.pop(index), index))
    unsettled = {row.name for row in new if row.name in before and before[row.name].place != row.place}
    told = frozenset(unsettled)
    for name in [name for name in names if name in unsettled]:
        previous = names.index(name)
        names.pop(previous)
        # Behind the last row that stands where it belongs and comes before this one.
        ahead = (i for i, n in enumerate(names) if n not in unsettled and wanted[n] < wanted[name])
        index = max(ahead, default=-1) + 1
        names.insert(index, name)
        unsettled.discard(name)
        if previous != index or before[name].shown != new[wanted[name]].shown:
            changes.append(Modified(records[wanted[name]], previous, index))
    for index, row in enumerate(new):
        if row.name not in before:
            names.insert(index, row.name)
            changes.append(Added(records[index], index))
        elif row.name not in told and before[row.name].shown != row.shown:
            changes.append(Modified(records[index], index, index))
    return changes
