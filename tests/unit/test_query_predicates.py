"""Kubeflow Pipelines' Filter JSON as trees."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pipelines.experiment import FILTER_V1, FILTER_V2
from shared.errors import InvalidArgument
from shared.query.ast import EVERYTHING, And, Compare, In, Node, Substring


def one(**predicate: Any) -> str:
    return json.dumps({"predicates": [predicate]})


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", EVERYTHING),
        ("{}", EVERYTHING),
        (one(op="EQUALS", key="name", string_value="x"), And((Compare("name", "=", "x"),))),
        (one(op=1, key="display_name", stringValue="x"), And((Compare("name", "=", "x"),))),
        (one(op="NOT_EQUALS", key="id", string_value=""), And((Compare("id", "!=", ""),))),
        (one(op="LESS_THAN", key="created_at", int_value=-5), And((Compare("created_at", "<", -5),))),
        (
            one(op="LESS_THAN_EQUALS", key="created_at", long_value="5"),
            And((Compare("created_at", "<=", 5),)),
        ),
        (
            one(op="GREATER_THAN", key="created_at", timestamp_value="1969-12-31T23:59:59.5Z"),
            And((Compare("created_at", ">", -1),)),
        ),
        (
            one(op="GREATER_THAN_EQUALS", key="created_at", timestamp_value="1970-01-01T01:00:00+01:00"),
            And((Compare("created_at", ">=", 0),)),
        ),
        (one(op="IN", key="name", string_values={"values": ["b", "a"]}), And((In("name", ("b", "a")),))),
        (one(op="IN", key="created_at", int_values={"values": [1]}), And((In("created_at", (1,)),))),
        (one(op="IN", key="created_at", long_values={}), And((In("created_at", ()),))),
        (one(op="IS_SUBSTRING", key="name", string_value="Xy"), And((Substring("name", "Xy"),))),
        (
            one(op="EQUALS", key="storage_state", string_value="STORAGESTATE_ARCHIVED"),
            And((Compare("storage_state", "=", "ARCHIVED"),)),
        ),
        (
            one(
                op="IN", key="storage_state", string_values={"values": ["ARCHIVED", "STORAGESTATE_AVAILABLE"]}
            ),
            And((In("storage_state", ("ARCHIVED", "AVAILABLE")),)),
        ),
        # The spelling of another field's value is only text.
        (
            one(op="EQUALS", key="name", string_value="STORAGESTATE_ARCHIVED"),
            And((Compare("name", "=", "STORAGESTATE_ARCHIVED"),)),
        ),
    ],
)
def test_trees(text: str, tree: Node) -> None:
    assert FILTER_V1.parse(text) == tree
    assert FILTER_V2.parse(text.replace('"op"', '"operation"')) == tree


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@given(names)
def test_any_text_survives_every_encoding(name: str) -> None:
    text = one(op="EQUALS", key="name", string_value=name)
    expected = And((Compare("name", "=", name),))
    for encoded in (text, json.dumps(json.loads(text), ensure_ascii=False), quote(text), quote_plus(text)):
        assert FILTER_V1.parse(encoded) == expected


@given(st.text(max_size=60))
def test_other_text_is_refused_by_name(text: str) -> None:
    try:
        FILTER_V1.parse(text)
    except InvalidArgument as error:
        assert all(violation.field.startswith("filter") for violation in error.violations)
        assert error.violations


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
predicates = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["EQUALS", "IN", "IS_SUBSTRING", "NOT_EQUALS", 1, 2, 8, 9, 77, -1])
        | json_values,
        "key": st.sampled_from(["name", "created_at", "storage_state", "id", "x"]) | json_values,
        **dict.fromkeys(
            ("string_value", "int_value", "long_value", "timestamp_value", "int_values", "stringValues"),
            json_values,
        ),
    },
)


@given(st.lists(predicates, max_size=3))
def test_predicates_of_any_shape_parse_or_are_refused_by_name(items: list[Any]) -> None:
    try:
        tree = FILTER_V1.parse(json.dumps({"predicates": items}))
    except InvalidArgument as error:
        assert error.violations
        assert all(violation.field.startswith("filter") for violation in error.violations)
    else:
        assert isinstance(tree, And)
        assert len(tree.items) == len(items)


def test_messages_do_not_repeat_what_was_sent_at_length() -> None:
    with pytest.raises(InvalidArgument) as caught:
        FILTER_V1.parse("x" * 60_000)
    assert len(caught.value.message) < 1000
