"""What the keeper and its clients say to each other over a Unix socket.

A frame is a line of JSON; when it has "size", so many bytes follow. A request has "id" and "op", its
answer the same "id" and "error" or what was asked for. To a client that watches, frames with "event"
are sent as well.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

VERSION: Final = 1
# A description of what to run may be long: environment and arguments.
MAX_LINE: Final = 16 << 20
UNKNOWN: Final = "unknown attempt"


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
    return json.dumps(content, separators=(",", ":")).encode() + b"\n" + payload
