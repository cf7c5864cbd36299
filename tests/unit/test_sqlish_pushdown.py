"""What a store may test itself: never less than the tree means, and exactly that where it says so."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.query import order_by
from shared.query.ast import Like
from shared.query.pushdown import Narrowing, narrow
from shared.storage.port import NULL, Condition
from tests.unit.filter_samples import REGION_SAMPLE, SAMPLES, Sample, filters, random_resource
from tests.unit.naive_filter import holds


def passes(narrowing: Narrowing, values: Any) -> bool:
    return all(_holds(condition, values.get(condition.index)) for condition in narrowing.conditions)


def _holds(condition: Condition, found: Any) -> bool:
    """As the storage port words it: null differs from every value and orders below all."""
    value: Any = condition.value
    match condition.operator:
        case "=":
            return bool(found == value)
        case "!=":
            return bool(found != value)
        case "in":
            return found in value
    if found is None or found is NULL:
        return condition.operator in ("<", "<=")
    return bool(
        {"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[
            condition.operator
        ]
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_conditions_are_implied_by_the_tree(sample: Sample, data: st.DataObject, seed: int) -> None:
    text = data.draw(filters(sample, indexed=True, depth=1))
    node = sample.dialect.parse(text)
    narrowing = narrow(node, sample.schema)
    source = random.Random(seed)
    for _ in range(15):
        resource = random_resource(sample, source, source.choice(sample.ids))
        matches = holds(node, resource, sample.names)
        passed = passes(narrowing, sample.schema.values(resource))
        assert passed or not matches, (narrowing, resource)
        assert not narrowing.exact or passed == matches, (narrowing, resource)


_EDGES = "ab%_\\\0\ud7ff\ue000\uffff\U0010ffff"


@settings(max_examples=500, deadline=None, derandomize=True)
@given(pattern=st.text(_EDGES, max_size=6), text=st.text(_EDGES.replace("%", ""), max_size=6))
def test_a_fixed_beginning_narrows(pattern: str, text: str) -> None:
    region = REGION_SAMPLE.message(title=text)
    node = Like("title", pattern)
    narrowing = narrow(node, REGION_SAMPLE.schema)
    matches = holds(node, region, REGION_SAMPLE.names)
    passed = passes(narrowing, REGION_SAMPLE.schema.values(region))
    assert passed or not matches
    assert not narrowing.exact or passed == matches


# What a record has that lacks the value compares as: "" or 0, but as nothing for a time.
@pytest.mark.parametrize(
    ("text", "conditions", "exact"),
    [
        ("", [], True),
        ('title = "a"', [("title", "=", "a")], True),
        ('NOT title < "a"', [("title", ">=", "a")], True),
        ('title = "a" domain = "b"', [("title", "=", "a")], False),
        ('title = "a" OR title = "b"', [], False),
        ('title NOT IN ("a")', [], False),
        ("is_default = FALSE", [("is_default", "=", 0)], True),
        ('location.city = "x"', [("location.city", "=", "x")], True),
        ('location.city = ""', [("location.city", "in", ("", NULL))], True),
        ('location.city IN ("", "x")', [("location.city", "in", ("", "x", NULL))], True),
        ('location.city != "x"', [("location.city", "!=", "x")], True),
        ('location.city != ""', [("location.city", "!=", "")], False),
        ('location.city >= ""', [], False),
        ('location.city > ""', [("location.city", ">", "")], True),
        ("metadata.generation > -1", [], False),
        ("metadata.generation < 1", [("metadata.generation", "<", 1)], True),
        ("metadata.generation < -1", [("metadata.generation", "<", -1)], False),
        ('metadata.labels.env = "x"', [("metadata.labels.env", "=", "x")], True),
        ('metadata.labels.other = "x"', [], False),
        ("metadata.labels.env IS NULL", [("metadata.labels.env", "=", NULL)], True),
        ("metadata.createTime IS NOT NULL", [("metadata.create_time", "!=", NULL)], True),
        (
            'metadata.create_time < "1970-01-01T00:00:00.5Z"',
            [("metadata.create_time", "<", 500_000_000)],
            True,
        ),
        # Beyond what 64 bits of nanoseconds hold.
        ('metadata.create_time < "9999-01-01T00:00:00Z"', [], False),
        ("title IS NULL", [], False),
        ('title LIKE "ab%"', [("title", ">=", "ab"), ("title", "<", "ac")], True),
        ('title LIKE "ab%%"', [("title", ">=", "ab"), ("title", "<", "ac")], True),
        ('title LIKE "ab%c"', [("title", ">=", "ab"), ("title", "<", "ac")], False),
        ('title LIKE "ab_"', [("title", ">=", "ab"), ("title", "<", "ac")], False),
        (r'title LIKE "a\\%%"', [("title", ">=", "a%"), ("title", "<", "a&")], True),
        ('title LIKE "ab"', [("title", "=", "ab")], True),
        ('title LIKE "%ab"', [], False),
        ('title LIKE "%"', [], False),
        ('NOT title LIKE "ab%"', [], False),
        ('title LIKE "a\ud7ff%"', [("title", ">=", "a\ud7ff"), ("title", "<", "a\ue000")], True),
        ('title LIKE "a\U0010ffff%"', [("title", ">=", "a\U0010ffff"), ("title", "<", "b")], True),
        ('title LIKE "\U0010ffff%"', [("title", ">=", "\U0010ffff")], True),
        ('location.city LIKE "a%"', [("location.city", ">=", "a"), ("location.city", "<", "b")], True),
        # An absent city compares as "".
        ('location.city LIKE ""', [("location.city", "in", ("", NULL))], True),
        ('location.city LIKE "%"', [], False),
        ('location.continent LIKE "a%"', [], False),
    ],
)
def test_conditions(text: str, conditions: list[tuple[str, str, Any]], exact: bool) -> None:
    narrowing = narrow(REGION_SAMPLE.dialect.parse(text), REGION_SAMPLE.schema)
    assert narrowing == Narrowing(tuple(Condition(*condition) for condition in conditions), exact)


@pytest.mark.parametrize(
    ("text", "indexed"),
    [
        ("", True),
        ("title desc", True),
        ("metadata.createTime, location.city", True),
        ("isDefault, name desc, domain", True),
        ("domain", False),
        ("metadata.labels.env", True),
        ("metadata.labels.other", False),
    ],
)
def test_orders_that_a_store_can_walk(text: str, indexed: bool) -> None:
    assert order_by.parse(text, REGION_SAMPLE.schema).indexed is indexed
