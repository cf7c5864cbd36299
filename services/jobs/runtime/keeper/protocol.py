"""What the keeper and its clients say to each other over a Unix socket.

A frame is a line of JSON; when it has "size", so many bytes follow. The keeper begins with its
"version". A request has "id" and "op", its answer the same "id" and "error" or what was asked for.
After "watch" frames with "event" are sent as well: every attempt as it is, then each that changes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

# Of the protocol, of a description and of the journal; grows when an older one is not understood.
VERSION: Final = 1
# A description of what to run may be long: environment and arguments.
MAX_LINE: Final = 16 << 20

# Errors.
UNKNOWN: Final = "unknown"
INVALID: Final = "invalid"
FAILED: Final = "failed"

_NAME: Final = "socket"
encode: Final = json.JSONEncoder(separators=(",", ":")).encode


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """Of the socket in `folder`, for as long as the block lasts. It is short however long the folder's
    own path is: the name of a socket has at most 107 bytes. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)


async def read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None at the end. Raises ValueError for what is no frame."""
    try:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return None
        frame = json.loads(line)
        if not isinstance(frame, dict):
            raise ValueError("a frame is an object")
        payload = await reader.readexactly(frame["size"]) if frame.get("size") else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return frame, payload


def frame(content: dict[str, Any], payload: bytes = b"") -> bytes:
    if payload:
        content = {**content, "size": len(payload)}
    return encode(content).encode() + b"\n" + payload
