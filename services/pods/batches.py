"""A stream cut into batches: full ones, and what has waited long enough."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Batches(Generic[T]):
    """At most `size` items each; none waits longer than `seconds` for others. While a batch is worked
    on the next one fills, and no more is read. What the stream raises ends it at once: items that
    stand behind the last batch are dropped."""

    def __init__(self, items: AsyncIterator[T], *, size: int, seconds: float) -> None:
        self._source = items
        self._size = size
        self._seconds = seconds
        self._items: list[T] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> AsyncGenerator[list[T], None]:
        reader = asyncio.create_task(self._read())
        try:
            while True:
                await self._fill(reader)
                if reader.done():
                    reader.result()
                if not self._items:
                    return
                batch, self._items = self._items, []
                self._room.set()
                yield batch
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader

    async def _fill(self, reader: asyncio.Task[None]) -> None:
        """Until there is a batch, or nothing more comes."""
        while not self._items and not reader.done():
            self._changed.clear()
            await self._changed.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while len(self._items) < self._size and not reader.done():
                    self._changed.clear()
                    await self._changed.wait()

    async def _read(self) -> None:
        try:
            async for item in self._source:
                self._items.append(item)
                if len(self._items) in (1, self._size):
                    self._changed.set()
                while len(self._items) >= self._size:
                    self._room.clear()
                    await self._room.wait()
        finally:
            asyncio.get_running_loop().call_soon(self._changed.set)
