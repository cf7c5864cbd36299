"""What a service says at the stop: streams that would go on end at once, with UNAVAILABLE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import grpc.aio

from shared.errors import Unavailable
from shared.pb.jumpstarter.v1 import router_pb2 as pb
from shared.rpc.method import PUBLIC, Call, Method
from shared.service.service import Api, Assembly, Environment, Service
from shared.service.testing import started
from tests.contract.router_yard import end, read


async def test_streams_are_told_before_the_servers_wait(tmp_path: Path) -> None:
    stopping = asyncio.Event()

    async def endless(requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        yield b"first"
        await stopping.wait()
        raise Unavailable("the process is stopping")

    async def stop() -> None:
        stopping.set()

    async def assemble(environment: Environment, found: Sequence[object]) -> Assembly:
        method = Method(
            service="test.Frames",
            name="Pass",
            request=pb.StreamRequest,
            response=pb.StreamResponse,
            handler=endless,
            permission=PUBLIC,
            client_streaming=True,
            server_streaming=True,
            raw=True,
        )
        return Assembly(apis=[Api("Frames", [method])], on_stop=[stop])

    service = Service("meta", lambda *_: [], assemble)
    # Were it not told, the stream would be cut off after the grace: later than `end` waits.
    async with asyncio.timeout(30):
        async with started(service, tmp_path, stop_grace="60s") as found:
            channel = grpc.aio.insecure_channel(found.target)
            call = channel.stream_stream("/test.Frames/Pass")()
            assert await read(call) == b"first"
        assert await end(call) == (grpc.StatusCode.UNAVAILABLE, "the process is stopping")
        await channel.close()
