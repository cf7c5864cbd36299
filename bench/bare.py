"""The ceilings: a grpc.aio and an aiohttp handler that answer ready bytes and do nothing else.

    python -m bench.bare FOLDER

FOLDER holds `answers.json`, which maps gRPC methods ("/package.Service/Method") and URL paths to
files of it; `ports.json` is written there once both servers listen. Both run under uvloop, as the
services do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import orjson
import uvloop
from aiohttp import web


def _grpc(answers: dict[str, bytes]) -> grpc.GenericRpcHandler:
    def handler(body: bytes) -> grpc.RpcMethodHandler:
        async def answer(request: bytes, context: Any) -> bytes:
            return body

        return grpc.unary_unary_rpc_method_handler(answer)

    handlers = {method: handler(body) for method, body in answers.items()}

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return handlers.get(details.method)

    return Handlers()


def _http(answers: dict[str, bytes]) -> web.Application:
    def handler(body: bytes) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=body, headers={"Content-Type": "application/json"})

        return answer

    app = web.Application()
    app.add_routes([web.get(path, handler(body)) for path, body in answers.items()])
    return app


async def serve(folder: Path) -> None:
    files: dict[str, dict[str, str]] = orjson.loads((folder / "answers.json").read_bytes())
    answers = {
        kind: {key: (folder / file).read_bytes() for key, file in of.items()} for kind, of in files.items()
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_grpc(answers["grpc"]),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    runner = web.AppRunner(_http(answers["http"]), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = {"grpc": grpc_port, "http": runner.addresses[0][1]}
    written = folder / "ports.json.new"
    written.write_bytes(orjson.dumps(ports))
    written.replace(folder / "ports.json")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
