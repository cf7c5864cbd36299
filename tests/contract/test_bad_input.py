"""Malformed requests end in the right code, name the field, and leave the service as it was."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yarl
from google.protobuf.message import Message

from shared.rpc.status import CODES, HTTP
from tests.contract.bad_input import GRPC, INVALID, REST, Grpc, Rest
from tests.contract.pipelines_yard import V1, Yard, opened, unpacked
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad-input")]
STREAMS = ("Watch", "Export")
# A known path and another verb: the gRPC code has no HTTP status of its own for it.
WRONG_VERB = 405


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    data: Path = tmp_path_factory.mktemp("yard")
    async with opened(data, "sqlite") as yard:
        await yard.create("before")
        yield yard


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(served: Yard, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """After each case nothing has crashed, nothing was written, and the service serves."""
    caplog.set_level(logging.ERROR)
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert await served.names(V1, who="viewer") == ["before"]
    assert await served.store.head() == 1


@pytest.mark.parametrize("case", GRPC, ids=lambda case: case.name)
async def test_over_grpc(served: Yard, case: Grpc) -> None:
    data = case.request.SerializeToString() if isinstance(case.request, Message) else case.request
    metadata = tuple({**dict(served.metadata("admin")), **case.metadata}.items())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if case.method.endswith(STREAMS):
            await served.channel.unary_stream(case.method)(data, metadata=metadata, timeout=PATIENCE).read()
        else:
            await served.channel.unary_unary(case.method)(data, metadata=metadata, timeout=PATIENCE)
    assert caught.value.code() is case.code, caught.value.details()
    if case.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return  # the library answers, before anything of ours has seen the call
    failure = unpacked(caught.value)
    assert failure.message and len(failure.message) < 2000
    assert failure.reason
    if case.field == "*":
        assert failure.fields
    elif case.field:
        assert case.field in failure.fields
    else:
        assert failure.fields == ()


@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
async def test_over_rest(served: Yard, case: Rest) -> None:
    headers = {"Authorization": f"Bearer {served.token('admin')}", **case.headers}
    url = yarl.URL(served.service.url + case.target, encoded=True)
    async with served.http.request(case.verb, url, data=case.data or None, headers=headers) as answer:
        body: dict[str, Any] = json.loads(await answer.read())
    expected = WRONG_VERB if case.code is grpc.StatusCode.UNIMPLEMENTED else HTTP[case.code]
    assert (answer.status, body["code"]) == (expected, case.code.value[0]), body
    assert body["message"] and len(body["message"]) < 2000
    assert answer.headers["Content-Type"].startswith("application/json")
    assert case.field in body["message"]
    if case.code is INVALID and case.target.startswith("/admin/"):
        violations = next(item for item in body["details"] if "fieldViolations" in item)["fieldViolations"]
        assert case.field in {violation["field"] for violation in violations}


RAW = {
    "no HTTP at all": b"\x00\x01\x02\xff\xff\r\n\r\n",
    "TLS to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    "a request line without a version": b"GET /\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n",
    "a length that is no number": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a chunk that is none": b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a request line of 100,000 bytes": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header of 100,000 bytes": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "a target that is no path": b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a byte beyond ASCII in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
async def test_what_is_no_http(served: Yard, data: bytes) -> None:
    """Answered with a 4xx or cut off, never a 5xx."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.service.running.http_port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    finally:
        writer.close()
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]


async def test_the_table_is_worth_its_name() -> None:
    names = [case.name for case in (*GRPC, *REST)]
    assert len(names) >= 60
    assert len({(type(case), case.name) for case in (*GRPC, *REST)}) == len(names)
    assert {code for code, _ in CODES.values()} >= {case.code for case in GRPC}
