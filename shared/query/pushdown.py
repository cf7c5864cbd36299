"""What of a tree a store can test itself. It may only narrow: too much is fine, too little never."""

from __future__ import annotations

from dataclasses import dataclass

from shared.query.ast import EVERYTHING, And, Compare, In, Node, Not, Substring
from shared.query.schema import Schema
from shared.storage.port import Condition

_INVERSE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """`exact`: the conditions mean the whole tree, so a store may count with them."""

    conditions: tuple[Condition, ...]
    exact: bool


def narrow(node: Node, schema: Schema) -> Narrowing:
    """The conditions that every message matching `node` meets."""
    match node:
        case And(items):
            parts = [narrow(item, schema) for item in items]
            return Narrowing(
                tuple(condition for part in parts for condition in part.conditions),
                all(part.exact for part in parts),
            )
        case Compare(name, op, value) if schema[name].indexed and _storable(value):
            return Narrowing((Condition(schema[name].name, op, value),), True)
        case Not(Compare(name, op, value)) if schema[name].indexed:
            # Two-valued logic: an absent value orders below all, so each operator has an exact inverse.
            return narrow(Compare(name, _INVERSE[op], value), schema)  # type: ignore[arg-type]
        case In(name, values) if schema[name].indexed and all(map(_storable, values)):
            return Narrowing((Condition(schema[name].name, "in", tuple(values)),), True)
        case Substring(name, text) if schema[name].folded:
            return Narrowing((Condition(schema[name].folded_index, "contains", text.casefold()),), True)
    return Narrowing((), node == EVERYTHING)


def _storable(value: object) -> bool:
    """Whether a store can hold it: an integer beyond int64 is compared here instead."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63
