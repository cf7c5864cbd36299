"""Field paths: what differs, what may be named, what a merge does."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from shared.errors import InvalidArgument
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import resource_reference_pb2 as reference
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.resource import field_mask


def experiment(**fields: object) -> v1.Experiment:
    return v1.Experiment(**fields)  # type: ignore[arg-type]


OWNER = {"key": {"type": reference.NAMESPACE, "id": "ns"}, "relationship": reference.OWNER}


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        (experiment(), experiment(), []),
        (experiment(name="a"), experiment(name="b"), ["name"]),
        (experiment(name="a"), experiment(), ["name"]),
        (
            experiment(name="a", id="x"),
            experiment(name="b", description="d", id="x"),
            ["name", "description"],
        ),
        # A message that is set on both sides is looked into; one that appears is named whole.
        (
            experiment(created_at=Timestamp(seconds=1)),
            experiment(created_at=Timestamp(seconds=2)),
            ["created_at.seconds"],
        ),
        (experiment(), experiment(created_at=Timestamp(seconds=2)), ["created_at"]),
        (experiment(), experiment(created_at=Timestamp()), ["created_at"]),
        # Lists are compared whole.
        (experiment(resource_references=[OWNER]), experiment(), ["resource_references"]),
        (experiment(resource_references=[OWNER]), experiment(resource_references=[OWNER]), []),
        (experiment(storage_state=1), experiment(storage_state=2), ["storage_state"]),
    ],
)
def test_differences(before: v1.Experiment, after: v1.Experiment, paths: list[str]) -> None:
    assert field_mask.differences(before, after) == paths
    # Merging what differs makes them equal.
    field_mask.merge(after, before, paths)
    assert before == after


def test_differences_to_nothing_are_what_is_set() -> None:
    made = experiment(name="a", created_at=Timestamp(seconds=1))
    assert field_mask.differences(None, made) == field_mask.differences(made, None) == ["name", "created_at"]
    assert field_mask.differences(None, None) == []


def test_paths_that_exist() -> None:
    field_mask.validate(["name", "created_at", "created_at.seconds"], v1.Experiment.DESCRIPTOR)
    field_mask.validate(["author.subject", "before.value"], pb.Version.DESCRIPTOR)


@pytest.mark.parametrize(
    "path",
    ["", "colour", "name.x", "created_at.x", "resource_references.key", "created_at.", ".name", "name,id"],
)
def test_paths_that_do_not(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        field_mask.validate(["name", path], v1.Experiment.DESCRIPTOR, parameter="mask")
    assert [violation.field for violation in caught.value.violations] == ["mask"]


def test_a_merge_takes_unset_fields_too_and_nothing_else() -> None:
    target = experiment(id="x", name="old", description="kept", created_at=Timestamp(seconds=1, nanos=5))
    source = experiment(id="y", name="", description="new", created_at=Timestamp(seconds=2))
    field_mask.merge(source, target, ["name", "created_at.seconds"])
    assert target == experiment(id="x", description="kept", created_at=Timestamp(seconds=2, nanos=5))


def test_a_merge_through_an_unset_message() -> None:
    target = experiment(created_at=Timestamp(seconds=1))
    field_mask.merge(experiment(), target, ["created_at.seconds"])
    assert target.created_at.seconds == 0
    target = experiment()
    field_mask.merge(experiment(), target, ["created_at.seconds"])
    assert not target.HasField("created_at")
    field_mask.merge(experiment(created_at=Timestamp()), target, ["created_at"])
    assert target.HasField("created_at")


def test_a_merge_replaces_lists() -> None:
    target = experiment(resource_references=[OWNER, OWNER])
    field_mask.merge(experiment(resource_references=[OWNER]), target, ["resource_references"])
    assert len(target.resource_references) == 1
    field_mask.merge(experiment(), target, ["resource_references"])
    assert not target.resource_references
