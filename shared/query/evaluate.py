"""A tree as a Python predicate: the meaning of every filter, whatever a backend narrows."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from shared.query import like, regex
from shared.query.ast import (
    And,
    Compare,
    EntryMatch,
    EntryOrder,
    Has,
    HasEntries,
    In,
    IsNan,
    IsNull,
    Like,
    NameMatches,
    Node,
    Not,
    Or,
    Pattern,
    Substring,
    TextMatch,
)
from shared.query.labels import integer
from shared.query.schema import Field, Schema
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
        case Compare(name, "!=", value) if schema[name].many:
            equal = compile(Compare(name, "=", value), schema)
            return lambda message: not equal(message)
        case Compare(name, op, value):
            return _some(schema[name], _test(op, value))
        case In(name, values):
            return _some(schema[name], frozenset(values).__contains__)
        case Substring(name, text):
            return _some(schema[name], _holds(text.casefold()))
        case Has(name, value):
            return _some(schema[name], lambda element: bool(element == value))
        case HasEntries(name, entries):
            return _has_entries(schema[name].get, entries)
        case EntryOrder(name, key, op, value):
            return _entry_order(schema[name].get, key, _ORDER[op], value)
        case NameMatches(name, pattern):
            return _some(schema[name], _full_match("/".join(map(_id, pattern.split("/")))))
        case Like(name, pattern):
            fits = like.matcher(pattern)
            return _some(schema[name], lambda value: isinstance(value, str) and fits(value))
        case TextMatch(name, pattern):
            return _some(schema[name], _text(pattern))
        case EntryMatch(name, key, value):
            return _entry_match(schema[name].get, key, value)
        case IsNull(name):
            null = schema[name].null
            get = schema[name].get
            return null if null is not None else (lambda message: get(message) in (None, NULL))
        case IsNan(name):
            return _some(schema[name], lambda value: value != value)


def _some(field: Field, test: Callable[[Any], bool]) -> Predicate:
    """The field passes the test; of many values one does."""
    get = field.get
    if field.many:
        return lambda message: any(map(test, get(message)))  # type: ignore[arg-type]
    return lambda message: test(get(message))


def _test(op: str, value: Any) -> Callable[[Any], bool]:
    if op == "=":
        return lambda found: bool(found == value)
    if op == "!=":
        return lambda found: bool(found != value)
    compare, bound = _ORDER[op], rank(value)
    return lambda found: compare(rank(found), bound)


def _holds(folded: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and folded in value.casefold()


def _has_entries(get: Callable[[Any], Any], entries: tuple[tuple[str, Any], ...]) -> Predicate:
    def test(message: Any) -> bool:
        found = get(message)
        return all(key in found and (value is None or found[key] == value) for key, value in entries)

    return test


def _entry_order(
    get: Callable[[Any], Any], key: str, compare: Callable[[Any, Any], bool], bound: int
) -> Predicate:
    def test(message: Any) -> bool:
        number = integer(get(message).get(key, ""))
        return number is not None and compare(number, bound)

    return test


def _text(pattern: Pattern) -> Callable[[Any], bool]:
    text, negated = pattern.text, pattern.negated
    if pattern.form == "regex":
        found = regex.compiled(text)
        return lambda value: found(value) != negated
    if pattern.form == "equal":
        return lambda value: (value == text) != negated
    folded = text.casefold()
    return lambda value: value.casefold().startswith(folded) != negated


def _entry_match(get: Callable[[Any], Any], key: Pattern | None, value: Pattern | None) -> Predicate:
    fits = _text(key) if key is not None else None
    holds = _text(value) if value is not None else None

    def test(message: Any) -> bool:
        return any(
            (fits is None or fits(name)) and (holds is None or holds(content))
            for name, content in get(message).items()
        )

    return test


def _full_match(regex: str) -> Callable[[Any], bool]:
    compiled = re.compile(regex, re.DOTALL)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _id(segment: str) -> str:
    return "[^/]+" if segment == "-" else re.escape(segment)
