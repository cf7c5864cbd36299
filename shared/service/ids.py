"""Ids of new resources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final
from uuid import UUID

_SIZE: Final = 16
_BLOCK: Final = 256 * _SIZE
_MILLISECONDS: Final = (1 << 48) - 1
_BELOW_VERSION: Final = (1 << 76) - 1


def random_ids() -> Iterator[str]:
    """Version 4 UUIDs without an end, for one thread. The system is asked for randomness once in 256
    ids: each time, the event loop would hand the interpreter to the store's writer in mid-call."""
    while True:
        block = os.urandom(_BLOCK)
        for start in range(0, _BLOCK, _SIZE):
            yield str(UUID(bytes=block[start : start + _SIZE], version=4))


def timed(id: str, now: int) -> str:
    """A version 7 UUID: the milliseconds of `now` (nanoseconds since 1970) before the randomness of
    `id`, a version 4 UUID. Sorts by time."""
    randomness = UUID(id).int & _BELOW_VERSION
    return str(UUID(int=(now // 1_000_000 & _MILLISECONDS) << 80 | 7 << 76 | randomness))
