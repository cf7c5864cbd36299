"""Liveness checks: a command, or an HTTP GET to this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.jobs.runtime.keeper.launch import LaunchFailed
from services.jobs.runtime.keeper.reaper import Reaper, send_group

# Bytes of its output that a failed check is reported with.
_OUTPUT: Final = 1000
_CHUNK: Final = 1 << 16
# A check that was ended may write for a moment still.
_READS: Final = 16
Spawn = Callable[[], subprocess.Popen[bytes]]


async def http(wanted: Mapping[str, Any], timeout: float) -> str:
    """GET of "scheme", "port", "path" with "headers": 2xx and 3xx are well. Empty when it is well,
    otherwise what is wrong."""
    try:
        async with asyncio.timeout(timeout):
            return await _get(wanted)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


async def _get(wanted: Mapping[str, Any]) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", wanted["port"], ssl=_tls(wanted["scheme"]))
    try:
        headers = {"Host": f"127.0.0.1:{wanted['port']}", "Connection": "close", **wanted["headers"]}
        lines = [f"GET {wanted['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        await writer.drain()
        status = (await reader.readline()).split()
        if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
            return "the answer is no HTTP"
        return "" if 200 <= int(status[1]) < 400 else f"HTTP {status[1].decode()}"
    finally:
        writer.transport.abort()


def _tls(scheme: str) -> ssl.SSLContext | None:
    """A pod's own certificate need not be one that anybody knows."""
    if scheme != "https":
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def command(spawn: Spawn, reaper: Reaper, mark: int, timeout: float) -> str:
    """Runs what `spawn` starts, with a pipe at stdout: status 0 is well. Whatever it started ends with
    it. Empty when it is well, otherwise what is wrong."""
    try:
        process = spawn()
    except LaunchFailed as error:
        return str(error)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def exited(code: int) -> None:
        send_group(process.pid, signal.SIGKILL)
        if not ended.done():
            ended.set_result(code)

    reaper.add(process, mark, exited)
    output = _Tail(process)
    try:
        async with asyncio.timeout(timeout):
            code = await ended
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    finally:
        if not ended.done() or ended.cancelled():
            send_group(process.pid, signal.SIGKILL)
        text = output.close()
    if code == 0:
        return ""
    status = f"status {code}" if code > 0 else f"signal {-code}"
    return f"{status}: {text}" if text else status


class _Tail:
    """The last of what a process writes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._pipe = process.stdout
        self._kept = b""
        os.set_blocking(self._pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def close(self) -> str:
        for _ in range(_READS):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()
        return self._kept.decode(errors="replace").strip()

    def _read(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self._pipe.fileno(), _CHUNK)
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._kept = (self._kept + data)[-_OUTPUT:]
        return bool(data)
