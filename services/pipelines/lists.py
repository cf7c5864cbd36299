"""The list response, which both versions number alike, put together from stored bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.rpc import frames

_MAX_INT32: Final = 2**31 - 1


def response(bodies: Iterable[bytes], next_page_token: str, total: int) -> bytes:
    """experiments = 1, next_page_token = 2, total_size = 3."""
    return (
        frames.messages(1, bodies)
        + frames.text(2, next_page_token)
        + frames.integer(3, min(total, _MAX_INT32))
    )
