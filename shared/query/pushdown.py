"""What of a tree a store can test itself. It may only narrow: too much is fine, too little never."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from shared.query import like
from shared.query.ast import (
    EVERYTHING,
    And,
    Compare,
    Comparison,
    In,
    IsNull,
    Like,
    Node,
    Not,
    Pattern,
    Substring,
    TextMatch,
)
from shared.query.schema import Field, Schema
from shared.storage.port import NULL, Condition

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# The greatest code point.
_LAST: Final = "\U0010ffff"
_INVERSE: Final[dict[str, Comparison]] = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


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
            return _compared(schema[name], op, value)
        case Not(Compare(name, op, value)) if schema[name].indexed:
            # Two-valued logic: an absent value orders below all, so each operator has an exact inverse.
            return narrow(Compare(name, _INVERSE[op], value), schema)
        case In(name, values) if schema[name].indexed and all(map(_storable, values)):
            field = schema[name]
            nulls = (NULL,) if field.default is not None and field.default in values else ()
            return Narrowing((Condition(field.name, "in", (*values, *nulls)),), True)
        case Like(name, pattern) if schema[name].indexed:
            fixed, rest = like.split(pattern)
            return _begins(schema[name], fixed, rest) if rest else narrow(Compare(name, "=", fixed), schema)
        case Substring(name, text) if schema[name].folded:
            return Narrowing((Condition(schema[name].folded_index, "contains", text.casefold()),), True)
        case TextMatch(name, pattern) if not schema[name].many and not pattern.negated:
            return _matched(schema[name], pattern)
        case IsNull(name) if _keeps_nulls(schema[name]):
            return Narrowing((Condition(schema[name].name, "=", NULL),), True)
        case Not(IsNull(name)) if _keeps_nulls(schema[name]):
            return Narrowing((Condition(schema[name].name, "!=", NULL),), True)
    return Narrowing((), node == EVERYTHING)


def pinned(node: Node, schema: Schema) -> tuple[str, ...] | None:
    """The names of the records among which all matches are; None when the tree does not say."""
    match node:
        case And(items):
            return next((names for item in items if (names := pinned(item, schema)) is not None), None)
        case Compare(name, "=", value) if schema[name].name == schema.key:
            return (str(value),)
        case In(name, values) if schema[name].name == schema.key:
            return tuple(map(str, values))
    return None


def _compared(field: Field, op: Comparison, value: Any) -> Narrowing:
    default = field.default
    if default is None or value is NULL:
        return Narrowing((Condition(field.name, op, value),), True)
    # The store keeps NULL for what compares as the default: it tests those records differently.
    meant = _OPERATORS[op](default, value)
    kept = op in ("!=", "<", "<=")
    if meant == kept:
        return Narrowing((Condition(field.name, op, value),), True)
    if op == "=":
        return Narrowing((Condition(field.name, "in", (value, NULL)),), True)
    # Too much is fine, too little never.
    return Narrowing((Condition(field.name, op, value),) if kept else (), False)


def _matched(field: Field, pattern: Pattern) -> Narrowing:
    """Of a field whose text is never missing."""
    if pattern.form == "equal" and field.indexed:
        return Narrowing((Condition(field.name, "=", pattern.text),), True)
    folded = pattern.text.casefold()
    if pattern.form == "prefix" and not folded:
        return Narrowing((), True)
    if not field.folded or pattern.form == "regex":
        return Narrowing((), False)
    if pattern.form == "equal":
        return Narrowing((Condition(field.folded_index, "=", folded),), False)
    end = _behind(folded)
    above = Condition(field.folded_index, ">=", folded)
    return Narrowing((above, Condition(field.folded_index, "<", end)) if end is not None else (above,), True)


def _begins(field: Field, text: str, rest: str) -> Narrowing:
    """Values that begin with `text` and go on as the pattern `rest` says. An absent value is none."""
    if not text:
        return Narrowing((), False)
    conditions = [Condition(field.name, ">=", text)]
    end = _behind(text)
    if end is not None:
        conditions.append(Condition(field.name, "<", end))
    return Narrowing(tuple(conditions), not rest.strip("%"))


def _behind(text: str) -> str | None:
    """The least text behind all that begin with `text`, by code point; None when there is none."""
    head = text.rstrip(_LAST)
    if not head:
        return None
    following = ord(head[-1]) + 1
    # Halves of surrogate pairs are no characters: no text holds one.
    return head[:-1] + ("\ue000" if following == 0xD800 else chr(following))


def _keeps_nulls(field: Field) -> bool:
    """The store keeps NULL exactly for the messages in which the field is null."""
    return field.indexed and (field.default is not None or field.type in ("timestamp", "duration"))


def _storable(value: object) -> bool:
    """Whether a store can hold it: an integer beyond int64 is compared here instead."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63
