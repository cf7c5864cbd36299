"""The contract: the change log, history, the audit trail, compaction, listeners and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.storage.errors import Compacted, FutureRevision, StoreUnavailable
from shared.storage.port import (
    AuditChange,
    Author,
    Change,
    Check,
    Commit,
    Delete,
    Put,
    Query,
    Store,
    Version,
)
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import AUTHOR, body, collect, delete, fill, put


def revisions(entries: Sequence[Commit] | Sequence[Version]) -> list[int]:
    return [entry.revision for entry in entries]


class LogContract(StoreHooks):
    async def test_changes_are_the_commits_as_they_were_made(self, store: Store) -> None:
        made = [
            await store.commit(
                [Put("item", "b", b"{}", "p"), Put("note", "b", b"1")], by=Author("x", "y", "z")
            ),
            await store.commit([Put("item", "b", body(size=1), "q"), Put("item", "a", b"{}")], by=AUTHOR),
            await store.commit([Delete("item", "b"), Put("note", "b", b"2")], by=AUTHOR),
            await store.commit([Put("item", "b", body(size=2))], by=AUTHOR),
        ]
        assert list(await store.changes(0, 100)) == made
        assert made[2].changes[0] == Change("item", "b", "q", body(size=1), None, 2)
        assert made[3].changes[0] == Change("item", "b", "", None, body(size=2), 0)
        assert list(await store.changes(2, 100)) == made[2:]
        assert list(await store.changes(1, 2)) == made[1:3]
        assert list(await store.changes(1, 0)) == []
        assert list(await store.changes(4, 5)) == []

    async def test_the_log_is_read_in_pieces(self, store: Store) -> None:
        for number in range(60):
            await put(store, f"n{number % 7}", body(size=number))
        met: list[int] = []
        while piece := await store.changes(len(met), 13):
            assert len(piece) <= 13
            met += revisions(piece)
        assert met == list(range(1, 61))

    async def test_images_chain(self, store: Store) -> None:
        for number in range(12):
            await put(store, f"n{number % 3}", body(size=number))
            if number % 5 == 4:
                await delete(store, f"n{number % 3}")
        last: dict[str, tuple[bytes | None, int]] = {}
        for commit in await store.changes(0, 100):
            for change in commit.changes:
                before, previous = last.get(change.name, (None, 0))
                assert (change.before, change.previous) == (before, previous)
                last[change.name] = (change.after, commit.revision if change.after is not None else 0)

    async def test_a_large_commit_is_one_change_set(self, store: Store) -> None:
        many = {f"n{i:04}": body(title="x" * 200, size=i) for i in range(700)}
        commit = await fill(store, many)
        assert len(commit.changes) == 700
        assert list(await store.changes(0, 1)) == [commit]

    async def test_the_future_is_refused(self, store: Store) -> None:
        await put(store, "a")
        with pytest.raises(FutureRevision) as future:
            await store.changes(2, 10)
        assert (future.value.asked, future.value.head) == (2, 1)

    async def test_history_is_newest_first(self, store: Store) -> None:
        author = Author("me", "test:me:put", "r")
        first = await store.commit([Put("item", "a", body(size=1), "p")], by=author)
        await put(store, "other")
        second = await store.commit([Put("item", "a", body(size=2), "q")], by=AUTHOR)
        third = await store.commit([Delete("item", "a")], by=author)
        fourth = await store.commit([Put("item", "a", body(size=3))], by=AUTHOR)
        history = list(await store.history("item", "a"))
        assert history == [
            Version(c.revision, c.at, c.by, c.changes[0]) for c in (fourth, third, second, first)
        ]
        assert list(await store.history("item", "a", limit=2)) == history[:2]
        assert list(await store.history("item", "a", before=third.revision)) == history[2:]
        assert list(await store.history("item", "a", before=third.revision, limit=1)) == history[2:3]
        assert list(await store.history("item", "nothing")) == []
        assert list(await store.history("note", "a")) == []

    async def test_compaction_forgets_closed_versions(self, store: Store) -> None:
        for number in range(1, 6):
            await put(store, "a", body(size=number))
        await put(store, "b", body(size=6))
        assert await store.compact(3) == 2
        assert await store.floor() == 3
        at_floor = await store.get("item", "a", at=3)
        assert at_floor is not None and at_floor.body == body(size=3)
        assert revisions(await store.changes(3, 10)) == [4, 5, 6]
        first = (await store.changes(3, 1))[0].changes[0]
        assert (first.before, first.after, first.previous) == (body(size=3), body(size=4), 3)
        for after in (0, 2):
            with pytest.raises(Compacted) as compacted:
                await store.changes(after, 10)
            assert (compacted.value.asked, compacted.value.floor) == (after, 3)
        assert revisions(await store.history("item", "a")) == [5, 4, 3]
        oldest = (await store.history("item", "a"))[-1].change
        assert (oldest.before, oldest.after, oldest.previous) == (None, body(size=3), 2)

    async def test_compaction_repeats_and_never_goes_back(self, store: Store) -> None:
        for number in range(1, 6):
            await put(store, "a", body(size=number))
        assert await store.compact(3) == 2
        assert await store.compact(3) == 0
        assert await store.compact(1) == 0
        assert await store.floor() == 3
        assert await store.compact(99) == 2
        assert await store.floor() == await store.head() == 5
        assert list(await store.changes(5, 10)) == []
        assert await store.compact(99) == 0

    async def test_what_is_current_stays(self, store: Store) -> None:
        revision = await put(store, "keep", body(size=1), parent="p")
        await put(store, "gone")
        await delete(store, "gone")
        before = await collect(store.scan(Query("item")))
        await store.compact(await store.head())
        assert await collect(store.scan(Query("item"))) == before
        assert await collect(store.scan(Query("item"), at=await store.head())) == before
        assert [r.name for r in before] == ["keep"]
        assert revisions(await store.history("item", "keep")) == [revision]
        assert list(await store.history("item", "gone")) == []
        # The store goes on as before, and the chain of images holds.
        change = (
            await store.commit([Put("item", "keep", body(size=2), expect=revision)], by=AUTHOR)
        ).changes[0]
        assert (change.before, change.previous) == (body(size=1), revision)
        assert [c.changes for c in await store.changes(3, 10)] == [(change,)]
        again = await store.commit([Put("item", "gone", b"{}")], by=AUTHOR)
        assert again.changes[0].previous == 0

    async def test_the_audit_trail_outlives_compaction(self, store: Store) -> None:
        made = [
            await store.commit(
                [Put("item", "a", b"{}"), Put("note", "n", b"1")], by=Author("ann", "x", "r1")
            ),
            await store.commit([Put("item", "a", body(size=1))], by=Author("bob")),
            await store.commit([Delete("item", "a"), Put("item", "n", b"{}")], by=Author("ann")),
        ]
        entries = list(await store.audit())
        await store.compact(await store.head())
        assert list(await store.audit()) == entries
        assert [(e.revision, e.at, e.by) for e in entries] == [(c.revision, c.at, c.by) for c in made[::-1]]
        assert [entry.changes for entry in entries] == [
            (AuditChange("item", "a", "delete"), AuditChange("item", "n", "create")),
            (AuditChange("item", "a", "update"),),
            (AuditChange("item", "a", "create"), AuditChange("note", "n", "create")),
        ]

    @pytest.mark.parametrize("compacted", [False, True])
    async def test_the_audit_trail_is_filtered(self, store: Store, compacted: bool) -> None:
        await store.commit([Put("item", "a", b"{}"), Put("note", "n", b"1")], by=Author("ann"))
        await store.commit([Put("item", "a", body(size=1))], by=Author("bob"))
        await store.commit([Put("item", "n", b"{}")], by=Author("ann"))
        await store.commit([Put("note", "n", b"2")], by=Author("bob"))
        if compacted:
            await store.compact(4)

        async def found(**filters: object) -> list[int]:
            return [entry.revision for entry in await store.audit(**filters)]  # type: ignore[arg-type]

        assert await found() == [4, 3, 2, 1]
        assert await found(kind="item") == [3, 2, 1]
        assert await found(name="n") == [4, 3, 1]
        assert await found(kind="item", name="n") == [3]
        assert await found(kind="note", name="n") == [4, 1]
        assert await found(subject="ann") == [3, 1]
        assert await found(subject="bob", kind="note") == [4]
        assert await found(subject="ann", name="n") == [3, 1]
        assert await found(subject="nobody") == []
        assert await found(kind="nothing") == []
        assert await found(limit=2) == [4, 3]
        assert await found(before=3) == [2, 1]
        assert await found(before=4, limit=1, kind="item") == [3]
        assert await found(before=4, limit=1, subject="bob") == [2]
        assert await found(limit=0) == []

    @pytest.mark.parametrize("compacted", [False, True])
    async def test_actions_are_left_out_of_the_audit_trail(self, store: Store, compacted: bool) -> None:
        for number, action in enumerate(["x:put", "step", "", "step", "x:put", "other", "step", "step"]):
            subject = "ann" if number % 2 else "bob"
            await store.commit([Put("item", "a", body(size=number))], by=Author(subject, action))
        if compacted:
            await store.compact(8)

        async def found(*actions: str, **filters: object) -> list[int]:
            entries = await store.audit(excluded_actions=actions, **filters)  # type: ignore[arg-type]
            return [entry.revision for entry in entries]

        assert await found() == [8, 7, 6, 5, 4, 3, 2, 1]
        assert await found("step") == [6, 5, 3, 1]
        assert await found("step", "other", "") == [5, 1]
        assert await found("x", "put", "ste") == [8, 7, 6, 5, 4, 3, 2, 1]
        assert await found("step", name="a") == await found("step", kind="item") == [6, 5, 3, 1]
        assert await found("step", subject="bob") == [5, 3, 1]
        assert await found("step", subject="ann", name="a") == [6]
        # A page is full as long as there is more.
        assert await found("step", limit=2) == [6, 5]
        assert await found("step", limit=2, before=5) == [3, 1]
        assert await found("step", limit=2, before=5, name="a") == [3, 1]

    async def test_trimming_the_audit_trail(self, store: Store) -> None:
        made = [await store.commit([Put("item", "a", body(size=n))], by=AUTHOR) for n in range(4)]
        future = made[-1].at + 1
        assert await store.trim_audit(future) == 0
        await store.compact(2)
        assert await store.trim_audit(made[0].at) == 0
        assert await store.trim_audit(future) == 2
        assert [entry.revision for entry in await store.audit()] == [4, 3]
        assert await store.head() == 4
        assert revisions(await store.changes(2, 10)) == [3, 4]
        # A record outlives the head of the commit that wrote it.
        assert revisions(await store.history("item", "a")) == [4, 3, 2]

    async def test_the_epoch_is_steady(self, store: Store) -> None:
        epoch = await store.epoch()
        assert len(epoch) >= 16
        await put(store, "a")
        await store.compact(1)
        assert await store.epoch() == epoch

    async def test_listeners_hear_each_commit_before_its_caller(self, store: Store) -> None:
        heard: list[int] = []
        stop = store.listen(heard.append)
        for number in range(1, 4):
            revision = await put(store, "a", body(size=number))
            assert heard[-1] == revision == number
        await put(store, "a", body(size=3))
        assert heard == [1, 2, 3]

        async def write(number: int) -> None:
            assert await put(store, f"n{number}") in heard

        await asyncio.gather(*(write(number) for number in range(20)))
        assert heard == list(range(1, 24))
        stop()
        await put(store, "b")
        assert heard == list(range(1, 24))

    async def test_a_failing_listener_harms_no_commit(self, store: Store) -> None:
        heard: list[int] = []
        trouble: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))

        def fail(revision: int) -> None:
            raise RuntimeError("a listener's own fault")

        store.listen(fail)
        store.listen(heard.append)
        await asyncio.gather(put(store, "a"), put(store, "b"))
        assert await store.head() == 2
        assert heard == [1, 2]
        assert len(trouble) == 2

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await put(store, "a")
        await store.ping()
        await store.close()
        await store.close()
        calls = [
            store.ping(),
            store.get("item", "a"),
            store.get("item", "a", at=1),
            store.get_many("item", ["a"]),
            store.get_many("item", ["a"], at=1),
            collect(store.scan(Query("item"))),
            collect(store.scan(Query("item"), at=1)),
            store.count(Query("item")),
            store.count(Query("item"), at=1),
            store.commit([Put("item", "b", b"{}")], by=AUTHOR),
            store.commit([], checks=[Check("item", "a", 1)], by=AUTHOR),
            store.changes(0, 10),
            store.history("item", "a"),
            store.audit(),
            store.head(),
            store.floor(),
            store.epoch(),
            store.compact(1),
            store.trim_audit(1),
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * len(calls)
        assert not any(isinstance(r, StoreUnavailable) and r.outcome_unknown for r in results)

    async def test_closing_finishes_what_was_accepted(self, store: Store) -> None:
        heard: list[int] = []
        store.listen(heard.append)
        commits = [asyncio.create_task(put(store, f"n{number}")) for number in range(30)]
        await asyncio.sleep(0)
        await store.close()
        results = await asyncio.gather(*commits, return_exceptions=True)
        done = [result for result in results if isinstance(result, int)]
        refused = [result for result in results if isinstance(result, StoreUnavailable)]
        assert len(done) + len(refused) == 30
        assert sorted(done) == heard == list(range(1, len(done) + 1))
