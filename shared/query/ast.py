"""One tree for every filter language.

Dialects build it from text that they have checked against a `Schema`; the evaluator and the
push-down read it. Nodes are values: equal trees mean equal queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.storage.port import Value

Comparison = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Compare:
    """The field against one value. An absent field differs from every value and orders below all."""

    field: str
    operator: Comparison
    value: Value


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


Node = Compare | In | Substring | Not | And | Or
EVERYTHING = And(())
