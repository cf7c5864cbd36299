"""Stateful watches: one page of an ordered list, kept as it would be listed anew.

The page is listed again after each revision that may have altered it and compared with what the client
holds. Changes are given in an order in which each index refers to the list as left by the change
before. Memory is the page; there is no queue, and no resuming.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import ResourceExhausted
from shared.resource.collection import Collection, Page, PageRequest
from shared.storage.errors import Compacted
from shared.storage.port import Record
from shared.watch.memo import Memo
from shared.watch.tailer import Tailer
from shared.watch.window import Window

_BATCH = 256


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
    # Of the version that it was made of.
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a client holds at `revision`: the page's rows and tokens. `end` is where its window ends."""

    rows: tuple[Row, ...] = ()
    tokens: tuple[str, str] = ("", "")
    revision: int = -1
    end: Any = None


@dataclass(frozen=True, slots=True)
class Move:
    """How a client gets from one state to the next; `told` is None when it need not know."""

    held: Held
    told: RowChanges | None


@dataclass(frozen=True)
class StatefulWatch:
    """`request` selects the page; with `whole` it is everything, at most `request.size` rows, and
    more than that is ResourceExhausted. `tokens` makes the page's tokens of it.

    Watches with one `moves` work out once what each of those with equal fingerprints is told; all else
    of them must then be equal too.
    """

    collection: Collection[Any]
    tailer: Tailer
    request: PageRequest
    shown: Callable[[bytes], bytes]
    tokens: Callable[[Page], tuple[str, str]]
    whole: bool = False
    fingerprint: str = ""
    moves: Memo[Move] | None = None

    async def run(self) -> AsyncGenerator[RowChanges, None]:
        """Change sets for ever: first all rows as Added. Raises StoreUnavailable when the process
        stops."""
        window = Window(self.collection.definition, self.request)
        held = Held()
        target = await self.collection.store.head()
        while True:
            move = await self._move(held, target, window)
            if move.told is not None:
                yield move.told
            held = move.held
            target = await self.tailer.wait(held.revision)

    async def _move(self, held: Held, target: int, window: Window) -> Move:
        """As others were moved from that revision, if any."""
        if self.moves is None:
            return await self._advance(held, target, window)
        key = (self.fingerprint, held.revision, target)
        return self.moves.get(key) or await self.moves.share(
            key, lambda: self._advance(held, target, window), _bytes
        )

    async def _advance(self, held: Held, target: int, window: Window) -> Move:
        """From `held` to revision `target`, or as far as one look at the log leads."""
        reached = await self._untouched(held, target, window)
        if reached > held.revision:
            return Move(replace(held, revision=reached), None)
        return await self._listed(held, window)

    async def _untouched(self, held: Held, target: int, window: Window) -> int:
        """The newest revision, at most `target`, before which nothing altered the page that is held."""
        if held.revision < 0:
            return held.revision
        try:
            commits = await self.tailer.changes(held.revision, min(_BATCH, target - held.revision))
        except Compacted:
            return held.revision
        reached = held.revision
        for commit in commits:
            if window.touched(commit, held.end):
                break
            reached = commit.revision
        return reached

    async def _listed(self, held: Held, window: Window) -> Move:
        """To the page as it is now."""
        page = await self.collection.page(replace(self.request, exact=True))
        if self.whole and page.next is not None:
            raise ResourceExhausted(
                f"there are more than {self.request.size} rows; watch a page, or set a filter"
            )
        known = {row.name: row for row in held.rows}
        rows = tuple(self._row(record, known.get(record.name)) for record in page.records)
        changes = tuple(difference(held.rows, rows, page.records))
        tokens = ("", "") if self.whole else self.tokens(page)
        told = None
        if held.revision < 0 or changes or tokens != held.tokens:
            told = RowChanges(changes, tokens if tokens != held.tokens else None, page.revision)
        return Move(Held(rows, tokens, page.revision, window.end(page)), told)

    def _row(self, record: Record, known: Row | None) -> Row:
        if known is not None and known.revision == record.revision:
            return known
        message = self.collection.definition.parse(record.body)
        place = (*self.request.ordering.values(message), record.name)
        return Row(record.name, place, self.shown(record.body), record.revision)


def _bytes(move: Move) -> int:
    """About what it takes of memory."""
    return 500 + sum(300 + len(row.shown) for row in move.held.rows)


def difference(old: Sequence[Row], new: Sequence[Row], records: Sequence[Record]) -> list[RowChange]:
    """What turns `old` into `new`, whose records are `records`, applied one after the other.

    Only a row whose place changed moves: rows that shift because of others get no change. Takes
    n log n: pages may be 10,000 rows.
    """
    before = {row.name: row for row in old}
    wanted = {row.name: index for index, row in enumerate(new)}
    changes: list[RowChange] = [
        Removed(row.name, index) for index, row in reversed(list(enumerate(old))) if row.name not in wanted
    ]
    kept = [row.name for row in old if row.name in wanted]
    moved = {row.name for row in new if row.name in before and before[row.name].place != row.place}
    for name, previous, index in _moves(kept, moved, wanted):
        if previous != index or before[name].shown != new[wanted[name]].shown:
            changes.append(Modified(records[wanted[name]], previous, index))
    for index, row in enumerate(new):
        if row.name not in before:
            changes.append(Added(records[index], index))
        elif row.name not in moved and before[row.name].shown != row.shown:
            changes.append(Modified(records[index], index, index))
    return changes


def _moves(
    names: Sequence[str], moved: AbstractSet[str], wanted: Mapping[str, int]
) -> Iterator[tuple[str, int, int]]:
    """(name, index before, index after) of each of `moved`, in the order of `names`: each goes behind
    the last row that stands where it belongs and comes before it."""
    anchors = [name for name in names if name not in moved]
    order = [wanted[name] for name in anchors]
    behind: dict[str | None, list[str]] = {}
    for name in sorted(moved, key=wanted.__getitem__):
        place = bisect(order, wanted[name])
        behind.setdefault(anchors[place - 1] if place else None, []).append(name)
    # Every slot that a row stands in or will stand in, in the order of the list.
    slots: list[tuple[str, bool]] = [(name, True) for name in behind.get(None, ())]
    for name in names:
        slots.append((name, False))
        slots += [(other, True) for other in behind.get(name, ()) if name not in moved]
    at = {slot: number for number, slot in enumerate(slots)}
    taken = _Counts(len(slots))
    for name in names:
        taken.add(at[name, False], 1)
    for name in names:
        if name in moved:
            previous = taken.below(at[name, False])
            taken.add(at[name, False], -1)
            yield name, previous, taken.below(at[name, True])
            taken.add(at[name, True], 1)


class _Counts:
    """Numbers at places, and sums of all below a place, in log n (a Fenwick tree)."""

    def __init__(self, size: int) -> None:
        self._sums = [0] * (size + 1)

    def add(self, place: int, number: int) -> None:
        place += 1
        while place < len(self._sums):
            self._sums[place] += number
            place += place & -place

    def below(self, place: int) -> int:
        found = 0
        while place:
            found += self._sums[place]
            place -= place & -place
        return found
