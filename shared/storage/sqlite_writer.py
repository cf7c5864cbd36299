"""The writing connection, in a thread of its own, with group commit.

Callers that wait share one transaction and one sync to disk. A transaction's commits are decided one
after the other; each reads everything it needs before it writes anything, so a refused one leaves no
trace in it. Where a write itself fails, the transaction is rolled back and its commits run alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from shared.storage.errors import FormatError, StoreError, StoreUnavailable
from shared.storage.port import Author, Change, Check, Commit, Delete, Put
from shared.storage.rules import verify_change, verify_check
from shared.storage.sqlite_driver import is_busy, spares_others, translate
from shared.storage.sqlite_schema import Schema, Table
from shared.storage.values import Encoded

GROUP = 256
_RETRY_SECONDS = 0.002
Outcome = Commit | int | Exception


@dataclass(slots=True)
class Job:
    """A commit that waits, with the index values of its puts."""

    changes: Sequence[Put | Delete]
    values: Sequence[tuple[Encoded, ...]]
    checks: Sequence[Check]
    by: Author
    done: asyncio.Future[Commit]


@dataclass(slots=True)
class Task:
    """Other work for the writing connection, in a transaction of its own; answers a count."""

    run: Callable[[sqlite3.Connection], int]
    done: asyncio.Future[int]


class CommitFailed(Exception):
    """COMMIT itself failed, so that the outcome may be unknown."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(slots=True)
class _Kind:
    """The counters of one kind while a transaction runs."""

    changed: int
    live: int
    touched: bool = False


@dataclass(slots=True)
class _Transaction:
    """What a transaction knows and has yet to write."""

    connection: sqlite3.Connection
    head: int
    kinds: dict[int, _Kind]
    commits: list[tuple[object, ...]] = field(default_factory=list)


