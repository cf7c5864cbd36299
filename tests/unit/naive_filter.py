"""What a filter means, said once more in the simplest way: the oracle of the property tests.

It shares nothing with the evaluator but the tree. A path leads to *cells*: (value, is null).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.query.ast import (
    And,
    Compare,
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
)

# What an unset time compares as.
UNSET = -(10**30)


@dataclass(frozen=True)
class Found:
    """`many`: the path goes through or ends at a repeated field."""

    cells: list[tuple[Any, bool]]
    many: bool = False


def holds(node: Node, message: Message, names: frozenset[str]) -> bool:
    """Whether `message` matches; `names` are the paths of names and references."""
    match node:
        case And(items):
            return all(holds(item, message, names) for item in items)
        case Or(items):
            return any(holds(item, message, names) for item in items)
        case Not(item):
            return not holds(item, message, names)
        case IsNull(path):
            return all(null for _, null in look(message, path, names).cells)
        case IsNan(_):
            return False
        case Compare(path, "!=", value):
            return not holds(Compare(path, "=", value), message, names)
        case Compare(path, op, value):
            return any(_compare(found, op, value) for found, _ in look(message, path, names).cells)
        case In(path, values):
            return any(found in list(values) for found, _ in look(message, path, names).cells)
        case Has(path, value):
            return any(found == value for found, _ in look(message, path, names).cells)
        case HasEntries(path, entries):
            ((found, _),) = look(message, path, names).cells
            return all(key in found and value in (None, found[key]) for key, value in entries)
        case NameMatches(path, pattern):
            return any(_name(found, pattern) for found, _ in look(message, path, names).cells)
        case Like(path, pattern):
            return any(_like(found, pattern) for found, _ in look(message, path, names).cells)
    raise AssertionError(node)


def _compare(found: Any, op: str, value: Any) -> bool:
    if op == "=":
        return bool(found == value)
    return bool({"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[op])


def _name(found: str, pattern: str) -> bool:
    ours, theirs = found.split("/"), pattern.split("/")
    return len(ours) == len(theirs) and all(
        b in ("-", a) and (a != "" or b == "") for a, b in zip(ours, theirs, strict=True)
    )


def _like(text: str, pattern: str) -> bool:
    regex, escaped = "", False
    for character in pattern:
        if escaped or character not in "%_\\":
            regex += re.escape(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            regex += ".*" if character == "%" else "."
    return re.fullmatch(regex + (re.escape("\\") if escaped else ""), text, re.DOTALL) is not None


def look(message: Message, path: str, names: frozenset[str]) -> Found:
    segments = [part.replace("\0", ".") for part in path.replace("\\.", "\0").split(".")]
    return _walk([(message, True)], message.DESCRIPTOR, segments, path in names, False)


def _walk(
    holders: list[tuple[Any, bool]], descriptor: Any, segments: list[str], name: bool, many: bool
) -> Found:
    """`holders` are messages and whether they are set."""
    field, rest = descriptor.fields_by_name[segments[0]], segments[1:]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return Found([_entry(getattr(h, field.name), field, rest, is_set) for h, is_set in holders], many)
    if field.is_repeated:
        elements = [element for h, is_set in holders if is_set for element in getattr(h, field.name)]
        if rest:
            return _walk([(e, True) for e in elements], field.message_type, rest, name, True)
        return Found([(_bytes(e), False) for e in elements], True)
    if field.message_type is not None and rest:
        below = [(getattr(h, field.name), is_set and h.HasField(field.name)) for h, is_set in holders]
        return _walk(below, field.message_type, rest, name, many)
    return Found([_scalar(h, field, is_set, name) for h, is_set in holders], many)


def _entry(found: Any, field: Any, rest: list[str], is_set: bool) -> tuple[Any, bool]:
    if not rest:
        return dict(found), not found
    default = field.message_type.fields_by_name["value"].default_value
    return (found[rest[0]], False) if rest[0] in found else (default, True)


def _scalar(holder: Any, field: Any, is_set: bool, name: bool) -> tuple[Any, bool]:
    value = getattr(holder, field.name)
    if field.message_type is None:
        value = int(value) if field.type == FieldDescriptor.TYPE_BOOL else value
        return value, not is_set or (name and not value)
    present = is_set and holder.HasField(field.name)
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return (value.seconds * 10**9 + value.nanos if present else UNSET), not present
    return (_bytes(value) if present else None), not present


def _bytes(element: Any) -> Any:
    return element.SerializeToString(deterministic=True) if isinstance(element, Message) else element
