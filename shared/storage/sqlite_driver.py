"""Connections to one SQLite file, and what the driver's errors mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shared.storage.errors import FormatError, StoreError, StoreFull, StoreUnavailable, TooLarge

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_CONSTRAINT}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CACHE_KIB = 64 * 1024
# A reader's cache is emptied by each commit of another connection, so it never gets to hold much: enough
# for the upper levels of large trees, and little enough that its memory is used again and again.
_READER_CACHE_KIB = 8 * 1024
# Bytes, of files that are made from now on. Reads of records of a kilobyte or two, of which a page of
# the default 4,096 holds one, take two thirds of the time, and commits no longer (docs/performance.md).
_PAGE = 8192
# Pages in the write-ahead log before it is merged into the file: 32 MB. The default of 1,000 would
# merge, and sync, every few groups of commits.
_CHECKPOINT_PAGES = (32 << 20) // _PAGE


def connect(path: Path, *, busy_timeout: float, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a file that exists (it is never created here), waiting `busy_timeout` seconds
    for locks. Whoever uses it from several threads does so from one at a time."""
    connection = sqlite3.connect(
        path.absolute().as_uri() + "?mode=rw",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB if read_only else _CACHE_KIB}")
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
            # Nor is it mapped: such a commit unmaps the whole file, and faulting pages in again costs
            # three times what reading them does (docs/performance.md).
            connection.execute("PRAGMA mmap_size = 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def code_of(error: BaseException) -> int:
    """The primary result code of a driver's error; 0 when it bears none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    return code_of(error) in _BUSY


def spares_others(error: BaseException) -> bool:
    """Whether the same transaction may succeed without the change that failed."""
    return not isinstance(error, sqlite3.Error) or code_of(error) in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        0,
    )


def translate(error: Exception, *, committing: bool = False) -> StoreError:
    """The store's error for a driver's. `committing`: it came out of COMMIT itself, so that only an
    error which rolls back for certain leaves the outcome known."""
    code = code_of(error)
    text = f"SQLite: {error}"
    if isinstance(error, StoreError):
        return error
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(text)
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, OverflowError | sqlite3.DataError):
        return TooLarge(text)
    if code in _DAMAGED:
        return FormatError(text)
    if code == sqlite3.SQLITE_ERROR:
        # Every statement was prepared against the layout this process opened the file with.
        return FormatError(f"{text}; another version of the program changed the file's layout")
    return StoreUnavailable(text, outcome_unknown=committing and code not in _BUSY)
