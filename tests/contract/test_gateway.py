"""The REST gateway over real sockets: routes, bodies, errors, headers."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio
from grpc import StatusCode

from services.pipelines.style import STYLE
from shared.rest.gateway import Gateway
from tests.contract.gateway_server import (
    DEADLINE,
    EXPERIMENTS,
    TOKEN,
    Handlers,
    Server,
    methods,
    pipeline,
    serving,
)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as found:
        yield found


async def test_an_answer(server: Server) -> None:
    status, found, headers = await server.call("POST", EXPERIMENTS, data=b'{"name":"n","nope":1}')
    assert (status, found) == (
        200,
        {"id": "new", "name": "n", "storage_state": "STORAGESTATE_AVAILABLE"},
    )
    assert headers["Content-Type"] == "application/json"
    assert len(headers["X-Request-Id"]) == 32
    (call,) = server.handlers.calls
    assert (call.transport, call.identity.subject, call.request_id) == (
        "rest",
        "someone",
        headers["X-Request-Id"],
    )


async def test_bytes_from_a_handler_are_written_as_json(server: Server) -> None:
    assert (await server.get(f"{EXPERIMENTS}/x"))[:2] == (200, {"id": "x", "name": "äää"})


async def test_empty_answers_are_objects(server: Server) -> None:
    assert (await server.call("DELETE", f"{EXPERIMENTS}/x"))[:2] == (200, {})
    assert (await server.get(EXPERIMENTS))[:2] == (200, {})
    # As the SDK sends it; a body is not looked at.
    assert (await server.call("POST", f"{EXPERIMENTS}/x:archive"))[:2] == (200, {})
    assert (await server.call("POST", f"{EXPERIMENTS}/x:archive", data=b"\xff["))[:2] == (200, {})
    assert [request.id for request in server.handlers.requests if hasattr(request, "id")] == ["x"] * 3


async def test_what_the_sdk_sends_to_list(server: Server) -> None:
    path = (
        "?page_token=&page_size=10&sort_by=&resource_reference_key.type=NAMESPACE&resource_reference_key.id="
    )
    status, found, _ = await server.get(EXPERIMENTS + path)
    assert status == 200
    assert len(found["experiments"]) == 10
    (request,) = server.handlers.requests
    assert request.resource_reference_key.type == 5


async def test_an_encoded_slash_stays_in_the_id(server: Server) -> None:
    head, _, body = (
        await server.raw(
            b"GET /apis/v1beta1/experiments/a%2Fb%3Aarchive HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer good\r\nConnection: close\r\n\r\n"
        )
    ).partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert orjson.loads(body)["id"] == "a/b:archive"


async def test_a_target_with_scheme_and_host(server: Server) -> None:
    answer = await server.raw(
        b"GET http://elsewhere/apis/v1beta1/experiments/z?x=1 HTTP/1.1\r\nHost: elsewhere\r\n"
        b"Authorization: Bearer good\r\nConnection: close\r\n\r\n"
    )
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["id"] == "z"


async def test_error_bodies_follow_the_api(server: Server) -> None:
    status, found, _ = await server.get(f"{EXPERIMENTS}/missing")
    assert status == 404
    assert found == {
        "error": "no experiment missing",
        "code": 5,
        "message": "no experiment missing",
        "details": [
            {
                "@type": "type.googleapis.com/api.Error",
                "error_message": "no experiment missing",
                "error_details": "no experiment missing",
            }
        ],
    }
    status, found, _ = await server.get("/admin/v1/experiment:watch?filter=bad")
    assert status == 400
    assert (found["code"], found["message"]) == (3, "filter: is bad")
    assert found["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "filter", "description": "is bad"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "INVALID_ARGUMENT",
            "domain": "roundhouse",
        },
    ]


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/apis/v1beta1/nothing", {"error", "code", "message", "details"}),
        (f"{EXPERIMENTS}/a/b", {"error", "code", "message", "details"}),
        (f"{EXPERIMENTS}/a:nothing", {"error", "code", "message", "details"}),
        ("/v1/export/nothing", {"error", "code", "message", "details"}),
        ("/admin/v1/a/b/c", {"code", "message", "details"}),
        ("/", {"code", "message", "details"}),
        ("/nothing", {"code", "message", "details"}),
    ],
)
async def test_unknown_paths(server: Server, path: str, shape: set[str]) -> None:
    status, found, headers = await server.get(path)
    assert (status, found["code"], set(found)) == (404, 5, shape)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Request-Id"]


async def test_the_wrong_verb(server: Server) -> None:
    status, found, headers = await server.call("PUT", EXPERIMENTS)
    assert (status, found["code"]) == (405, 12)
    assert headers["Allow"] == "POST, GET, HEAD, OPTIONS"
    assert (await server.call("DELETE", "/v1/export/pods"))[0] == 501
    status, found, headers = await server.call("OPTIONS", f"{EXPERIMENTS}/x:archive")
    assert (status, found, headers["Allow"]) == (204, None, "POST, OPTIONS")
    assert (await server.call("OPTIONS", "/nothing"))[0] == 404


async def test_head_is_get_without_the_body(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}{EXPERIMENTS}/x"
    async with server.client.get(url, headers=TOKEN) as response:
        length = response.headers["Content-Length"]
    async with server.client.head(url, headers=TOKEN) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, length)
        assert await response.read() == b""
    async with server.client.head(url.removesuffix("x") + "missing", headers=TOKEN) as response:
        assert response.status == 404
    stream = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=forever"
    async with server.client.head(stream, headers=TOKEN) as response:
        assert response.status == 200
    await asyncio.wait_for(server.handlers.closed.wait(), DEADLINE)


async def test_no_token_comes_before_everything_else(server: Server) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer bäd"}):
        status, found, answered = await server.call("POST", EXPERIMENTS, data=b"{broken", headers=headers)
        assert (status, found["code"], answered["WWW-Authenticate"]) == (401, 16, "Bearer")
    status, found, _ = await server.call(
        "POST", EXPERIMENTS, data=b"x" * (2 << 20), headers={"Authorization": "Bearer small"}
    )
    assert (status, found["code"]) == (403, 7)
    status, _, _ = await server.get("/admin/v1/x:watch?nope=1", headers={"Authorization": ""})
    assert status == 401
    assert server.handlers.calls == []


async def test_a_public_method_needs_no_token(server: Server) -> None:
    status, found, _ = await server.call(
        "POST", "/admin/v1/access/signInCodes:redeem", data=b'{"code":"c"}', headers={"Authorization": ""}
    )
    assert (status, found) == (200, {"value": "c"})


async def test_a_crash_tells_nothing(server: Server) -> None:
    status, found, headers = await server.get(f"{EXPERIMENTS}/crash")
    assert (status, found["code"]) == (500, 13)
    assert "secret" not in orjson.dumps(found).decode()
    assert headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1", True), ("x" * 129, False), ("a b", False), ("ä", False), ("", False)],
)
async def test_the_request_id_is_echoed_when_it_is_a_decent_one(
    server: Server, given: str, kept: bool
) -> None:
    for path in (f"{EXPERIMENTS}/x", f"{EXPERIMENTS}/missing", "/nothing", "/admin/v1/x:watch"):
        headers = {**TOKEN, "X-Request-Id": given}
        async with server.client.get(f"http://127.0.0.1:{server.port}{path}", headers=headers) as response:
            await response.read()
            assert (response.headers["X-Request-Id"] == given) is kept
    assert {call.request_id == given for call in server.handlers.calls} == {kept}


async def test_bodies_that_are_too_long(server: Server) -> None:
    limit = STYLE.max_body
    fits = b'{"name":"' + b"n" * (limit - 11) + b'"}'
    assert (await server.call("POST", EXPERIMENTS, data=fits))[0] == 200
    status, found, _ = await server.call("POST", EXPERIMENTS, data=fits + b" ")
    assert (status, found["code"]) == (400, 3)
    assert "body: is longer than the limit of 1048576 bytes" in found["message"]

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (limit // 10)

    status, found, _ = await server.call("POST", EXPERIMENTS, data=pieces())
    assert (status, found["code"]) == (400, 3)
    bomb = zlib.compress(b" " * (limit * 3))
    headers = {"Content-Encoding": "deflate"}
    status, found, _ = await server.call("POST", EXPERIMENTS, data=bomb, headers=headers)
    assert (status, found["code"]) == (400, 3)


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"Content-Encoding": "gzip"}, b"not gzip at all"),
        ({"Content-Encoding": "deflate"}, b"\xff\xff\xff\xff"),
        ({}, b"{"),
        ({}, b'{"name":"\xff"}'),
        ({}, b"[]"),
        ({}, b'"x"'),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"name=x"),
    ],
)
async def test_broken_bodies(server: Server, headers: dict[str, str], data: bytes) -> None:
    status, found, _ = await server.call("POST", EXPERIMENTS, data=data, headers=headers)
    assert (status, found["code"]) == (400, 3)
    assert found["message"].startswith("body: ")


async def test_a_compressed_body_is_read(server: Server) -> None:
    data, headers = gzip.compress(b'{"name":"z"}'), {"Content-Encoding": "gzip"}
    assert (await server.call("POST", EXPERIMENTS, data=data, headers=headers))[1]["name"] == "z"


async def test_large_answers_are_compressed_for_those_who_ask(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}{EXPERIMENTS}?page_size="
    accept = {**TOKEN, "Accept-Encoding": "deflate, gzip;q=0.5"}
    async with server.client.get(url + "100", headers=accept) as response:
        assert (response.headers["Content-Encoding"], response.headers["Vary"]) == ("gzip", "Accept-Encoding")
        assert len(orjson.loads(gzip.decompress(await response.read()))["experiments"]) == 100
    refusing = {**TOKEN, "Accept-Encoding": "gzip;q=0"}
    async with server.client.get(url + "100", headers=refusing) as response:
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept-Encoding"
        assert len(orjson.loads(await response.read())["experiments"]) == 100
    async with server.client.get(url + "1", headers=accept) as response:
        assert "Content-Encoding" not in response.headers
    async with server.client.get(url + "20000", headers=accept) as response:
        assert len(orjson.loads(gzip.decompress(await response.read()))["experiments"]) == 20_000


async def test_an_answer_that_json_cannot_hold_is_an_error_of_its_own(server: Server) -> None:
    status, found, _ = await server.get("/admin/v1/experiment:get?name=deep")
    assert (status, found["code"]) == (400, StatusCode.FAILED_PRECONDITION.value[0])
    assert "ask over gRPC" in found["message"]


def test_two_methods_cannot_claim_one_route() -> None:
    experiments, _, _ = methods(Handlers())
    with pytest.raises(ValueError, match="same route"):
        Gateway(pipeline(), [(experiments + experiments, STYLE)])
