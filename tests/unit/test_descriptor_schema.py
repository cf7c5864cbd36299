"""Fields of a message by path: types, values, nulls, places in an order."""

from __future__ import annotations

from typing import Any

import pytest

from services.meta.names import REGION, SERVICE
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.path import UnknownPath
from shared.storage.port import NULL, Index

SCHEMA = DescriptorSchema(
    Region.DESCRIPTOR,
    names={"name": REGION, "connectivityScores.dest": REGION},
    indexed=("title", "isDefault", "metadata.createTime", "location.city", "metadata.labels.env"),
)
EMPTY = Region()
FULL = Region(name="regions/eu", title="Europe", is_default=True)
FULL.location.city = "Rome"
FULL.connectivity_scores.add(dest="regions/us", score=-3)
FULL.connectivity_scores.add()
FULL.metadata.create_time.FromJsonString("1970-01-01T00:00:01.000000002Z")
FULL.metadata.generation = 4
FULL.metadata.tags.extend(["a", "b"])
FULL.metadata.labels["env"] = "prod"
FULL.metadata.shards["byName"] = 5
FULL.metadata.lifecycle.state = FULL.metadata.lifecycle.ACTIVE
FULL.metadata.owner_references.add(kind="K")


@pytest.mark.parametrize(
    ("path", "type", "empty", "full"),
    [
        ("name", "name", "", "regions/eu"),
        ("title", "text", "", "Europe"),
        ("is_default", "bool", 0, 1),
        ("location", "message", NULL, b'"\x04Rome'),
        ("location.city", "text", "", "Rome"),
        ("location.cloud", "text", "", ""),
        (
            "connectivity_scores",
            "message",
            (),
            (b"\x12\nregions/us\x18\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01", b""),
        ),
        ("connectivity_scores.dest", "name", (), ("regions/us", "")),
        ("connectivity_scores.score", "int", (), (-3, 0)),
        ("metadata.create_time", "timestamp", NULL, 1_000_000_002),
        ("metadata.delete_time", "timestamp", NULL, NULL),
        ("metadata.generation", "int", 0, 4),
        ("metadata.tags", "text", (), ("a", "b")),
        ("metadata.labels", "map", {}, {"env": "prod"}),
        ("metadata.labels.env", "text", "", "prod"),
        ("metadata.labels.none", "text", "", ""),
        ("metadata.shards.byName", "int", 0, 5),
        ("metadata.lifecycle.state", "enum", 0, 1),
        ("metadata.owner_references.kind", "text", (), ("K",)),
        ("metadata.owner_references.controller", "bool", (), (0,)),
    ],
)
def test_types_and_values(path: str, type: str, empty: Any, full: Any) -> None:
    field = SCHEMA[path]
    assert (field.name, field.type) == (path, type)
    assert (field.get(EMPTY), field.get(FULL)) == (empty, full)
    assert field.many is isinstance(empty, tuple)
    assert Region() == EMPTY


# Null: unset messages, times, names and references; empty lists and maps; missing keys; whatever lies
# below an unset message. Never: a plain value in a message that is there.
@pytest.mark.parametrize(
    ("path", "of_empty", "of_full"),
    [
        ("name", True, False),
        ("title", False, False),
        ("domain", False, False),
        ("is_default", False, False),
        ("location", True, False),
        ("location.city", True, False),
        ("location.cloud", True, False),
        ("connectivity_scores", True, False),
        ("connectivity_scores.dest", True, False),
        ("connectivity_scores.score", True, False),
        ("metadata", True, False),
        ("metadata.create_time", True, False),
        ("metadata.delete_time", True, True),
        ("metadata.uuid", True, False),
        ("metadata.generation", True, False),
        ("metadata.tags", True, False),
        ("metadata.labels", True, False),
        ("metadata.annotations", True, True),
        ("metadata.labels.env", True, False),
        ("metadata.labels.none", True, True),
        ("metadata.lifecycle.state", True, False),
        ("metadata.syncing.regions", True, True),
        ("metadata.syncing.owning_region", True, True),
        ("metadata.owner_references.kind", True, False),
    ],
)
def test_nulls(path: str, of_empty: bool, of_full: bool) -> None:
    null = SCHEMA[path].null
    assert null is not None
    assert (null(EMPTY), null(FULL)) == (of_empty, of_full)


