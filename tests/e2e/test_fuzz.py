"""Random requests to every method of the process, over gRPC and REST: none crashes it, none is
answered INTERNAL or UNKNOWN, and whatever is wrong with a request is said of a field by name."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import grpc
import pytest
import yarl

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import healthz_pb2 as healthz_v1
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.backend.api.v2beta1 import healthz_pb2 as healthz_v2
from shared.pb.roundhouse.admin.v1 import access_pb2, admin_pb2
from shared.rpc.client import failure_of
from tests import process
from tests.e2e.fuzzing import Fuzzer, Rpc, rpcs
from tests.patience import PATIENCE

SERVICES = [
    v1.DESCRIPTOR.services_by_name["ExperimentService"],
    v2.DESCRIPTOR.services_by_name["ExperimentService"],
    healthz_v1.DESCRIPTOR.services_by_name["HealthzService"],
    healthz_v2.DESCRIPTOR.services_by_name["HealthzService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
    access_pb2.DESCRIPTOR.services_by_name["AccessService"],
]
# Signing out ends the token that all other calls need: it is called with another.
SIGN_OUT = "/roundhouse.admin.v1.AccessService/SignOut"
SEED = 20_240_301
AT_ONCE = 16
NEVER = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
}
NEVER_NUMBERS = {code.value[0] for code in NEVER}
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NewFuzzer = Callable[[random.Random], Fuzzer]


@pytest.fixture
def requests(scale: Callable[[int, int], int]) -> int:
    """Of each transport."""
    return scale(1000, 10_000)


async def run(count: int, one: Callable[[int], Awaitable[str]]) -> list[str]:
    """`one(seed)` for so many seeds, some at a time; the complaints."""
    seeds = iter(range(SEED, SEED + count))
    complaints: list[str] = []

    async def work() -> None:
        for seed in seeds:
            complaint = await one(seed)
            if complaint:
                complaints.append(f"seed {seed}: {complaint}")

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return complaints


async def tokens(url: str, headers: dict[str, str]) -> list[str]:
    """A token of each sort that the server hands out."""
    found = []
    async with aiohttp.ClientSession(url, headers=headers) as http:
        for name in ("one", "two", "three"):
            async with http.post("/apis/v1beta1/experiments", json={"name": name}) as answer:
                assert answer.status == 200
        for path in (
            "/apis/v1beta1/experiments?page_size=1",
            "/apis/v2beta1/experiments?page_size=1&sort_by=name%20desc",
            "/admin/v1/experiment:list?page_size=1",
            "/admin/v1/audit?page_size=1",
            "/admin/v1/access/tokens?page_size=1",
        ):
            async with http.get(path) as answer:
                body = await answer.json()
                found.append(body.get("next_page_token") or body["nextPageToken"])
        async with http.get("/admin/v1/experiment:watch") as answer:
            found.append(json.loads(await answer.content.readline())["result"]["resumeToken"])
    return found


async def unharmed(
    service: process.Process, headers: dict[str, str], path: str = "/apis/v1beta1/experiments"
) -> None:
    """The process still runs and serves, and its log tells of no crash."""
    async with aiohttp.ClientSession(service.url, headers=headers) as http:
        for asked in ("/readyz", path):
            async with http.get(asked) as answer:
                assert answer.status == 200, await answer.text()
    assert service.process.returncode is None
    log = service.log.read_text()
    assert "crashed" not in log
    assert "Traceback" not in log


async def test_over_grpc(tmp_path: Path, requests: int) -> None:
    methods = rpcs(SERVICES)
    async with process.started("pipelines", tmp_path) as service:
        signed = {path: await process.token(tmp_path, "admin") for path in ("", SIGN_OUT)}
        headers = {"Authorization": f"Bearer {signed['']}"}
        given = await tokens(service.url, headers)
        assert await over_grpc(service, methods, signed, requests, lambda source: Fuzzer(source, given)) == []
        await unharmed(service, headers)


async def over_grpc(
    service: process.Process, methods: list[Rpc], signed: dict[str, str], requests: int, fuzzer: NewFuzzer
) -> list[str]:
    """Complaints. `signed` has a token for methods that want one of their own, and under "" for all."""
    async with grpc.aio.insecure_channel(service.target) as channel:

        async def one(seed: int) -> str:
            rpc = methods[seed % len(methods)]
            data = fuzzer(random.Random(seed)).grpc(rpc)
            token = signed.get(rpc.path, signed[""])
            metadata = (("authorization", f"Bearer {token}"),)
            try:
                if rpc.streams:
                    stream = channel.unary_stream(rpc.path)(data, metadata=metadata, timeout=PATIENCE)
                    await stream.read()
                    stream.cancel()
                else:
                    await channel.unary_unary(rpc.path)(data, metadata=metadata, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return complaint(rpc, data, error)
            return ""

        return await run(requests, one)


def complaint(rpc: Rpc, data: bytes, error: grpc.aio.AioRpcError) -> str:
    """What is wrong with how a call failed; nothing, usually."""
    failure = failure_of(error)
    what = f"{rpc.path} {data[:200]!r}: {failure.code.name} {failure.message[:300]}"
    if failure.code in NEVER or failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return what
    if not failure.message or not failure.reason:
        return f"says nothing: {what}"
    if failure.code is INVALID and not all(violation.field for violation in failure.violations or [None]):
        return f"names no field: {what}"
    return ""


async def test_over_rest(tmp_path: Path, requests: int) -> None:
    methods = [rpc for rpc in rpcs(SERVICES) if rpc.rules]
    async with process.started("pipelines", tmp_path) as service:
        signed = {path: await process.token(tmp_path, "admin") for path in ("", SIGN_OUT)}
        headers = {"Authorization": f"Bearer {signed['']}"}
        given = await tokens(service.url, headers)
        assert await over_rest(service, methods, signed, requests, lambda source: Fuzzer(source, given)) == []
        await unharmed(service, headers)


async def over_rest(
    service: process.Process, methods: list[Rpc], signed: dict[str, str], requests: int, fuzzer: NewFuzzer
) -> list[str]:
    """As `over_grpc`."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def one(seed: int) -> str:
            rpc = methods[seed % len(methods)]
            request = fuzzer(random.Random(seed)).rest(rpc)
            token = signed.get(rpc.path, signed[""])
            url = yarl.URL(service.url + request.target, encoded=True)
            sent = {**request.headers, "Authorization": f"Bearer {token}"}
            what = f"{request.verb} {request.target[:300]} {request.body[:200]!r} {request.headers}"
            try:
                async with http.request(
                    request.verb, url, data=request.body or None, headers=sent, allow_redirects=False
                ) as answer:
                    if answer.status < 400 and rpc.streams:
                        await answer.content.readany()
                        answer.close()
                        return ""
                    text = await answer.read()
            except aiohttp.ClientError as error:
                return f"{what}: {error!r}"
            return spoken(what, request.verb, answer.status, text)

        return await run(requests, one)


def spoken(what: str, verb: str, status: int, text: bytes) -> str:
    """What is wrong with an HTTP answer; nothing, usually."""
    what = f"{what}: {status} {text[:300]!r}"
    if status >= 500:
        return what
    if verb == "HEAD" or status < 400:
        return ""
    try:
        body = json.loads(text)
    except ValueError:
        return f"is no JSON: {what}"
    if body["code"] in NEVER_NUMBERS or not body["message"]:
        return what
    if body["code"] == INVALID.value[0]:
        bad = [violation for item in body["details"] for violation in item.get("fieldViolations", ())]
        # The pipelines body has no details of that kind: the message begins with the field.
        named = all(violation["field"] for violation in bad) if bad else ": " in body["message"]
        if not named:
            return f"names no field: {what}"
    return ""
