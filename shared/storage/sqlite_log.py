"""Reading the log of a SQLite store: commits with their images, histories, the audit trail."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import orjson

from shared.storage.port import AuditChange, AuditEntry, Author, Change, Commit, Version
from shared.storage.sqlite_schema import Table

_HEAD = "revision, at, subject, action, request_id, changes"
_EVER = 2**63 - 1
Row = tuple[Any, ...]


def read_state(connection: sqlite3.Connection) -> tuple[int, int]:
    """Head and floor."""
    head, floor = connection.execute("SELECT head, floor FROM state").fetchone()
    return head, floor


def version_at(connection: sqlite3.Connection, table: Table, name: str, at: int | None) -> Row | None:
    """The version of a name that is current, or was at revision `at`: name, parent, revision, previous,
    body, until."""
    rows: list[Row] = connection.execute(table.get, (name,)).fetchall()
    if at is not None and (not rows or rows[0][2] > at):
        rows = connection.execute(table.get_closed, (name, at)).fetchall()
    return rows[0] if rows and (at is None or rows[0][2] <= at) else None


def read_commits(
    connection: sqlite3.Connection, tables: dict[int, Table], after: int, limit: int
) -> list[Commit]:
    """The commits after a revision that is not compacted, with their images."""
    heads = connection.execute(
        f"SELECT {_HEAD} FROM commits WHERE revision > ? ORDER BY revision LIMIT ?", (after, limit)
    ).fetchall()
    return [
        Commit(
            revision,
            at,
            Author(*by),
            tuple(
                _change(connection, tables[kind], revision, *rest) for kind, *rest in orjson.loads(changes)
            ),
        )
        for revision, at, *by, changes in heads
    ]


def _change(
    connection: sqlite3.Connection,
    table: Table,
    revision: int,
    name: str,
    parent: str,
    previous: int,
    deleted: int,
) -> Change:
    before = after = None
    if previous:
        before = connection.execute(table.get_ended, (name, revision)).fetchall()[0][0]
    if not deleted:
        version = version_at(connection, table, name, revision)
        after = version[4] if version else None
    return Change(table.kind.name, name, parent, before, after, previous)


def read_history(
    connection: sqlite3.Connection, table: Table, name: str, before: int | None, limit: int
) -> list[Version]:
    """The versions of one record, newest first. A version that ended where no other begins was
    deleted there."""
    below = _EVER if before is None else before
    newest = version_at(connection, table, name, below - 1)
    rows: list[Row] = connection.execute(
        f"SELECT name, parent, revision, previous, body, until FROM {table.versions}"
        " WHERE name = ? AND until <= ? ORDER BY until DESC LIMIT ?",
        (name, below - 1, limit + 1),
    ).fetchall()
    if newest is not None:
        rows.insert(0, newest)
    entries: list[tuple[int, Change]] = []
    kind, next_revision = table.kind.name, 0
    for number, (_, parent, revision, previous, body, until) in enumerate(rows):
        if until is not None and until < below and until != next_revision:
            entries.append((until, Change(kind, name, parent, body, None, revision)))
        older = rows[number + 1] if number + 1 < len(rows) else None
        image = older[4] if older is not None and older[2] == previous else None
        entries.append((revision, Change(kind, name, parent, image, body, previous)))
        next_revision = revision
    return [_version(connection, revision, change) for revision, change in entries[:limit]]


def _version(connection: sqlite3.Connection, revision: int, change: Change) -> Version:
    """An entry; its commit's head may be trimmed, which leaves time and author unknown."""
    heads = connection.execute(f"SELECT {_HEAD} FROM commits WHERE revision = ?", (revision,)).fetchall()
    if not heads:
        return Version(revision, 0, Author(""), change)
    _, at, *by, _ = heads[0]
    return Version(revision, at, Author(*by), change)


