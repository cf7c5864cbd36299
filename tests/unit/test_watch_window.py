"""A page is not listed again after changes that cannot alter it, and always after those that do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.meta.kinds import DEPLOYMENTS, REGIONS, CatalogueRules, MetaKind, definition
from shared.query import order_by
from shared.query.page_token import Cursor
from shared.resource.collection import Collection, Page, PageRequest
from shared.storage.memory import MemoryStore
from shared.storage.port import NULL, Author, Delete, Expect, Put
from shared.watch.window import Window

BY = Author("test")
TEXTS = ("a", "b", "c")


def collection(kind: MetaKind = REGIONS) -> Collection[Any]:
    found = definition(kind, CatalogueRules(kind, lambda: 0, str))
    return Collection(MemoryStore([found.storage()]), found)


def put(number: int, title: str, city: str = "", filler: int = 0) -> Put:
    region = REGIONS.message(name=f"regions/r{number}", title=title, domain="x" * filler)
    if city:
        region.location.city = city
    return Put("region", region.name, region.SerializeToString(deterministic=True))


def request(
    size: int,
    order: str = "title",
    filter: str = "",
    cursor: Cursor | None = None,
    max_bytes: int | None = None,
) -> PageRequest:
    return PageRequest(
        size,
        order_by.parse(order, REGIONS.schema),
        REGIONS.dialect.parse(filter),
        cursor=cursor,
        max_bytes=max_bytes,
    )


async def is_touched(found: Collection[Any], asked: PageRequest, changes: Sequence[Put | Delete]) -> bool:
    """Commits `changes`; a page that is told to be untouched is the same when listed again."""
    window = Window(found.definition, asked)
    before = await found.page(asked)
    commit = await found.store.commit(changes, by=BY)
    touched = window.touched(commit, window.end(before))
    if not touched:
        after = await found.page(asked)
        assert held(after) == held(before)
    return touched


def held(page: Page) -> tuple[object, ...]:
    return page.records, page.next, page.previous


ROW = st.tuples(st.sampled_from(TEXTS), st.sampled_from(("", *TEXTS)), st.integers(0, 40))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_untouched_page_is_the_same_when_listed_again(data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(("title", "title desc", "location.city", "name desc")))
    value = st.sampled_from((NULL, *TEXTS)) if order == "location.city" else st.sampled_from(TEXTS)
    cursor = None
    if data.draw(st.booleans()):
        values = () if order == "name desc" else (data.draw(value),)
        name = f"regions/r{data.draw(st.integers(0, 7))}"
        cursor = Cursor(values, name, data.draw(st.booleans()), data.draw(st.booleans()))
    asked = request(
        data.draw(st.integers(1, 4)),
        order,
        data.draw(st.sampled_from(("", 'title != "b"', 'location.city = "a"', "location IS NULL"))),
        cursor,
        data.draw(st.sampled_from((None, 60))),
    )
    first = data.draw(st.dictionaries(st.integers(0, 7), ROW, min_size=1))
    then = data.draw(
        st.lists(
            st.dictionaries(st.integers(0, 7), st.none() | ROW, min_size=1, max_size=2),
            min_size=1,
            max_size=5,
        )
    )

    async def play() -> None:
        found = collection()
        await found.store.open()
        await found.store.commit([put(number, *row) for number, row in first.items()], by=BY)
        for changes in then:
            await is_touched(
                found,
                asked,
                [
                    Delete("region", f"regions/r{number}", Expect.ANY) if row is None else put(number, *row)
                    for number, row in changes.items()
                ],
            )

    asyncio.run(play())


FIRST = request(2)
SECOND = request(2, cursor=Cursor(("b",), "regions/r1"))
UP_TO = request(2, cursor=Cursor(("d",), "regions/r3", backward=True, inclusive=True))
ONLY_AB = request(4, filter='title < "c"')


@pytest.mark.parametrize(
    ("asked", "changes", "touched"),
    [
        # Of r0 "a" to r4 "e": a row on the page, one behind it, one that goes behind it, one that comes.
        (FIRST, [put(0, "a", "x")], True),
        (FIRST, [put(3, "d", "x")], False),
        (FIRST, [put(3, "f")], False),
        (FIRST, [put(3, "aa")], True),
        (FIRST, [put(0, "z")], True),
        (FIRST, [put(9, "z")], False),
        (FIRST, [put(3, "d", "x"), put(1, "b", "x")], True),
        # The one that makes a next page may be gone.
        (FIRST, [Delete("region", "regions/r4")], True),
        # All that is behind the last row of what is not full belongs to the page.
        (request(9), [put(9, "z")], True),
        (SECOND, [put(0, "a", "x")], False),
        (SECOND, [Delete("region", "regions/r0")], False),
        (SECOND, [put(1, "b", "x")], False),
        (SECOND, [put(1, "bb")], True),
        (SECOND, [put(4, "e", "x")], False),
        # Read backwards: r2 and r3, r1 before them, r4 behind the cursor.
        (UP_TO, [put(4, "e", "x")], False),
        (UP_TO, [put(1, "b", "x")], False),
        (UP_TO, [put(2, "c", "x")], True),
        (UP_TO, [put(3, "d", "x")], True),
        (UP_TO, [Delete("region", "regions/r0")], True),
        # Outside the filter before and after, and into it.
        (ONLY_AB, [put(3, "x")], False),
        (ONLY_AB, [put(3, "b")], True),
        (ONLY_AB, [put(1, "c")], True),
        # A page that closed early may have room for what is behind it.
        (request(4, max_bytes=1), [put(3, "d", "x")], True),
        # Listing anew is the shorter way.
        (FIRST, [put(number, "z") for number in range(10, 50)], True),
    ],
)
async def test_which_changes_touch_a_page(
    asked: PageRequest, changes: list[Put | Delete], touched: bool
) -> None:
    found = collection()
    await found.store.open()
    await found.store.commit([put(number, title) for number, title in enumerate("abcde")], by=BY)
    assert await is_touched(found, asked, changes) is touched


async def test_other_kinds_and_other_parents_touch_nothing() -> None:
    found = collection(DEPLOYMENTS)
    await found.store.open()
    ordering = order_by.parse("", DEPLOYMENTS.schema)
    asked = PageRequest(5, ordering, parent="regions/a")

    def deployment(parent: str) -> Put:
        name = f"{parent}/deployments/x"
        body = DEPLOYMENTS.message(name=name, service="services/s").SerializeToString()
        return Put("deployment", name, body, parent)

    assert not await is_touched(found, asked, [deployment("regions/b")])
    assert await is_touched(found, asked, [deployment("regions/a")])
    elsewhere = Window(collection().definition, request(5))
    commit = await found.store.commit([deployment("regions/c")], by=BY)
    assert not elsewhere.touched(commit, None)
