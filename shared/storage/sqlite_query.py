"""Running plans on a reading connection: pages, snapshots of past revisions, counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from shared.storage.port import Group, Index, Record
from shared.storage.rules import verify_readable
from shared.storage.sqlite_log import Row, read_state, version_at
from shared.storage.sqlite_plan import Key, Plan, Sql, compare_keys
from shared.storage.sqlite_reader import snapshot
from shared.storage.sqlite_schema import Table
from shared.storage.values import decode_group

# Up to this many records, sorting is cheaper than walking an order past those that do not match.
SELECTIVE = 1000


def get_records(
    connection: sqlite3.Connection, table: Table, names: list[str], at: int | None
) -> dict[str, Record]:
    """The records of `names` in one state, that of revision `at` or the current one."""
    found = {}
    with snapshot(connection):
        if at is not None:
            head, floor = read_state(connection)
            verify_readable(at, floor, head)
        for name in names:
            row = version_at(connection, table, name, at)
            if row is not None:
                found[name] = Record(table.kind.name, *row[:5])
    return found


def choose(connection: sqlite3.Connection, walk: Plan) -> Plan:
    """The plan, or the same through the index of its most selective condition if that leaves little."""
    best, fewest = walk, SELECTIVE + 1
    for path, condition in () if walk.bounded else walk.probes:
        found = count_of(connection, walk.probe(path, condition, fewest))
        if found < fewest:
            best, fewest = walk.by(path), found
    return best


@dataclass(frozen=True, slots=True)
class Piece:
    """One page of a walk: of which revision (None: the current state), behind which position (or at
    it), and how many rows."""

    at: int | None
    after: Key | None
    inclusive: bool
    size: int


def page(connection: sqlite3.Connection, walk: Plan, piece: Piece) -> list[Row] | None:
    """A page of the current state. None when another one is asked for: that takes longer."""
    current = walk.page(piece.after, piece.inclusive, piece.size)
    if piece.at is None:
        return _fetch(connection, current)
    with snapshot(connection):
        head, floor = read_state(connection)
        verify_readable(piece.at, floor, head)
        return _fetch(connection, current) if piece.at == head else None


def past_page(connection: sqlite3.Connection, walk: Plan, piece: Piece) -> list[Row]:
    """A page of any state."""
    rows = page(connection, walk, piece)
    at = piece.at
    if rows is not None or at is None:
        return rows or []
    with snapshot(connection):
        _, floor = read_state(connection)
        verify_readable(at, floor, at)
        current, closed = walk.page_then(at, piece.after, piece.inclusive, piece.size)
        rows = [*_fetch(connection, current), *_fetch(connection, closed)]
    order = cmp_to_key(compare_keys(walk.terms))
    rows.sort(key=lambda row: order(key_of(row)))
    return rows[: piece.size]


def key_of(row: Row) -> Key:
    """Where a row of a page stands in its order."""
    return (*row[5:], row[0])


def count_at(connection: sqlite3.Connection, counting: Plan, at: int) -> int:
    """The count of the state at revision `at`."""
    with snapshot(connection):
        head, floor = read_state(connection)
        verify_readable(at, floor, head)
        return sum(count_of(connection, part) for part in counting.count_then(at))


def count_of(connection: sqlite3.Connection, sql: Sql) -> int:
    count: int = connection.execute(sql.text, sql.parameters).fetchone()[0]
    return count


def tally_of(connection: sqlite3.Connection, sql: Sql, indexes: Sequence[Index]) -> dict[Group, int]:
    """`sql` answers rows of a group's encoded values of `indexes` and its count."""
    rows = connection.execute(sql.text, sql.parameters)
    return {decode_group(indexes, row[:-1]): row[-1] for row in rows}


def kind_counters(connection: sqlite3.Connection, table: Table) -> tuple[int, int]:
    """The revision of the kind's last change, and how many records it has."""
    changed, live = connection.execute("SELECT changed, live FROM kinds WHERE id = ?", (table.id,)).fetchone()
    return changed, live


def _fetch(connection: sqlite3.Connection, sql: Sql) -> list[Row]:
    return connection.execute(sql.text, sql.parameters).fetchall()
