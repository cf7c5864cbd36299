"""Our descriptors against the names and numbers of the published API (wire_pipelines.json).

A method of the facts has its `alias` beside it: the name that later generations use, without a
route of its own. What we have beyond the facts is not looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default

from shared.pb.backend.api.v1beta1 import error_pb2, experiment_pb2, filter_pb2, healthz_pb2
from shared.pb.backend.api.v2beta1 import experiment_pb2 as experiment_v2
from shared.pb.backend.api.v2beta1 import filter_pb2 as filter_v2
from shared.pb.backend.api.v2beta1 import healthz_pb2 as healthz_v2

FACTS = json.loads(Path(__file__).with_name("wire_pipelines.json").read_text())
POOL = Default()
# Importing them puts the files into the pool, at the paths that reflection shows.
FILES = {
    "backend/api/v1beta1/experiment.proto": experiment_pb2,
    "backend/api/v1beta1/filter.proto": filter_pb2,
    "backend/api/v1beta1/error.proto": error_pb2,
    "backend/api/v1beta1/healthz.proto": healthz_pb2,
    "backend/api/v2beta1/experiment.proto": experiment_v2,
    "backend/api/v2beta1/filter.proto": filter_v2,
    "backend/api/v2beta1/healthz.proto": healthz_v2,
}
OURS = {name: facts for name, facts in FACTS["messages"].items() if not name.startswith("google.")}


@pytest.mark.parametrize(("path", "module"), FILES.items(), ids=FILES)
def test_files_stand_at_their_canonical_paths(path: str, module: Any) -> None:
    assert module.DESCRIPTOR.name == path


@pytest.mark.parametrize("name", FACTS["services"])
def test_methods(name: str) -> None:
    methods = {method.name: method for method in POOL.FindServiceByName(name).methods}
    for method, facts in FACTS["services"][name].items():
        wanted = {key: value for key, value in facts.items() if key != "alias"}
        assert described(methods[method]) == wanted
        if "alias" in facts:
            del wanted["http"]
            assert described(methods[facts["alias"]]) == wanted


@pytest.mark.parametrize("name", OURS)
def test_messages(name: str) -> None:
    message: Descriptor = POOL.FindMessageTypeByName(name)
    fields = {field.name: fact_of(field) for field in message.fields}
    assert {field: fields.get(field) for field in OURS[name]} == OURS[name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_enums(name: str) -> None:
    enum: EnumDescriptor = POOL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == FACTS["enums"][name]


def test_there_are_facts() -> None:
    assert len(FACTS["services"]) >= 2
    assert len(OURS) >= 10
    assert sum(map(len, OURS.values())) >= 40


def described(method: MethodDescriptor) -> dict[str, Any]:
    found: dict[str, Any] = {"request": method.input_type.full_name, "response": method.output_type.full_name}
    for streaming in ("client_streaming", "server_streaming"):
        if getattr(method, streaming):
            found[streaming] = True
    options = method.GetOptions()
    if options.HasExtension(annotations_pb2.http):
        rule = options.Extensions[annotations_pb2.http]
        found["http"] = [route(one) for one in (rule, *rule.additional_bindings)]
    return found


def route(rule: Any) -> dict[str, str]:
    verb = rule.WhichOneof("pattern")
    return {verb.upper(): getattr(rule, verb), **({"body": rule.body} if rule.body else {})}


def fact_of(field: FieldDescriptor) -> dict[str, Any]:
    of = field.message_type or field.enum_type
    found: dict[str, Any] = {"number": field.number, "type": of.full_name if of else TYPES[field.type]}
    if field.is_repeated:
        found["repeated"] = True
    if field.containing_oneof is not None:
        found["oneof"] = field.containing_oneof.name
    return found


TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}
