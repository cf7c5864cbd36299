"""The headers of a request as the metadata of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from multidict import CIMultiDictProxy

from shared.rpc.interceptors import REQUEST_ID, new_request_id, request_id
from shared.rpc.method import Metadata


class Headers(Metadata):
    """By lower-case name, the first of each, always valid Unicode. Nothing is copied: few of a
    request's headers are ever asked for. A request id is always there: the caller's, if it is a
    decent one, or a new one."""

    __slots__ = ("_given", "_request_id")

    def __init__(self, given: CIMultiDictProxy[str]) -> None:
        self._given = given
        sent = REQUEST_ID in given
        self._request_id = request_id({REQUEST_ID: given[REQUEST_ID]}) if sent else new_request_id()

    def __getitem__(self, name: str) -> str:
        if name == REQUEST_ID:
            return self._request_id
        value = self._given[name]
        if value.isascii():
            return value
        # Bytes that are not UTF-8 arrive as lone surrogates.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name == REQUEST_ID or name in self._given else default

    def __iter__(self) -> Iterator[str]:
        return iter({REQUEST_ID: None, **{name.lower(): None for name in self._given}})

    def __len__(self) -> int:
        return len(list(iter(self)))

    @property
    def repeated(self) -> frozenset[str]:
        counts = Counter(name.lower() for name, _ in self._given.items())
        return frozenset(name for name, count in counts.items() if count > 1)
