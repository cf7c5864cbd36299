"""Orders: what may be named, where the name comes, where nulls go, and where a mistake is."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidArgument
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.query import order_by
from shared.query.page_token import cursor
from shared.query.schema import Field, Schema
from shared.storage.port import NULL, Order
from tests.unit.filter_samples import DEPLOYMENT_SAMPLE, REGION_SAMPLE

SCHEMA = REGION_SAMPLE.schema


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "name asc"),
        ("  ", "name asc"),
        ("name", "name asc"),
        ("name DESC", "name desc"),
        ("title", "title asc, name asc"),
        ("title desc", "title desc, name desc"),
        ("title desc, domain", "title desc, domain asc, name asc"),
        (" title\tDeSc ,domain  ASC", "title desc, domain asc, name asc"),
        ("isDefault desc, is-default, is_default", "is_default desc, name asc"),
        ("title, title desc", "title asc, name desc"),
        # The name ends the order: it is unique.
        ("title, name desc", "title asc, name desc"),
        ("title, name desc, domain", "title asc, name desc"),
        ("name, title desc", "name asc"),
        ("name, name desc", "name asc"),
        ("metadata.labels.env", "metadata.labels.env asc, name asc"),
        (r"metadata.labels.example\.com/x desc", r"metadata.labels.example\.com/x desc, name desc"),
        ("metadata.shards.byName", "metadata.shards.byName asc, name asc"),
        ("metadata.createTime desc", "metadata.create_time desc, name desc"),
        (
            "location.city, metadata.lifecycle.state",
            "location.city asc, metadata.lifecycle.state asc, name asc",
        ),
    ],
)
def test_orders(text: str, canonical: str) -> None:
    ordering = order_by.parse(text, SCHEMA)
    assert str(ordering) == canonical
    assert str(order_by.parse(canonical, SCHEMA)) == canonical


# In each text, ^ stands before what the error points at.
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title,^", "a field is expected"),
        ("^,title", "a field is expected"),
        ("title,^ ,domain", "a field is expected"),
        ("title ^up", "'up' is neither asc nor desc"),
        ("title desc ^first", "',' is expected, not 'first'"),
        ("title ^domain", "neither asc nor desc"),
        ("title, ^titel", "Region has no field 'titel'; it has name"),
        ("name, ^titel", "no field 'titel'"),
        ("metadata.^x", "Meta has no field 'x'"),
        ("^location", "is a message, which has no order"),
        ("^metadata desc", "is a message"),
        ("^metadata.tags", "is a list"),
        ("^connectivity_scores", "is a list"),
        ("title, ^connectivityScores.score", "is a list"),
        ("^metadata.owner_references.kind", "is a list"),
        ("^metadata.labels", "is a map"),
        ("^title;", "no field 'title;'"),
    ],
)
def test_mistakes_are_pointed_at(text: str, says: str) -> None:
    position = text.index("^")
    with pytest.raises(InvalidArgument) as caught:
        order_by.parse(text.replace("^", "", 1), SCHEMA)
    assert caught.value.position == position
    assert says in caught.value.message
    assert [violation.field for violation in caught.value.violations] == ["order_by"]


def test_an_endless_order_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="more than 8192 characters"):
        order_by.parse(",".join(f"metadata.labels.k{index}" for index in range(1000)), SCHEMA)


def test_nulls_come_first_and_when_descending_last() -> None:
    unset, empty, rome = Region(name="unset"), Region(name="empty"), Region(name="rome")
    empty.location.SetInParent()
    rome.location.city = "Rome"

    def sorted_by(text: str, regions: list[Region]) -> list[str]:
        ordering = order_by.parse(text, SCHEMA)
        key = ordering.sort_key()
        return [r.name for r in sorted(regions, key=lambda r: key((ordering.values(r), r.name)))]

    assert sorted_by("location.city", [rome, empty, unset]) == ["unset", "empty", "rome"]
    assert sorted_by("location.city desc", [unset, empty, rome]) == ["rome", "empty", "unset"]
    empty.metadata.labels["env"] = ""
    assert sorted_by("metadata.labels.env", [rome, empty, unset]) == ["rome", "unset", "empty"]
    assert sorted_by("metadata.labels.env desc, name", [rome, empty, unset]) == ["empty", "rome", "unset"]
    rome.metadata.create_time.FromJsonString("1970-01-01T00:00:00Z")
    empty.metadata.create_time.FromJsonString("1969-01-01T00:00:00Z")
    assert sorted_by("metadata.create_time", [rome, empty, unset]) == ["unset", "empty", "rome"]


def test_what_the_store_is_asked_for() -> None:
    ordering = order_by.parse("metadata.createTime desc, title", SCHEMA)
    assert ordering.indexed
    assert ordering.store_order() == (Order("metadata.create_time", True), Order("title", False))
    assert not ordering.name_descending


@pytest.mark.parametrize(
    ("text", "values", "accepted"),
    [
        ("service", ["services/a"], True),
        ("service", [5], False),
        ("metadata.labels.env", [[]], True),
        ("metadata.createTime", [5], True),
        ("metadata.createTime", ["5"], False),
    ],
)
def test_cursors_of_every_type_come_back(text: str, values: list[Any], accepted: bool) -> None:
    ordering = order_by.parse(text, DEPLOYMENT_SAMPLE.schema)
    payload = {"k": values, "n": "x", "b": False, "i": False}
    if accepted:
        assert cursor(payload, ordering).values == tuple(NULL if value == [] else value for value in values)
    else:
        with pytest.raises(InvalidArgument):
            cursor(payload, ordering)


def test_a_field_called_name_that_is_no_resource_name_is_as_any_other() -> None:
    schema = Schema((Field("name", "text", lambda message: message.title), Field("age", "int", lambda m: 1)))
    assert [key.field.name for key in order_by.parse("name desc, age", schema).keys] == ["name", "age"]
    with pytest.raises(InvalidArgument, match="there is no field 'x'; use one of age, name"):
        order_by.parse("x", schema)
