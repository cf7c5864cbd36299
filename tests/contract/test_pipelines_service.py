"""What surrounds the API: health, reflection, metrics, who may call what, request ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import healthz_pb2_grpc as healthz_v1
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.backend.api.v2beta1 import healthz_pb2_grpc as healthz_v2
from tests.contract.pipelines_yard import V1, V2, Yard, opened

SERVICES = {
    "api.ExperimentService",
    "api.HealthzService",
    "kubeflow.pipelines.backend.api.v2beta1.ExperimentService",
    "kubeflow.pipelines.backend.api.v2beta1.HealthzService",
    "roundhouse.admin.v1.AdminService",
    "roundhouse.admin.v1.AccessService",
}


async def test_grpc_health_of_every_service_without_a_token(yard: Yard) -> None:
    stub = health_pb2_grpc.HealthStub(yard.channel)
    for name in ("", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_in_both_versions_without_a_token(yard: Yard, version: str) -> None:
    call = yard.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
    found = await call.read()
    names = {service.name for service in found.list_services_response.service}
    assert names >= SERVICES
    assert "api.DummyFilterService" not in names
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="api.ExperimentService"))
    found = await call.read()
    assert found.file_descriptor_response.file_descriptor_proto
    call.cancel()


async def test_healthz_over_grpc_without_a_token(tmp_path: Path) -> None:
    for multi_user in (False, True):
        async with opened(tmp_path / str(multi_user), multi_user=multi_user) as yard:
            first = await healthz_v1.HealthzServiceStub(yard.channel).GetHealthz(Empty())
            second = await healthz_v2.HealthzServiceStub(yard.channel).GetHealthz(Empty())
            assert first.multi_user == second.multi_user == multi_user
            assert second.pipeline_store == "database"


async def metrics(yard: Yard) -> dict[str, float]:
    async with yard.http.get(yard.service.url + "/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        lines = (await answer.text()).splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


async def test_metrics_under_upstreams_names(yard: Yard) -> None:
    """Of both versions, whatever becomes of the request."""
    made = await yard.create("a")
    assert (await yard.rest("POST", V2, {"display_name": "b"})).status == 200
    await yard.rest("GET", f"{V1}/unknown")
    for base in (V1, V2):
        one = f"{base}/{made.id}"
        for verb, path in (
            ("GET", one),
            ("GET", base),
            ("POST", f"{one}:archive"),
            ("POST", f"{one}:unarchive"),
        ):
            assert (await yard.rest(verb, path)).status == 200
    await yard.rest("POST", f"{V2}/{made.id}:unarchive")
    await yard.rest("DELETE", f"{V2}/{made.id}")
    await yard.rest("DELETE", f"{V1}/{made.id}")
    found = await metrics(yard)
    requests = {
        verb: found[f"experiment_server_{verb}_requests"]
        for verb in ("create", "get", "list", "delete", "archive", "unarchive")
    }
    assert requests == {"create": 2, "get": 3, "list": 2, "delete": 2, "archive": 2, "unarchive": 3}
    assert found["experiment_server_run_count"] == 1


async def test_process_health_without_a_token(yard: Yard) -> None:
    assert (await yard.rest("GET", "/healthz", who="")).ok["status"] == "ok"
    assert (await yard.rest("GET", "/readyz", who="")).ok["checks"]["store"] == "ok"


async def test_the_openapi_document_describes_every_route(yard: Yard) -> None:
    assert (await yard.rest("GET", "/openapi.json", who="")).status == 401
    paths = (await yard.rest("GET", "/openapi.json")).ok["paths"]
    for version, name in (("v1beta1", "id"), ("v2beta1", "experiment_id")):
        base = f"/apis/{version}/experiments"
        assert set(paths[base]) >= {"get", "post"}
        assert set(paths[f"{base}/{{{name}}}"]) >= {"get", "delete"}
        assert "post" in paths[f"{base}/{{{name}}}:archive"]
        assert "post" in paths[f"{base}/{{{name}}}:unarchive"]


WRITES: list[tuple[str, str, Any]] = [
    ("POST", V1, {"name": "a"}),
    ("POST", V2, {"display_name": "a"}),
    ("DELETE", f"{V1}/unknown", None),
    ("POST", f"{V1}/unknown:archive", None),
    ("POST", f"{V2}/unknown:unarchive", None),
]
READS: list[tuple[str, str, Any]] = [("GET", V1, None), ("GET", f"{V2}/unknown", None)]


@pytest.mark.parametrize(("verb", "path", "body"), WRITES + READS)
async def test_no_token_or_a_bad_one_is_401(yard: Yard, verb: str, path: str, body: Any) -> None:
    for who in ("", "nonsense", "a.b.c", yard.token("operator") + "x"):
        answer = await yard.rest(verb, path, body, who=who)
        answer.is_error(401, 16, "token")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for header in ("Basic eDp5", "Bearer", "Bearer ", "bearer", yard.token("operator")):
        (await yard.rest(verb, path, body, who="", headers={"Authorization": header})).is_error(401, 16)


@pytest.mark.parametrize(("verb", "path", "body"), WRITES)
async def test_a_viewer_is_403_before_existence_is_revealed(
    yard: Yard, verb: str, path: str, body: Any
) -> None:
    (await yard.rest(verb, path, body, who="viewer")).is_error(403, 7, "experiments.")
    assert await yard.store.head() == 0


async def test_who_calls_comes_before_what_is_wrong_with_the_request(yard: Yard) -> None:
    (await yard.rest("POST", V1, data=b"{", who="")).is_error(401, 16)
    (await yard.rest("POST", V1, data=b"{", who="viewer")).is_error(403, 7)
    (await yard.listed(page_size="x", who="")).is_error(401, 16)
    create = yard.v1.CreateExperiment
    await yard.fails(create, v1.CreateExperimentRequest(), StatusCode.UNAUTHENTICATED, who="")
    failure = await yard.fails(
        create, v1.CreateExperimentRequest(), StatusCode.PERMISSION_DENIED, who="viewer"
    )
    assert failure.metadata["permission"] == "experiments.create"


async def test_every_grpc_method_wants_a_token(yard: Yard) -> None:
    for stub, module in ((yard.v1, v1), (yard.v2, v2)):
        for method in module.DESCRIPTOR.services_by_name["ExperimentService"].methods:
            request = getattr(module, method.input_type.name)()
            failure = await yard.fails(
                getattr(stub, method.name), request, StatusCode.UNAUTHENTICATED, who=""
            )
            assert failure.short == failure.message


async def test_request_ids_come_back(yard: Yard) -> None:
    answer = await yard.rest("GET", V1, headers={"X-Request-Id": "mine-42"})
    assert answer.headers["X-Request-Id"] == "mine-42"
    for bad in ("", "with blank", "x" * 200, "caf\N{LATIN SMALL LETTER E WITH ACUTE}"):
        answer = await yard.rest("GET", f"{V1}/unknown", headers={"X-Request-Id": bad})
        assert answer.headers["X-Request-Id"] not in ("", bad)


async def test_an_unknown_method_is_unimplemented(yard: Yard) -> None:
    for path in (
        "/api.ExperimentService/ListExperiments",
        "/api.RunService/GetRun",
        "/api.DummyFilterService/GetFilter",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await yard.channel.unary_unary(path)(b"", metadata=yard.metadata())
        assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_errors_carry_google_rpc_details_after_api_error(yard: Yard) -> None:
    made = await yard.create("a")
    cases = [
        (yard.v1.GetExperiment, v1.GetExperimentRequest(id="x"), StatusCode.NOT_FOUND, "NOT_FOUND"),
        (
            yard.v1.ListExperiment,
            v1.ListExperimentsRequest(page_size=-1),
            StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
        ),
        (
            yard.v2.CreateExperiment,
            v2.CreateExperimentRequest(experiment=v2.Experiment(display_name="a")),
            StatusCode.ALREADY_EXISTS,
            "ALREADY_EXISTS",
        ),
    ]
    for method, request, code, reason in cases:
        failure = await yard.fails(method, request, code)
        assert failure.reason == reason
        assert failure.short
        assert (failure.fields != ()) == (code is StatusCode.INVALID_ARGUMENT)
        assert (failure.resource != ("", "")) == (code is not StatusCode.INVALID_ARGUMENT)
    assert made.id


async def test_a_list_at_one_revision_while_others_write(any_yard: Yard) -> None:
    """Rows and total are of one moment: a page that shows all rows shows as many as it counts."""
    yard = any_yard
    stop = False

    async def write() -> None:
        number = 0
        while not stop:
            made = await yard.create(f"w{number}")
            await yard.rest("DELETE", f"{V1}/{made.id}")
            number += 1

    writers = [asyncio.create_task(write(), name=f"writer {n}") for n in range(1)]
    try:
        for _ in range(40):
            found = await yard.list(page_size=200, sort_by="name")
            assert len(found.get("experiments", [])) == found.get("total_size", 0)
    finally:
        stop = True
        await asyncio.gather(*writers)
