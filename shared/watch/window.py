"""Which changes can alter a page: so that it need not be listed again after those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from shared.query.ast import EVERYTHING
from shared.query.evaluate import Predicate, compile
from shared.resource.collection import Page, PageRequest
from shared.resource.definition import Definition
from shared.storage.port import Commit, Record

# Changes of one commit that are looked at before listing the page is the shorter way.
_FEW = 32


class _Side(Enum):
    """Where an image of a resource stands: nowhere on the list, or ahead of where the page begins; on
    the page; or behind its last row."""

    OUT = auto()
    ON = auto()
    BEHIND = auto()


class Window:
    """The part of an ordered list that `request` asks for, whatever stands there. "Behind" and "ahead"
    are meant in reading order, which is the list's turned round for a page that ends at its cursor."""

    def __init__(self, definition: Definition[Any], request: PageRequest) -> None:
        self._kind = definition.kind
        self._parse = definition.parse
        self._parent_of = definition.parent
        self._request = request
        self._backward = request.cursor is not None and request.cursor.backward
        self._key: Callable[[Any], Any] = request.ordering.sort_key(self._backward)
        self._matches: Predicate | None = None
        if request.filter != EVERYTHING:
            self._matches = compile(request.filter, definition.schema)

    def end(self, page: Page) -> Any:
        """Where the page's last row stands, if it is full and more follows; None when all that follows
        is on it, or would be if there were room."""
        more = page.previous if self._backward else page.next
        if more is None or len(page.records) < self._request.size:
            return None
        last: Record = page.records[0 if self._backward else -1]
        return self._place(last.name, self._parse(last.body))

    def touched(self, commit: Commit, end: Any) -> bool:
        """Whether the page that ended at `end` before may be another one after `commit`. It is not when
        every row on it stays as it is, none comes, and what follows it does not become less."""
        found = [change for change in commit.changes if change.kind == self._kind]
        if len(found) > _FEW:
            return True
        for change in found:
            before = self._side(change.name, change.before, end)
            after = self._side(change.name, change.after, end)
            if _Side.ON in (before, after) or (before is _Side.BEHIND and after is _Side.OUT):
                return True
        return False

    def _side(self, name: str, body: bytes | None, end: Any) -> _Side:
        if body is None:
            return _Side.OUT
        request, message = self._request, self._parse(body)
        if request.parent not in (None, self._parent_of(message)):
            return _Side.OUT
        if self._matches is not None and not self._matches(message):
            return _Side.OUT
        place, cursor = self._place(name, message), request.cursor
        if cursor is not None:
            start = self._key((cursor.values, cursor.name))
            if place < start or (place == start and not cursor.inclusive):
                return _Side.OUT
        return _Side.BEHIND if end is not None and place > end else _Side.ON

    def _place(self, name: str, message: Any) -> Any:
        return self._key((self._request.ordering.values(message), name))
