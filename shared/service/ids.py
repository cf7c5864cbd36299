"""Ids of new resources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final
from uuid import UUID

_SIZE: Final = 16
_BLOCK: Final = 256 * _SIZE


def random_ids() -> Iterator[str]:
    """Version 4 UUIDs without an end, for one thread. The system is asked for randomness once in 256
    ids: each time, the event loop would hand the interpreter to the store's writer in mid-call."""
    while True:
        block = os.urandom(_BLOCK)
        for start in range(0, _BLOCK, _SIZE):
            yield str(UUID(bytes=block[start : start + _SIZE], version=4))
