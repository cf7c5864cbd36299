"""Values of the SQL-like filter language, checked against the type of their field."""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal, NamedTuple

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from shared.query.ast import Compare, Comparison, IsNull, MapValue, NameMatches, Node, Not
from shared.query.dialects.sqlish_lexer import wrong
from shared.query.schema import Field
from shared.storage.port import Value


class Written(NamedTuple):
    """A value as it stands in a filter. Of a map `value` is a list of pairs, of a number its text."""

    kind: Literal["null", "bool", "number", "string", "map"]
    value: Any
    position: int


_Pairs = list[tuple[Written, Written]]
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DURATION: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?s")
_EXPECTED: Final = {
    "text": "a quoted text",
    "name": "a quoted resource name",
    "bool": "TRUE or FALSE",
    "int": "a whole number",
    "double": "a number",
    "timestamp": "a quoted RFC 3339 time",
    "duration": 'a quoted duration such as "3.5s"',
    "enum": "the name of a value in quotes, or its number",
    "message": 'a map such as {"key": "value"}',
    "map": 'a map such as {"key": "value"}',
}


def comparison(field: Field, operator: Comparison, written: Written, position: int) -> Node:
    """`field operator value`, the operator at `position`. Raises InvalidArgument with the position."""
    if written.kind == "null":
        if operator not in ("=", "!="):
            raise wrong(f"{operator} cannot be used with NULL", position)
        return IsNull(field.name) if operator == "=" else Not(IsNull(field.name))
    if field.repeated:
        raise wrong(f"{field.name} is a list; use CONTAINS", position)
    if field.type in ("message", "map") and operator not in ("=", "!="):
        raise wrong(f"{field.name} can only be compared with = and !=", position)
    if field.type == "map":
        if written.kind != "map":
            raise _mistyped(field, written)
        return Compare(field.name, operator, MapValue(_pairs(field, written.value)))
    value = scalar(field, written)
    if field.type == "name" and operator in ("=", "!=") and "-" in str(value).split("/")[1::2]:
        matches = NameMatches(field.name, str(value))
        return matches if operator == "=" else Not(matches)
    return Compare(field.name, operator, value)


def scalar(field: Field, written: Written) -> Any:
    """A single value of the field's type, or of the type of its elements: for a message its bytes."""
    kind, value, position = written
    match field.type, kind:
        case "text", "string":
            return value
        case "name", "string":
            return _name(field, value, position)
        case "bool", "bool":
            return int(value)
        case "int", "number":
            return _integer(field, value, position)
        case "double", "number":
            return _double(field, value, position)
        case "timestamp", "string":
            return _instant(value, position)
        case "duration", "string":
            return _duration(value, position)
        case "enum", "string" | "number":
            return _enum(field, kind, value, position)
        case "message", "map":
            return _message(field, value, position)
    raise _mistyped(field, written)


def entries(field: Field, written: Written) -> tuple[tuple[str, Value | None], ...]:
    """What a map must hold: "key:value", "key" (then the value is None), or a map literal."""
    kind, value, position = written
    if kind == "string":
        key, separator, rest = value.partition(":")
        return ((key, _entry_value(field, rest, position) if separator else None),)
    if kind == "map":
        return tuple(sorted(_pairs(field, value).items()))
    raise wrong(f'{field.name} takes "key:value", "key" or a map', position)


def _mistyped(field: Field, written: Written) -> Exception:
    return wrong(f"{field.name} is compared with {_EXPECTED[field.type]}", written.position)


def _keyed(pairs: _Pairs) -> dict[str, Written]:
    """The pairs of a map literal by key."""
    found: dict[str, Written] = {}
    for (kind, key, position), value in pairs:
        if kind != "string":
            raise wrong("keys of a map are quoted texts", position)
        if key in found:
            raise wrong(f"the key {key!r} stands twice", position)
        found[key] = value
    return found


def _pairs(field: Field, pairs: _Pairs) -> dict[str, Any]:
    """A map literal for a map field."""
    found: dict[str, Any] = {}
    for key, (kind, value, position) in _keyed(pairs).items():
        if _holds_text(field):
            if kind != "string":
                raise wrong(f"the values of {field.name} are quoted texts", position)
            found[key] = value
        else:
            if kind != "number" or not _is_int64(value):
                raise wrong(f"the values of {field.name} are whole numbers", position)
            found[key] = int(value)
    return found


def _holds_text(field: Field) -> bool:
    value = field.descriptor.fields_by_name["value"]
    return bool(value.cpp_type == value.CPPTYPE_STRING)


def _entry_value(field: Field, text: str, position: int) -> Value:
    if _holds_text(field):
        return text
    if not _is_int64(text):
        raise wrong(f"the values of {field.name} are whole numbers, not {text!r}", position)
    return int(text)


def _is_int64(text: str) -> bool:
    return _is_integer(text) and -(2**63) <= int(text) < 2**63


def _is_integer(text: str) -> bool:
    """Of a size that is worth converting."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 40


def _name(field: Field, text: str, position: int) -> str:
    if field.pattern is None or not field.pattern.accepts(text):
        form = field.pattern.template if field.pattern is not None else "any name"
        raise wrong(f"{text!r} is not of the form {form}", position)
    return text


def _integer(field: Field, text: str, position: int) -> int:
    if any(character in text for character in ".eE"):
        raise wrong(f"{field.name} is compared with a whole number, written in digits only", position)
    least, greatest = field.bounds or (-(2**63), 2**63 - 1)
    if not _is_integer(text) or not least <= int(text) <= greatest:
        raise wrong(f"{field.name} holds {least} to {greatest}", position)
    return int(text)


def _double(field: Field, text: str, position: int) -> float:
    found = float(text)
    if math.isinf(found):
        raise wrong(f"{text} is beyond what {field.name} can hold", position)
    return found


def _instant(text: str, position: int) -> int:
    found = Timestamp()
    try:
        if not _RFC_3339.fullmatch(text):
            raise ValueError("not of that form")
        found.FromJsonString(text)
    except ValueError as error:
        raise wrong(f'{text!r} is no RFC 3339 time such as "2024-05-01T12:30:00Z"', position) from error
    return int(found.ToNanoseconds())


def _duration(text: str, position: int) -> int:
    found = Duration()
    try:
        if not _DURATION.fullmatch(text):
            raise ValueError("not of that form")
        found.FromJsonString(text)
    except ValueError as error:
        raise wrong(f'{text!r} is no duration such as "3.5s"', position) from error
    return int(found.ToNanoseconds())


def _enum(field: Field, kind: str, value: str, position: int) -> int:
    values = field.descriptor.values
    for known in values:
        if value == (known.name if kind == "string" else str(known.number)):
            return int(known.number)
    names = ", ".join(known.name for known in values)
    raise wrong(f"{value!r} is no value of {field.name}; it has {names}", position)


def _message(field: Field, pairs: _Pairs, position: int) -> bytes:
    message = GetMessageClass(field.descriptor)()
    try:
        json_format.ParseDict(_json(pairs), message)
    except (json_format.Error, ValueError, TypeError, OverflowError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it does not fit"
        raise wrong(f"this is no {field.descriptor.name}: {reason}", position) from error
    return bytes(message.SerializeToString(deterministic=True))


def _json(pairs: _Pairs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, (kind, value, _) in _keyed(pairs).items():
        if kind == "map":
            found[key] = _json(value)
        elif kind == "number":
            found[key] = float(value) if any(c in value for c in ".eE") else int(value)
        else:
            found[key] = value
    return found
