"""Peloton's descriptors against the names and numbers of the published API (wire_jobs.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.descriptor_pool import Default

from shared.pb.mesos.v1 import mesos_pb2
from shared.pb.peloton.api.v1alpha import peloton_pb2
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.apachemesos import apachemesos_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.peloton.api.v1alpha.query import query_pb2
from shared.pb.peloton.api.v1alpha.respool import respool_pb2
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2
from shared.pb.peloton.api.v1alpha.volume import volume_pb2
from shared.pb.peloton.api.v1alpha.watch import watch_pb2
from shared.pb.peloton.api.v1alpha.watch.svc import watch_svc_pb2
from tests.unit.test_wire_facts import described
from tests.unit.test_wire_facts_meta import fact

FACTS = json.loads(Path(__file__).with_name("wire_jobs.json").read_text())
POOL = Default()
_AT = "peloton/api/v1alpha"
FILES = {
    f"{_AT}/peloton.proto": peloton_pb2,
    f"{_AT}/query/query.proto": query_pb2,
    f"{_AT}/respool/respool.proto": respool_pb2,
    f"{_AT}/respool/svc/respool_svc.proto": respool_svc_pb2,
    f"{_AT}/volume/volume.proto": volume_pb2,
    f"{_AT}/pod/apachemesos/apachemesos.proto": apachemesos_pb2,
    f"{_AT}/pod/pod.proto": pod_pb2,
    f"{_AT}/pod/svc/pod_svc.proto": pod_svc_pb2,
    f"{_AT}/job/stateless/stateless.proto": stateless_pb2,
    f"{_AT}/job/stateless/svc/stateless_svc.proto": stateless_svc_pb2,
    f"{_AT}/watch/watch.proto": watch_pb2,
    f"{_AT}/watch/svc/watch_svc.proto": watch_svc_pb2,
    "mesos/v1/mesos.proto": mesos_pb2,
}
# Numbers that the published API skips: nobody may use them for something else.
RESERVED = {
    stateless_svc_pb2.RestartJobRequest: [4],
    stateless_pb2.JobSummary: [3],
    pod_pb2.PodSummary: [2],
    stateless_pb2.WorkflowInfo: [4, 5],
    pod_pb2.PreemptionPolicy: [1],
    pod_svc_pb2.GetPodRequest: [3],
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
    fields: dict[str, FieldDescriptor] = POOL.FindMessageTypeByName(name).fields_by_name
    assert {field: fact(found) for field, found in fields.items()} == FACTS["messages"][name]


@pytest.mark.parametrize("name", FACTS["enums"])
def test_enums(name: str) -> None:
    enum = POOL.FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == FACTS["enums"][name]


@pytest.mark.parametrize("message", RESERVED, ids=lambda found: found.__name__)
def test_skipped_numbers_are_reserved(message: type) -> None:
    own = DescriptorProto()
    message.DESCRIPTOR.CopyToProto(own)  # type: ignore[attr-defined]
    numbers = [number for one in own.reserved_range for number in range(one.start, one.end)]
    assert numbers == RESERVED[message]


def test_there_are_facts() -> None:
    assert len(FACTS["services"]["peloton.api.v1alpha.job.stateless.svc.JobService"]) == 21
    assert len(FACTS["messages"]) >= 130 and len(FACTS["enums"]) >= 17


def test_the_mesos_subset_keeps_its_defaults() -> None:
    assert mesos_pb2.CommandInfo().shell and mesos_pb2.CommandInfo.URI().extract
    command = {field.name: field.number for field in mesos_pb2.CommandInfo.DESCRIPTOR.fields}
    assert command == {"uris": 1, "environment": 2, "value": 3, "user": 5, "shell": 6, "arguments": 7}
    executor = {field.name: field.number for field in mesos_pb2.ExecutorInfo.DESCRIPTOR.fields}
    assert executor == {"executor_id": 1, "data": 4, "type": 15}
    container = {field.name: field.number for field in mesos_pb2.ContainerInfo.DESCRIPTOR.fields}
    assert container == {"type": 1, "volumes": 2, "docker": 3}
    types = mesos_pb2.ExecutorInfo.DESCRIPTOR.fields_by_name["type"].enum_type
    assert types.values_by_name["CUSTOM"].number == 2


def test_pools_keep_their_odd_package() -> None:
    service = POOL.FindServiceByName("peloton.api.v1alpha.respool.ResourcePoolService")
    assert [method.name for method in service.methods] == [
        "GetResourcePool",
        "LookupResourcePoolID",
        "QueryResourcePools",
    ]
    info = respool_pb2.ResourcePoolInfo.DESCRIPTOR
    assert {field.name: field.number for field in info.fields} == {
        "respool_id": 1, "spec": 2, "parent": 3, "children": 4, "usages": 5, "path": 6,
    }  # fmt: skip
    assert respool_pb2.SlackLimit.DESCRIPTOR.fields_by_name["maxPercent"].number == 1
