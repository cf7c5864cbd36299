"""What one follower worked out, for the others who ask for the same a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

V = TypeVar("V")


class Memo(Generic[V]):
    """Holds the newest few values, at most `entries` and `max_bytes` of them, but at least one."""

    def __init__(self, *, entries: int = 64, max_bytes: int = 8 << 20) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[Hashable, tuple[V, int]] = {}
        self._making: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def get(self, key: Hashable) -> V | None:
        found = self._kept.get(key)
        return None if found is None else found[0]

    async def share(self, key: Hashable, make: Callable[[], Awaitable[V]], size: Callable[[V], int]) -> V:
        """What is kept under `key`, or else what `make` answers, which those who ask meanwhile wait for.
        When it fails, the next of them tries."""
        async with self._making.setdefault(key, asyncio.Lock()):
            known = self.get(key)
            if known is None:
                known = await make()
                self.keep(key, known, size(known))
            return known

    def keep(self, key: Hashable, value: V, size: int) -> None:
        """`size`: about the bytes that it takes."""
        if key in self._kept:
            return
        self._kept[key] = (value, size)
        self._bytes += size
        while len(self._kept) > self._entries or (self._bytes > self._max_bytes and len(self._kept) > 1):
            self._bytes -= self._kept.pop(next(iter(self._kept)))[1]
