"""Every RPC and every route of every service: no token is 401, too small a role is 403, and both come
before anything is said about what exists."""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest

from shared.auth.permissions import PERMISSIONS, ROLES
from shared.rpc.method import PUBLIC, HttpRule, Method
from shared.service.service import Service
from shared.service.testing import TestService, started

SERVICES = Path(__file__).parents[2] / "services"
# What answers without a token, beside RPCs that the table calls public.
OPEN = {"/healthz", "/readyz", "/metrics"}
OPEN_OF = {"pipelines": {"/apis/v1beta1/healthz", "/apis/v2beta1/healthz"}}
_VARIABLE = re.compile(r"\{(?:[^{}=]+)(?:=([^{}]+))?\}")


def services() -> list[Service]:
    names = sorted(path.parent.name for path in SERVICES.glob("*/__main__.py"))
    assert names, "no service found"
    return [importlib.import_module(f"services.{name}.service").SERVICE for name in names]


@pytest.fixture(params=services(), ids=lambda service: service.name)
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(request.param, tmp_path, jobs_runtime="fake") as found:
        yield found


def methods(yard: TestService) -> list[Method]:
    return [method for api in yard.running.apis for method in api.methods]


def lacking(method: Method) -> list[str]:
    return [role for role, granted in ROLES.items() if method.permission not in granted]


async def rpc(channel: grpc.aio.Channel, method: Method, token: str | None) -> grpc.StatusCode:
    """The code of a call with an empty request."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        if method.server_streaming:
            call = channel.unary_stream(method.path)(b"", metadata=metadata, timeout=5)
            await call.read()
            call.cancel()
        else:
            await channel.unary_unary(method.path)(b"", metadata=metadata, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def http(session: aiohttp.ClientSession, rule: HttpRule, token: str | None) -> int:
    path = _VARIABLE.sub(lambda match: (match[1] or "*").replace("**", "no").replace("*", "no"), rule.path)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # A body that is no JSON: whoever may not call is not told so.
    async with session.request(rule.verb, path, headers=headers, data=b"{") as answer:
        return answer.status


async def test_every_rpc_is_in_the_table_and_nothing_else_is_served(yard: TestService) -> None:
    for method in methods(yard):
        assert PERMISSIONS[method.path] == method.permission


async def test_no_token_is_unauthenticated_on_every_rpc(yard: TestService) -> None:
    async with grpc.aio.insecure_channel(yard.target) as channel:
        codes = {m.path: await rpc(channel, m, None) for m in methods(yard) if m.permission != PUBLIC}
    assert len(codes) >= 10
    assert {path: code for path, code in codes.items() if code is not grpc.StatusCode.UNAUTHENTICATED} == {}


async def test_a_forged_token_is_unauthenticated_on_every_rpc(yard: TestService) -> None:
    head, payload, _ = yard.tokens["admin"].split(".")
    async with grpc.aio.insecure_channel(yard.target) as channel:
        for method in methods(yard):
            if method.permission != PUBLIC:
                code = await rpc(channel, method, f"{head}.{payload}.AAAA")
                assert code is grpc.StatusCode.UNAUTHENTICATED, method.path


async def test_too_small_a_role_is_denied_on_every_rpc(yard: TestService) -> None:
    denied = 0
    async with grpc.aio.insecure_channel(yard.target) as channel:
        for method in methods(yard):
            for role in lacking(method) if method.permission != PUBLIC else ():
                code = await rpc(channel, method, yard.tokens[role])
                assert code is grpc.StatusCode.PERMISSION_DENIED, (method.path, role)
                denied += 1
    assert denied >= 10


async def test_every_route_asks_for_a_token_and_a_role(yard: TestService) -> None:
    routes = 0
    async with aiohttp.ClientSession(yard.url) as session:
        for method in methods(yard):
            for rule in method.rules if method.permission != PUBLIC else ():
                assert await http(session, rule, None) == 401, (rule, method.path)
                for role in lacking(method):
                    assert await http(session, rule, yard.tokens[role]) == 403, (rule, role)
                routes += 1
    assert routes >= 10


async def test_nothing_else_answers_without_a_token(yard: TestService) -> None:
    async with aiohttp.ClientSession(yard.url) as session:
        for path in sorted(OPEN | OPEN_OF.get(yard.running.service.name, set())):
            async with session.get(path) as answer:
                assert answer.status == 200, path
        async with session.get("/openapi.json") as answer:
            assert answer.status == 401
        async with session.get(
            "/openapi.json", headers={"Authorization": f"Bearer {yard.tokens['viewer']}"}
        ) as answer:
            paths = set((await answer.json())["paths"])
        async with session.get("/nowhere") as answer:
            assert answer.status == 404
    assert len(paths) >= 10
