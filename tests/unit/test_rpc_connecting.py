"""A server that takes its time to greet is not taken for one that is gone."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from shared.rpc.client import Client

# Seconds: more than any busy moment of a local server, less than a call may take.
GREETING = 1.0


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_a_slow_greeting_is_waited_for() -> None:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    copying: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        copying.append(asyncio.create_task(_copy(reader, behind_writer)))
        greeted = asyncio.Event()
        asyncio.get_running_loop().call_later(GREETING, greeted.set)
        await greeted.wait()
        copying.append(asyncio.create_task(_copy(behind_reader, writer)))

    slow = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, at = slow.sockets[0].getsockname()
    try:
        async with Client(f"{host}:{at}") as client:
            request = health_pb2.HealthCheckRequest()
            answer = await client.call(health_pb2_grpc.HealthStub, "Check", request)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        slow.close()
        await server.stop(None)
        for task in copying:
            task.cancel()
        await asyncio.gather(*copying, return_exceptions=True)
