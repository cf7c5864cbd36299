"""What fan-out costs without a service behind it: a grpc.aio server that tells ready bytes.

    python -m bench.meta_bare FOLDER

What `PUT` is given is told on every open stream of `WATCH`, unparsed, in order and without loss.
`ports.json` is written into FOLDER once it listens. It runs under uvloop, as the services do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import uvloop

PUT: Final = "/bench.Bare/Put"
WATCH: Final = "/bench.Bare/Watch"
# What a stream begins with: the watch stands.
STANDS: Final = b"\0"


class _Broadcast:
    def __init__(self) -> None:
        self._told: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def put(self, request: bytes, context: Any) -> bytes:
        self._told.append(request)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        return b""

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        loop, at = asyncio.get_running_loop(), len(self._told)
        yield STANDS
        while True:
            while at < len(self._told):
                at += 1
                yield self._told[at - 1]
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.append(waiter)
            await waiter


def _handlers(broadcast: _Broadcast) -> grpc.GenericRpcHandler:
    found = {
        PUT: grpc.unary_unary_rpc_method_handler(broadcast.put),
        WATCH: grpc.unary_stream_rpc_method_handler(broadcast.watch),
    }

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return found.get(details.method)

    return Handlers()


async def serve(folder: Path) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handlers(_Broadcast()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    written = folder / "ports.json.new"
    written.write_bytes(orjson.dumps({"grpc": port}))
    written.replace(folder / "ports.json")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
