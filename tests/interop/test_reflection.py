"""What grpcurl does: health and reflection, then a call with messages made from the descriptors
that the server gave, with none of our stubs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.interop.clients import House

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("reflection"),
]
V1 = "api.ExperimentService"
V2 = "kubeflow.pipelines.backend.api.v2beta1.ExperimentService"


@pytest.fixture
def channel(served: House) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.target) as found:
        yield found


@pytest.fixture
def pool(channel: grpc.Channel) -> DescriptorPool:
    return DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


async def test_services_are_listed_without_a_token(channel: grpc.Channel) -> None:
    listed = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {
        V1,
        V2,
        "api.HealthzService",
        "kubeflow.pipelines.backend.api.v2beta1.HealthzService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "roundhouse.admin.v1.AdminService",
        "roundhouse.admin.v1.AccessService",
    } <= set(listed)
    assert "api.DummyFilterService" not in listed


async def test_both_sets_of_names_are_described(pool: DescriptorPool) -> None:
    verbs = ("Create", "Get", "List", "Delete", "Archive", "Unarchive")
    service = pool.FindServiceByName(V1)
    published = {f"{verb}Experiment" for verb in verbs}
    later = {f"{verb}ExperimentV1" for verb in verbs} - {"ListExperimentV1"} | {"ListExperimentsV1"}
    assert {method.name for method in service.methods} == published | later
    assert service.file.name == "backend/api/v1beta1/experiment.proto"
    second = pool.FindServiceByName(V2)
    assert {method.name for method in second.methods} == published - {"ListExperiment"} | {"ListExperiments"}


@pytest.mark.parametrize(
    ("service", "create", "list_"),
    [
        (V1, "CreateExperimentV1", "ListExperiment"),
        (V2, "CreateExperiment", "ListExperiments"),
    ],
)
async def test_calls_made_from_descriptors_alone(
    channel: grpc.Channel, pool: DescriptorPool, served: House, service: str, create: str, list_: str
) -> None:
    methods = {method.name: method for method in pool.FindServiceByName(service).methods}

    def call(name: str, text: dict[str, object], who: str) -> object:
        kind, answer = GetMessageClass(methods[name].input_type), GetMessageClass(methods[name].output_type)
        rpc = channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=kind.SerializeToString,
            response_deserializer=answer.FromString,
        )
        metadata = (("authorization", f"Bearer {served.tokens[who]}"),)
        found = rpc(json_format.ParseDict(text, kind()), metadata=metadata, timeout=20)
        return json_format.MessageToDict(found, preserving_proto_field_name=True)

    key = "name" if service == V1 else "display_name"
    name = f"reflected {service}"
    made = call(create, {"experiment": {key: name}}, "operator")
    listed = call(list_, {"sort_by": "name", "page_size": 200}, "viewer")
    assert made in listed["experiments"]


async def test_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", V1, V2, "api.HealthzService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
