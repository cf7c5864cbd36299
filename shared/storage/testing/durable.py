"""The contract of stores that survive a restart, and of those that many processes open at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.storage.errors import Compacted, Conflict, Exists
from shared.storage.port import Author, Check, Delete, Expect, Index, Order, Put, Query, Store
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import AUTHOR, body, collect, delete, fill, item_values, put, sample_kinds


class RestartContract(StoreHooks):
    async def test_everything_survives_a_restart(self, store: Store) -> None:
        await fill(store, {"a": body(title="x", size=1), "b": body(title=None)}, parent="p")
        await put(store, "a", body(title="y", size=2), parent="q")
        await delete(store, "b")
        await put(store, "n", bytes(range(256)), kind="note")
        expected = await _everything(store)
        again = await self.reopen(store)
        assert await _everything(again) == expected
        assert await put(again, "c") == 5
        await again.close()

    async def test_compaction_and_trimming_survive_a_restart(self, store: Store) -> None:
        for number in range(5):
            await put(store, "a", body(size=number))
        await store.compact(4)
        await store.trim_audit((await store.audit())[0].at + 1)
        again = await self.reopen(store)
        assert (await again.floor(), await again.head()) == (4, 5)
        with pytest.raises(Compacted):
            await again.changes(3, 10)
        assert [entry.revision for entry in await again.audit()] == [5]
        assert [version.revision for version in await again.history("item", "a")] == [5, 4]
        await again.compact(5)
        await again.close()
        once_more = await self.reopen(again)
        assert await put(once_more, "b") == 6
        await once_more.close()

    async def test_a_whole_kind_check_survives_a_restart(self, store: Store) -> None:
        first = await put(store, "a")
        await delete(store, "a")
        await put(store, "n", b"1", kind="note")
        await store.compact(3)
        again = await self.reopen(store)
        with pytest.raises(Conflict):
            await again.commit([Put("item", "b", b"{}")], checks=[Check("item", None, first)], by=AUTHOR)
        await again.commit([Put("item", "b", b"{}")], checks=[Check("item", None, first + 1)], by=AUTHOR)
        await again.close()

    async def test_a_changed_kind_is_reindexed(self, store: Store) -> None:
        old = (await fill(store, {f"n{i}": body(title=f"t{9 - i}", size=i) for i in range(5)})).revision
        await put(store, "n0", body(title="zzz", size=0))
        item, note = sample_kinds()
        kinds = (
            replace(
                item,
                indexes=(Index("reversed", "text"), Index("size", "int")),
                values=lambda data: {
                    "reversed": str(item_values(data)["title"])[::-1],
                    "size": -int(str(item_values(data)["size"])),
                },
                composites=(("size", "reversed"),),
                covering=("reversed",),
                version=2,
            ),
            replace(note, version=2),
        )
        again = await self.reopen(store, kinds)
        query = Query("item", order=(Order("reversed"),))
        assert [r.name for r in await collect(again.scan(query))] == ["n4", "n3", "n2", "n1", "n0"]
        query = Query("item", order=(Order("size"),))
        assert [r.name for r in await collect(again.scan(query))] == ["n4", "n3", "n2", "n1", "n0"]
        query = Query("item", order=(Order("reversed", descending=True),), limit=2)
        assert [r.name for r in await collect(again.scan(query, at=old))] == ["n0", "n1"]
        assert [version.revision for version in await again.history("item", "n0")] == [2, 1]
        assert len(await again.changes(0, 10)) == 2
        await put(again, "n9", body(title="a", size=100))
        query = Query("item", order=(Order("size"),), limit=1)
        assert [r.name for r in await collect(again.scan(query))] == ["n9"]
        back = await self.reopen(again, sample_kinds())
        query = Query("item", order=(Order("title"),))
        assert [r.name for r in await collect(back.scan(query))] == ["n9", "n4", "n3", "n2", "n1", "n0"]
        await back.close()

    async def test_a_kind_may_join_later(self, store: Store) -> None:
        item, note = sample_kinds()
        await put(store, "n", b"1", kind="note")
        alone = await self.reopen(store, (item,))
        await put(alone, "a")
        # The log stays whole, whatever kinds this process knows.
        assert [[c.kind for c in commit.changes] for commit in await alone.changes(0, 10)] == [
            ["note"],
            ["item"],
        ]
        assert (await alone.changes(0, 1))[0].changes[0].after == b"1"
        again = await self.reopen(alone, (item, note, replace(note, name="later")))
        await put(again, "l", b"2", kind="later")
        assert [r.body for r in await collect(again.scan(Query("note")))] == [b"1"]
        assert await again.head() == 3
        await again.close()


class PeerContract(StoreHooks):
    async def test_a_peer_sees_what_was_committed(self, store: Store) -> None:
        peer = await self.peer(store)
        assert await peer.epoch() == await store.epoch()
        revision = await put(store, "a", body(size=1))
        await self.reached(peer, revision)
        assert await peer.get("item", "a") == await store.get("item", "a")
        await put(peer, "a", body(size=2))
        await put(peer, "b", body(size=3))
        await self.reached(store, 3)
        assert await _everything(store) == await _everything(peer)
        await peer.close()

    async def reached(self, store: Store, revision: int) -> None:
        """Wait until a peer's commit is visible; a backend whose peers poll takes a moment."""
        async with asyncio.timeout(10):
            # A store has no event for what others commit: it is asked.
            while await store.head() < revision:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def test_peers_share_one_log(self, store: Store) -> None:
        peer = await self.peer(store)

        async def write(target: Store, who: str, number: int) -> int:
            change = [
                Put("item", f"{who}{number}", b"{}"),
                Put("item", "shared", body(title=f"{who}{number}")),
            ]
            return (await target.commit(change, by=Author(who))).revision

        writes = [write(s, who, n) for n in range(25) for s, who in ((store, "x"), (peer, "y"))]
        revisions = await asyncio.gather(*writes)
        assert sorted(revisions) == list(range(1, 51))
        await self.reached(store, 50)
        await self.reached(peer, 50)
        log = list(await store.changes(0, 100))
        assert list(await peer.changes(0, 100)) == log
        assert [commit.revision for commit in log] == list(range(1, 51))
        before: bytes | None = None
        for commit in log:
            assert commit.changes[1].before == before
            before = commit.changes[1].after
        assert await _everything(store) == await _everything(peer)
        await peer.close()

    async def test_one_of_two_creators_wins(self, store: Store) -> None:
        peer = await self.peer(store)
        for number in range(10):
            change = [Put("item", f"n{number}", b"{}", expect=Expect.ABSENT)]
            results = await asyncio.gather(
                store.commit(change, by=Author("x")),
                peer.commit(change, by=Author("y")),
                return_exceptions=True,
            )
            assert sorted(type(result).__name__ for result in results) == ["Commit", "Exists"]
        await self.reached(peer, 10)
        with pytest.raises(Exists):
            await peer.commit([Put("item", "n0", b"{}", expect=Expect.ABSENT)], by=AUTHOR)
        await peer.close()

    async def test_checks_see_a_peers_writes(self, store: Store) -> None:
        peer = await self.peer(store)
        first = await put(store, "a", body(size=1))
        second = await put(peer, "a", body(size=2))
        assert second == first + 1
        with pytest.raises(Conflict):
            await store.commit([Put("item", "a", body(size=3), expect=first)], by=AUTHOR)
        with pytest.raises(Conflict):
            await store.commit([Put("item", "b", b"{}")], checks=[Check("item", None, first)], by=AUTHOR)
        await store.commit([Delete("item", "a", expect=second)], by=AUTHOR)
        with pytest.raises(Conflict):
            await peer.commit([Put("item", "b", b"{}")], checks=[Check("item", "a", second)], by=AUTHOR)
        await peer.close()

    async def test_a_peers_compaction_is_respected(self, store: Store) -> None:
        peer = await self.peer(store)
        for number in range(6):
            await put(store, "a", body(size=number))
        await self.reached(peer, 6)
        await peer.compact(4)
        await put(store, "a", body(size=6))
        for side in (store, peer):
            await self.reached(side, 7)
            with pytest.raises(Compacted):
                await side.changes(3, 10)
            with pytest.raises(Compacted):
                await side.get("item", "a", at=3)
            assert [commit.revision for commit in await side.changes(4, 10)] == [5, 6, 7]
        await peer.close()

    async def test_listeners_hear_only_their_own(self, store: Store) -> None:
        peer = await self.peer(store)
        heard: list[int] = []
        store.listen(heard.append)
        await put(peer, "a")
        revision = await put(store, "b")
        assert heard == [revision]
        await peer.close()


async def _everything(store: Store) -> dict[str, object]:
    head = await store.head()
    floor = await store.floor()
    return {
        "head": head,
        "floor": floor,
        "epoch": await store.epoch(),
        "items": await collect(store.scan(Query("item", order=(Order("title"),)))),
        "notes": await collect(store.scan(Query("note"))),
        "oldest": await collect(store.scan(Query("item"), at=floor + 1)),
        "log": list(await store.changes(floor, 1000)),
        "audit": list(await store.audit(limit=1000)),
        "history": list(await store.history("item", "a")),
    }
