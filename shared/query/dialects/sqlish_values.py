"""Values of the SQL-like filter language, checked against the type of their field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from shared.query.ast import Compare, IsNull, NameMatches, Node, Not
from shared.query.dialects.sqlish_lexer import wrong
from shared.query.schema import Field
from shared.storage.port import Value

Literal = tuple[str, Any, int]
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


def comparison(field: Field, operator: str, literal: Literal, position: int) -> Node:
    """`field operator value`. Raises InvalidArgument with the position."""
    kind, _, _ = literal
    if kind == "null":
        if operator not in ("=", "!="):
            raise wrong(f"{operator} cannot be used with NULL", position)
        return IsNull(field.name) if operator == "=" else Not(IsNull(field.name))
    if field.repeated:
        raise wrong(f"{field.name} is a list; use CONTAINS", position)
    if field.type in ("message", "map") and operator not in ("=", "!="):
        raise wrong(f"{field.name} can only be compared with = and !=", position)
    if field.type == "map":
        return Compare(field.name, operator, whole_map(field, literal))  # type: ignore[arg-type]
    value = scalar(field, literal)
    if field.type == "name" and operator in ("=", "!=") and "-" in str(value).split("/")[1::2]:
        matches = NameMatches(field.name, str(value))
        return matches if operator == "=" else Not(matches)
    return Compare(field.name, operator, value)  # type: ignore[arg-type]


def scalar(field: Field, literal: Literal) -> Any:
    """A single value of the field's type."""
    kind, value, position = literal
    converted = _convert(field, kind, value, position)
    if converted is None:
        raise wrong(f"{field.name} is compared with {_EXPECTED[field.type]}", position)
    return converted


element = scalar


def entries(field: Field, literal: Literal) -> tuple[tuple[str, Value | None], ...]:
    """What a map must hold: "key:value", "key", or a map literal."""
    kind, value, position = literal
    if kind == "string":
        key, separator, rest = value.partition(":")
        return ((key, _map_value(field, rest, position) if separator else None),)
    if kind == "map":
        return tuple(sorted(_pairs(field, value)))
    raise wrong(f'{field.name} takes "key:value", "key" or a map', position)


def whole_map(field: Field, literal: Literal) -> Any:
    """A map literal as a plain dict-like value."""
    kind, value, position = literal
    if kind != "map":
        raise wrong(f"{field.name} is compared with {_EXPECTED['map']}", position)
    return MapValue(_pairs(field, value))


class MapValue(dict[str, Any]):
    """A map as an operand: equal to a dict, and hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _pairs(field: Field, found: list[tuple[Literal, Literal]]) -> list[tuple[str, Any]]:
    pairs: dict[str, Any] = {}
    for key, value in found:
        if key[0] != "string":
            raise wrong("keys of a map are quoted texts", key[2])
        wanted = _value_type(field)
        if wanted == "text" and value[0] == "string":
            pairs[key[1]] = value[1]
        elif wanted == "int" and value[0] == "number" and _is_int64(value[1]):
            pairs[key[1]] = int(value[1])
        else:
            raise wrong(
                f"the values of {field.name} are {'texts' if wanted == 'text' else 'whole numbers'}", value[2]
            )
    return list(pairs.items())


def _value_type(field: Field) -> str:
    value = field.descriptor.fields_by_name["value"]
    return "text" if value.cpp_type == value.CPPTYPE_STRING else "int"


def _map_value(field: Field, text: str, position: int) -> Value:
    if _value_type(field) == "text":
        return text
    if not _is_int64(text):
        raise wrong(f"the values of {field.name} are whole numbers, not {text!r}", position)
    return int(text)


def _is_int64(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 20 and -(2**63) <= int(text) < 2**63


def _convert(field: Field, kind: str, value: Any, position: int) -> Any:
    """None when the literal is of the wrong kind."""
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
            return float(value)
        case "timestamp", "string":
            return _instant(field, value, position)
        case "duration", "string":
            return _duration(field, value, position)
        case "enum", "string" | "number":
            return _enum(field, kind, value, position)
        case "message", "map":
            return _message(field, value, position)
    return None


def _name(field: Field, text: str, position: int) -> str:
    if not field.pattern.accepts(text):
        raise wrong(f"{text!r} is not of the form {field.pattern.template}", position)
    return text


def _integer(field: Field, text: str, position: int) -> int:
    if not _is_int64(text):
        raise wrong(f"{field.name} is compared with a whole number, not {text}", position)
    return int(text)


def _instant(field: Field, text: str, position: int) -> int:
    found = Timestamp()
    try:
        found.FromJsonString(text)
    except ValueError as error:
        raise wrong(f"{text!r} is no RFC 3339 time, such as {_now()!r}", position) from error
    return int(found.seconds * 1_000_000_000 + found.nanos)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration(field: Field, text: str, position: int) -> int:
    from google.protobuf.duration_pb2 import Duration

    found = Duration()
    try:
        found.FromJsonString(text)
    except ValueError as error:
        raise wrong(f"{text!r} is no duration such as '3.5s'", position) from error
    return int(found.seconds * 1_000_000_000 + found.nanos)


def _enum(field: Field, kind: str, value: Any, position: int) -> int:
    values = field.descriptor.values
    found = [v.number for v in values if (v.name if kind == "string" else str(v.number)) == value]
    if not found:
        names = ", ".join(v.name for v in values)
        raise wrong(f"{value!r} is no value of {field.name}; it has {names}", position)
    return int(found[0])


def _message(field: Field, pairs: list[tuple[Literal, Literal]], position: int) -> bytes:
    message = GetMessageClass(field.descriptor)()
    try:
        json_format.ParseDict(_json(pairs), message)
    except (json_format.Error, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise wrong(f"this is no {field.descriptor.name}: {error}", position) from error
    return bytes(message.SerializeToString(deterministic=True))


def _json(pairs: list[tuple[Literal, Literal]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, (kind, value, _) in pairs:
        if key[0] != "string":
            raise wrong("keys of a map are quoted texts", key[2])
        if kind == "map":
            found[key[1]] = _json(value)
        elif kind == "number":
            found[key[1]] = float(value) if any(c in value for c in ".eE") else int(value)
        else:
            found[key[1]] = value
    return found
