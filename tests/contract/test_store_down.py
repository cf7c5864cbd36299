"""While a store is away a service says so, on every port and path, and nothing of it crashes."""

from __future__ import annotations

from datetime import timedelta

from grpc import StatusCode

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.storage.port import Author
from tests.contract.pipelines_yard import V1, Yard


async def text(yard: Yard, path: str) -> tuple[int, str]:
    async with yard.http.get(yard.service.url + path) as answer:
        return answer.status, await answer.text()


async def test_the_service_store(yard: Yard) -> None:
    await yard.create("a")
    await text(yard, "/metrics")
    await yard.store.close()
    (await yard.rest("GET", V1)).is_error(503, 14)
    failure = await yard.fails(yard.v1.ListExperiment, v1.ListExperimentsRequest(), StatusCode.UNAVAILABLE)
    assert failure.reason == "STORE_UNAVAILABLE"
    status, metrics = await text(yard, "/metrics")
    assert status == 200
    assert 'code="UNAVAILABLE"' in metrics and "experiment_server_run_count 1.0" in metrics
    assert (await text(yard, "/healthz"))[0] == 200
    assert (await text(yard, "/readyz"))[0] == 503


async def test_the_access_store(yard: Yard) -> None:
    access = yard.service.running.environment.access
    by = Author("test")
    unseen, _ = await access.issue("someone", "viewer", timedelta(hours=1), creator="test", by=by)
    await access.records.store.close()
    (await yard.rest("GET", V1, who=unseen)).is_error(503, 14)
    answer = await yard.rest("GET", "/openapi.json", who=unseen)
    assert (answer.status, answer.body["code"]) == (503, 14)
    assert (await text(yard, "/metrics"))[0] == 200
