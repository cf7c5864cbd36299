"""The contract: point reads, names, orders, pages, conditions and snapshots."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from shared.storage.errors import Compacted, FutureRevision
from shared.storage.port import (
    NULL,
    Condition,
    Operator,
    Order,
    Position,
    Put,
    Query,
    Record,
    Store,
    Value,
)
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import AUTHOR, body, collect, delete, fill, put

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

# Ascending: missing, NULL, then values. Text by code point, whatever its case or alphabet.
TITLES: list[tuple[str, bytes]] = [
    ("t0", body(size=1)),
    ("t1", body(title=None)),
    ("t2", body(title="")),
    ("t3", body(title="0")),
    ("t4", body(title="10")),
    ("t5", body(title="9")),
    ("t6", body(title="A")),
    ("t7", body(title="a")),
    ("t8", body(title="é")),
    ("t9", body(title="\uffff")),
    ("ta", body(title="\U0001f600")),
]
SIZES: list[tuple[str, bytes]] = [
    ("s0", body(title="x")),
    ("s1", body(size=None)),
    ("s2", body(size=-(2**63))),
    ("s3", body(size=-(2**53) - 1)),
    ("s4", body(size=-(2**53))),
    ("s5", body(size=-1)),
    ("s6", body(size=0)),
    ("s7", body(size=2**53)),
    ("s8", body(size=2**53 + 1)),
    ("s9", body(size=2**63 - 1)),
]
Operand = Value | None | tuple[Value | None, ...]


def names(records: list[Record]) -> list[str]:
    return [record.name for record in records]


async def scanned(store: Store, query: Query, *, at: int | None = None) -> list[str]:
    return names(await collect(store.scan(query, at=at)))


def where(index: str, operator: Operator, value: Operand) -> tuple[Condition, ...]:
    return (Condition(index, operator, value),)


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

    @pytest.mark.parametrize(("index", "rows"), [("title", TITLES), ("size", SIZES)])
    async def test_missing_comes_before_null_before_values(
        self, store: Store, index: str, rows: list[tuple[str, bytes]]
    ) -> None:
        await fill(store, dict(reversed(rows)))
        up = Query("item", order=(Order(index),))
        down = Query("item", order=(Order(index, descending=True),), name_descending=True)
        ascending = [name for name, _ in rows]
        assert await scanned(store, up) == ascending
        assert await scanned(store, down) == ascending[::-1]
        assert await scanned(store, replace(up, backward=True)) == ascending[::-1]
        assert await scanned(store, replace(down, backward=True)) == ascending

    async def test_names_break_ties_in_their_own_direction(self, store: Store) -> None:
        await fill(store, {n: body(size=s) for n, s in [("a", 1), ("b", 1), ("c", 2), ("d", 2)]})
        order = (Order("size"),)
        falling = (Order("size", descending=True),)
        assert await scanned(store, Query("item", order=order)) == ["a", "b", "c", "d"]
        assert await scanned(store, Query("item", order=order, name_descending=True)) == list("badc")
        assert await scanned(store, Query("item", order=falling)) == ["c", "d", "a", "b"]
        assert await scanned(store, Query("item", order=falling, name_descending=True)) == list("dcba")
        assert await scanned(store, Query("item", order=falling, backward=True)) == list("badc")

    async def test_several_orders(self, store: Store) -> None:
        rows = [("a", "x", 1), ("b", "x", 2), ("c", "y", 1), ("d", "y", 2), ("e", "x", 1)]
        await fill(store, {n: body(state=state, size=size) for n, state, size in rows})
        query = Query("item", order=(Order("state", descending=True), Order("size")))
        assert await scanned(store, query) == ["c", "d", "a", "e", "b"]
        query = Query("item", order=(Order("size", descending=True), Order("state")), name_descending=True)
        assert await scanned(store, query) == ["b", "d", "e", "a", "c"]

    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("name_descending", [False, True])
    @pytest.mark.parametrize("order", [(), ("title",), ("-title",), ("state", "size"), ("size", "-title")])
    async def test_every_position_splits_a_walk(
        self, store: Store, order: tuple[str, ...], name_descending: bool, backward: bool
    ) -> None:
        values: list[dict[str, str | int | None]] = [
            {},
            {"title": None, "size": 1, "state": "x"},
            {"title": "a", "size": None},
            {"title": "a", "size": 1, "state": "x"},
            {"title": "b", "size": 1, "state": None},
            {"title": "b", "size": 2, "state": "y"},
        ]
        fields = {f"n{i}": values[i % len(values)] for i in range(2 * len(values))}
        await fill(store, {name: body(**some) for name, some in fields.items()})
        orders = tuple(Order(o.removeprefix("-"), o.startswith("-")) for o in order)
        query = Query("item", order=orders, name_descending=name_descending, backward=backward)
        whole = await scanned(store, query)
        assert sorted(whole) == sorted(fields)
        for number, name in enumerate(whole):
            some = fields[name]
            place: list[Value | None] = []
            for o in orders:
                value = some.get(o.index)
                place.append(NULL if value is None and o.index in some else value)
            after = Position(tuple(place), name)
            assert await scanned(store, replace(query, after=after)) == whole[number + 1 :]
            after = replace(after, inclusive=True)
            assert await scanned(store, replace(query, after=after, limit=3)) == whole[number : number + 3]

    async def test_a_position_need_not_exist(self, store: Store) -> None:
        await fill(store, {n: body(size=s) for n, s in [("a", 1), ("b", 3), ("c", 5)]})
        query = Query("item", order=(Order("size"),), after=Position((3,), "a"))
        assert await scanned(store, query) == ["b", "c"]
        assert await scanned(store, replace(query, backward=True)) == ["a"]
        assert await scanned(store, replace(query, after=Position((None,), ""))) == ["a", "b", "c"]
        assert await scanned(store, replace(query, after=Position((9,), ""))) == []

    @pytest.mark.parametrize(
        ("operator", "descending", "place", "expected"),
        [
            ("=", False, (1, "z"), "bc"),
            ("=", False, (3, "b"), "c"),
            ("=", False, (5, ""), ""),
            ("=", True, (1, "z"), ""),
            ("=", True, (3, "c"), "b"),
            ("=", True, (5, ""), "cb"),
            (">", False, (1, ""), "d"),
            (">", False, (3, "a"), "d"),
            (">", False, (5, "c"), "d"),
            (">", False, (5, "d"), ""),
            (">=", False, (None, ""), "bcd"),
            (">=", False, (3, "b"), "cd"),
            ("<", True, (5, "z"), "a"),
            ("<", True, (3, "z"), "a"),
            ("<", True, (1, "b"), "a"),
            ("<", True, (1, "a"), ""),
            ("<=", True, (3, "c"), "ba"),
            ("<=", True, (9, ""), "cba"),
            ("<=", False, (1, "a"), "bc"),
            (">=", True, (5, "d"), "cb"),
        ],
    )
    async def test_a_position_and_a_condition_on_one_index(
        self, store: Store, operator: Operator, descending: bool, place: tuple[int | None, str], expected: str
    ) -> None:
        await fill(store, {n: body(size=s) for n, s in [("a", 1), ("b", 3), ("c", 3), ("d", 5)]})
        order, position = (Order("size", descending),), Position(place[:1], place[1])
        query = Query("item", None, where("size", operator, 3), order, descending, position)
        assert "".join(await scanned(store, query)) == expected

    async def test_limits(self, store: Store) -> None:
        await fill(store, {n: body() for n in "abcde"})
        assert await scanned(store, Query("item", limit=0)) == []
        assert await scanned(store, Query("item", limit=2)) == ["a", "b"]
        assert await scanned(store, Query("item", limit=2, backward=True)) == ["e", "d"]
        assert await scanned(store, Query("item", limit=99)) == list("abcde")

    @pytest.mark.parametrize(
        ("operator", "value", "expected"),
        [
            ("=", "b", "b"),
            ("=", None, "0"),
            ("=", NULL, "1"),
            ("!=", "b", "01ac"),
            ("!=", None, "1abc"),
            ("!=", NULL, "0abc"),
            ("<", "b", "01a"),
            ("<", NULL, "0"),
            ("<", None, ""),
            ("<=", "b", "01ab"),
            ("<=", NULL, "01"),
            (">", "b", "c"),
            (">", NULL, "abc"),
            (">", None, "1abc"),
            (">=", "b", "bc"),
            (">=", None, "01abc"),
            ("in", ("a", "c", "z"), "ac"),
            ("in", (None, NULL, "b"), "01b"),
            ("in", (), ""),
        ],
    )
    async def test_conditions(self, store: Store, operator: Operator, value: Operand, expected: str) -> None:
        rows = {"0": body(size=0), "1": body(title=None), **{n: body(title=n) for n in "abc"}}
        await fill(store, rows)
        query = Query("item", where=where("title", operator, value))
        assert "".join(await scanned(store, query)) == expected
        assert await store.count(query) == len(expected)

    @pytest.mark.parametrize(
        ("operator", "value", "expected"),
        [
            ("=", 2, ["c"]),
            ("!=", 2, ["a", "b", "d", "e"]),
            ("<", 2, ["a", "b", "e"]),
            ("<=", -1, ["a", "b", "e"]),
            (">", -1, ["c", "d"]),
            (">=", 10, ["d"]),
            ("in", (2, 10, NULL), ["b", "c", "d"]),
            ("<", -(2**63), ["a", "b"]),
        ],
    )
    async def test_integer_conditions(
        self, store: Store, operator: Operator, value: Operand, expected: list[str]
    ) -> None:
        sizes: dict[str, dict[str, int | None]] = {
            "a": {},
            "b": {"size": None},
            "c": {"size": 2},
            "d": {"size": 10},
            "e": {"size": -1},
        }
        await fill(store, {n: body(**some) for n, some in sizes.items()})
        assert await scanned(store, Query("item", where=where("size", operator, value))) == expected

    async def test_contains_is_literal(self, store: Store) -> None:
        texts = ["100%", "a_b", "ab", "a\\b", "a.*b", "(x", "[y]", "A_B", "^s$", "é", "e\u0301", "", "0", "2"]
        await fill(store, {f"n{i:02}": body(title=text) for i, text in enumerate(texts)})
        await fill(store, {"null": body(title=None), "missing": body(size=1)})
        for part in [
            "%",
            "_",
            "\\",
            ".",
            ".*",
            "(",
            "[",
            "]",
            "^",
            "$",
            "a",
            "A",
            "b",
            "é",
            "e",
            "",
            "0",
            "2",
        ]:
            expected = [f"n{i:02}" for i, text in enumerate(texts) if part in text]
            assert await scanned(store, Query("item", where=where("title", "contains", part))) == expected

    async def test_conditions_narrow_together(self, store: Store) -> None:
        rows = [("a", "x", 1), ("b", "x", 2), ("c", "y", 2), ("d", "x", 3)]
        await fill(store, {n: body(state=state, size=size) for n, state, size in rows})
        conditions = (*where("state", "=", "x"), *where("size", ">=", 2))
        down = (Order("size", descending=True),)
        assert await scanned(store, Query("item", where=conditions, order=down)) == ["d", "b"]
        assert await store.count(Query("item", where=conditions)) == 2
        both = (*where("size", ">", 1), *where("size", "<", 3), *where("size", "!=", 2))
        assert await scanned(store, Query("item", where=both)) == []

    async def test_parents(self, store: Store) -> None:
        await fill(store, {"a": body(size=2), "b": body(size=1)}, parent="p")
        await fill(store, {"c": body(size=0)}, parent="P")
        await fill(store, {"d": body(size=3)})
        assert await scanned(store, Query("item", parent="p")) == ["a", "b"]
        assert await scanned(store, Query("item", parent="p", order=(Order("size"),))) == ["b", "a"]
        assert await scanned(store, Query("item", parent="p", after=Position((), "a"))) == ["b"]
        assert await scanned(store, Query("item", parent="")) == ["d"]
        assert await scanned(store, Query("item")) == ["a", "b", "c", "d"]
        assert await store.count(Query("item", parent="p")) == 2
        assert await store.count(Query("item", parent="nobody")) == 0

    async def test_count_ignores_order_after_and_limit(self, store: Store) -> None:
        await fill(store, {n: body(size=1) for n in "abcde"})
        query = Query("item", order=(Order("size"),), after=Position((1,), "c"), limit=1)
        assert await store.count(query) == 5
        await delete(store, "a")
        assert await store.count(query) == 4

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
