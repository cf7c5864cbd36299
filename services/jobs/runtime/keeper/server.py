"""Answers clients of a keeper over its socket."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import protocol
from services.jobs.runtime.keeper.keeper import Keeper, Unknown

log = logging.getLogger("keeper")

_MAX_READ: Final = 1 << 20
_BACKLOG: Final = 64
Answer = tuple[dict[str, Any], bytes]


class Server:
    """`ended` is called when a client asks the keeper to end."""

    def __init__(self, keeper: Keeper, ended: Callable[[], None]) -> None:
        self._keeper = keeper
        self._ended = ended
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._operations: dict[str, Callable[[dict[str, Any]], Awaitable[Answer]]] = {
            "configure": self._configure,
            "start": self._start,
            "stop": self._stop,
            "forget": self._forget,
            "attempts": self._list,
            "read": self._read,
            "files": self._files,
            "end": self._end,
        }

    async def open(self, folder: Path) -> None:
        """Listens in `folder`, for its own user alone."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=_listener(folder), limit=protocol.MAX_LINE, backlog=_BACKLOG
        )

    @property
    def alone(self) -> bool:
        """Nobody is connected."""
        return not self._clients

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        watching: asyncio.Task[None] | None = None
        try:
            writer.write(protocol.frame({"version": protocol.VERSION, "pid": os.getpid()}))
            while (found := await protocol.read(reader)) is not None:
                if found[0].get("op") == "watch":
                    watching = watching or asyncio.create_task(self._watch(writer))
                    continue
                writer.write(await self._answer(found[0]))
                await writer.drain()
        except (ValueError, ConnectionError) as error:
            log.warning("a client is cut off: %s", error)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            self._clients.discard(task)
            writer.transport.abort()

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        feed = self._keeper.follow()
        try:
            while True:
                records = [self._keeper.record(id) for id in await feed.take()]
                writer.write(
                    b"".join(protocol.frame({"event": each}) for each in records if each is not None)
                )
                await writer.drain()
        except ConnectionError:
            log.info("a client watches no more")
        finally:
            self._keeper.unfollow(feed)

    async def _answer(self, request: dict[str, Any]) -> bytes:
        operation = self._operations.get(str(request.get("op")))
        content: dict[str, Any]
        payload = b""
        try:
            if operation is None:
                raise ValueError(f"no operation {request.get('op')!r}")
            content, payload = await operation(request)
        except Unknown:
            content = {"error": protocol.UNKNOWN}
        except OSError as error:
            content = {"error": protocol.FAILED, "text": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            content = {"error": protocol.INVALID, "text": f"{type(error).__name__}: {error}"}
        return protocol.frame({"id": request.get("id"), **content}, payload)

    # -- operations

    async def _configure(self, request: dict[str, Any]) -> Answer:
        self._keeper.configure(
            rate=float(request["rate"]),
            pods=int(request["pods"]),
            processes=int(request["processes"]),
            idle=float(request["idle"]),
        )
        return {}, b""

    async def _start(self, request: dict[str, Any]) -> Answer:
        self._keeper.start(request["description"])
        return {}, b""

    async def _stop(self, request: dict[str, Any]) -> Answer:
        self._keeper.known(request["pod_id"]).stop(max(0.0, float(request["grace"])))
        return {}, b""

    async def _forget(self, request: dict[str, Any]) -> Answer:
        await self._keeper.forget(request["pod_id"])
        return {}, b""

    async def _list(self, request: dict[str, Any]) -> Answer:
        return {"attempts": self._keeper.records()}, b""

    async def _read(self, request: dict[str, Any]) -> Answer:
        limit = max(0, min(int(request["limit"]), _MAX_READ))
        offset, data = self._keeper.read(request["pod_id"], request["stream"], int(request["offset"]), limit)
        return {"offset": offset}, data

    async def _files(self, request: dict[str, Any]) -> Answer:
        return {"files": await self._keeper.files(request["pod_id"])}, b""

    async def _end(self, request: dict[str, Any]) -> Answer:
        self._ended()
        return {}, b""


def _listener(folder: Path) -> socket.socket:
    with protocol.address(folder) as path:
        Path(path).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
    return listener
