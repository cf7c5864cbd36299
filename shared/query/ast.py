"""One tree for every filter language.

Dialects build it from text that they have checked against a `Schema`; the evaluator and the
push-down read it. Nodes are values: equal trees mean equal queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shared.storage.port import Value

Comparison = Literal["=", "!=", "<", "<=", ">", ">="]


class MapValue(dict[str, Any]):
    """A whole map as an operand: equal to a dict of the same entries, and hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


# Bytes are a whole message, serialized deterministically. It and a map can only be equal or not.
Operand = Value | float | bytes | MapValue


@dataclass(frozen=True, slots=True)
class Compare:
    """The field against one value. An absent field differs from every value and orders below all.
    Of a path through a repeated field one element must satisfy it; `!=` is the negation of `=`."""

    field: str
    operator: Comparison
    value: Operand


@dataclass(frozen=True, slots=True)
class In:
    """The field equals one of the values."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Substring:
    """The field's text holds `text`, both case-folded."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Has:
    """The repeated field has an element that equals `value`."""

    field: str
    value: Operand


@dataclass(frozen=True, slots=True)
class HasEntries:
    """The map has all entries; a value of None asks for the key alone."""

    field: str
    entries: tuple[tuple[str, Value | None], ...]


@dataclass(frozen=True, slots=True)
class EntryOrder:
    """The map's text under `key` is an int64 in decimal digits, below or above `value`."""

    field: str
    key: str
    operator: Literal["<", ">"]
    value: int


@dataclass(frozen=True, slots=True)
class NameMatches:
    """The resource name equals `pattern`, in which `-` stands for any id."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Like:
    """The whole text fits: `%` is any run, `_` one character, a backslash takes the next as it is."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The message, time, name or reference is unset, the list or map empty, the key missing."""

    field: str


@dataclass(frozen=True, slots=True)
class IsNan:
    """The number is not one."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    item: Node


@dataclass(frozen=True, slots=True)
class And:
    """All items hold; none: everything matches."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One item holds; none: nothing matches."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A test of one text: it starts with `text` or equals it, or a regular expression has a match in
    it. A prefix and an expression ignore letter case."""

    form: Literal["prefix", "equal", "regex"]
    text: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class TextMatch:
    """The field's text passes the test. Of many texts one does, also where the test is negated."""

    field: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class EntryMatch:
    """An entry of the map passes both tests; None: any key, or any value."""

    field: str
    key: Pattern | None
    value: Pattern | None


Node = (
    Compare
    | In
    | Substring
    | Has
    | HasEntries
    | EntryOrder
    | NameMatches
    | Like
    | TextMatch
    | EntryMatch
    | IsNull
    | IsNan
    | Not
    | And
    | Or
)
EVERYTHING = And(())
