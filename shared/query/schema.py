"""The fields of a kind of message that filters and orders may name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.storage.port import NULL, Index, Value

FieldType = Literal[
    "text", "int", "double", "bool", "enum", "timestamp", "duration", "name", "message", "map"
]


@dataclass(frozen=True, slots=True)
class Field:
    """`get` answers the value of a message: text or an integer (bools and enums as numbers, times in
    the unit that the dialect compares), NULL when it is null and None when it is missing. With
    `many` it answers a tuple of the values of all elements."""

    name: str
    type: FieldType
    get: Callable[[Any], Value | None]
    # The store keeps exactly this value under the field's name.
    indexed: bool = False
    # The store keeps the case-folded text under `<name>_folded`, for Substring.
    folded: bool = False
    aliases: tuple[str, ...] = ()
    # The path goes through a repeated field, or ends at one (`repeated`).
    many: bool = False
    repeated: bool = False
    # For IsNull.
    null: Callable[[Any], bool] | None = None
    # Of an enum, a message or a map's values; the form of a name.
    descriptor: Any = None
    pattern: Any = None

    @property
    def folded_index(self) -> str:
        return f"{self.name}_folded"


@dataclass(frozen=True)
class Schema:
    """Fields by name and alias."""

    fields: tuple[Field, ...]
    _by_name: dict[str, Field] = field(init=False, default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for entry in self.fields:
            for name in (entry.name, *entry.aliases):
                self._by_name[name] = entry

    def find(self, name: str) -> Field | None:
        return self._by_name.get(name)

    def __getitem__(self, name: str) -> Field:
        """The field of that name or alias. Dialects ask `find` first, so a KeyError is a bug."""
        return self._by_name[name]

    @property
    def names(self) -> list[str]:
        """Every name and alias, sorted: for messages that say what could have been written."""
        return sorted(self._by_name)

    def indexes(self) -> tuple[Index, ...]:
        """What the store keeps for these fields."""
        return tuple(self._indexes())

    def values(self, message: Any) -> Mapping[str, Value]:
        """The index values of a message, missing ones left out."""
        found: dict[str, Value] = {}
        for entry in self.fields:
            if not (entry.indexed or entry.folded):
                continue
            value = entry.get(message)
            if value is None:
                continue
            if entry.indexed:
                found[entry.name] = value
            if entry.folded:
                found[entry.folded_index] = value.casefold() if isinstance(value, str) else NULL
        return found

    def _indexes(self) -> Iterable[Index]:
        for entry in self.fields:
            if entry.indexed:
                yield Index(entry.name, "text" if entry.type in ("text", "name") else "int")
            if entry.folded:
                yield Index(entry.folded_index, "text")
