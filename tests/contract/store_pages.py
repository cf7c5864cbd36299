"""Page walks that run on any backend: random records, queries and page sizes against a sorted list.

A backend's test module calls `check_pages` with a function that opens an empty store of
`sample_kinds()`; see test_store_properties.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from shared.storage.port import (
    NULL,
    Author,
    Condition,
    Delete,
    Expect,
    Order,
    Position,
    Put,
    Query,
    Record,
    Store,
    Value,
)
from shared.storage.testing import body, collect
from tests.contract.store_model import OpenStore

Fields = dict[str, str | int | None]
_TEXTS: list[str | None] = [None, "", "a", "A", "b%", "b_", "é", "0", "\U0001f600"]
_SIZES: list[int | None] = [None, -(2**63), -1, 0, 7, 2**63 - 1]

_fields = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(_TEXTS),
        "size": st.sampled_from(_SIZES),
        "state": st.sampled_from(["x", "y", None]),
    },
)
_text_values = st.sampled_from([None, *(NULL if text is None else text for text in _TEXTS)])
_size_values = st.sampled_from([None, *(NULL if size is None else size for size in _SIZES)])


def _conditions(index: str, values: st.SearchStrategy[Value | None]) -> st.SearchStrategy[Condition]:
    one = st.builds(Condition, st.just(index), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), values)
    several = st.builds(Condition, st.just(index), st.just("in"), st.lists(values, max_size=4).map(tuple))
    return st.one_of(one, one, several)


_condition = st.one_of(
    _conditions("title", _text_values),
    _conditions("size", _size_values),
    _conditions("state", st.sampled_from(["x", "y", NULL, None])),
    st.builds(Condition, st.just("title"), st.just("contains"), st.sampled_from(["", "a", "%", "_", "b"])),
)
_orders = st.lists(
    st.builds(Order, st.sampled_from(["title", "size", "state"]), st.booleans()),
    max_size=3,
    unique_by=lambda order: order.index,
)


@dataclass(frozen=True)
class PageCase:
    """Records, a query, the size of a page, the records that are written between pages, and places to
    start from that no record need have."""

    records: list[tuple[str, Fields]]
    query: Query
    size: int
    writes: list[tuple[str, Fields | None]]
    places: list[tuple[str, Fields, bool]]


page_cases = st.builds(
    PageCase,
    st.lists(st.tuples(st.sampled_from(["", "p"]), _fields), max_size=25),
    st.builds(
        Query,
        st.just("item"),
        st.sampled_from([None, None, "p", ""]),
        st.lists(_condition, max_size=2).map(tuple),
        _orders.map(tuple),
        st.booleans(),
        backward=st.booleans(),
    ),
    st.integers(1, 7),
    st.lists(st.tuples(st.sampled_from(["w1", "w2", "w3"]), st.one_of(_fields, st.none())), max_size=6),
    st.lists(st.tuples(st.sampled_from(["", "n05", "zz"]), _fields, st.booleans()), max_size=6),
)


def value_of(record: Record, index: str) -> Value | None:
    fields = json.loads(record.body)
    return None if index not in fields else NULL if fields[index] is None else fields[index]


def rank(value: Value | None) -> tuple[int, str | int]:
    """Missing, then NULL, then values."""
    if value is None:
        return (0, 0)
    return (1, 0) if value is NULL else (2, value)  # type: ignore[return-value]


def naive(records: list[Record], query: Query) -> list[Record]:
    """The whole answer to a query, by the words of the port: filter, then stable sorts, last first."""
    found = [r for r in records if query.parent in (None, r.parent) and all(holds(c, r) for c in query.where)]
    found.sort(key=lambda r: r.name, reverse=query.name_descending)
    for order in reversed(query.order):
        found.sort(key=lambda r: rank(value_of(r, order.index)), reverse=order.descending)
    return found[::-1] if query.backward else found


def holds(condition: Condition, record: Record) -> bool:
    value, wanted = value_of(record, condition.index), condition.value
    if isinstance(wanted, tuple):
        return any(value == one for one in wanted)
    if condition.operator == "contains":
        return isinstance(value, str) and str(wanted) in value
    return {
        "=": rank(value) == rank(wanted),
        "!=": rank(value) != rank(wanted),
        "<": rank(value) < rank(wanted),
        "<=": rank(value) <= rank(wanted),
        ">": rank(value) > rank(wanted),
        ">=": rank(value) >= rank(wanted),
    }[condition.operator]


async def walk(
    store: Store, case: PageCase, at: int | None, between: Callable[[], AbstractAsyncContextManager[None]]
) -> list[Record]:
    """All records of a query, a page at a time, each page behind the last record of the one before."""
    met: list[Record] = []
    query = replace(case.query, limit=case.size)
    while True:
        page = await collect(store.scan(query, at=at))
        assert len(page) <= case.size
        met += page
        if len(page) < case.size:
            return met
        last = page[-1]
        place = Position(tuple(value_of(last, order.index) for order in query.order), last.name)
        query = replace(query, after=place)
        async with between():
            pass


async def run_pages(store: Store, case: PageCase) -> None:
    names = [f"n{number:02}" for number in range(len(case.records))]
    puts: list[Put | Delete] = [
        Put("item", name, body(**fields), parent)
        for name, (parent, fields) in zip(names, case.records, strict=True)
    ]
    at = (await store.commit([*puts, Put("item", "w1", b"{}")], by=Author("pages"))).revision
    steady = await collect(store.scan(Query("item")))
    writes = iter(case.writes)

    class Between:
        async def __aenter__(self) -> None:
            name, fields = next(writes, ("", None))
            if name and fields is not None:
                await store.commit([Put("item", name, body(**fields))], by=Author("between"))
            elif name:
                await store.commit([Delete("item", name, Expect.ANY)], by=Author("between"))

        async def __aexit__(self, *exc: object) -> None:
            return None

    expected = naive(steady, case.query)
    assert await store.count(case.query) == len(expected)
    # While others write, each record that stays is met once, in order.
    met = await walk(store, case, None, Between)
    assert [r for r in met if not r.name.startswith("w")] == [
        r for r in expected if not r.name.startswith("w")
    ]
    writes = iter(case.writes)
    # The snapshot of before sees none of it.
    assert await walk(store, case, at, Between) == expected
    writes = iter(())
    now = naive(await collect(store.scan(Query("item"))), case.query)
    assert await walk(store, case, None, Between) == now
    turned = replace(case, query=replace(case.query, backward=not case.query.backward))
    assert await walk(store, turned, None, Between) == now[::-1]
    for number, record in enumerate(now):
        place = Position(
            tuple(value_of(record, o.index) for o in case.query.order), record.name, inclusive=True
        )
        assert (
            await collect(store.scan(replace(case.query, after=place, limit=2))) == now[number : number + 2]
        )
        back = replace(turned.query, after=replace(place, inclusive=False), limit=2)
        assert await collect(store.scan(back)) == now[:number][::-1][:2]

    for name, fields, inclusive in case.places:
        marker = Record("item", name, "", 0, 0, body(**fields))
        place = Position(tuple(value_of(marker, o.index) for o in case.query.order), name, inclusive)
        behind = [r for r in now if is_behind(r, marker, case.query, inclusive)]
        assert await collect(store.scan(replace(case.query, after=place))) == behind


def is_behind(record: Record, marker: Record, query: Query, inclusive: bool) -> bool:
    """Whether a record comes after a marker in the order of `query`, or may stand at it."""
    same = [rank(value_of(r, o.index)) for o in query.order for r in (record, marker)]
    if record.name == marker.name and same[::2] == same[1::2]:
        return inclusive
    return naive([record, marker], replace(query, where=(), parent=None))[1] is record


def check_pages(open_store: OpenStore, case: PageCase) -> None:
    async def run() -> None:
        async with open_store() as store:
            await run_pages(store, case)

    asyncio.run(run())
