"""Orders: their text, and the total order of messages that they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.query.evaluate import rank
from shared.query.order_by import Key, Ordering, parse
from shared.storage.port import Order
from tests.unit.query_rows import SCHEMA, Row, rows

keys = st.lists(
    st.builds(Key, st.sampled_from([SCHEMA["title"], SCHEMA["size"], SCHEMA["note"]]), st.booleans()),
    max_size=3,
    unique_by=lambda key: key.field.name,
).map(tuple)
orderings = st.builds(Ordering, keys, st.booleans())


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "name asc"),
        ("  ", "name asc"),
        ("title", "title asc, name asc"),
        ("title desc", "title desc, name desc"),
        (" title   DESC ,size", "title desc, size asc, name asc"),
        ("heading asc", "title asc, name asc"),
        ("size desc, title asc, note desc", "size desc, title asc, note desc, name desc"),
        ("title, heading", "title asc, name asc"),
    ],
)
def test_text_of_an_order(text: str, canonical: str) -> None:
    ordering = parse(text, SCHEMA)
    assert str(ordering) == canonical
    assert str(parse(canonical.rpartition(", ")[0], SCHEMA)) == canonical


def test_a_field_that_stands_twice_orders_by_its_first_mention() -> None:
    """The name still follows the last item."""
    assert str(parse("title, title desc", SCHEMA)) == "title asc, name desc"


@pytest.mark.parametrize(
    "text", ["colour", "title up", "title desc desc", ",", "title,", "title;size", "-title", "title.x"]
)
def test_text_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, SCHEMA, parameter="sorting")
    assert [violation.field for violation in caught.value.violations] == ["sorting"]


@given(ordering=orderings, items=st.lists(rows, max_size=12), backward=st.booleans())
def test_the_sort_key_orders_as_the_fields_do(ordering: Ordering, items: list[Row], backward: bool) -> None:
    """Against stable sorts by one field at a time, the last first."""
    expected = sorted(items, key=lambda row: row.name, reverse=ordering.name_descending != backward)
    for key in reversed(ordering.keys):
        get = key.field.get
        expected = sorted(
            expected, key=lambda row, get=get: rank(get(row)), reverse=key.descending != backward
        )
    sort_key = ordering.sort_key(backward)
    found = sorted(items, key=lambda row: sort_key((ordering.values(row), row.name)))
    places = [(ordering.values(row), row.name) for row in found]
    assert places == [(ordering.values(row), row.name) for row in expected]


@given(ordering=orderings, items=st.lists(rows, max_size=8))
def test_backward_is_the_reverse(ordering: Ordering, items: list[Row]) -> None:
    places = [(ordering.values(row), row.name) for row in items]
    assert sorted(places, key=ordering.sort_key(True)) == sorted(places, key=ordering.sort_key())[::-1]


def test_what_a_store_keeps() -> None:
    assert parse("title, size desc", SCHEMA).indexed
    assert parse("", SCHEMA).indexed
    assert not parse("title, note", SCHEMA).indexed
    assert parse("title, size desc", SCHEMA).store_order() == (Order("title"), Order("size", True))


def test_equal_orders_are_equal() -> None:
    assert parse("title desc", SCHEMA) == parse("heading  DESC", SCHEMA)
    assert parse("title", SCHEMA) != parse("title desc", SCHEMA)
