"""Malformed requests to a lab end in the right code, name the field, and leave it as it was."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yarl
from google.protobuf.message import Message

from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import failure_of
from shared.rpc.status import HTTP
from tests.contract.bad_input import Rest
from tests.contract.bad_input_jumpstarter import GRPC, INVALID, MANIFESTS, PARENT, REST, Grpc, manifest
from tests.contract.jumpstarter_yard import Lab, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad-input-jumpstarter")]
WRONG_VERB = 405


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with opened(tmp_path_factory.mktemp("yard"), "sqlite") as yard:
        found = await yard.lab()
        await found.client("bob")
        await found.exporter("bench", board="rpi")
        await found.create("board=rpi", id="before")
        assert found.parent == PARENT
        yield found


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(lab: Lab, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """After each case nothing has crashed, nothing was written, and the service serves."""
    caplog.set_level(logging.ERROR)
    before = await lab.yard.store.head()
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert await lab.leases(only_active=False) == ["before"]
    assert await lab.yard.store.head() == before


@pytest.mark.parametrize("case", GRPC, ids=lambda case: case.name)
async def test_over_grpc(lab: Lab, case: Grpc) -> None:
    data = case.request.SerializeToString() if isinstance(case.request, Message) else case.request
    headers: dict[str, str | None] = {**lab.alice.metadata, **case.headers}
    metadata = (*((key, value) for key, value in headers.items() if value is not None), *case.more)
    path = f"/jumpstarter.client.v1.ClientService/{case.method}"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lab.yard.channel.unary_unary(path)(data, metadata=metadata, timeout=PATIENCE)
    failure = failure_of(caught.value)
    assert failure.code is case.code, failure
    if case.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return  # the library answers, before anything of ours has seen the call
    assert failure.message and len(failure.message) < 2000
    assert failure.reason
    fields = {violation.field for violation in failure.violations}
    assert case.field in fields if case.field else not fields


@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
async def test_over_rest(lab: Lab, case: Rest) -> None:
    headers = {"Authorization": lab.alice.metadata["authorization"], **case.headers}
    url = yarl.URL(lab.yard.service.url + case.target, encoded=True)
    async with lab.yard.http.request(case.verb, url, data=case.data or None, headers=headers) as answer:
        body: dict[str, Any] = json.loads(await answer.read())
    expected = WRONG_VERB if case.code is grpc.StatusCode.UNIMPLEMENTED else HTTP[case.code]
    assert (answer.status, body["code"]) == (expected, case.code.value[0]), body
    assert body["message"] and len(body["message"]) < 2000
    assert answer.headers["Content-Type"].startswith("application/json")
    assert case.field in body["message"]
    if case.code is INVALID:
        violations = next(item for item in body["details"] if "fieldViolations" in item)["fieldViolations"]
        assert any(violation["field"].endswith(case.field) for violation in violations), violations


@pytest.mark.parametrize(("name", "lists", "field"), MANIFESTS, ids=[name for name, _, _ in MANIFESTS])
async def test_manifests(lab: Lab, name: str, lists: dict[str, Any], field: str) -> None:
    request = admin_pb2.ApplyRequest(manifest=manifest(lists))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lab.yard.admin.Apply(request, metadata=tuple(lab.yard.staff("admin").items()), timeout=PATIENCE)
    failure = failure_of(caught.value)
    assert failure.code is INVALID, failure
    assert field in {violation.field for violation in failure.violations}, failure


async def test_the_table_is_worth_its_name() -> None:
    names = [*(("grpc", case.name) for case in GRPC), *(("rest", case.name) for case in REST)]
    assert len(names) >= 120 and len(set(names)) == len(names)
