"""Fixed paths beside a handler for everything else, and what HTTP/1.1 asks of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from shared.rest.server import http_server


async def health(request: web.BaseRequest) -> web.Response:
    return web.Response(text="fine")


async def otherwise(request: web.BaseRequest) -> web.Response:
    body = await request.read()
    return web.Response(text=f"{request.method} {request.raw_path} {body.decode()}")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    runner = web.ServerRunner(http_server([web.get("/healthz", health)], otherwise, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("verb", "path", "answer"),
    [
        ("GET", "/healthz", "fine"),
        ("GET", "/healthz?full=1", "fine"),
        ("HEAD", "/healthz", ""),
        ("POST", "/healthz", "POST /healthz "),
        ("GET", "/healthz/", "GET /healthz/ "),
        ("GET", "/", "GET / "),
        ("PURGE", "/a%2Fb", "PURGE /a%2Fb "),
    ],
)
async def test_who_answers(port: int, verb: str, path: str, answer: str) -> None:
    url = f"http://127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession() as client,
        client.request(verb, URL(url + path, encoded=True)) as response,
    ):
        assert (response.status, await response.text()) == (200, answer)


async def exchange(port: int, *parts: bytes) -> list[bytes]:
    """Send each part once the last one was answered; answers the first lines of what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = []
    async with asyncio.timeout(10):
        for part in parts:
            writer.write(part)
            lines.append(await reader.readline())
            await reader.readuntil(b"\r\n\r\n" if len(lines) == len(parts) else b"\r\n")
    writer.close()
    return lines


HEAD = b"POST /x HTTP/1.%d\r\nHost: a\r\nContent-Length: 2\r\nExpect: %s\r\n\r\n"


async def test_a_body_is_asked_for_when_its_sender_waits(port: int) -> None:
    continued, answered = await exchange(port, HEAD % (1, b"100-Continue"), b"{}")
    assert continued == b"HTTP/1.1 100 Continue\r\n"
    assert answered == b"HTTP/1.1 200 OK\r\n"


async def test_other_expectations_fail(port: int) -> None:
    (answered,) = await exchange(port, HEAD % (1, b"a-miracle"))
    assert answered.startswith(b"HTTP/1.1 417 ")


async def test_http_1_0_expects_nothing(port: int) -> None:
    (answered,) = await exchange(port, HEAD % (0, b"100-continue") + b"{}")
    assert answered == b"HTTP/1.0 200 OK\r\n"
