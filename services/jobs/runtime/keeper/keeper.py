"""Keeps the attempts of one data folder, and answers clients over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import protocol
from services.jobs.runtime.keeper.attempt import STREAMS, Attempt
from services.jobs.runtime.keeper.launch import Ports

log = logging.getLogger("keeper")
_MAX_READ: Final = 1 << 20
_FILES: Final = 10_000
# Bytes that a client which watches may lag behind before it is cut off; it then begins anew.
_LAG: Final = 8 << 20


class Refused(Exception):
    """A request that cannot be carried out; says why."""


class Keeper:
    """`rate`: launches a second, after a burst of as many as a tenth of a second has."""

    def __init__(self, home: Path, *, rate: float) -> None:
        self._home = home
        self._rate = rate
        self._attempts: dict[str, Attempt] = {}
        self._ports = Ports()
        self._line: asyncio.Queue[Attempt] = asyncio.Queue()
        self._watchers: set[asyncio.StreamWriter] = set()
        self._operations: dict[str, Callable[[dict[str, Any]], Awaitable[tuple[dict[str, Any], bytes]]]] = {
            "start": self._start,
            "stop": self._stop,
            "forget": self._forget,
            "attempts": self._list,
            "read": self._read,
            "files": self._files,
            "ping": self._ping,
        }

    async def run(self, socket: Path) -> None:
        """Until cancelled. What an earlier keeper had running is ended first."""
        (self._home / ".keeper").mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._take_over()
        _remove(socket)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, socket, limit=protocol.MAX_LINE)
        finally:
            os.umask(mask)
        async with server:
            await self._launch()

    async def _take_over(self) -> None:
        for path in sorted((self._home / ".keeper").glob("*.json")):
            try:
                attempt = Attempt.load(path, self._ports, self._changed)
            except (ValueError, KeyError, OSError) as error:
                log.warning("%s is left aside: %s", path, error)
                continue
            self._attempts[attempt.id] = attempt
            if attempt.record["phase"] == "waiting":
                self._line.put_nowait(attempt)
            elif not attempt.ended:
                await attempt.abandon()

    async def _launch(self) -> None:
        """One after the other, no more a second than is allowed."""
        burst = max(1.0, self._rate / 10)
        tokens, at = burst, time.monotonic()
        while True:
            attempt = await self._line.get()
            while True:
                now = time.monotonic()
                tokens, at = min(burst, tokens + (now - at) * self._rate), now
                if tokens >= 1:
                    break
                await asyncio.sleep((1 - tokens) / self._rate)
            tokens -= 1
            attempt.start()
            # Launches must not keep the pipes of those that run from being read.
            await asyncio.sleep(0)

    # -- clients

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (found := await protocol.read(reader)) is not None:
                request, _ = found
                if request.get("op") == "watch":
                    self._watch(writer)
                    continue
                writer.write(await self._answer(request))
                await writer.drain()
        except (ValueError, ConnectionError) as error:
            log.warning("a client is cut off: %s", error)
        finally:
            self._watchers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: dict[str, Any]) -> bytes:
        operation = self._operations.get(str(request.get("op")))
        try:
            if operation is None:
                raise Refused(f"no operation {request.get('op')!r}")
            content, payload = await operation(request)
        except (Refused, KeyError, TypeError, OSError) as error:
            text = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            content, payload = {"error": text}, b""
        return protocol.frame({"id": request.get("id"), **content}, payload)

    def _watch(self, writer: asyncio.StreamWriter) -> None:
        for attempt in self._attempts.values():
            writer.write(protocol.frame({"event": attempt.record}))
        writer.write(protocol.frame({"event": None}))
        self._watchers.add(writer)

    def _changed(self, attempt: Attempt) -> None:
        event = protocol.frame({"event": attempt.record})
        for writer in list(self._watchers):
            if writer.transport.get_write_buffer_size() > _LAG:
                self._watchers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(event)

    # -- operations

    async def _start(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        description = request["description"]
        if description["pod_id"] not in self._attempts:
            attempt = Attempt(self._home, description, self._ports, self._changed)
            self._attempts[attempt.id] = attempt
            attempt.save()
            self._line.put_nowait(attempt)
        return {}, b""

    async def _stop(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        await self._known(request).stop(float(request["grace"]))
        return {}, b""

    async def _forget(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        attempt = self._attempts.get(request["pod_id"])
        if attempt is not None:
            if not attempt.ended:
                raise Refused("it has not ended")
            del self._attempts[attempt.id]
            attempt.forget()
        return {}, b""

    async def _list(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {"attempts": [attempt.record for attempt in self._attempts.values()]}, b""

    async def _read(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        attempt = self._known(request)
        if request["stream"] not in STREAMS:
            raise Refused(f"no stream {request['stream']!r}")
        limit = max(0, min(int(request["limit"]), _MAX_READ))
        offset, data = attempt.logs[request["stream"]].read(int(request["offset"]), limit)
        return {"offset": offset}, data

    async def _files(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {"files": _files(self._known(request).sandbox)}, b""

    async def _ping(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {"version": protocol.VERSION, "pid": os.getpid()}, b""

    def _known(self, request: dict[str, Any]) -> Attempt:
        attempt = self._attempts.get(request["pod_id"])
        if attempt is None:
            raise Refused(protocol.UNKNOWN)
        return attempt


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    found: list[str] = []
    for path in folder.rglob("*"):
        if path.is_file():
            found.append(str(path.relative_to(folder)))
            if len(found) == _FILES:
                break
    return sorted(found)
