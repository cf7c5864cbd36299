"""Reading the log of a SQLite store: commits with their images, histories, the audit trail."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from shared.storage.port import AuditChange, AuditEntry, Author, Change, Commit, Version
from shared.storage.sqlite_schema import Table

_NOBODY = Author("")
_EVER = 2**63 - 1
Row = tuple[Any, ...]


def read_state(connection: sqlite3.Connection) -> tuple[int, int]:
    """Head and floor."""
    head, floor = connection.execute("SELECT head, floor FROM state").fetchone()
    return head, floor


def read_commits(
    connection: sqlite3.Connection, tables: dict[int, Table], after: int, limit: int
) -> list[Commit]:
    """The commits after a revision that is not compacted, with their images."""
    heads = connection.execute(
        "SELECT revision, at, subject, action, request_id FROM commits"
        " WHERE revision > ? ORDER BY revision LIMIT ?",
        (after, limit),
    ).fetchall()
    if not heads:
        return []
    span = (after, heads[-1][0])
    kinds = connection.execute(
        "SELECT DISTINCT kind FROM changes WHERE revision > ? AND revision <= ?", span
    ).fetchall()
    rows: list[tuple[int, int, Change]] = []
    for (number,) in kinds:
        t, kind = tables[number].versions, tables[number].kind.name
        found = connection.execute(
            "SELECT c.revision, c.ordinal, c.name, c.parent, old.body, new.body, c.previous FROM changes c"
            f" LEFT JOIN {t} new ON new.name = c.name AND new.revision = c.revision"
            f" LEFT JOIN {t} old ON old.name = c.name AND old.revision = c.previous"
            " WHERE c.revision > ? AND c.revision <= ? AND c.kind = ?",
            (*span, number),
        )
        rows += [(row[0], row[1], Change(kind, *row[2:])) for row in found]
    rows.sort(key=lambda row: row[:2])
    changes: dict[int, list[Change]] = {}
    for revision, _, change in rows:
        changes.setdefault(revision, []).append(change)
    return [Commit(r, at, Author(*by), tuple(changes[r])) for r, at, *by in heads]


def read_history(
    connection: sqlite3.Connection, table: Table, name: str, before: int | None, limit: int
) -> list[Version]:
    """The versions of one record, newest first. A version that ended where no other begins was
    deleted there."""
    below = _EVER if before is None else before
    rows: list[Row] = connection.execute(
        "SELECT v.revision, v.until, v.parent, v.previous, v.body, c.at, c.subject, c.action, c.request_id"
        f" FROM {table.versions} v LEFT JOIN commits c ON c.revision = v.revision"
        " WHERE v.name = ? AND v.revision < ? ORDER BY v.revision DESC LIMIT ?",
        (name, below, limit + 1),
    ).fetchall()
    kind = table.kind.name
    entries: list[Version] = []
    next_revision = below
    for number, (revision, until, parent, previous, body, at, *by) in enumerate(rows):
        if until is not None and until < below and until != next_revision:
            head = connection.execute(
                "SELECT at, subject, action, request_id FROM commits WHERE revision = ?", (until,)
            ).fetchone()
            gone = Change(kind, name, parent, body, None, revision)
            entries.append(
                _version(until, head[0], head[1:], gone) if head else _version(until, None, (), gone)
            )
        older = rows[number + 1] if number + 1 < len(rows) else None
        image = older[4] if older is not None and older[0] == previous else None
        entries.append(_version(revision, at, by, Change(kind, name, parent, image, body, previous)))
        next_revision = revision
    return entries[: max(0, limit)]


def _version(revision: int, at: int | None, by: Sequence[str], change: Change) -> Version:
    """An entry; its commit's head may be trimmed, which leaves time and author unknown."""
    return Version(revision, at or 0, _NOBODY if at is None else Author(*by), change)


def read_audit(
    connection: sqlite3.Connection,
    names: dict[int, str],
    *,
    before: int | None,
    limit: int,
    kind: str | None,
    name: str | None,
    subject: str | None,
) -> list[AuditEntry]:
    """The heads of commits, newest first. `names` are the kinds by number."""
    where, parameters = ["c.revision < ?"], [_EVER if before is None else before]
    if subject is not None:
        where.append("c.subject = ?")
        parameters.append(subject)  # type: ignore[arg-type]
    listed = ", ".join(str(number) for number, kind_name in names.items() if kind in (None, kind_name))
    if name is not None:
        # By name: few revisions, found in the index of names.
        where.append(f"c.revision IN (SELECT revision FROM changes WHERE kind IN ({listed}) AND name = ?)")
        parameters.append(name)  # type: ignore[arg-type]
    elif kind is not None:
        # By kind alone: the newest commits are walked until enough are found.
        where.append(
            f"EXISTS (SELECT 1 FROM changes h WHERE h.revision = c.revision AND h.kind IN ({listed}))"
        )
    heads = connection.execute(
        "SELECT c.revision, c.at, c.subject, c.action, c.request_id FROM commits c"
        f" WHERE {' AND '.join(where)} ORDER BY c.revision DESC LIMIT ?",
        (*parameters, limit),
    ).fetchall()
    return [
        AuditEntry(revision, at, Author(*by), _audit_changes(connection, names, revision))
        for revision, at, *by in heads
    ]


def _audit_changes(
    connection: sqlite3.Connection, names: dict[int, str], revision: int
) -> tuple[AuditChange, ...]:
    rows = connection.execute(
        "SELECT kind, name, previous, deleted FROM changes WHERE revision = ? ORDER BY ordinal", (revision,)
    )
    return tuple(
        AuditChange(names[kind], name, "delete" if deleted else "update" if previous else "create")
        for kind, name, previous, deleted in rows
    )


def delete_commits(connection: sqlite3.Connection, floor: int, older_than: int, limit: int) -> int:
    """Delete the oldest heads that may go, at most `limit`; answers how many."""
    rows = connection.execute(
        "SELECT revision FROM commits WHERE revision <= ? AND at < ? ORDER BY revision LIMIT ?",
        (floor, older_than, limit),
    ).fetchall()
    connection.executemany("DELETE FROM changes WHERE revision = ?", rows)
    connection.executemany("DELETE FROM commits WHERE revision = ?", rows)
    return len(rows)


def delete_closed(connection: sqlite3.Connection, table: Table, floor: int, limit: int) -> int:
    """Delete versions that no snapshot from `floor` on can see, at most `limit`; answers how many."""
    return connection.execute(
        f"DELETE FROM {table.versions} WHERE id IN"
        f" (SELECT id FROM {table.versions} INDEXED BY {table.by_closed} WHERE until <= ? LIMIT ?)",
        (floor, limit),
    ).rowcount