def read_audit(
    connection: sqlite3.Connection,
    tables: dict[int, Table],
    *,
    before: int | None,
    limit: int,
    kind: str | None,
    name: str | None,
    subject: str | None,
    excluded_actions: Sequence[str],
) -> list[AuditEntry]:
    """The heads of commits, newest first. `tables` are those of all kinds, by number."""
    below = _EVER if before is None else before
    names = {number: table.kind.name for number, table in tables.items()}
    numbers = [number for number in tables if kind in (None, names[number])]
    found: list[AuditEntry] = []
    if name is not None:
        revisions = {r for number in numbers for r in _revisions_of(connection, tables[number], name)}
        heads = _heads_at(connection, sorted(r for r in revisions if r < below)[::-1])
    else:
        heads = _heads_below(connection, below, subject, excluded_actions)
    # By kind alone the newest commits are walked until enough are found.
    for revision, at, *by, changes in heads if limit else ():
        if subject not in (None, by[0]) or by[1] in excluded_actions:
            continue
        parsed = orjson.loads(changes)
        if any(number in numbers for number, *_ in parsed):
            found.append(AuditEntry(revision, at, Author(*by), _audit_changes(names, parsed)))
            if len(found) == limit:
                break
    return found


def _heads_below(
    connection: sqlite3.Connection, below: int, subject: str | None, excluded_actions: Sequence[str]
) -> Iterator[Row]:
    where, parameters = "revision < ?", [below, *excluded_actions]
    if excluded_actions:
        where += f" AND action NOT IN ({', '.join('?' * len(excluded_actions))})"
    if subject is not None:
        where, parameters = f"{where} AND subject = ?", [*parameters, subject]
    rows = connection.execute(f"SELECT {_HEAD} FROM commits WHERE {where} ORDER BY revision DESC", parameters)
    with closing(rows):
        yield from rows


def _heads_at(connection: sqlite3.Connection, revisions: list[int]) -> Iterator[Row]:
    for revision in revisions:
        yield from connection.execute(
            f"SELECT {_HEAD} FROM commits WHERE revision = ?", (revision,)
        ).fetchall()


def _revisions_of(connection: sqlite3.Connection, table: Table, name: str) -> set[int]:
    """The revisions that changed a name: where its versions begin and end, swept ones included."""
    spans = [
        *connection.execute(f"SELECT revision, until {table.of_name} AND until IS NULL", (name,)),
        *connection.execute(f"SELECT revision, until {table.of_name} AND until IS NOT NULL", (name,)),
        *connection.execute("SELECT revision, NULL FROM swept WHERE kind = ? AND name = ?", (table.id, name)),
    ]
    return {revision for span in spans for revision in span if revision is not None}


def _audit_changes(names: dict[int, str], parsed: list[Row]) -> tuple[AuditChange, ...]:
    return tuple(
        AuditChange(names[kind], name, "delete" if deleted else "update" if previous else "create")
        for kind, name, _, previous, deleted in parsed
    )


def delete_commits(connection: sqlite3.Connection, floor: int, older_than: int, limit: int) -> int:
    """Delete the oldest heads that may go, at most `limit`; answers how many."""
    rows = connection.execute(
        "SELECT revision, changes FROM commits WHERE revision <= ? AND at < ? ORDER BY revision LIMIT ?",
        (floor, older_than, limit),
    ).fetchall()
    names = [(kind, name, revision) for revision, changes in rows for kind, name, *_ in orjson.loads(changes)]
    connection.executemany("DELETE FROM swept WHERE kind = ? AND name = ? AND revision = ?", names)
    connection.executemany("DELETE FROM commits WHERE revision = ?", [row[:1] for row in rows])
    return len(rows)


def delete_closed(connection: sqlite3.Connection, table: Table, floor: int, limit: int) -> int:
    """Delete versions that no snapshot from `floor` on can see, at most `limit`; answers how many."""
    rows = connection.execute(
        f"SELECT id, name, revision, until FROM {table.versions} INDEXED BY {table.by_closed}"
        " WHERE until <= ? LIMIT ?",
        (floor, limit),
    ).fetchall()
    # The audit trail stays to be found by name, as far as it has not been trimmed.
    marks = [(table.id, name, revision, revision) for _, name, *span in rows for revision in span]
    connection.executemany(
        "INSERT OR IGNORE INTO swept SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM commits WHERE revision = ?)",
        marks,
    )
    connection.executemany(f"DELETE FROM {table.versions} WHERE id = ?", [row[:1] for row in rows])
    return len(rows)
