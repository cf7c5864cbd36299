"""A total order of messages: fields, each with a direction, and the name last."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, Final

from shared.errors import InvalidArgument
from shared.query.evaluate import rank
from shared.query.path import UnknownPath
from shared.query.schema import Field, Schema
from shared.storage.port import Order, Value

MAX_CHARACTERS: Final = 8192
_DIRECTIONS: Final = {"asc": False, "desc": True}
_WITHOUT_ORDER: Final = frozenset({"message", "map"})
_WORD: Final = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Key:
    field: Field
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Ordering:
    """`name_descending`: the direction of the name, which breaks ties."""

    keys: tuple[Key, ...] = ()
    name_descending: bool = False

    @property
    def indexed(self) -> bool:
        """A store can walk in this order by itself."""
        return all(key.field.indexed for key in self.keys)

    def store_order(self) -> tuple[Order, ...]:
        return tuple(Order(key.field.name, key.descending) for key in self.keys)

    def values(self, message: Any) -> tuple[Value | None, ...]:
        """The place of a message, but for its name."""
        return tuple(key.field.place(message) for key in self.keys)

    def sort_key(self, backward: bool = False) -> Callable[[tuple[tuple[Value | None, ...], str]], Any]:
        """For `sorted` over (values, name)."""
        directions = [key.descending != backward for key in self.keys]
        last = self.name_descending != backward

        def compare(a: tuple[tuple[Value | None, ...], str], b: tuple[tuple[Value | None, ...], str]) -> int:
            for left, right, descending in zip(a[0], b[0], directions, strict=True):
                if left != right:
                    return -1 if (rank(left) < rank(right)) != descending else 1
            if a[1] == b[1]:
                return 0
            return -1 if (a[1] < b[1]) != last else 1

        return cmp_to_key(compare)

    def __str__(self) -> str:
        """Canonical text: equal orders print alike."""
        parts = [f"{key.field.name} {'desc' if key.descending else 'asc'}" for key in self.keys]
        return ", ".join([*parts, f"name {'desc' if self.name_descending else 'asc'}"])


def parse(text: str, schema: Schema, *, parameter: str = "order_by") -> Ordering:
    """`item {"," item}`, item = `field [asc|desc]`. A resource's own `name` ends the order; where it
    is not among the items, it follows in the last item's direction.

    Empty text is by name. Raises InvalidArgument naming `parameter`, with the position.
    """
    if len(text) > MAX_CHARACTERS:
        raise _wrong(parameter, f"has more than {MAX_CHARACTERS} characters", MAX_CHARACTERS)
    if not text.strip():
        return Ordering()
    keys: dict[str, Key] = {}
    end: bool | None = None
    descending = False
    offset = 0
    for item in text.split(","):
        field, descending = _item(item, offset, schema, parameter)
        offset += len(item) + 1
        if end is None and field.name == "name" and field.type == "name":
            end = descending
        if end is None:
            keys.setdefault(field.name, Key(field, descending))
    return Ordering(tuple(keys.values()), descending if end is None else end)


def _item(item: str, offset: int, schema: Schema, parameter: str) -> tuple[Field, bool]:
    """The field and whether it descends."""
    words = [(match[0], offset + match.start()) for match in _WORD.finditer(item)]
    if not words:
        raise _wrong(parameter, "a field is expected: `field [asc|desc], ...`", offset)
    if len(words) > 2:
        raise _wrong(parameter, f"',' is expected, not {words[2][0]!r}", words[2][1])
    name, position = words[0]
    try:
        field = schema.resolve(name)
    except UnknownPath as error:
        raise _wrong(parameter, str(error), position + error.offset) from error
    if field.many or field.type in _WITHOUT_ORDER:
        what = "a list" if field.many else f"a {field.type}"
        raise _wrong(parameter, f"{field.name} is {what}, which has no order", position)
    direction, position = words[1] if len(words) == 2 else ("asc", position)
    if direction.lower() not in _DIRECTIONS:
        raise _wrong(parameter, f"{direction!r} is neither asc nor desc", position)
    return field, _DIRECTIONS[direction.lower()]


def _wrong(parameter: str, description: str, position: int) -> InvalidArgument:
    return InvalidArgument.at(parameter, f"at position {position}: {description}", position=position)
