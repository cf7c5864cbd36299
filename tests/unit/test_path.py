"""Field paths: spellings, map keys, and where a wrong one is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.service_pb2 import Service
from shared.query import path as paths
from shared.query.path import UnknownPath

REGION = Region.DESCRIPTOR


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("name", "name"),
        ("is_default", "is_default"),
        ("isDefault", "is_default"),
        ("is-default", "is_default"),
        ("metadata", "metadata"),
        ("metadata.createTime", "metadata.create_time"),
        ("metadata.owner-references.unset-on-delete", "metadata.owner_references.unset_on_delete"),
        ("connectivityScores.dest", "connectivity_scores.dest"),
        ("metadata.labels", "metadata.labels"),
        ("metadata.labels.isDefault", "metadata.labels.isDefault"),
        ("metadata.labels.a-b/c", "metadata.labels.a-b/c"),
        (r"metadata.labels.example\.com/tier", r"metadata.labels.example\.com/tier"),
        ("metadata.labels.1x", "metadata.labels.1x"),
        ("metadata.shards.byName", "metadata.shards.byName"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    assert str(paths.resolve(text, REGION)) == canonical


def test_a_key_is_taken_verbatim() -> None:
    assert paths.resolve(r"metadata.annotations.a\.b\.c-D", REGION).key == "a.b.c-D"
    assert paths.resolve("metadata.annotations", REGION).key is None


@pytest.mark.parametrize(
    ("text", "offset", "says"),
    [
        ("", 0, "Region has no field ''; it has name, title, domain"),
        ("titel", 0, "'titel'"),
        ("Title", 0, "'Title'"),
        ("is_Default", 0, "'is_Default'"),
        ("isdefault", 0, "'isdefault'"),
        ("metadata.label.env", 9, "Meta has no field 'label'"),
        ("metadata.", 9, "''"),
        (".name", 0, "''"),
        ("metadata..labels", 9, "''"),
        ("title.x", 6, "title has no fields"),
        ("metadata.create_time.seconds", 21, "create_time has no fields"),
        ("metadata.tags.x", 14, "tags has no fields"),
        ("connectivity_scores.destination", 20, "'destination'"),
        ("metadata.labels.example.com", 24, "one key; write a dot inside it as '\\.'"),
        ("metadata.labels.", 16, "empty key"),
        ("metadata.lifecycle.state.x", 25, "state has no fields"),
        (r"metadata\.labels", 0, "has no field"),
    ],
)
def test_wrong_paths_say_where(text: str, offset: int, says: str) -> None:
    with pytest.raises(UnknownPath) as caught:
        paths.resolve(text, REGION)
    assert caught.value.offset == offset
    assert says in str(caught.value)


def test_a_field_of_another_type_is_unknown() -> None:
    with pytest.raises(UnknownPath):
        paths.resolve("display_name", REGION)
    assert str(paths.resolve("displayName", Service.DESCRIPTOR)) == "display_name"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(key=st.text(st.sampled_from("a.\\-/ä1"), min_size=1))
def test_every_key_comes_back_from_its_canonical_spelling(key: str) -> None:
    spelled = "metadata.labels." + key.replace(".", "\\.")
    found = paths.resolve(spelled, REGION)
    assert found.key == key
    assert str(found) == spelled


def test_holders_skip_what_is_unset_and_spread_over_elements() -> None:
    region = Region()
    dest = paths.resolve("connectivity_scores.dest", REGION)
    state = paths.resolve("metadata.lifecycle.state", REGION)
    assert list(dest.holders(region)) == list(state.holders(region)) == []
    region.connectivity_scores.add(dest="regions/a")
    region.connectivity_scores.add(dest="regions/b")
    region.metadata.lifecycle.SetInParent()
    assert [holder.dest for holder in dest.holders(region)] == ["regions/a", "regions/b"]
    assert list(state.holders(region)) == [region.metadata.lifecycle]
    assert dest.through_repeated
    assert not state.through_repeated


def test_reading_a_path_sets_nothing() -> None:
    region = Region()
    list(paths.resolve("metadata.lifecycle.state", REGION).holders(region))
    assert region == Region()
    assert not region.HasField("metadata")
