"""The pods' descriptors against the names and numbers of the published API (wire_pods.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.descriptor_pool import Default

from shared.pb.api.v1 import pagination_pb2, pod_service_pb2, search_service_pb2
from shared.pb.storage import container_runtime_pb2, pod_pb2
from tests.unit.test_wire_facts import described
from tests.unit.test_wire_facts_meta import fact

FACTS = json.loads(Path(__file__).with_name("wire_pods.json").read_text())
POOL = Default()
FILES = {
    "api/v1/pod_service.proto": pod_service_pb2,
    "api/v1/search_service.proto": search_service_pb2,
    "api/v1/pagination.proto": pagination_pb2,
    "storage/pod.proto": pod_pb2,
    "storage/container_runtime.proto": container_runtime_pb2,
}


@pytest.mark.parametrize("path", FILES)
def test_files_stand_at_their_canonical_paths(path: str) -> None:
    assert FILES[path].DESCRIPTOR.name == path


@pytest.mark.parametrize("name", FACTS["services"])
def test_methods(name: str) -> None:
    methods = {method.name: described(method) for method in POOL.FindServiceByName(name).methods}
    assert methods == FACTS["services"][name]


@pytest.mark.parametrize("name", FACTS["messages"])
def test_messages(name: str) -> None:
    message = POOL.FindMessageTypeByName(name)
    assert {field.name: fact(field) for field in message.fields} == FACTS["messages"][name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_enums(name: str) -> None:
    enum: EnumDescriptor = POOL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == FACTS["enums"][name]
