"""A bounded memory of what bytes were turned into."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class ByteCache:
    """Least recently used entries go first once keys and values together exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[tuple[Any, bytes], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: Any, data: bytes) -> bytes | None:
        key = (kind, data)
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, kind: Any, data: bytes, value: bytes) -> None:
        """Does not keep an entry that would take more than an eighth of the whole."""
        size = len(data) + len(value)
        if size > self._limit // 8 or (kind, data) in self._entries:
            return
        self._entries[(kind, data)] = value
        self._size += size
        while self._size > self._limit:
            (_, old), value = self._entries.popitem(last=False)
            self._size -= len(old) + len(value)