def test_a_reference_through_a_list_is_null_when_all_are_empty() -> None:
    null = SCHEMA["connectivity_scores.dest"].null
    region = Region()
    region.connectivity_scores.add(score=1)
    assert null is not None
    assert null(region)
    region.connectivity_scores.add(dest="regions/us")
    assert not null(region)


@pytest.mark.parametrize(
    ("path", "of_empty", "of_full"),
    [
        ("title", "", "Europe"),
        ("location.city", NULL, "Rome"),
        ("location.cloud", NULL, ""),
        ("metadata.labels.env", NULL, "prod"),
        ("metadata.labels.none", NULL, NULL),
        ("metadata.generation", NULL, 4),
        ("metadata.create_time", NULL, 1_000_000_002),
        ("metadata.lifecycle.state", NULL, 1),
    ],
)
def test_places_put_null_first(path: str, of_empty: Any, of_full: Any) -> None:
    assert (SCHEMA[path].place(EMPTY), SCHEMA[path].place(FULL)) == (of_empty, of_full)


def test_what_the_store_keeps() -> None:
    assert SCHEMA.indexes() == (
        Index("title", "text"),
        Index("is_default", "int"),
        Index("metadata.create_time", "int"),
        Index("location.city", "text"),
        Index("metadata.labels.env", "text"),
    )
    assert SCHEMA.values(FULL) == {
        "title": "Europe",
        "is_default": 1,
        "metadata.create_time": 1_000_000_002,
        "location.city": "Rome",
        "metadata.labels.env": "prod",
    }
    assert SCHEMA.values(EMPTY) == {
        "title": "",
        "is_default": 0,
        "metadata.create_time": NULL,
        "location.city": NULL,
        "metadata.labels.env": NULL,
    }


def test_every_spelling_is_the_one_indexed_field() -> None:
    for spelling in ("metadata.createTime", "metadata.create_time", "metadata.create-time"):
        assert SCHEMA[spelling] is SCHEMA.fields[2]
        assert SCHEMA[spelling].indexed
    assert not SCHEMA["metadata.updateTime"].indexed


def test_forms_of_names_stand_at_their_paths_only() -> None:
    assert SCHEMA["connectivity_scores.dest"].pattern is REGION
    assert SCHEMA["title"].pattern is None
    with pytest.raises(UnknownPath):
        DescriptorSchema(Region.DESCRIPTOR, names={"service": SERVICE})


@pytest.mark.parametrize(
    ("path", "bounds"),
    [
        ("connectivity_scores.score", (-(2**31), 2**31 - 1)),
        ("metadata.generation", (-(2**63), 2**63 - 1)),
        ("metadata.shards.x", (-(2**63), 2**63 - 1)),
        ("title", None),
    ],
)
def test_integers_know_their_range(path: str, bounds: tuple[int, int] | None) -> None:
    assert SCHEMA[path].bounds == bounds


def test_unknown_paths() -> None:
    assert SCHEMA.find("titel") is None
    with pytest.raises(UnknownPath):
        SCHEMA.resolve("titel")
    with pytest.raises(KeyError):
        SCHEMA["titel"]


def test_endless_different_keys_are_not_all_remembered() -> None:
    schema = DescriptorSchema(Region.DESCRIPTOR, names={})
    for index in range(3000):
        assert schema[f"metadata.labels.k{index}"].get(EMPTY) == ""
    assert schema[f"metadata.labels.{'k' * 1000}"].type == "text"
    assert len(schema._cache) <= 1024


def test_names_for_people() -> None:
    assert {"title", "location.city", "metadata.labels", "connectivity_scores.score"} <= set(SCHEMA.names)
    assert SCHEMA.names == sorted(SCHEMA.names)
