"""Malformed requests to the pods service end in the right code, name the field, and change nothing."""

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

from shared.rpc.client import failure_of
from shared.rpc.status import HTTP
from tests.contract.bad_input import Rest
from tests.contract.bad_input_pods import GRPC, REST, Grpc
from tests.contract.pods_yard import Yard, opened, pod
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad-input-pods")]
WRONG_VERB = 501


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), "sqlite") as found:
        await found.upsert(pod(900))
        yield found


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(yard: Yard, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """After each case nothing has crashed, nothing was written, and the service serves."""
    caplog.set_level(logging.ERROR)
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [one.name for one in await yard.export()] == ["web-900"]
    assert await yard.store.head() == 1


@pytest.mark.parametrize("case", GRPC, ids=lambda case: case.name)
async def test_over_grpc(yard: Yard, case: Grpc) -> None:
    sent = [one.SerializeToString() if isinstance(one, Message) else one for one in case.requests]
    method = yard.channel.stream_stream(case.method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in method(iter(sent), metadata=yard.metadata(), timeout=PATIENCE):
            pass
    failure = failure_of(caught.value)
    assert failure.code is case.code, failure
    if case.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return  # the library answers, before anything of ours has seen the call
    assert failure.message and len(failure.message) < 2000
    assert failure.reason
    fields = {violation.field for violation in failure.violations}
    assert case.field in fields if case.field else not fields, fields


@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
async def test_over_rest(yard: Yard, case: Rest) -> None:
    headers = {"Authorization": f"Bearer {yard.service.tokens['admin']}", **case.headers}
    url = yarl.URL(yard.service.url + case.target, encoded=True)
    async with yard.http.request(case.verb, url, data=case.data or None, headers=headers) as answer:
        body: dict[str, Any] = json.loads(await answer.read())
    expected = WRONG_VERB if case.code is grpc.StatusCode.UNIMPLEMENTED else HTTP[case.code]
    assert (answer.status, body["code"]) == (expected, case.code.value[0]), body
    assert set(body) == {"error", "code", "message", "details"} and body["error"] == body["message"]
    assert body["message"] and len(body["message"]) < 2000
    assert answer.headers["Content-Type"].startswith("application/json")
    assert case.field in body["message"]


async def test_the_table_is_worth_its_name() -> None:
    names = [*(("grpc", case.name) for case in GRPC), *(("rest", case.name) for case in REST)]
    assert len(names) >= 110 and len(set(names)) == len(names)
