"""What has changed, for one reader that may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Feed:
    """Names, each at most once however often it changed, in the order of the changes not yet read. So
    it never grows beyond the number of names."""

    def __init__(self, first: Iterable[str] = ()) -> None:
        self._names = dict.fromkeys(first)
        self._filled = asyncio.Event()
        if self._names:
            self._filled.set()

    def put(self, name: str) -> None:
        self._names[name] = None
        self._filled.set()

    async def take(self) -> list[str]:
        """All that there are; waits for the first."""
        await self._filled.wait()
        found = list(self._names)
        self._names.clear()
        self._filled.clear()
        return found
