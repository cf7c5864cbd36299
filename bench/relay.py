"""The ceiling of a router: a grpc.aio handler that joins two callers and copies, and does nothing else.

    python -m bench.relay FOLDER

Callers that send the same `authorization` meet. `ports.json` is written to FOLDER once it listens. It
runs under uvloop, as the services do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import uvloop

_Requests = AsyncIterator[bytes]


class _Relay(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._waiting: dict[str, tuple[_Requests, asyncio.Future[_Requests]]] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self._stream)

    async def _stream(self, requests: _Requests, context: Any) -> _Requests:
        name = dict(context.invocation_metadata())["authorization"]
        if name in self._waiting:
            other, met = self._waiting.pop(name)
            met.set_result(requests)
        else:
            met = asyncio.get_running_loop().create_future()
            self._waiting[name] = requests, met
            other = await met
        async for message in other:
            yield message


async def serve(folder: Path) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Relay(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    written = folder / "ports.json.new"
    written.write_bytes(orjson.dumps({"grpc": port}))
    written.replace(folder / "ports.json")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
