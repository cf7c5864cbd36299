"""The meaning of trees, and what of it a store may be asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from shared.query.ast import EVERYTHING, And, Compare, In, Node, Not, Or, Substring
from shared.query.evaluate import compile, rank
from shared.query.pushdown import narrow
from shared.storage.port import NULL, Condition, Value
from tests.unit.query_rows import SCHEMA, Row, rows, trees


def order(value: Value | None) -> int:
    """Of the kinds of values: missing < null < value."""
    return 0 if value is None else 1 if value is NULL else 2


def below(left: Any, right: Any) -> bool:
    return left < right if order(left) == order(right) == 2 else order(left) < order(right)


def holds(condition: Condition, row: Row) -> bool:
    """A condition as the storage port words it, from nothing but the row's index values."""
    value: Any = SCHEMA.values(row).get(condition.index)
    wanted: Any = condition.value
    match condition.operator:
        case "=":
            return value is wanted or value == wanted
        case "!=":
            return not (value is wanted or value == wanted)
        case "<":
            return below(value, wanted)
        case "<=":
            return not below(wanted, value)
        case ">":
            return below(wanted, value)
        case ">=":
            return not below(value, wanted)
        case "in":
            return any(value is item or value == item for item in wanted)
        case "contains":
            return isinstance(value, str) and wanted in value


def truth(node: Node, row: Row) -> bool:
    """The tree by its definition, term by term."""
    match node:
        case And(items):
            return all(truth(item, row) for item in items)
        case Or(items):
            return any(truth(item, row) for item in items)
        case Not(item):
            return not truth(item, row)
        case In(field, values):
            return SCHEMA[field].get(row) in values
        case Substring(field, text):
            value = SCHEMA[field].get(row)
            return isinstance(value, str) and text.casefold() in value.casefold()
        case Compare(field, operator, wanted):
            value = SCHEMA[field].get(row)
            less, same = below(value, wanted), value is wanted or value == wanted
            return {
                "=": same,
                "!=": not same,
                "<": less,
                "<=": less or same,
                ">": not less and not same,
                ">=": not less,
            }[operator]


@given(node=trees, row=rows)
def test_the_compiled_tree_means_the_tree(node: Node, row: Row) -> None:
    assert compile(node, SCHEMA)(row) == truth(node, row)


@given(node=trees, row=rows)
def test_a_push_down_only_narrows_and_exact_is_exact(node: Node, row: Row) -> None:
    narrowing = narrow(node, SCHEMA)
    met = all(holds(condition, row) for condition in narrowing.conditions)
    if truth(node, row):
        assert met
    elif narrowing.exact:
        assert not met


@pytest.mark.parametrize(
    ("node", "conditions", "exact"),
    [
        (EVERYTHING, (), True),
        (Compare("title", "=", "a"), (Condition("title", "=", "a"),), True),
        (Compare("heading", "=", "a"), (Condition("title", "=", "a"),), True),
        (Not(Compare("size", "<", 5)), (Condition("size", ">=", 5),), True),
        (Not(Compare("size", "=", 5)), (Condition("size", "!=", 5),), True),
        (In("size", (1, 2)), (Condition("size", "in", (1, 2)),), True),
        (Substring("title", "\u00dfX"), (Condition("title_folded", "contains", "ssx"),), True),
        (Substring("note", "Y"), (Condition("note_folded", "contains", "y"),), True),
        # Not kept by the store, or not to be said as one condition.
        (Compare("note", "=", "a"), (), False),
        (Compare("name", "=", "a"), (), False),
        (Substring("name", "a"), (), False),
        (Not(In("size", (1,))), (), False),
        (Or((Compare("size", "=", 1), Compare("size", "=", 2))), (), False),
        (
            And((Compare("size", "=", 1), Compare("note", "=", "x"))),
            (Condition("size", "=", 1),),
            False,
        ),
    ],
)
def test_what_is_pushed_down(node: Node, conditions: tuple[Condition, ...], exact: bool) -> None:
    narrowing = narrow(node, SCHEMA)
    assert (narrowing.conditions, narrowing.exact) == (conditions, exact)


def test_missing_is_below_null_and_null_below_values() -> None:
    assert sorted([5, NULL, None, -1], key=rank) == [None, NULL, -1, 5]
    assert sorted(["", NULL, None], key=rank) == [None, NULL, ""]


@pytest.mark.parametrize("value", [None, NULL])
def test_an_absent_value_differs_from_every_value(value: Value | None) -> None:
    row = Row("a", title=value)
    assert compile(Compare("title", "!=", "x"), SCHEMA)(row)
    assert not compile(Compare("title", "=", ""), SCHEMA)(row)
    assert compile(Compare("title", "<", ""), SCHEMA)(row)
    assert not compile(Substring("title", ""), SCHEMA)(row)
    assert not compile(In("title", ("", "x")), SCHEMA)(row)


def test_nothing_and_everything() -> None:
    assert compile(EVERYTHING, SCHEMA)(Row("a"))
    assert not compile(Or(()), SCHEMA)(Row("a"))
    assert compile(Not(Or(())), SCHEMA)(Row("a"))


def test_a_field_that_the_schema_lacks_is_a_mistake_of_the_dialect() -> None:
    with pytest.raises(KeyError):
        compile(Compare("colour", "=", "x"), SCHEMA)


def test_equal_trees_are_equal_queries() -> None:
    one = And((Compare("title", "=", "a"), In("size", (1, 2))))
    assert one == And((Compare("title", "=", "a"), In("size", (1, 2))))
    assert hash(one) == hash(And((Compare("title", "=", "a"), In("size", (1, 2)))))
    assert one != And((Compare("title", "=", "a"), In("size", (2, 1))))
