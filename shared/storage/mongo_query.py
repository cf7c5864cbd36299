"""The port's queries in MongoDB's language: filters, sort keys and keyset positions.

Index values are stored encoded (`shared.storage.values`), so every comparison is a plain one of two
texts or two numbers, and MongoDB's null logic never comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.storage.mongo_driver import Document
from shared.storage.mongo_fields import escaped
from shared.storage.port import Condition, Kind, Query
from shared.storage.rules import index_of
from shared.storage.values import Encoded, encode

# MongoDB refuses patterns of more than 32 KiB; escaping may double a text.
LONGEST_PATTERN = 8_192
_OPERATORS = {"!=": "$ne", "<": "$lt", ">": "$gt", ">=": "$gte"}


@dataclass(frozen=True)
class Selection:
    """What of a kind is asked for: `filter` is MongoDB's part, `rest` (texts that a pattern cannot
    hold) is tested here on what it answers."""

    filter: tuple[Document, ...]
    rest: tuple[Condition, ...] = ()
    keys: tuple[tuple[str, int], ...] = ()
    after: tuple[Encoded, ...] | None = None
    inclusive: bool = False

    def holds(self, document: Document) -> bool:
        """Whether `rest` accepts a document that MongoDB's part accepted."""
        texts = ((str(document["values"][escaped(c.index)]), str(c.value)) for c in self.rest)
        return all(stored.startswith("2") and part in stored[1:] for stored, part in texts)

    def place_of(self, document: Document) -> tuple[Encoded, ...]:
        """Where `document` stands in the order."""
        return tuple(_value(document, key) for key, _ in self.keys)

    def from_place(self, place: tuple[Encoded, ...]) -> Selection:
        """The same, but only what comes behind `place`."""
        return Selection(self.filter, self.rest, self.keys, place)

    def unordered(self) -> Selection:
        """The same, in no order and from no place."""
        return Selection(self.filter, self.rest)

    def filter_of(self, *also: Mapping[str, object]) -> Document:
        """The whole filter, narrowed by `also`. Flat as far as fields come once: simple planners see
        no further."""
        parts = [*also, *self.filter]
        if self.after is not None:
            parts.extend(_behind(self.keys, self.after, self.inclusive))
        whole: Document = {}
        repeated: list[Mapping[str, object]] = []
        for part in parts:
            if part.keys() & whole.keys():
                repeated.append(part)
            else:
                whole.update(part)
        return {**whole, "$and": repeated} if repeated else whole

    def in_order(self, documents: Iterable[Document]) -> list[Document]:
        """`documents`, one of each id, as MongoDB sorts them by `keys`."""
        distinct = list({document["_id"]: document for document in documents}.values())
        for key, direction in reversed(self.keys):
            distinct.sort(key=lambda document, key=key: _value(document, key), reverse=direction < 0)  # type: ignore[misc]
        return distinct


def of_names(names: Sequence[str]) -> Selection:
    """The records of these names, in no order."""
    return Selection(({"name": {"$in": list(names)}},))


def of_query(kind: Kind, query: Query) -> Selection:
    """The records that a validated `query` asks for, in its order and walking direction."""
    parts: list[Document] = []
    rest: list[Condition] = []
    if query.parent is not None:
        parts.append({"parent": query.parent})
    for condition in query.where:
        if condition.operator == "contains" and not _fits_pattern(str(condition.value)):
            rest.append(condition)
            parts.append({_path(condition.index): {"$gte": "2"}})
        else:
            parts.append(_test(kind, condition))
    keys = [(_path(order.index), order.descending) for order in query.order]
    keys.append(("name", query.name_descending))
    directions = tuple((key, -1 if down != query.backward else 1) for key, down in keys)
    if query.after is None:
        return Selection(tuple(parts), tuple(rest), directions)
    pairs = zip(query.order, query.after.values, strict=True)
    place = (*(encode(index_of(kind, order.index), value) for order, value in pairs), query.after.name)
    return Selection(tuple(parts), tuple(rest), directions, place, query.after.inclusive)


def _path(index: str) -> str:
    return f"values.{escaped(index)}"


def _value(document: Document, key: str) -> Encoded:
    return document["values"][key.removeprefix("values.")] if key != "name" else document["name"]


def _fits_pattern(part: str) -> bool:
    return "\0" not in part and len(part.encode()) <= LONGEST_PATTERN


def _test(kind: Kind, condition: Condition) -> Document:
    index = index_of(kind, condition.index)
    path = _path(condition.index)
    if isinstance(condition.value, tuple):
        return {path: {"$in": [encode(index, value) for value in condition.value]}}
    if condition.operator == "contains":
        return {path: {"$regex": rf"^2[\s\S]*{re.escape(str(condition.value))}"}}
    value = encode(index, condition.value)
    if condition.operator == "=":
        return {path: value}
    if condition.operator == "<=":
        # The same bounds as $lte, which the wire server of the tests takes for $lt on some indexes.
        return {path: {"$not": {"$gt": value}}}
    return {path: {_OPERATORS[condition.operator]: value}}


def _behind(keys: Sequence[tuple[str, int]], place: Sequence[Encoded], inclusive: bool) -> Iterable[Document]:
    """Keyset paging: the first key's bound, which an index can seek, and the exact rule."""
    branches: list[Document] = []
    for position, (key, direction) in enumerate(keys):
        equal = {earlier: value for (earlier, _), value in zip(keys[:position], place, strict=False)}
        last = position == len(keys) - 1
        operator = ("$gt" if direction > 0 else "$lt") + ("e" if inclusive and last else "")
        branches.append({**equal, key: {operator: place[position]}})
    first, direction = keys[0]
    yield {first: {"$gte" if direction > 0 else "$lte": place[0]}}
    yield {"$or": branches}
