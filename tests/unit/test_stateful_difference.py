"""Row changes applied one after the other give the new page, and no row gets two."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.storage.port import Record
from shared.watch.stateful import Added, Modified, Removed, Row, RowChange, difference

NAMES = "abcdefgh"
ROWS = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8)


def page(found: dict[str, tuple[int, int]]) -> list[Row]:
    rows = [Row(name, (key, name), str(shown).encode()) for name, (key, shown) in found.items()]
    return sorted(rows, key=lambda row: row.place)


def records(rows: list[Row]) -> list[Record]:
    return [Record("thing", row.name, "", 1, 0, row.shown) for row in rows]


def apply(held: list[tuple[str, bytes]], changes: list[RowChange]) -> list[tuple[str, bytes]]:
    for change in changes:
        match change:
            case Removed(name, index):
                assert held.pop(index)[0] == name
            case Added(record, index):
                assert 0 <= index <= len(held)
                held.insert(index, (record.name, record.body))
            case Modified(record, previous, index):
                assert held.pop(previous)[0] == record.name
                held.insert(index, (record.name, record.body))
    return held


@given(ROWS, ROWS)
def test_changes_turn_the_old_page_into_the_new(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> None:
    old, new = page(before), page(after)
    changes = difference(old, new, records(new))
    held = apply([(row.name, row.shown) for row in old], changes)
    assert held == [(row.name, row.shown) for row in new]
    named = [c.name if isinstance(c, Removed) else c.record.name for c in changes]
    assert len(named) == len(set(named))


@given(ROWS, ROWS)
def test_a_row_whose_place_and_content_are_the_same_gets_no_change(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> None:
    old, new = page(before), page(after)
    changed = {c.record.name for c in difference(old, new, records(new)) if isinstance(c, Modified)}
    assert all(before[name] != after[name] for name in changed)


def test_a_row_that_moves_to_the_end_moves_alone() -> None:
    old = page(dict.fromkeys("abcd", (0, 0)))
    new = page({**dict.fromkeys("bcd", (0, 0)), "a": (1, 0)})
    (change,) = difference(old, new, records(new))
    assert isinstance(change, Modified)
    assert (change.record.name, change.previous, change.index) == ("a", 0, 3)
