"""The contract: preconditions, checks, atomicity, revisions, concurrency and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.storage.errors import Conflict, Exists, Missing
from shared.storage.port import Author, Change, Check, Delete, Expect, Put, Query, Store
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import AUTHOR, body, collect, delete, fill, put


async def refused(
    store: Store,
    changes: Sequence[Put | Delete],
    error: type[Conflict],
    checks: Sequence[Check] = (),
) -> Conflict:
    """Commit, expect exactly `error`, and see that nothing was written."""
    head, before = await store.head(), await collect(store.scan(Query("item")))
    with pytest.raises(error) as raised:
        await store.commit(changes, checks=checks, by=AUTHOR)
    assert type(raised.value) is error
    assert await store.head() == head
    assert await collect(store.scan(Query("item"))) == before
    return raised.value


class CommitContract(StoreHooks):
    async def test_an_empty_store_is_at_revision_zero(self, store: Store) -> None:
        assert (await store.head(), await store.floor()) == (0, 0)
        assert await store.changes(0, 10) == []
        assert await store.count(Query("item")) == 0

    async def test_one_commit_is_one_revision(self, store: Store) -> None:
        author = Author("me", "test:me:apply", "r-7")
        changes = [Put("item", "b", b"{}", "p"), Put("note", "n", b"\x00"), Put("item", "a", body(size=1))]
        commit = await store.commit(changes, by=author)
        assert (commit.revision, commit.by) == (1, author)
        assert commit.changes == (
            Change("item", "b", "p", None, b"{}", 0),
            Change("note", "n", "", None, b"\x00", 0),
            Change("item", "a", "", None, body(size=1), 0),
        )
        second = await store.commit([Delete("note", "n"), Put("item", "b", body(size=2), "q")], by=author)
        assert second.revision == await store.head() == 2
        assert second.changes == (
            Change("note", "n", "", b"\x00", None, 1),
            Change("item", "b", "q", b"{}", body(size=2), 1),
        )
        assert second.at >= commit.at > 0

    async def test_the_stored_body_again_is_no_change(self, store: Store) -> None:
        first = await put(store, "a", body(size=1), parent="p")
        again = await store.commit([Put("item", "a", body(size=1), "p")], by=AUTHOR)
        assert (again.revision, again.changes) == (first, ())
        mixed = await store.commit([Put("item", "a", body(size=1), "p"), Put("item", "b", body())], by=AUTHOR)
        assert (mixed.revision, [c.name for c in mixed.changes]) == (first + 1, ["b"])
        record = await store.get("item", "a")
        assert record is not None and record.revision == first
        moved = await store.commit([Put("item", "a", body(size=1), "elsewhere")], by=AUTHOR)
        assert [(c.name, c.parent) for c in moved.changes] == [("a", "elsewhere")]

    async def test_deleting_nothing_is_no_change(self, store: Store) -> None:
        commit = await store.commit([Delete("item", "a", Expect.ANY)], by=AUTHOR)
        assert (commit.revision, commit.changes) == (0, ())
        assert (await store.commit([], by=AUTHOR)).changes == ()
        assert await store.head() == 0

    async def test_expect_absent(self, store: Store) -> None:
        await store.commit([Put("item", "a", body(), expect=Expect.ABSENT)], by=AUTHOR)
        error = await refused(store, [Put("item", "a", body(size=2), expect=Expect.ABSENT)], Exists)
        assert (error.kind, error.name, error.actual) == ("item", "a", 1)
        # The precondition counts even where the change would be none.
        await refused(store, [Put("item", "a", body(), expect=Expect.ABSENT)], Exists)
        await delete(store, "a")
        commit = await store.commit([Put("item", "a", body(), expect=Expect.ABSENT)], by=AUTHOR)
        assert commit.revision == 3

    async def test_expect_present(self, store: Store) -> None:
        error = await refused(store, [Put("item", "a", body(), expect=Expect.PRESENT)], Missing)
        assert (error.kind, error.name, error.actual) == ("item", "a", 0)
        await refused(store, [Delete("item", "a")], Missing)
        await put(store, "a")
        await store.commit([Put("item", "a", body(size=1), expect=Expect.PRESENT)], by=AUTHOR)
        await store.commit([Delete("item", "a")], by=AUTHOR)
        await refused(store, [Delete("item", "a")], Missing)
        await refused(store, [Put("item", "a", body(), expect=Expect.PRESENT)], Missing)

    async def test_expect_a_revision(self, store: Store) -> None:
        first = await put(store, "a", body(size=1))
        await put(store, "other")
        second = (await store.commit([Put("item", "a", body(size=2), expect=first)], by=AUTHOR)).revision
        error = await refused(store, [Put("item", "a", body(size=3), expect=first)], Conflict)
        assert error.actual == second
        await refused(store, [Delete("item", "a", expect=first)], Conflict)
        await refused(store, [Put("item", "a", body(size=3), expect=second + 1)], Conflict)
        await refused(store, [Put("item", "new", body(), expect=first)], Missing)
        await refused(store, [Put("item", "a", body(), expect=0)], Exists)
        await store.commit([Delete("item", "a", expect=second)], by=AUTHOR)
        await refused(store, [Delete("item", "a", expect=second)], Missing)
        # A name that came back is another record: its old revisions do not fit.
        await put(store, "a", body(size=2))
        await refused(store, [Put("item", "a", body(size=3), expect=second)], Conflict)

    async def test_one_failed_precondition_refuses_the_whole_commit(self, store: Store) -> None:
        await put(store, "a", body(size=1))
        changes = [
            Put("item", "b", body()),
            Put("item", "a", body(size=2)),
            Put("note", "n", b"n"),
            Put("item", "c", body(), expect=Expect.PRESENT),
        ]
        error = await refused(store, changes, Missing)
        assert error.name == "c"
        assert await store.get("note", "n") is None
        assert len(await store.changes(0, 10)) == 1

    async def test_the_first_failure_is_the_one_reported(self, store: Store) -> None:
        await put(store, "a")
        changes = [
            Put("item", "a", body(), expect=Expect.ABSENT),
            Put("item", "b", body(), expect=Expect.PRESENT),
        ]
        assert (await refused(store, changes, Exists, [Check("item", "a", 9)])).name == "a"
        assert (await refused(store, changes[::-1], Missing)).name == "b"

    async def test_checks_of_a_record(self, store: Store) -> None:
        first = await put(store, "a")
        ok = [Check("item", "a", first), Check("item", "absent", 0), Check("note", "absent", 0)]
        await store.commit([Put("item", "b", body())], checks=ok, by=AUTHOR)
        change = [Put("item", "c", body())]
        await refused(store, change, Conflict, [Check("item", "a", first + 1)])
        await refused(store, change, Exists, [Check("item", "a", 0)])
        await refused(store, change, Missing, [Check("item", "absent", first)])
        await refused(store, change, Exists, [*ok, Check("item", "b", 0)])
        await delete(store, "a")
        await refused(store, change, Missing, [Check("item", "a", first)])

    async def test_a_check_looks_at_the_state_before_the_commit(self, store: Store) -> None:
        commit = await store.commit([Put("item", "a", body())], checks=[Check("item", "a", 0)], by=AUTHOR)
        second = await store.commit(
            [Put("item", "a", body(size=1))], checks=[Check("item", "a", commit.revision)], by=AUTHOR
        )
        assert second.revision == 2

    async def test_checks_without_changes(self, store: Store) -> None:
        first = await put(store, "a")
        commit = await store.commit([], checks=[Check("item", "a", first)], by=AUTHOR)
        assert (commit.revision, commit.changes) == (first, ())
        await refused(store, [], Conflict, [Check("item", "a", first + 5)])

    async def test_checks_of_a_whole_kind(self, store: Store) -> None:
        change = [Put("note", "n", b"1")]
        await store.commit(change, checks=[Check("item", None, 0)], by=AUTHOR)
        first = await put(store, "a")
        await refused(store, [Put("item", "b", body())], Conflict, [Check("item", None, first - 1)])
        # Other kinds do not disturb it.
        await put(store, "n", b"2", kind="note")
        second = await store.commit(
            [Put("item", "b", body())], checks=[Check("item", None, first)], by=AUTHOR
        )
        # A deletion is a change, also once compaction has swept it.
        gone = await delete(store, "b")
        await refused(store, [Put("item", "c", body())], Conflict, [Check("item", None, second.revision)])
        await put(store, "n", b"3", kind="note")
        await store.compact(await store.head())
        await refused(store, [Put("item", "c", body())], Conflict, [Check("item", None, second.revision)])
        await store.commit([Put("item", "c", body())], checks=[Check("item", None, gone)], by=AUTHOR)

    async def test_a_name_stands_once_in_a_commit(self, store: Store) -> None:
        twice: list[list[Put | Delete]] = [
            [Put("item", "a", body()), Put("item", "a", body(size=1))],
            [Put("item", "a", body()), Delete("item", "a")],
        ]
        for changes in twice:
            with pytest.raises(ValueError):
                await store.commit(changes, by=AUTHOR)
        await store.commit([Put("item", "a", b"{}"), Put("note", "a", b"")], by=AUTHOR)
        assert await store.head() == 1

    async def test_unknown_kinds_are_a_value_error(self, store: Store) -> None:
        with pytest.raises(ValueError):
            await store.commit([Put("nothing", "a", b"")], by=AUTHOR)
        with pytest.raises(ValueError):
            await store.commit([], checks=[Check("nothing", "a", 0)], by=AUTHOR)
        assert await store.head() == 0

    async def test_a_body_whose_values_fail_is_refused_alone(self, store: Store) -> None:
        bad = store.commit([Put("item", "bad", b"not json")], by=AUTHOR)
        wide = store.commit([Put("item", "wide", body(size=2**63))], by=AUTHOR)
        mistyped = store.commit([Put("item", "mistyped", body(size="text"))], by=AUTHOR)
        good = store.commit([Put("item", "good", body())], by=AUTHOR)
        results = await asyncio.gather(bad, wide, mistyped, good, return_exceptions=True)
        assert [isinstance(r, ValueError) for r in results] == [True, True, False, False]
        assert isinstance(results[2], TypeError)
        assert [r.name for r in await collect(store.scan(Query("item")))] == ["good"]
        assert await store.head() == 1

    async def test_writes_are_read_at_once(self, store: Store) -> None:
        for number in range(20):
            revision = await put(store, "a", body(size=number))
            record = await store.get("item", "a")
            assert record is not None and (record.revision, record.body) == (revision, body(size=number))
            assert await store.head() == revision
            assert [r.revision for r in await collect(store.scan(Query("item")))] == [revision]
            assert (await store.changes(revision - 1, 5))[0].revision == revision

    async def test_fifty_concurrent_commits_make_contiguous_revisions(self, store: Store) -> None:
        async def write(number: int) -> int:
            changes = [Put("item", f"n{number:02}-{part}", body(size=number)) for part in "ab"]
            return (await store.commit(changes, by=Author(f"writer-{number}"))).revision

        revisions = await asyncio.gather(*(write(number) for number in range(50)))
        assert sorted(revisions) == list(range(1, 51))
        log = await store.changes(0, 100)
        assert [commit.revision for commit in log] == list(range(1, 51))
        for commit in log:
            number = int(commit.by.subject.removeprefix("writer-"))
            assert revisions[number] == commit.revision
            assert [c.name for c in commit.changes] == [f"n{number:02}-a", f"n{number:02}-b"]

    async def test_one_of_many_concurrent_creators_wins(self, store: Store) -> None:
        creations = [
            store.commit([Put("item", "a", body(size=n), expect=Expect.ABSENT)], by=AUTHOR) for n in range(50)
        ]
        results = await asyncio.gather(*creations, return_exceptions=True)
        winners = [n for n, result in enumerate(results) if not isinstance(result, BaseException)]
        assert len(winners) == 1
        assert sum(type(result) is Exists for result in results) == 49
        record = await store.get("item", "a")
        assert record is not None and record.body == body(size=winners[0])
        assert await store.head() == 1

    async def test_no_concurrent_increment_is_lost(self, store: Store) -> None:
        await put(store, "counter", b"0", kind="note")

        async def increment() -> None:
            while True:
                record = await store.get("note", "counter")
                assert record is not None
                change = Put("note", "counter", b"%d" % (int(record.body) + 1), expect=record.revision)
                try:
                    await store.commit([change], by=AUTHOR)
                except Conflict:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(16)))
        record = await store.get("note", "counter")
        assert record is not None and (record.body, record.revision) == (b"16", 17)

    async def test_readers_never_see_half_a_commit(self, store: Store) -> None:
        await fill(store, {"a": body(size=0), "b": body(size=0)})
        done = asyncio.Event()

        async def write() -> None:
            for number in range(1, 30):
                await fill(store, {"a": body(size=number), "b": body(size=number)})
                await asyncio.sleep(0)
            done.set()

        async def read() -> int:
            reads = 0
            while not done.is_set():
                found = await store.get_many("item", ["a", "b"], at=await store.head())
                assert len({(r.revision, r.body) for r in found.values()}) == 1
                reads += 1
                await asyncio.sleep(0)
            return reads

        _, reads = await asyncio.gather(write(), read())
        assert reads > 0

    async def test_a_cancelled_commit_is_whole_or_nothing(self, store: Store) -> None:
        for turns in range(25):
            parts = [Put("item", f"{turns:02}{part}", body(size=turns)) for part in "abc"]
            task = asyncio.create_task(_commit(store, parts))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await put(store, "after", body(size=turns))
        head = await store.head()
        log = await store.changes(0, 100)
        assert [commit.revision for commit in log] == list(range(1, head + 1))
        written = {tuple(c.name for c in commit.changes) for commit in log} - {("after",)}
        present = {record.name for record in await collect(store.scan(Query("item"), at=head))}
        for turns in range(25):
            group = tuple(f"{turns:02}{part}" for part in "abc")
            assert len(present.intersection(group)) == (3 if group in written else 0)
        assert len(log) == 25 + len(written)

    async def test_a_cancelled_reader_disturbs_nobody(self, store: Store) -> None:
        await fill(store, {f"n{i:04}": body(size=i) for i in range(300)})
        for turns in range(10):
            tasks = [
                asyncio.create_task(_all_names(store)),
                asyncio.create_task(store.count(Query("item"))),
                asyncio.create_task(store.get("item", "n0001")),
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await _all_names(store)) == 300
        assert await put(store, "another") == 2


async def _commit(store: Store, changes: Sequence[Put | Delete]) -> None:
    await store.commit(changes, by=AUTHOR)


async def _all_names(store: Store) -> list[str]:
    return [record.name for record in await collect(store.scan(Query("item")))]
