"""The ceilings of exports: a grpc.aio and an aiohttp loop that stream ready bytes and do nothing else.

    python -m bench.stream FOLDER

FOLDER holds `lines`, JSON lines, and `frames`, gRPC messages with 4 bytes of length before each;
`ports.json` is written there once both servers listen. HTTP paths: /chunks writes 64 KiB at a time, as
the service does, /lines each line by itself. Both run under uvloop, as the services do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import uvloop
from aiohttp import web

METHOD: Final = "/v1.PodService/ExportPods"
CHUNK: Final = 64 * 1024


def _frames(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _grpc(frames: Sequence[bytes]) -> grpc.GenericRpcHandler:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return grpc.unary_stream_rpc_method_handler(stream) if details.method == METHOD else None

    return Handlers()


def _http(lines: Sequence[bytes]) -> web.Application:
    async def chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        held: list[bytes] = []
        size = 0
        for line in lines:
            held.append(line)
            size += len(line)
            if size >= CHUNK:
                await response.write(b"".join(held))
                await asyncio.sleep(0)
                held, size = [], 0
        await response.write(b"".join(held))
        return response

    async def each(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        return response

    app = web.Application()
    app.add_routes([web.get("/chunks", chunks), web.get("/lines", each)])
    return app


async def serve(folder: Path) -> None:
    frames = _frames((folder / "frames").read_bytes())
    lines = (folder / "lines").read_bytes().splitlines(keepends=True)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_grpc(frames),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    runner = web.AppRunner(_http(lines), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = {"grpc": grpc_port, "http": runner.addresses[0][1]}
    written = folder / "ports.json.new"
    written.write_bytes(orjson.dumps(ports))
    written.replace(folder / "ports.json")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
