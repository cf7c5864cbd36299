"""The tables of a SQLite store: layout, creation, reindexing.

One table of versions a kind, whose open version (`until` is NULL) is the current record; the log is
`commits`, whose `changes` are JSON [kind, name, parent, previous, deleted], and which outlives
compaction as the audit trail; it is found by name through the versions, or once those are swept
through `swept`. Indexes cover the open versions or the
closed ones, so that a write pays for what it moves; those of the open ones end with `until`, so that a
count never leaves them.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from shared.storage.errors import FormatError
from shared.storage.port import Kind
from shared.storage.rules import index_of
from shared.storage.values import Encoded, encode

FORMAT = 1
# What a page shows of a version beside its name and the values that it is ordered by.
_SHOWN = ("parent", "revision", "previous", "body")
_APPLICATION_ID = 0x526E6468
_REINDEX_ROWS = 500

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), head INTEGER NOT NULL, floor INTEGER NOT NULL);
CREATE TABLE kinds (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, layout TEXT NOT NULL, versions TEXT NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0, live INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE commits (
    revision INTEGER PRIMARY KEY, at INTEGER NOT NULL,
    subject TEXT NOT NULL, action TEXT NOT NULL, request_id TEXT NOT NULL, changes TEXT NOT NULL
);
CREATE INDEX commits_by_subject ON commits (subject);
CREATE TABLE swept (
    kind INTEGER NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (kind, name, revision)
) WITHOUT ROWID;
INSERT INTO state (id, head, floor) VALUES (1, 0, 0);
"""


@dataclass(frozen=True)
class Path:
    """An index over the open versions: its columns, after which the name always follows."""

    name: str
    columns: tuple[str, ...]
    # What else holds of the records that it covers, as SQL.
    also: str = ""
    # It holds all that a page shows: records of neighbouring values lie far apart in the table, and each
    # would be another page of the file.
    covering: bool = False

    def listed(self) -> str:
        """Its columns in the statement that makes it."""
        return ", ".join((*self.columns, "name", "until", *(_SHOWN if self.covering else ())))


class Table:
    """The versions of one kind: what its columns and indexes are called, and its statements."""

    def __init__(self, id: int, kind: Kind, versions: str) -> None:
        self.id = id
        self.kind = kind
        self.versions = versions
        self.columns = {index.name: f"v{number}" for number, index in enumerate(kind.indexes)}
        orders = [(), ("parent",), *((column,) for column in self.columns.values())]
        orders += [tuple(self._column(part) for part in composite) for composite in kind.composites]
        covering = {(self._column(name),) for name in kind.covering}
        self.paths = tuple(
            Path(
                f"{versions}_by_{'_'.join(c) or 'name'}",
                c,
                # A record without a parent costs nothing in the index of parents.
                "parent <> ''" if c == ("parent",) else "",
                c in covering,
            )
            for c in dict.fromkeys(orders)
        )
        stored = ["name", "parent", "revision", "previous", *self.columns.values(), "body"]
        columns = "name, parent, revision, previous, body, until"
        self.get = f"SELECT {columns} FROM {versions} WHERE name = ? AND until IS NULL"
        # The closed version that was current at a revision, if the name had one then, or a later one.
        self.get_closed = (
            f"SELECT {columns} FROM {versions} WHERE name = ? AND until > ? ORDER BY until LIMIT 1"
        )
        self.get_ended = f"SELECT body FROM {versions} WHERE name = ? AND until = ?"
        self.current = f"SELECT id, revision, parent, body FROM {versions} WHERE name = ? AND until IS NULL"
        self.insert = f"INSERT INTO {versions} ({', '.join(stored)}) VALUES ({', '.join('?' * len(stored))})"
        self.of_name = f"FROM {versions} WHERE name = ?"
        self.end = f"UPDATE {versions} SET until = ? WHERE id = ?"

    def _column(self, part: str) -> str:
        """The column of one part of a composite order, which may also be the parent."""
        if part == "parent" and part not in self.columns:
            return part
        return self.columns[index_of(self.kind, part).name]

    @property
    def by_closed(self) -> str:
        return f"{self.versions}_by_until"

    def encode(self, body: bytes) -> tuple[Encoded, ...]:
        """The values of the index columns, in their order."""
        values = self.kind.values(body)
        return tuple(encode(index, values.get(index.name)) for index in self.kind.indexes)

    def create(self, connection: sqlite3.Connection) -> None:
        values = "".join(f"{column}, " for column in self.columns.values())
        connection.execute(
            f"CREATE TABLE {self.versions} (id INTEGER PRIMARY KEY, name TEXT NOT NULL, parent TEXT NOT NULL,"
            " revision INTEGER NOT NULL, previous INTEGER NOT NULL, until INTEGER,"
            f" {values}body BLOB NOT NULL)"
        )

    def create_indexes(self, connection: sqlite3.Connection) -> None:
        t = self.versions
        connection.execute(f"CREATE UNIQUE INDEX {t}_closed ON {t} (name, until) WHERE until IS NOT NULL")
        # With the revision: a page of the past passes over all that came and went since, unread.
        connection.execute(f"CREATE INDEX {self.by_closed} ON {t} (until, revision) WHERE until IS NOT NULL")
        for path in self.paths:
            if path.columns:
                also = f" AND {path.also}" if path.also else ""
                connection.execute(
                    f"CREATE INDEX {path.name} ON {t} ({path.listed()}) WHERE until IS NULL{also}"
                )
            else:
                connection.execute(f"CREATE UNIQUE INDEX {path.name} ON {t} (name) WHERE until IS NULL")


