"""The SQLite store in trouble: a typed error, and recovery without a restart."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from shared.storage.errors import FormatError, StoreError, StoreFull, StoreUnavailable, TooLarge
from shared.storage.port import Author, Condition, Order, Put, Query
from shared.storage.sqlite import SqliteStore
from shared.storage.sqlite_driver import connect, translate
from shared.storage.sqlite_reader import Readers
from shared.storage.testing import AUTHOR, body, collect, sample_kinds
from shared.storage.testing.samples import delete, fill, put

BIG = b"x" * 200_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, sample_kinds(), busy_timeout=0.1)
    await store.open()
    yield store
    await store.close()


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


async def assert_whole(store: SqliteStore) -> None:
    """The log has no gap, and the current records are what it adds up to."""
    commits = await store.changes(await store.floor(), 10_000)
    assert [c.revision for c in commits] == list(range(await store.floor() + 1, await store.head() + 1))
    bodies = {c.name: c.after for commit in commits for c in commit.changes if c.kind == "item"}
    current = {r.name: r.body for r in await collect(store.scan(Query("item")))}
    assert current == {name: after for name, after in bodies.items() if after is not None}


# -- faults --------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_writes_and_serves_reads(path: Path) -> None:
    store = SqliteStore(path, sample_kinds(), max_bytes=600_000)
    await store.open()
    await put(store, "a", BIG, kind="note")
    await put(store, "a", b"small", kind="note")
    await put(store, "b", BIG, kind="note")
    for _ in range(3):
        with pytest.raises(StoreFull):
            await put(store, "c", BIG, kind="note")
    found = await store.get_many("note", ["a", "b", "c"])
    assert {name: r.body for name, r in found.items()} == {"a": b"small", "b": BIG}
    assert await store.head() == 3
    # There is space again once what is closed is swept.
    assert await store.compact(3) == 1
    assert await put(store, "c", BIG, kind="note") == 4
    await store.close()


async def test_what_does_not_fit_leaves_the_others_of_its_group_alone(path: Path) -> None:
    store = SqliteStore(path, sample_kinds(), max_bytes=500_000)
    await store.open()
    puts = [put(store, f"n{i:02}", body(size=i)) for i in range(20)]
    large = [put(store, f"big{i}", BIG * 4, kind="note") for i in range(3)]
    results = await asyncio.gather(*puts[:10], *large, *puts[10:], return_exceptions=True)
    assert [type(r) for r in results[10:13]] == [StoreFull] * 3
    assert sorted(r for r in results if isinstance(r, int)) == list(range(1, 21))
    await assert_whole(store)
    await store.close()


async def test_failing_writes_recover(store: SqliteStore, path: Path) -> None:
    await put(store, "a", body(size=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 8192, limits[1]))
    try:
        results = await asyncio.gather(
            *(put(store, f"n{i}", body(title="t" * 5000)) for i in range(6)), return_exceptions=True
        )
        assert any(isinstance(r, StoreError) for r in results)
        assert all(isinstance(r, int | StoreFull | StoreUnavailable) for r in results)
        record = await store.get("item", "a")
        assert record is not None and record.body == body(size=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    acknowledged = [r for r in results if isinstance(r, int)]
    assert await put(store, "b", body(size=2)) == await store.head() > max(acknowledged, default=1)
    await assert_whole(store)


async def test_a_locked_file_is_unavailable_until_it_is_released(store: SqliteStore, path: Path) -> None:
    await put(store, "a", body(size=1))
    with raw(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        results = await asyncio.gather(put(store, "b"), put(store, "c"), return_exceptions=True)
        assert [type(r) for r in results] == [StoreUnavailable] * 2
        assert not any(isinstance(r, StoreUnavailable) and r.outcome_unknown for r in results)
        assert await store.get("item", "a") is not None
        with pytest.raises(StoreUnavailable):
            await store.compact(1)
        other.execute("ROLLBACK")
    assert await put(store, "b") == 2


async def test_waiting_commits_share_a_transaction(path: Path) -> None:
    store = SqliteStore(path, sample_kinds(), busy_timeout=30)
    await store.open()
    loop, turns = asyncio.get_running_loop(), [0]
    heard_in: set[int] = set()

    def next_turn() -> None:
        turns.append(len(turns))
        if not store_is_done:
            loop.call_soon(next_turn)

    store_is_done: list[bool] = []
    loop.call_soon(next_turn)
    store.listen(lambda revision: heard_in.add(turns[-1]))
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        commits = [asyncio.create_task(put(store, f"n{i}")) for i in range(100)]
        # Once around the loop: every task has handed its commit over.
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
    assert sorted(await asyncio.gather(*commits)) == list(range(1, 101))
    store_is_done.append(True)
    # The first may have gone alone; those that came while it waited for the file are one group,
    # and a group is announced in one turn of the event loop.
    assert len(heard_in) <= 2
    await store.close()


async def test_a_file_that_another_program_keeps_for_itself_cannot_be_opened_yet(path: Path) -> None:
    first = SqliteStore(path, sample_kinds())
    await first.open()
    await put(first, "a")
    await first.close()
    again = SqliteStore(path, sample_kinds(), busy_timeout=0.1)
    with raw(path) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("CREATE TABLE mine (a)")
        with pytest.raises(StoreUnavailable):
            await again.open()
        with pytest.raises(StoreUnavailable):
            await again.head()
    await again.open()
    assert await again.head() == 1
    await again.close()


async def test_a_busy_read_waits_in_a_thread(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    with raw(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE t (a)")
        other.execute("BEGIN EXCLUSIVE")
        loop_thread = threading.current_thread()

        def read(_: sqlite3.Connection) -> int:
            if threading.current_thread() is not loop_thread:
                other_thread_releases()
            with raw(tmp_path / "other.sqlite") as reader:
                return int(reader.execute("SELECT count(*) FROM t").fetchone()[0])

        def other_thread_releases() -> None:
            asyncio.run_coroutine_threadsafe(release(), loop).result(5)

        async def release() -> None:
            other.execute("ROLLBACK")

        loop = asyncio.get_running_loop()
        readers = Readers(path, await store.epoch(), threads=1, busy_timeout=1)
        assert await readers.short(read) == 0
        await readers.close()


async def test_a_file_that_is_gone_takes_no_writes_until_it_is_back(store: SqliteStore, path: Path) -> None:
    await put(store, "a")
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    with pytest.raises(StoreUnavailable, match="gone"):
        await put(store, "b")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.get("item", "a")
    elsewhere.rename(path)
    await store.ping()
    assert await store.get("item", "a") is not None
    assert await put(store, "b") == 2
    await assert_whole(store)


async def test_another_store_in_its_place_is_never_written(store: SqliteStore, path: Path) -> None:
    await put(store, "a")
    other = SqliteStore(path.with_name("other.sqlite"), sample_kinds())
    await other.open()
    assert await other.epoch() != await store.epoch()
    await other.close()
    path.with_name("other.sqlite").rename(path)
    with pytest.raises(FormatError, match="replaced"):
        await put(store, "b")
    with pytest.raises(FormatError, match="replaced"):
        await store.ping()


# -- files that are not ours ---------------------------------------------------------------------------


async def refuse(path: Path, error: type[StoreError]) -> None:
    before = path.read_bytes() if path.is_file() else b""
    store = SqliteStore(path, sample_kinds(), busy_timeout=0.1)
    with pytest.raises(error):
        await store.open()
    with pytest.raises(StoreUnavailable):
        await store.get("item", "a")
    await store.close()
    assert (path.read_bytes() if path.is_file() else b"") == before


async def test_garbage_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database at all " * 100)
    await refuse(path, FormatError)


async def test_another_programs_database_is_refused(path: Path) -> None:
    with raw(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE kinds (a)")
    await refuse(path, FormatError)


async def test_a_newer_format_is_refused(store: SqliteStore, path: Path) -> None:
    await put(store, "a")
    await store.close()
    with raw(path) as other:
        other.execute("PRAGMA user_version = 2")
    await refuse(path, FormatError)


async def test_a_directory_is_refused(path: Path) -> None:
    path.mkdir()
    await refuse(path, StoreUnavailable)


async def test_damage_is_reported(store: SqliteStore, path: Path) -> None:
    await fill(store, {f"n{i:03}": body(title="t" * 500) for i in range(200)})
    await store.close()
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 4] + b"\x55" * (len(data) - 4096 * 4))
    damaged = SqliteStore(path, sample_kinds())
    with pytest.raises(FormatError):
        await damaged.open()
        await collect(damaged.scan(Query("item")))
    await damaged.close()


def test_errors_of_the_driver_have_one_meaning(tmp_path: Path) -> None:
    path = tmp_path / "raw.sqlite"
    with raw(path) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        with pytest.raises(sqlite3.Error) as large:
            connection.execute("INSERT INTO t VALUES (zeroblob(2000))")
    assert type(translate(large.value)) is TooLarge
    read_only = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.Error) as refused:
        read_only.execute("INSERT INTO t VALUES (1)")
    read_only.close()
    error = translate(refused.value)
    assert isinstance(error, StoreUnavailable) and not error.outcome_unknown
    error = translate(refused.value, committing=True)
    assert isinstance(error, StoreUnavailable) and error.outcome_unknown
    with pytest.raises(sqlite3.Error) as closed:
        read_only.execute("SELECT 1")
    assert type(translate(closed.value)) is StoreUnavailable


# -- durability, layout, limits ------------------------------------------------------------------------


async def test_every_commit_is_synced_and_closing_leaves_one_file(store: SqliteStore, path: Path) -> None:
    await put(store, "a")
    connection = connect(path, busy_timeout=0)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert path.stat().st_mode & 0o777 == 0o600
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_the_directory_is_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a" / "b" / "store.sqlite", sample_kinds())
    await store.open()
    assert await put(store, "a") == 1
    await store.close()


async def test_a_failing_reindex_changes_nothing(store: SqliteStore, path: Path) -> None:
    await fill(store, {f"n{i}": body(size=i) for i in range(5)})
    expected = await collect(store.scan(Query("item")))
    await store.close()
    item, note = sample_kinds()

    def fail(data: bytes) -> dict[str, str]:
        raise ValueError("a definition that does not fit what is stored")

    broken = SqliteStore(path, (replace(item, values=fail, version=2), note))
    with pytest.raises(ValueError, match="does not fit"):
        await broken.open()
    again = SqliteStore(path, sample_kinds())
    await again.open()
    assert await collect(again.scan(Query("item"))) == expected
    await again.close()


async def test_a_file_from_before_its_indexes_covered_is_reindexed(path: Path) -> None:
    covering, note = sample_kinds()
    before = SqliteStore(path, (replace(covering, covering=()), note))
    await before.open()
    bodies = {f"n{number}": body(title=f"t{9 - number}") for number in range(5)}
    await fill(before, bodies)
    await before.close()
    after = SqliteStore(path, (covering, note))
    await after.open()
    found = await collect(after.scan(Query("item", order=(Order("title"),))))
    assert [(record.name, record.body) for record in found] == sorted(bodies.items(), reverse=True)
    await after.close()
    with raw(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE name LIKE '%\\_by\\_v0' ESCAPE '\\'")
        assert [sql.count("body") for (sql,) in rows] == [1]


async def test_a_process_with_the_old_layout_stops_writing(store: SqliteStore, path: Path) -> None:
    await put(store, "a", body(size=1))
    item, note = sample_kinds()
    newer = SqliteStore(path, (replace(item, version=2), note))
    await newer.open()
    with pytest.raises(FormatError):
        await put(store, "b", body(size=2))
    with pytest.raises(FormatError):
        await store.get("item", "a")
    assert await put(newer, "b", body(size=2)) == 2
    await newer.close()


async def test_an_unwritable_name_fails_alone(store: SqliteStore) -> None:
    results = await asyncio.gather(
        put(store, "good"),
        put(store, "bad \ud800"),
        store.commit([Put("item", "other", b"{}", parent="\ud800")], by=AUTHOR),
        store.commit([Put("item", "third", b"{}")], by=Author("\ud800")),
        put(store, "fine"),
        return_exceptions=True,
    )
    assert [isinstance(r, ValueError) for r in results] == [False, True, True, True, False]
    assert await store.head() == 2
    await assert_whole(store)


async def test_a_list_longer_than_a_statement_has_parameters(store: SqliteStore) -> None:
    await fill(
        store, {"a": body(title="t7"), "b": body(title="x"), "c": body(title=None), "d": body(title="\0")}
    )
    many = (*(f"t{i}" for i in range(40_000)), None, "\0")
    query = Query("item", where=(Condition("title", "in", many),))
    assert [r.name for r in await collect(store.scan(query))] == ["a", "d"]
    assert await store.count(query) == 2


async def test_a_long_count_is_kept_until_its_kind_changes(store: SqliteStore) -> None:
    await fill(store, {f"n{i:04}": body(title=f"t{i % 3}", size=i) for i in range(3000)})
    queries = [
        Query("item", where=(Condition("title", "=", "t0"), Condition("size", "!=", 0))),
        Query("item", where=(Condition("size", ">=", 0),)),
    ]
    assert [await store.count(q) for q in queries] == [999, 3000]
    await put(store, "note", b"", kind="note")
    assert [await store.count(q) for q in queries] == [999, 3000]
    await delete(store, "n0003")
    assert [await store.count(q) for q in queries] == [998, 2999]


async def test_a_large_compaction_lets_writers_in(store: SqliteStore) -> None:
    for number in range(4):
        await fill(store, {f"n{i:04}": body(size=number) for i in range(700)})
    sweep = asyncio.create_task(store.compact(4))
    while await store.floor() < 4:
        await asyncio.sleep(0)
    assert await put(store, "meanwhile") == 5
    assert not sweep.done()
    assert await sweep == 2100
