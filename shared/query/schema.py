"""The fields of a kind of message that filters and orders may name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shared.query.path import UnknownPath
from shared.storage.port import NULL, Index, Value

FieldType = Literal[
    "text", "int", "double", "bool", "enum", "timestamp", "duration", "name", "message", "map"
]


class NameForm(Protocol):
    """The form of a resource name: `regions/{region}`."""

    @property
    def template(self) -> str: ...

    def accepts(self, name: str, /) -> bool:
        """Of this form, `-` standing for any id."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """`get` answers the value of a message: text or an integer (bools and enums as numbers, times in
    the unit that the dialect compares), NULL when it is null and None when it is missing. With
    `many` it answers a tuple of the values of all elements."""

    name: str
    type: FieldType
    get: Callable[[Any], Value | None]
    # The store keeps `place` under the field's name.
    indexed: bool = False
    # The store keeps the case-folded text under `<name>_folded`, for Substring.
    folded: bool = False
    aliases: tuple[str, ...] = ()
    # The path goes through a repeated field, or ends at one (`repeated`).
    many: bool = False
    repeated: bool = False
    # For IsNull.
    null: Callable[[Any], bool] | None = None
    # What a null value compares as, where that is not NULL: `get` answers it. An order still puts
    # null values before all others.
    default: Value | None = None
    # Of an enum, a message or a map's entries; the least and the greatest integer; the form of a name.
    descriptor: Any = None
    bounds: tuple[int, int] | None = None
    pattern: NameForm | None = None

    @property
    def folded_index(self) -> str:
        return f"{self.name}_folded"

    def place(self, message: Any) -> Value | None:
        """Where an order puts the message: its value, but NULL when it is null."""
        return NULL if self.is_null_default(message) else self.get(message)

    def is_null_default(self, message: Any) -> bool:
        """The field is null, though `get` answers its default."""
        return self.default is not None and self.null is not None and self.null(message)


@dataclass(frozen=True)
class Schema:
    """Fields by name and alias. `key` is the field whose value is the record's name."""

    fields: tuple[Field, ...]
    key: str = ""
    _by_name: dict[str, Field] = field(init=False, default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for entry in self.fields:
            for name in (entry.name, *entry.aliases):
                self._by_name[name] = entry

    def find(self, name: str) -> Field | None:
        return self._by_name.get(name)

    def resolve(self, name: str) -> Field:
        """The field of that name or alias. Raises UnknownPath, which says what there is."""
        found = self.find(name)
        if found is None:
            raise UnknownPath(f"there is no field {name!r}; use one of {', '.join(self.names)}", 0)
        return found

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
                found[entry.name] = NULL if entry.is_null_default(message) else value
            if entry.folded:
                found[entry.folded_index] = value.casefold() if isinstance(value, str) else NULL
        return found

    def _indexes(self) -> Iterable[Index]:
        for entry in self.fields:
            if entry.indexed:
                yield Index(entry.name, "text" if entry.type in ("text", "name") else "int")
            if entry.folded:
                yield Index(entry.folded_index, "text")
