"""A tree as a Python predicate: the meaning of every filter, whatever a backend narrows."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from shared.query.ast import And, Compare, In, Node, Not, Or, Substring
from shared.query.schema import Schema
from shared.storage.port import NULL, Value

Predicate = Callable[[Any], bool]
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rank(value: Value | None) -> tuple[int, Any]:
    """Sorts values in the store's order: missing < NULL < value."""
    if value is None:
        return (0, 0)
    if value is NULL:
        return (1, 0)
    return (2, value)


def compile(node: Node, schema: Schema) -> Predicate:
    """A function of a message. Raises KeyError for a field that the schema lacks (a dialect's bug)."""
    match node:
        case And(items):
            parts = tuple(compile(item, schema) for item in items)
            if len(parts) == 1:
                return parts[0]
            return lambda message: all(part(message) for part in parts)
        case Or(items):
            choices = tuple(compile(item, schema) for item in items)
            return lambda message: any(choice(message) for choice in choices)
        case Not(item):
            inner = compile(item, schema)
            return lambda message: not inner(message)
        case In(name, values):
            get, allowed = schema[name].get, frozenset(values)
            return lambda message: get(message) in allowed
        case Substring(name, text):
            return _substring(schema[name].get, text.casefold())
        case Compare(name, op, value):
            return _compare(schema[name].get, op, value)


def _substring(get: Callable[[Any], Value | None], folded: str) -> Predicate:
    def test(message: Any) -> bool:
        value = get(message)
        return isinstance(value, str) and folded in value.casefold()

    return test


def _compare(get: Callable[[Any], Value | None], op: str, value: Value) -> Predicate:
    if op == "=":
        return lambda message: get(message) == value
    if op == "!=":
        return lambda message: get(message) != value
    compare, bound = _ORDER[op], rank(value)
    return lambda message: compare(rank(get(message)), bound)
