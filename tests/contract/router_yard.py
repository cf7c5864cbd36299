"""A RouterService alone, over real sockets, and callers with tokens for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from services.jumpstarter.api import router
from services.jumpstarter.api.router_tokens import RouterTokens
from shared.auth.access import Access
from shared.auth.keys import KeyRing
from shared.auth.permissions import PERMISSIONS
from shared.pb.jumpstarter.v1 import router_pb2 as pb
from shared.pb.jumpstarter.v1.router_pb2_grpc import RouterServiceStub
from shared.rpc.interceptors import Pipeline
from shared.rpc.method import methods_of
from shared.rpc.metrics import RpcMetrics
from shared.rpc.server import GrpcServer
from shared.storage.memory import MemoryStore
from tests.patience import PATIENCE

GOAWAY = pb.StreamRequest(frame_type=pb.FRAME_TYPE_GOAWAY)
# Channels to one target share a connection unless they are told not to.
ALONE = (("grpc.use_local_subchannel_pool", 1),)


class Clock:
    """Nanoseconds since 1970 that move when a test says so."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000_000)


@dataclass
class Yard:
    """`client` and `exporter` are connections of their own."""

    router: router.RouterService
    tokens: RouterTokens
    keys: KeyRing
    clock: Clock
    server: GrpcServer
    target: str
    client: grpc.aio.Channel
    exporter: grpc.aio.Channel

    def token(self, stream: str) -> str:
        return self.tokens.issue(stream, self.clock())

    def call(self, token: str, channel: grpc.aio.Channel | None = None) -> Any:
        return RouterServiceStub(channel or self.client).Stream(metadata=bearer(token))

    async def pair(self, stream: str) -> tuple[Any, Any]:
        """Two calls that have met: the client's and the exporter's."""
        token = self.token(stream)
        one, other = self.call(token), self.call(token, self.exporter)
        await one.write(data(b"hello"))
        assert (await read(other)).payload == b"hello"
        return one, other

    async def waiting(self, count: int) -> None:
        """Until so many callers wait for another."""
        async with asyncio.timeout(PATIENCE):
            while len(self.router._waiting) != count:
                await asyncio.sleep(0.005)

    async def empty(self) -> None:
        """Until nothing is left of any call."""
        async with asyncio.timeout(PATIENCE):
            while self.router._waiting or self.router._sides:
                await asyncio.sleep(0.005)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def data(payload: bytes) -> pb.StreamRequest:
    return pb.StreamRequest(payload=payload)


async def read(call: Any) -> Any:
    """The next message, or grpc.aio.EOF."""
    async with asyncio.timeout(PATIENCE):
        return await call.read()


async def end(call: Any) -> tuple[grpc.StatusCode, str]:
    """How the call ends, whatever it sends before."""
    async with asyncio.timeout(PATIENCE):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return await call.code(), await call.details()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Yard]:
    clock, keys = Clock(), KeyRing.open(folder / "keys")
    tokens = RouterTokens(keys, clock)
    service = router.RouterService(tokens, clock)
    access = Access(MemoryStore([]), keys)
    methods = methods_of(router.SERVICE, service, PERMISSIONS, raw=router.RAW)
    pipeline = Pipeline(access, RpcMetrics(CollectorRegistry()))
    server = GrpcServer(pipeline, [(method, None) for method in methods])
    target = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    await server.start()
    try:
        async with (
            grpc.aio.insecure_channel(target, options=ALONE) as client,
            grpc.aio.insecure_channel(target, options=ALONE) as exporter,
        ):
            yield Yard(service, tokens, keys, clock, server, target, client, exporter)
    finally:
        await service.stop()
        await server.stop(0)
