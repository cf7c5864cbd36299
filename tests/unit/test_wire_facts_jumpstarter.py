"""Jumpstarter's descriptors against the names and numbers of the published API (wire_jumpstarter.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api import client_pb2 as api_client
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import Default

from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1 import common_pb2, jumpstarter_pb2, kubernetes_pb2, router_pb2
from tests.unit.test_wire_facts import described
from tests.unit.test_wire_facts_meta import fact as meta_fact

FACTS = json.loads(Path(__file__).with_name("wire_jumpstarter.json").read_text())
POOL = Default()
FILES = {
    "jumpstarter/client/v1/client.proto": client_pb2,
    "jumpstarter/v1/common.proto": common_pb2,
    "jumpstarter/v1/kubernetes.proto": kubernetes_pb2,
    "jumpstarter/v1/jumpstarter.proto": jumpstarter_pb2,
    "jumpstarter/v1/router.proto": router_pb2,
}
# Of the contract's section 1.1.
SIGNATURES = {
    "GetExporter": "name",
    "ListExporters": "parent",
    "GetLease": "name",
    "ListLeases": "parent",
    "CreateLease": "parent,lease,lease_id",
    "UpdateLease": "lease,update_mask",
    "DeleteLease": "name",
    "RotateToken": "parent",
}


@pytest.mark.parametrize("path", FILES)
def test_files_stand_at_their_canonical_paths(path: str) -> None:
    assert FILES[path].DESCRIPTOR.name == path


@pytest.mark.parametrize("name", FACTS["services"])
def test_methods(name: str) -> None:
    methods = {method.name: described(method) for method in POOL.FindServiceByName(name).methods}
    assert {method: methods.get(method) for method in FACTS["services"][name]} == FACTS["services"][name]


@pytest.mark.parametrize("name", FACTS["messages"])
def test_messages(name: str) -> None:
    fields = {field.name: fact(field) for field in POOL.FindMessageTypeByName(name).fields}
    assert fields == FACTS["messages"][name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_enums(name: str) -> None:
    enum = POOL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == FACTS["enums"][name]


def test_signatures() -> None:
    methods = POOL.FindServiceByName("jumpstarter.client.v1.ClientService").methods
    found = {m.name: ",".join(m.GetOptions().Extensions[api_client.method_signature]) for m in methods}
    assert found == SIGNATURES


def test_there_are_facts() -> None:
    assert len(FACTS["services"]) == 3
    assert len(FACTS["messages"]) >= 40


def fact(field: FieldDescriptor) -> dict[str, Any]:
    """As the catalogue's, with `optional` as proto files spell it."""
    found = meta_fact(field)
    if found.get("oneof") == f"_{field.name}":
        del found["oneof"]
        found["optional"] = True
    return found
