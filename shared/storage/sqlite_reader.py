"""Reading connections: one on the event loop for what is short, a few in threads for the rest.

A hop to a thread costs ten times an indexed read, so short reads run where they are asked for. Every
connection is query-only; WAL lets it read beside the writer, and nothing stays open between calls.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from shared.storage.errors import FormatError, StoreError, StoreUnavailable
from shared.storage.sqlite_driver import connect, is_busy, translate
from shared.storage.sqlite_schema import epoch_of

T = TypeVar("T")
Read = Callable[[sqlite3.Connection], T]


class Readers:
    """Runs functions on reading connections, which it opens when needed and again after an error."""

    def __init__(self, path: Path, epoch: str, *, threads: int, busy_timeout: float) -> None:
        self._path = path
        self._epoch = epoch
        self._busy_timeout = busy_timeout
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sqlite-read")
        self._inline: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._generation = 0
        self._closed = False

    async def short(self, read: Read[T]) -> T:
        """Run a read that is known to be short on the event loop itself."""
        try:
            return self.inline(read)
        except sqlite3.OperationalError:
            # Busy, which is rare in WAL: it is waited for where that blocks nobody.
            return await self.long(read)

    def inline(self, read: Read[T]) -> T:
        """Like `short`, for callers that cannot wait. Lets a driver's error out only when it is busy."""
        self._ensure_open()
        try:
            if self._inline is None:
                self._inline = self._connect(0.0)
            return read(self._inline)
        except sqlite3.Error as error:
            connection, self._inline = self._inline, None
            if connection is not None:
                connection.close()
            if is_busy(error) and isinstance(error, sqlite3.OperationalError):
                raise
            raise translate(error) from error

    async def long(self, read: Read[T]) -> T:
        """Run a read in a thread. When the caller is cancelled it ends unheard."""
        self._ensure_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, read)

    def _in_thread(self, read: Read[T]) -> T:
        generation = self._generation
        connection: sqlite3.Connection | None = None
        healthy = True
        try:
            connection = self._idle.pop() if self._idle else self._connect(self._busy_timeout)
            return read(connection)
        except sqlite3.Error as error:
            healthy = False
            raise translate(error) from error
        finally:
            if connection is not None:
                if healthy and generation == self._generation:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _connect(self, busy_timeout: float) -> sqlite3.Connection:
        connection = connect(self._path, busy_timeout=busy_timeout, read_only=True)
        try:
            if epoch_of(connection) != self._epoch:
                raise FormatError(f"{self._path} was replaced by another store while it was open")
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
        return connection

    def renew(self) -> None:
        """Open new connections from the next read on: the file was moved, or came back."""
        self._generation += 1
        self._close_inline()
        while self._idle:
            self._idle.pop().close()

    def _close_inline(self) -> None:
        if self._inline is not None:
            self._inline.close()
            self._inline = None

    def _ensure_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    async def close(self) -> None:
        """Let running reads finish, then close every connection."""
        self._closed = True
        self._close_inline()
        await asyncio.to_thread(self._threads.shutdown)
        self.renew()


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything read inside sees one state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
