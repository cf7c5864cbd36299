"""Server streams over HTTP: JSON lines, events, failures, and clients that leave."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import orjson
import pytest_asyncio

from tests.contract.gateway_server import (
    DEADLINE,
    EXPERIMENTS,
    TOKEN,
    Server,
    serving,
)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as found:
        yield found


async def test_a_stream_is_json_lines(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch"
    async with server.client.get(url, headers=TOKEN) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "no-store" in response.headers["Cache-Control"]
        lines = (await response.read()).splitlines()
    assert [orjson.loads(line) for line in lines] == [
        {"result": {"resumeToken": "t0"}},
        {"result": {"resumeToken": "t1", "revision": "1"}},
        {"result": {"resumeToken": "t2", "revision": "2"}},
        {"result": {"isHardReset": True}},
    ]


async def test_each_message_is_sent_at_once_and_a_client_that_leaves_ends_the_stream(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=forever"
    async with server.client.get(url, headers=TOKEN) as response:
        line = await asyncio.wait_for(response.content.readline(), DEADLINE)
        assert orjson.loads(line)["result"]["resumeToken"] == "t0"
        assert not server.handlers.closed.is_set()
    await asyncio.wait_for(server.handlers.closed.wait(), DEADLINE)


async def test_a_silent_stream_is_opened_all_the_same(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=silent"
    async with server.client.get(url, headers=TOKEN) as response:
        assert response.status == 200
        assert not server.handlers.closed.is_set()
    await asyncio.wait_for(server.handlers.closed.wait(), DEADLINE)


async def test_a_client_that_leaves_before_the_stream_is_opened(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET /v1/export/pods?filter=silent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n"
    )
    await asyncio.wait_for(server.handlers.opened.wait(), DEADLINE)
    writer.transport.abort()
    await asyncio.wait_for(server.handlers.closed.wait(), DEADLINE)
    assert reader.at_eof() or await reader.read() == b""


async def test_a_failure_half_way_is_the_last_line(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=fails"
    async with server.client.get(url, headers=TOKEN) as response:
        assert response.status == 200
        lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
    assert [set(line) for line in lines] == [{"result"}] * 3 + [{"error"}]
    assert (lines[-1]["error"]["code"], lines[-1]["error"]["message"]) == (9, "broke half-way")


async def test_a_failure_before_the_first_message_is_an_http_error(server: Server) -> None:
    assert (await server.get("/admin/v1/experiment:watch?filter=bad"))[0] == 400
    assert (await server.get("/admin/v1/experiment:watch?nope=1"))[0] == 400
    status, found, _ = await server.get(
        "/admin/v1/experiment:watch?filter=bad", headers={"Accept": "text/event-stream"}
    )
    assert (status, found["code"]) == (400, 3)


async def test_a_flood_does_not_hold_up_other_requests(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=flood"
    async with server.client.get(url, headers=TOKEN) as response:
        for _ in range(20):
            assert await asyncio.wait_for(response.content.readline(), DEADLINE)
            status, _, _ = await asyncio.wait_for(server.get(f"{EXPERIMENTS}/x"), DEADLINE)
            assert status == 200
    await asyncio.wait_for(server.handlers.closed.wait(), DEADLINE)


async def test_events_for_browsers(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/admin/v1/experiment:watch?filter=fails&resume_token=from-url"
    headers = {**TOKEN, "Accept": "text/event-stream", "Last-Event-ID": "from-header"}
    async with server.client.get(url, headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        events = (await response.read()).decode().split("\n\n")
    assert events[0] == 'id: t0\ndata: {"resumeToken":"t0"}'
    assert events[1] == 'id: t1\ndata: {"resumeToken":"t1","revision":"1"}'
    assert events[3].startswith('event: error\ndata: {"code":9,"message":"broke half-way"')
    assert events[4:] == [""]
    (request,) = server.handlers.requests
    assert request.resume_token == "from-header"


async def test_the_stream_of_another_style(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/v1/export/pods"
    headers = {**TOKEN, "Accept-Encoding": "gzip"}
    async with server.client.get(f"{url}?format=json", headers=headers) as response:
        assert (response.headers["Content-Encoding"], response.headers["Vary"]) == ("gzip", "Accept-Encoding")
        first = gzip.decompress(await response.read()).splitlines()[0]
    assert orjson.loads(first) == {
        "result": {
            "changes": [],
            "isCurrent": False,
            "resumeToken": "t0",
            "isHardReset": False,
            "revision": "0",
        }
    }
    async with server.client.get(f"{url}?pretty&filter=fails", headers=TOKEN) as response:
        text = (await response.read()).decode()
    assert text.startswith('{\n  "result": {\n')
    assert text.endswith("\n}\n")
    assert '"grpcCode": 9,\n    "httpCode": 400,\n    "message": "broke half-way"' in text
    status, found, _ = await server.get("/v1/export/pods?filter=bad")
    assert (status, found) == (
        400,
        {"error": "filter: is bad", "code": 3, "message": "filter: is bad", "details": []},
    )


async def test_a_stream_for_http_1_0(server: Server) -> None:
    answer = await server.raw(
        b"GET /admin/v1/experiment:watch HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(body.splitlines()) == 4
