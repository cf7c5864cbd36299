"""nghttp2's load tool: cheap enough never to be the bottleneck. It sees HTTP statuses only, so a
call is verified with a real client before it is measured."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

HINT: Final = "h2load is not installed; on Debian: apt-get install --no-install-recommends nghttp2-client"
_SECONDS: Final = 120
_COUNTS = re.compile(r"requests: (\d+) total.* (\d+) succeeded")
_STATUSES = re.compile(r"status codes: (\d+) 2xx")


class LoadFailed(Exception):
    """Some requests did not succeed."""


def installed() -> bool:
    return shutil.which("h2load") is not None


def grpc(url: str, message: bytes, headers: Mapping[str, str], count: int, scratch: Path) -> None:
    """`count` unary calls over 4 connections with 16 streams each."""
    body = scratch / "request.bin"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    sent = {"content-type": "application/grpc", "te": "trailers", **headers}
    _run(["-c", "4", "-m", "16", "-d", str(body)], url, sent, count)


def http(url: str, headers: Mapping[str, str], count: int) -> None:
    """`count` GET requests of HTTP/1.1 over 16 connections."""
    _run(["--h1", "-c", "16", "-m", "1"], url, headers, count)


def _run(options: Sequence[str], url: str, headers: Mapping[str, str], count: int) -> None:
    given = [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]
    command = ["h2load", "-n", str(count), "-t", "1", *options, *given, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    counts, statuses = _COUNTS.search(done.stdout), _STATUSES.search(done.stdout)
    if counts is None or statuses is None or not int(counts[2]) == int(statuses[1]) == count:
        raise LoadFailed(f"h2load {url}:\n{done.stdout[-1500:]}{done.stderr[-500:]}")