@dataclass(frozen=True)
class Schema:
    """What a process needs to know of an open file: its birth, and every kind that it holds."""

    epoch: str
    tables: dict[str, Table]

    def by_id(self) -> dict[int, Table]:
        return {table.id: table for table in self.tables.values()}


def epoch_of(connection: sqlite3.Connection) -> str:
    """The epoch of a file that was opened before."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if row is None:
        raise FormatError("the file is not this store's any more")
    return str(row[0])


def prepare(connection: sqlite3.Connection, kinds: Iterable[Kind]) -> Schema:
    """Create or check the tables and reindex what changed, in the one transaction that the caller
    began: after a crash nothing has happened. FormatError when the file is not ours to open."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in _SCHEMA.strip().removesuffix(";").split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (uuid.uuid4().hex,))
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    elif owner != _APPLICATION_ID:
        raise FormatError("the file is another program's database")
    elif found != FORMAT:
        raise FormatError(f"the file has format {found}; this version reads and writes format {FORMAT}")
    declared = {kind.name: _prepare_kind(connection, kind) for kind in kinds}
    return Schema(epoch_of(connection), {**_undeclared(connection, declared), **declared})


def _undeclared(connection: sqlite3.Connection, declared: dict[str, Table]) -> dict[str, Table]:
    """Kinds that this process does not know. Their versions stand in the log all the same."""
    rows = connection.execute("SELECT id, name, versions FROM kinds").fetchall()
    return {name: Table(id, Kind(name), versions) for id, name, versions in rows if name not in declared}


def _prepare_kind(connection: sqlite3.Connection, kind: Kind) -> Table:
    layout = _layout(kind)
    row = connection.execute("SELECT id, layout, versions FROM kinds WHERE name = ?", (kind.name,)).fetchone()
    if row is None:
        number = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM kinds").fetchone()[0]
        table = Table(number, kind, f"versions_{number}_1")
        connection.execute(
            "INSERT INTO kinds (id, name, layout, versions) VALUES (?, ?, ?, ?)",
            (number, kind.name, layout, table.versions),
        )
        table.create(connection)
        table.create_indexes(connection)
        return table
    number, stored, versions = row
    if stored == layout:
        return Table(number, kind, versions)
    return _rebuild(connection, Table(number, Kind(kind.name), versions), kind, layout)


def _layout(kind: Kind) -> str:
    """What a kind's table depends on."""
    parts = [kind.version, [(i.name, i.type) for i in kind.indexes], kind.composites]
    # Files are older than this part: kinds that do not use it are not rebuilt for it.
    return json.dumps([*parts, kind.covering] if kind.covering else parts)


def _rebuild(connection: sqlite3.Connection, old: Table, kind: Kind, layout: str) -> Table:
    """Copy the versions into a new table, whose name differs: a process that still runs with the old
    layout fails from then on instead of writing wrong values."""
    generation = int(old.versions.rpartition("_")[2]) + 1
    new = Table(old.id, kind, f"versions_{old.id}_{generation}")
    new.create(connection)
    columns = ["id", "name", "parent", "revision", "previous", "until", "body", *new.columns.values()]
    insert = f"INSERT INTO {new.versions} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    rows = connection.execute(
        f"SELECT id, name, parent, revision, previous, until, body FROM {old.versions} ORDER BY id"
    )
    while batch := rows.fetchmany(_REINDEX_ROWS):
        connection.executemany(insert, [(*row, *new.encode(row[-1])) for row in batch])
    connection.execute(f"DROP TABLE {old.versions}")
    new.create_indexes(connection)
    connection.execute(
        "UPDATE kinds SET layout = ?, versions = ? WHERE id = ?", (layout, new.versions, new.id)
    )
    return new
