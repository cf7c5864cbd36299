"""A total order of messages: fields, each with a direction, and the name last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from shared.errors import InvalidArgument
from shared.query.evaluate import rank
from shared.query.schema import Field, Schema
from shared.storage.port import Order, Value

_DIRECTIONS = {"asc": False, "desc": True}


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
        return tuple(key.field.get(message) for key in self.keys)

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
    """`item {"," item}`, item = `field [asc|desc]`; the name follows the last item's direction.

    Empty text is by name. Raises InvalidArgument naming `parameter`.
    """
    keys: list[Key] = []
    if not text.strip():
        return Ordering()
    for item in text.split(","):
        words = item.split()
        if not words or len(words) > 2:
            raise InvalidArgument.at(parameter, f"{item.strip()!r} is no `field [asc|desc]`")
        field = schema.find(words[0])
        if field is None:
            raise InvalidArgument.at(
                parameter, f"cannot order by {words[0]!r}; use one of {', '.join(schema.names)}"
            )
        direction = words[1].lower() if len(words) == 2 else "asc"
        if direction not in _DIRECTIONS:
            raise InvalidArgument.at(parameter, f"{words[1]!r} is neither asc nor desc")
        if all(key.field is not field for key in keys):
            keys.append(Key(field, _DIRECTIONS[direction]))
    return Ordering(tuple(keys), keys[-1].descending if keys else False)
