"""Liveness checks: a command, or an HTTP GET to this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from services.jobs.runtime.keeper import children

_OUTPUT = 1000


async def check(wanted: Mapping[str, Any], *, sandbox: Path, environment: Mapping[str, str]) -> str:
    """Empty when it is well; otherwise what is wrong."""
    try:
        async with asyncio.timeout(wanted["timeout"]):
            if wanted["type"] == "http":
                return await _http(wanted)
            return await _command(wanted, sandbox, environment)
    except TimeoutError:
        return f"no answer within {wanted['timeout']:g} s"
    except OSError as error:
        return str(error)


async def _http(wanted: Mapping[str, Any]) -> str:
    """2xx and 3xx are well."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wanted["port"])
    try:
        headers = {"Host": f"127.0.0.1:{wanted['port']}", "Connection": "close", **wanted["headers"]}
        lines = [f"GET {wanted['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        await writer.drain()
        status = (await reader.readline()).split()
        if len(status) < 2 or not status[1].isdigit():
            return "the answer is no HTTP"
        return "" if 200 <= int(status[1]) < 400 else f"HTTP {status[1].decode()}"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _command(wanted: Mapping[str, Any], sandbox: Path, environment: Mapping[str, str]) -> str:
    variables = {} if wanted["bare"] else dict(environment)
    with tempfile.TemporaryFile() as output:
        process = _spawn(wanted["argv"], output, sandbox, variables)
        try:
            code = await children.ended(process)
        finally:
            # Whatever it started ends with it, in time or not.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code == 0:
            return ""
        output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT))
        text = output.read().decode(errors="replace").strip()
    return f"status {code}: {text}" if text else f"status {code}"


def _spawn(
    arguments: list[str], output: IO[bytes], folder: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=variables,
        start_new_session=True,
    )
