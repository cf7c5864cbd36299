"""The contract: orders, positions, conditions, parents and counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.storage.port import (
    NULL,
    Operator,
    Order,
    Position,
    Query,
    Store,
    Value,
)
from shared.storage.testing.base import StoreHooks
from shared.storage.testing.samples import Operand, body, delete, fill, scanned, where

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


class QueryContract(StoreHooks):
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

    async def test_tallies_count_by_values(self, store: Store) -> None:
        rows = {"a": ("on", 1), "b": ("on", 2), "c": ("off", 1), "d": ("on", 1), "e": (None, 1)}
        await fill(store, {name: body(title="x", state=s, size=n) for name, (s, n) in rows.items()})
        await fill(store, {"f": body(size=2**63 - 1), "g": body(title="y", state="on", size=1)}, parent="p")
        await delete(store, "d")
        everything = Query("item")
        assert await store.tally(everything, ["state"]) == {("on",): 3, ("off",): 1, (NULL,): 1, (None,): 1}
        both = {("on", 1): 2, ("on", 2): 1, ("off", 1): 1, (NULL, 1): 1, (None, 2**63 - 1): 1}
        assert await store.tally(everything, ["state", "size"]) == both
        swapped = {(size, state): count for (state, size), count in both.items()}
        assert await store.tally(everything, ["size", "state"]) == swapped
        # Conditions on what groups are made of, on what they are not, and on both.
        ones = Query("item", where=where("size", "=", 1), order=(Order("size"),), limit=1)
        assert await store.tally(ones, ["state"]) == {("on",): 2, ("off",): 1, (NULL,): 1}
        on = Query("item", where=(*where("state", "=", "on"), *where("title", "=", "x")))
        assert await store.tally(on, ["state", "size"]) == {("on", 1): 1, ("on", 2): 1}
        some = Query("item", where=where("state", "in", ("off", None)))
        assert await store.tally(some, ["size"]) == {(1,): 1, (2**63 - 1,): 1}
        x = Query("item", where=where("title", "contains", "x"))
        assert await store.tally(x, ["state"]) == {("on",): 2, ("off",): 1, (NULL,): 1}
        assert await store.tally(Query("item", parent="p"), ["title"]) == {("y",): 1, (None,): 1}
        assert await store.tally(Query("item", where=where("size", ">", 2), parent=""), ["state"]) == {}
        for wrong in ([], ["nothing"], ["state", "state"]):
            with pytest.raises(ValueError):
                await store.tally(everything, wrong)

    async def test_count_ignores_order_after_and_limit(self, store: Store) -> None:
        await fill(store, {n: body(size=1) for n in "abcde"})
        query = Query("item", order=(Order("size"),), after=Position((1,), "c"), limit=1)
        assert await store.count(query) == 5
        await delete(store, "a")
        assert await store.count(query) == 4
