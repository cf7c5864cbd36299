"""The contract: point reads, names, snapshots and long scans."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from shared.storage.errors import Compacted, FutureRevision
from shared.storage.port import (
    Order,
    Position,
    Put,
    Query,
    Record,
    Store,
)
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import AUTHOR, body, collect, delete, fill, put, scanned, where

ODD_NAMES = [
    "a",
    "A",
    "a ",
    " a",
    "a/b",
    "a.b",
    "$where",
    "a%b_c\\d",
    "'; drop table item; --",
    '"quoted"',
    "line\nbreak\ttab",
    "\x01\x7f\x80",
    unicodedata.normalize("NFC", "café"),
    unicodedata.normalize("NFD", "café"),
    "ß",
    "ss",
    "\uffff",
    "\U0001f600",
    "𝒳",
    "数据",
    "-1",
    "1",
    "01",
    "1e3",
    "null",
    "x" * 2000,
    "x" * 2000 + "y",
]


class ReadContract(StoreHooks):
    async def test_an_absent_record_is_none(self, store: Store) -> None:
        assert await store.get("item", "a") is None
        assert await store.get_many("item", ["a", "b"]) == {}

    async def test_get_answers_what_was_put(self, store: Store) -> None:
        first = await put(store, "a", body(title="x"), parent="p")
        second = await put(store, "a", body(title="y"), parent="p")
        assert await store.get("item", "a") == Record("item", "a", "p", second, first, body(title="y"))
        assert await store.get("item", "a", at=first) == Record("item", "a", "p", first, 0, body(title="x"))

    async def test_bodies_are_any_bytes(self, store: Store) -> None:
        bodies = {"empty": b"", "binary": bytes(range(256)) * 20, "big": b"\x00\xff" * 200_000}
        for name, data in bodies.items():
            await put(store, name, data, kind="note")
        assert {n: r.body for n, r in (await store.get_many("note", list(bodies))).items()} == bodies

    async def test_get_many_leaves_out_the_absent_and_takes_doubles(self, store: Store) -> None:
        await fill(store, {"a": body(size=1), "b": body(size=2)})
        found = await store.get_many("item", ["b", "nope", "a", "b"])
        assert {name: record.body for name, record in found.items()} == {
            "a": body(size=1),
            "b": body(size=2),
        }
        assert await store.get_many("item", []) == {}

    async def test_get_many_takes_hundreds_of_names(self, store: Store) -> None:
        wanted = [f"n{i:04}" for i in range(400)]
        await fill(store, {name: body(title=name) for name in wanted})
        found = await store.get_many("item", [*wanted, "other"])
        assert sorted(found) == wanted
        assert all(record.body == body(title=name) for name, record in found.items())

    async def test_kinds_do_not_mix(self, store: Store) -> None:
        await put(store, "a", b"item-less", kind="note")
        assert await store.get("item", "a") is None
        assert await scanned(store, Query("item")) == []
        assert await store.count(Query("note")) == 1

    async def test_names_are_exact(self, store: Store) -> None:
        for number, name in enumerate(ODD_NAMES):
            await store.commit([Put("item", name, body(size=number), name)], by=AUTHOR)
        for number, name in enumerate(ODD_NAMES):
            record = await store.get("item", name)
            assert record is not None
            assert (record.name, record.parent, record.body) == (name, name, body(size=number))
            assert await scanned(store, Query("item", parent=name)) == [name]
        assert await scanned(store, Query("item")) == sorted(ODD_NAMES)
        assert await scanned(store, Query("item", name_descending=True)) == sorted(ODD_NAMES, reverse=True)

    async def test_snapshots_stand_still(self, store: Store) -> None:
        old = (await fill(store, {"a": body(size=1), "b": body(size=2), "c": body(size=3)})).revision
        await put(store, "a", body(size=9), parent="moved")
        await delete(store, "b")
        new = await put(store, "d", body(size=0))
        order = (Order("size"),)
        query = Query("item", order=order)
        assert await scanned(store, query, at=old) == ["a", "b", "c"]
        assert await scanned(store, query, at=new) == ["d", "c", "a"]
        assert await scanned(store, query) == ["d", "c", "a"]
        assert await scanned(store, replace(query, backward=True, limit=2), at=old) == ["c", "b"]
        assert await scanned(store, replace(query, after=Position((1,), "a")), at=old) == ["b", "c"]
        assert await scanned(store, Query("item", parent="moved"), at=old) == []
        assert await scanned(store, Query("item", where=where("size", "<=", 2)), at=old) == ["a", "b"]
        assert await store.count(Query("item"), at=old) == 3
        assert await store.count(Query("item", where=where("size", "=", 9)), at=old) == 0
        assert await store.count(Query("item", where=where("size", "=", 9)), at=old + 1) == 1
        assert sorted(await store.get_many("item", list("abcd"), at=old)) == ["a", "b", "c"]
        assert await store.get("item", "b", at=old + 2) is None
        assert await store.get("item", "d", at=new - 1) is None
        assert await scanned(store, Query("item"), at=0) == []

    async def test_a_deleted_name_can_come_back(self, store: Store) -> None:
        first = await put(store, "a", body(size=1))
        gone = await delete(store, "a")
        again = await put(store, "a", body(size=2))
        assert await store.get("item", "a") == Record("item", "a", "", again, 0, body(size=2))
        assert await store.get("item", "a", at=gone) is None
        assert (await store.get("item", "a", at=first)) == Record("item", "a", "", first, 0, body(size=1))
        assert await scanned(store, Query("item"), at=again) == ["a"]

    async def test_only_revisions_between_floor_and_head_are_read(self, store: Store) -> None:
        for number in range(4):
            await put(store, "a", body(size=number))
        with pytest.raises(FutureRevision) as future:
            await store.get("item", "a", at=5)
        assert (future.value.asked, future.value.head) == (5, 4)
        await store.compact(3)
        with pytest.raises(Compacted) as compacted:
            await store.get("item", "a", at=2)
        assert (compacted.value.asked, compacted.value.floor) == (2, 3)
        for at, error in [(2, Compacted), (5, FutureRevision)]:
            with pytest.raises(error):
                await store.get_many("item", ["a"], at=at)
            with pytest.raises(error):
                await scanned(store, Query("item"), at=at)
            with pytest.raises(error):
                await store.count(Query("item"), at=at)

    async def test_a_long_scan_meets_every_record_that_stays(self, store: Store) -> None:
        await fill(store, {f"n{i:04}": body(size=i % 7) for i in range(500)})
        order = (Order("size", descending=True),)
        expected = [
            n for s in range(6, -1, -1) for n in (f"n{i:04}" for i in range(500)) if int(n[1:]) % 7 == s
        ]
        met: list[str] = []
        async for record in store.scan(Query("item", order=order)):
            met.append(record.name)
            if len(met) % 50 == 1:
                await put(store, f"x{len(met):04}", body(size=len(met) % 7))
                # Records that were met already may move or go: nothing is met twice or left out.
                await put(store, met[0], body(size=6, title=str(len(met))))
        assert [name for name in met if name.startswith("n")] == expected
        assert len(set(met)) == len(met)

    async def test_a_snapshot_scan_does_not_see_later_writes(self, store: Store) -> None:
        at = (await fill(store, {f"n{i:04}": body(size=i % 5) for i in range(400)})).revision
        expected = await scanned(store, Query("item", order=(Order("size"),)))
        met: list[str] = []
        async for record in store.scan(Query("item", order=(Order("size"),)), at=at):
            met.append(record.name)
            if len(met) % 40 == 1:
                await put(store, f"x{len(met):04}", body(size=4))
                await put(store, expected[-1], body(size=0, title=str(len(met))))
                doomed = expected[-2 - len(met) // 40]
                await store.commit([Put("item", doomed, body(size=77))], by=AUTHOR)
        assert met == expected

    async def test_a_snapshot_scan_notices_compaction(self, store: Store) -> None:
        at = (await fill(store, {f"n{i:04}": body(size=i) for i in range(2000)})).revision
        for number in range(3):
            await put(store, "n1999", body(size=number))
        walk = store.scan(Query("item"), at=at)
        assert (await anext(walk)).name == "n0000"
        await store.compact(at + 2)
        with pytest.raises(Compacted):
            await collect(walk)

    async def test_a_scan_may_be_left_early(self, store: Store) -> None:
        await fill(store, {f"n{i:04}": body(size=i) for i in range(300)})
        for _ in range(30):
            async for record in store.scan(Query("item")):
                assert record.name == "n0000"
                break
        await put(store, "n0000", body(size=-1))
        assert await scanned(store, Query("item", limit=2)) == ["n0000", "n0001"]

    async def test_what_is_not_declared_is_a_value_error(self, store: Store) -> None:
        bad = [
            Query("nothing"),
            Query("item", where=where("nothing", "=", 1)),
            Query("item", order=(Order("nothing"),)),
            Query("item", order=(Order("size"), Order("size"))),
            Query("item", order=(Order("size"),), after=Position((), "a")),
            Query("item", where=where("size", "contains", "1")),
            Query("item", where=where("size", "in", 1)),
            Query("item", limit=-1),
        ]
        for query in bad:
            with pytest.raises(ValueError):
                await scanned(store, query)
        with pytest.raises(ValueError):
            await store.count(Query("nothing"))
        with pytest.raises(ValueError):
            await store.get("nothing", "a")
        with pytest.raises(ValueError):
            await store.get_many("nothing", ["a"])
        with pytest.raises(ValueError):
            await store.history("nothing", "a")
