"""The default backend: one SQLite file, durable at every commit, shared by several processes.

Writes go through one thread that commits them in groups (`sqlite_writer`), short indexed reads run on
the event loop and long ones in threads (`sqlite_reader`), queries walk indexes (`sqlite_plan`) over
the tables of `sqlite_schema`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path

from shared.storage.errors import StoreUnavailable
from shared.storage.port import (
    AuditEntry,
    Author,
    Capabilities,
    Check,
    Commit,
    Delete,
    Group,
    Kind,
    Put,
    Query,
    Record,
    Store,
    Version,
)
from shared.storage.rules import (
    kind_of,
    validate_commit,
    validate_groups,
    validate_query,
    verify_readable,
)
from shared.storage.sqlite_driver import connect, is_busy, translate
from shared.storage.sqlite_log import (
    delete_closed,
    delete_commits,
    read_audit,
    read_commits,
    read_history,
    read_state,
)
from shared.storage.sqlite_plan import Plan, plan, plan_count, plan_tally, position_key
from shared.storage.sqlite_query import (
    Piece,
    choose,
    count_at,
    count_of,
    get_records,
    key_of,
    kind_counters,
    page,
    past_page,
    tally_of,
)
from shared.storage.sqlite_reader import Readers, snapshot
from shared.storage.sqlite_schema import Schema, Table, prepare
from shared.storage.sqlite_writer import Job, Outcome, Task, Writer

# A page up to this size is read on the event loop: under half a millisecond.
SHORT_PAGE = 128
LONG_PAGE = 512
SHORT_LOG = 256
SHORT_COUNT = 1000
SWEEP = 500
_COUNTS_KEPT = 256


class SqliteStore(Store):
    """A store in the file `path`. `busy_timeout`: seconds to wait for another process's lock."""

    capabilities = Capabilities(survives_restart=True, many_processes=True)

    def __init__(
        self,
        path: Path,
        kinds: Sequence[Kind],
        *,
        clock: Callable[[], int] = time.time_ns,
        busy_timeout: float = 5.0,
        read_threads: int = 2,
        max_bytes: int | None = None,
    ) -> None:
        """`max_bytes`: the file's size above which writes raise StoreFull."""
        super().__init__(kinds)
        self._path = path
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._read_threads = read_threads
        self._max_bytes = max_bytes
        self._schema: Schema | None = None
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._counts: dict[tuple[object, ...], tuple[int, int]] = {}

    # -- life ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        connection, schema = await asyncio.to_thread(self._open_file)
        self._schema = schema
        self._readers = Readers(
            self._path, schema.epoch, threads=self._read_threads, busy_timeout=self._busy_timeout
        )
        self._writer = Writer(
            self._path,
            partial(self._connect, 0.0),
            schema,
            connection,
            clock=self._clock,
            busy_timeout=self._busy_timeout,
            resolve=self._resolve,
            moved=self._readers.renew,
        )

    def _open_file(self) -> tuple[sqlite3.Connection, Schema]:
        connection: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._path.touch(mode=0o600)
            connection = self._connect(self._busy_timeout)
            _use_wal(connection, time.monotonic() + self._busy_timeout)
            connection.execute("BEGIN IMMEDIATE")
            schema = prepare(connection, self.kinds.values())
            connection.execute("COMMIT")
            connection.execute("PRAGMA busy_timeout = 0")
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise translate(error) from error
            if isinstance(error, OSError):
                raise StoreUnavailable(f"cannot open {self._path}: {error.strerror}") from error
            raise
        return connection, schema

    def _connect(self, busy_timeout: float) -> sqlite3.Connection:
        connection = connect(self._path, busy_timeout=busy_timeout)
        if self._max_bytes is not None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page_size)}")
        return connection

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, None
        if writer is not None and readers is not None:
            try:
                connection = await writer.close()
            finally:
                await readers.close()
            if connection is not None:
                await asyncio.to_thread(_checkpoint_and_close, connection)

    async def ping(self) -> None:
        self._writing().verify_file()
        await self.head()

    def _reading(self) -> Readers:
        if self._readers is None:
            raise StoreUnavailable("the store is closed")
        return self._readers

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable("the store is closed")
        return self._writer

    def _table(self, kind: str) -> Table:
        kind_of(self.kinds, kind)
        if self._schema is None:
            raise StoreUnavailable("the store is closed")
        return self._schema.tables[kind]

    # -- point reads ---------------------------------------------------------------------------------

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None:
        table = self._table(kind)
        if at is None:
            rows = await self._reading().short(lambda c: c.execute(table.get, (name,)).fetchall())
            return Record(kind, *rows[0][:5]) if rows else None
        return (await self.get_many(kind, (name,), at=at)).get(name)

    async def get_many(self, kind: str, names: Sequence[str], *, at: int | None = None) -> dict[str, Record]:
        table = self._table(kind)
        wanted, readers = list(dict.fromkeys(names)), self._reading()
        read = partial(get_records, table=table, names=wanted, at=at)
        return await (readers.short(read) if len(wanted) <= SHORT_PAGE else readers.long(read))

    # -- queries -------------------------------------------------------------------------------------

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        kind = validate_query(self.kinds, query).name
        table = self._table(kind)
        walk, key = plan(table, query), position_key(table, query)
        inclusive = query.after is not None and query.after.inclusive
        rest = query.limit
        chosen = False
        while rest is None or rest > 0:
            size = SHORT_PAGE if walk.bounded else LONG_PAGE
            size = size if rest is None else min(size, rest)
            piece = Piece(at, key, inclusive, size)
            rows = (
                await self._reading().short(partial(page, walk=walk, piece=piece)) if walk.bounded else None
            )
            if rows is None:
                if not chosen:
                    walk, chosen = await self._reading().long(partial(choose, walk=walk)), True
                rows = await self._reading().long(partial(past_page, walk=walk, piece=piece))
            for row in rows:
                yield Record._make((kind, *row[:5]))
            rest = None if rest is None else rest - size
            if len(rows) < size or rest == 0:
                return
            key, inclusive = key_of(rows[-1]), False
            # Pages that were read on the event loop gave nobody else a turn.
            await asyncio.sleep(0)

    async def count(self, query: Query, *, at: int | None = None) -> int:
        validate_query(self.kinds, query)
        table = self._table(query.kind)
        readers = self._reading()
        counting = plan_count(table, query)
        if at is not None:
            return await readers.long(lambda c: count_at(c, counting, at))
        if not counting.where:
            return await readers.short(lambda c: kind_counters(c, table)[1])
        if counting.bounded:
            few = await readers.short(lambda c: count_of(c, counting.count_at_most(SHORT_COUNT + 1)))
            if few <= SHORT_COUNT:
                return few
        return await self._long_count(query, table, counting)

    async def _long_count(self, query: Query, table: Table, counting: Plan) -> int:
        """A count that reads much is kept until its kind changes."""

        def read(connection: sqlite3.Connection) -> tuple[int, int]:
            with snapshot(connection):
                return kind_counters(connection, table)[0], count_of(connection, counting.count())

        wanted = (query.kind, query.parent, query.where)
        kept = self._counts.get(wanted)
        if kept is None or kept[0] != await self._reading().short(lambda c: kind_counters(c, table)[0]):
            if len(self._counts) >= _COUNTS_KEPT:
                del self._counts[next(iter(self._counts))]
            kept = self._counts[wanted] = await self._reading().long(read)
        return kept[1]

    async def tally(self, query: Query, by: Sequence[str]) -> dict[Group, int]:
        indexes = validate_groups(validate_query(self.kinds, query), by)
        table = self._table(query.kind)
        sql = plan_tally(table, query, by).tally([table.columns[name] for name in by])
        return await self._reading().long(partial(tally_of, sql=sql, indexes=indexes))

    # -- writes --------------------------------------------------------------------------------------

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        validate_commit(self.kinds, changes, checks)
        values = [
            self._table(change.kind).encode(change.body) if isinstance(change, Put) else ()
            for change in changes
        ]
        done: asyncio.Future[Commit] = asyncio.get_running_loop().create_future()
        self._writing().submit(Job(tuple(changes), values, tuple(checks), by, done))
        # A cancelled caller stops waiting; what was accepted is committed all the same.
        return await done

    def _resolve(self, outcomes: list[tuple[Job | Task, Outcome]]) -> None:
        for job, outcome in outcomes:
            if isinstance(outcome, Commit) and outcome.changes:
                self._announce(outcome.revision)
            if job.done.done():
                continue
            if isinstance(outcome, Exception):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)  # type: ignore[arg-type]

    async def _maintain(self, run: Callable[[sqlite3.Connection], int]) -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._writing().submit(Task(run, done))
        return await done

    async def _sweep(self, run: Callable[[sqlite3.Connection], int]) -> int:
        """Repeat a bounded deletion until it finds less than it may take. Commits go in between."""
        gone = 0
        while True:
            swept = await self._maintain(run)
            gone += swept
            if swept < SWEEP:
                return gone

    async def compact(self, to: int) -> int:
        def raise_floor(connection: sqlite3.Connection) -> int:
            head, floor = read_state(connection)
            raised = max(floor, min(to, head))
            connection.execute("UPDATE state SET floor = ?", (raised,))
            return raised

        # First the floor, then the versions below it: a reader is refused before it could miss one.
        floor = await self._maintain(raise_floor)
        gone = 0
        for table in self._tables():
            gone += await self._sweep(lambda c, table=table: delete_closed(c, table, floor, SWEEP))  # type: ignore[misc]
        return gone

    async def trim_audit(self, older_than: int) -> int:
        floor = await self.floor()
        return await self._sweep(lambda c: delete_commits(c, floor, older_than, SWEEP))

    # -- the log -------------------------------------------------------------------------------------

    def _tables(self) -> list[Table]:
        self._reading()
        return list(self._schema.tables.values()) if self._schema else []

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        tables = {table.id: table for table in self._tables()}

        def read(connection: sqlite3.Connection) -> list[Commit]:
            with snapshot(connection):
                head, floor = read_state(connection)
                verify_readable(after, floor, head)
                return read_commits(connection, tables, after, max(0, limit)) if after < head else []

        readers = self._reading()
        return await (readers.short(read) if limit <= SHORT_LOG else readers.long(read))

    async def history(
        self, kind: str, name: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Version]:
        table = self._table(kind)

        def read(connection: sqlite3.Connection) -> list[Version]:
            with snapshot(connection):
                return read_history(connection, table, name, before, max(0, limit))

        readers = self._reading()
        return await (readers.short(read) if limit <= SHORT_PAGE else readers.long(read))

    async def audit(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        kind: str | None = None,
        name: str | None = None,
        subject: str | None = None,
        excluded_actions: Sequence[str] = (),
    ) -> Sequence[AuditEntry]:
        tables = {table.id: table for table in self._tables()}

        def read(connection: sqlite3.Connection) -> list[AuditEntry]:
            with snapshot(connection):
                return read_audit(
                    connection,
                    tables,
                    before=before,
                    limit=max(0, limit),
                    kind=kind,
                    name=name,
                    subject=subject,
                    excluded_actions=excluded_actions,
                )

        return await self._reading().long(read)

    async def head(self) -> int:
        return (await self._reading().short(read_state))[0]

    async def floor(self) -> int:
        return (await self._reading().short(read_state))[1]

    async def epoch(self) -> str:
        self._reading()
        return self._schema.epoch if self._schema else ""


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch the file to write-ahead logging. SQLite does not wait for locks here: another process
    that is creating the same file may hold one for a moment."""
    pause = threading.Event()
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        pause.wait(0.01)


def _checkpoint_and_close(connection: sqlite3.Connection) -> None:
    """Leave one file behind, unless others have it open."""
    try:
        connection.execute("PRAGMA busy_timeout = 100")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        # What the log holds is durable where it is; the next process to open the file merges it.
        pass
    finally:
        connection.close()