class Writer:
    """Runs jobs in order, on a connection that does not wait for locks. On the event loop it calls
    `resolve` with a group's outcomes at once, and `moved` when connections opened so far should not be
    used any more."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        schema: Schema,
        connection: sqlite3.Connection,
        *,
        clock: Callable[[], int],
        busy_timeout: float,
        resolve: Callable[[list[tuple[Job | Task, Outcome]]], None],
        moved: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._path = path
        self._schema = schema
        self._tables = schema.tables
        self._connection: sqlite3.Connection | None = connection
        self._file = identity_of(path)
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._resolve = resolve
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Job | Task] = deque()
        self._wake = threading.Event()
        self._pause = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sqlite-write", daemon=True)
        self._thread.start()

    def submit(self, job: Job | Task) -> None:
        """Accept work. What is accepted is done, whoever still waits for it."""
        self._queue.append(job)
        if not self._wake.is_set():
            self._wake.set()

    def verify_file(self) -> None:
        """Raise unless the file at the path is the one that was opened."""
        try:
            identity = identity_of(self._path)
        except OSError as error:
            raise StoreUnavailable(f"{self._path} is gone: {error.strerror}") from error
        if identity != self._file:
            # The log beside it still belongs to the file before: opening the two together would mix them.
            raise FormatError(f"{self._path} was replaced while it was open; restart to use the new file")

    async def close(self) -> sqlite3.Connection | None:
        """Finish what was accepted. Answers the connection, which the caller closes."""
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        return self._connection

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue:
                first = self._queue.popleft()
                if isinstance(first, Task):
                    self._answer([(first, self._maintain(first))])
                    continue
                jobs = [first]
                while len(jobs) < GROUP and self._queue and isinstance(self._queue[0], Job):
                    jobs.append(self._queue.popleft())  # type: ignore[arg-type]
                self._answer(list(zip(jobs, self._together(jobs), strict=True)))
            if self._stopping and not self._queue:
                return

    def _answer(self, outcomes: list[tuple[Job | Task, Outcome]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, outcomes)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            self._stopping = True

    def _together(self, jobs: list[Job]) -> Sequence[Outcome]:
        """Run a group in one transaction, or where a write fails each on its own."""
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open()
            self._begin(connection)
        except (sqlite3.Error, StoreError) as error:
            return [self._failed(error)] * len(jobs)
        try:
            return self._transact(connection, jobs)
        except CommitFailed as error:
            self._roll_back(connection)
            if spares_others(error.cause) and len(jobs) > 1:
                return [self._together([job])[0] for job in jobs]
            return [self._failed(error.cause, committing=True)] * len(jobs)
        except Exception as error:
            self._roll_back(connection)
            if spares_others(error) and len(jobs) > 1:
                return [self._together([job])[0] for job in jobs]
            return [self._failed(error)] * len(jobs)

    def _maintain(self, task: Task) -> Outcome:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open()
            self._begin(connection)
            answer = task.run(connection)
            connection.execute("COMMIT")
        except Exception as error:
            if connection is not None:
                self._roll_back(connection)
            return self._failed(error)
        return answer

    def _failed(self, error: Exception, *, committing: bool = False) -> Exception:
        """The error to answer. A connection that broke is opened again for the next group."""
        if isinstance(error, sqlite3.Error):
            if not is_busy(error) and not spares_others(error):
                self._drop()
            return translate(error, committing=committing)
        if isinstance(error, OverflowError):
            return translate(error)
        return error

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # A transaction that cannot be rolled back ends with its connection.
            self._drop()

    def _open(self) -> sqlite3.Connection:
        """The connection, as long as the file at the path is the one it has open: writing to a file
        that was removed would acknowledge what nobody can read."""
        try:
            self.verify_file()
        except StoreUnavailable:
            self._drop()
            raise
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the file's lock. SQLite's own waiting sleeps up to 100 ms at a time, and another process
        that writes as hard leaves short gaps only: asking often shares the file fairly."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            self._pause.wait(_RETRY_SECONDS)

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            finally:
                self._loop.call_soon_threadsafe(self._moved)

    # -- a transaction -------------------------------------------------------------------------------

    def _transact(self, connection: sqlite3.Connection, jobs: list[Job]) -> list[Outcome]:
        head = connection.execute("SELECT head FROM state").fetchone()[0]
        counters = connection.execute("SELECT id, changed, live FROM kinds").fetchall()
        transaction = _Transaction(connection, head, {id: _Kind(c, live) for id, c, live in counters})
        outcomes: list[Outcome] = []
        for job in jobs:
            try:
                decided = self._decide(transaction, job)
            except (StoreError, ValueError) as error:
                outcomes.append(error)
                continue
            outcomes.append(self._write(transaction, job, decided))
        if not transaction.commits:
            connection.execute("ROLLBACK")
            return outcomes
        connection.executemany("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?)", transaction.commits)
        connection.execute("UPDATE state SET head = ?", (transaction.head,))
        touched = [(kind.changed, kind.live, id) for id, kind in transaction.kinds.items() if kind.touched]
        connection.executemany("UPDATE kinds SET changed = ?, live = ? WHERE id = ?", touched)
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise CommitFailed(error) from error
        return outcomes

    def _decide(self, transaction: _Transaction, job: Job) -> list[_Decision]:
        """Verify every precondition and check; answer the changes that are left. Reads only."""
        decided = []
        for change, values in zip(job.changes, job.values, strict=True):
            table = self._tables[change.kind]
            row = transaction.connection.execute(table.current, (change.name,)).fetchone()
            verify_change(change, row[1] if row else 0)
            if isinstance(change, Delete):
                if row:
                    decided.append(_Decision(table, change, values, *row))
            elif not row:
                decided.append(_Decision(table, change, values))
            elif row[3] != change.body or row[2] != change.parent:
                decided.append(_Decision(table, change, values, *row))
        for check in job.checks:
            table = self._tables[check.kind]
            if check.name is None:
                verify_check(check, transaction.kinds[table.id].changed)
            else:
                row = transaction.connection.execute(table.current, (check.name,)).fetchone()
                verify_check(check, row[1] if row else 0)
        return decided

    def _write(self, transaction: _Transaction, job: Job, decided: list[_Decision]) -> Commit:
        at = self._clock()
        if not decided:
            return Commit(transaction.head, at, job.by, ())
        revision = transaction.head + 1
        execute = transaction.connection.execute
        changes = []
        heads = []
        for d in decided:
            table, put = d.table, d.change
            counters = transaction.kinds[table.id]
            counters.changed, counters.touched = revision, True
            if d.id:
                execute(table.end, (revision, d.id))
            if isinstance(put, Put):
                row = (put.name, put.parent, revision, d.previous, *d.values, put.body)
                execute(table.insert, row)
                counters.live += not d.id
                change = Change(put.kind, put.name, put.parent, d.before, put.body, d.previous)
            else:
                counters.live -= 1
                change = Change(put.kind, put.name, d.parent, d.before, None, d.previous)
            changes.append(change)
            heads.append((table.id, put.name, change.parent, d.previous, int(change.after is None)))
        transaction.head = revision
        by = job.by
        transaction.commits.append(
            (revision, at, by.subject, by.action, by.request_id, orjson.dumps(heads).decode())
        )
        return Commit(revision, at, by, tuple(changes))


@dataclass(slots=True)
class _Decision:
    """A change to make, with the open version that it ends (id 0: none)."""

    table: Table
    change: Put | Delete
    values: tuple[Encoded, ...]
    id: int = 0
    previous: int = 0
    parent: str = ""
    before: bytes | None = None


def identity_of(path: Path) -> tuple[int, int]:
    """Which file stands at a path."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino
