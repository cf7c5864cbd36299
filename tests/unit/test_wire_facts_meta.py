"""The catalogue's descriptors against the names and numbers of the published API (wire_meta.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default

from services.meta.kinds import KINDS
from services.meta.service import SERVICE
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_service_pb2,
    region_service_pb2,
    resource_service_pb2,
    service_service_pb2,
)
from shared.pb.goten_sdk.types import meta_pb2, view_pb2, watch_type_pb2
from tests.unit.test_wire_facts import described, fact_of

FACTS = json.loads(Path(__file__).with_name("wire_meta.json").read_text())
POOL = Default()
FILES = {
    "edgelq-sdk/meta/proto/v1alpha2/region_service.proto": region_service_pb2,
    "edgelq-sdk/meta/proto/v1alpha2/deployment_service.proto": deployment_service_pb2,
    "edgelq-sdk/meta/proto/v1alpha2/service_service.proto": service_service_pb2,
    "edgelq-sdk/meta/proto/v1alpha2/resource_service.proto": resource_service_pb2,
    "goten-sdk/types/meta.proto": meta_pb2,
    "goten-sdk/types/view.proto": view_pb2,
    "goten-sdk/types/watch_type.proto": watch_type_pb2,
}
OURS = {name: facts for name, facts in FACTS["messages"].items() if not name.startswith("google.")}


@pytest.mark.parametrize("path", FILES)
def test_files_stand_at_their_canonical_paths(path: str) -> None:
    assert FILES[path].DESCRIPTOR.name == path


@pytest.mark.parametrize("name", FACTS["services"])
def test_methods(name: str) -> None:
    methods = {method.name: described(method) for method in POOL.FindServiceByName(name).methods}
    assert methods == FACTS["services"][name]


@pytest.mark.parametrize("name", OURS)
def test_messages(name: str) -> None:
    message: Descriptor = POOL.FindMessageTypeByName(name)
    assert {field.name: fact(field) for field in message.fields} == OURS[name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_enums(name: str) -> None:
    enum: EnumDescriptor = POOL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == FACTS["enums"][name]


def test_there_are_facts() -> None:
    assert sum(map(len, FACTS["services"].values())) == 20
    assert len(OURS) >= 50
    assert len(FACTS["enums"]) >= 3
    assert len(KINDS) == len(FACTS["services"]) == 4
    assert SERVICE.name == "meta"


def fact(field: FieldDescriptor) -> dict[str, Any]:
    """As `fact_of`, with maps spelled as in proto files."""
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return fact_of(field)
    key, value = (fact_of(entry)["type"] for entry in field.message_type.fields)
    return {"number": field.number, "type": f"map<{key}, {value}>"}
