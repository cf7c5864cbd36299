"""Malformed requests to the catalogue end in the right code, name the field, and leave it as it was."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
import yarl
from google.protobuf.message import Message

from shared.rpc.client import failure_of
from shared.rpc.status import HTTP
from tests.contract.bad_input import Grpc, Rest
from tests.contract.bad_input_meta import GRPC, INVALID, REST
from tests.contract.meta_yard import Yard, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad-input-meta")]
WRONG_VERB = {404, 405}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("meta"), "sqlite") as yard:
        await yard.apply(
            regions=[{"name": "regions/before"}],
            services=[{"name": "services/before", "current_version": "v", "all_versions": ["v"]}],
            deployments=[{"name": "regions/before/deployments/d", "service": "services/before"}],
        )
        yield yard


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(served: Yard, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """After each case nothing has crashed, nothing was written, and the service serves."""
    caplog.set_level(logging.ERROR)
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert await served.names("region") == ["regions/before"]
    assert await served.store.head() == 1


@pytest.mark.parametrize("case", GRPC, ids=lambda case: case.name)
async def test_over_grpc(served: Yard, case: Grpc) -> None:
    data = case.request.SerializeToString() if isinstance(case.request, Message) else case.request
    metadata = tuple({**dict(served.metadata("admin")), **case.metadata}.items())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if "/Watch" in case.method:
            await served.channel.unary_stream(case.method)(data, metadata=metadata, timeout=PATIENCE).read()
        else:
            await served.channel.unary_unary(case.method)(data, metadata=metadata, timeout=PATIENCE)
    failure = failure_of(caught.value)
    assert failure.code is case.code, failure
    if case.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED):
        return  # the library answers, before anything of ours has seen the call
    assert failure.message and len(failure.message) < 2000
    assert failure.reason
    fields = {violation.field for violation in failure.violations}
    if case.field == "*":
        assert fields
    elif case.field:
        assert case.field in fields, failure
    else:
        assert not fields


@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
async def test_over_rest(served: Yard, case: Rest) -> None:
    headers = {**dict(served.metadata("admin")), **case.headers}
    headers = {key.title(): value for key, value in headers.items() if value}
    if case.headers.get("Authorization") == "":
        del headers["Authorization"]
    url = yarl.URL(served.service.url + case.target, encoded=True)
    async with served.http.request(case.verb, url, data=case.data or None, headers=headers) as answer:
        body = json.loads(await answer.read())
    if case.code is grpc.StatusCode.UNIMPLEMENTED:
        assert answer.status in WRONG_VERB
    else:
        assert (answer.status, body["code"]) == (HTTP[case.code], case.code.value[0]), body
    assert body["message"] and len(body["message"]) < 2000
    assert answer.headers["Content-Type"].startswith("application/json")
    assert case.field in body["message"], body
    if case.code is INVALID:
        violations = next(item for item in body["details"] if "fieldViolations" in item)["fieldViolations"]
        assert all(violation["field"] for violation in violations)


async def test_the_table_is_worth_its_name() -> None:
    names = {(type(case), case.name) for case in (*GRPC, *REST)}
    assert len(names) == len(GRPC) + len(REST) >= 60
