"""Answers to reads that stay the same for as long as nobody writes: lists that many poll."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from shared.storage.port import Store

MAX_BYTES: Final = 8 << 20


class Answers:
    """Remembers serialized answers at the store's newest revision, which every look-up asks for: a
    commit of whatever process makes all of them forgotten, and none is ever behind the store.

    Only for answers that nothing but the question and the store decides; who may ask is decided
    before. `max_bytes` bounds questions and answers together; the oldest go first.
    """

    def __init__(self, store: Store, *, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._revision = -1
        self._size = 0
        self._known: dict[bytes, bytes] = {}

    async def get(self, question: bytes, answer: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `answer` makes of the current state, or made of it before. Raises what it raises."""
        revision = await self._store.head()
        if revision != self._revision:
            self._revision, self._size = revision, 0
            self._known.clear()
        known = self._known.get(question)
        if known is not None:
            return known
        found = await answer()
        # Made while somebody wrote, it may be of either side of that.
        if await self._store.head() == revision:
            self._remember(revision, question, found)
        return found

    def _remember(self, revision: int, question: bytes, answer: bytes) -> None:
        size = len(question) + len(answer)
        if revision != self._revision or question in self._known or size > self._max_bytes // 4:
            return
        self._known[question] = answer
        self._size += size
        while self._size > self._max_bytes:
            oldest = next(iter(self._known))
            self._size -= len(oldest) + len(self._known.pop(oldest))
