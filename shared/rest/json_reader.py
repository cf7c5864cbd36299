"""JSON to protobuf messages, by proto3's rules, with every mistake named by its field's path.

Names in camelCase and snake_case, enums by name or number, 64-bit integers as numbers or strings,
well-known types in their JSON forms; null means unset. Reading goes on after a mistake, so that a
caller hears of all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.errors import Violation
from shared.rest import convert, descriptors, scalars

Unknown = Literal["ignore", "ignore_top", "refuse"]
Scalar = Callable[[Any], Any]
MAX_DEPTH: Final = 64
# Enough to learn from; an error has to fit into headers and logs.
MAX_VIOLATIONS: Final = 20
_VALUE: Final = "google.protobuf.Value"


@dataclass(slots=True)
class Reading:
    """One read: what to do with unknown keys, and what went wrong so far."""

    unknown: Unknown = "refuse"
    errors: list[Violation] = field(default_factory=list)

    def fail(self, path: str, description: str) -> None:
        if len(self.errors) < MAX_VIOLATIONS:
            self.errors.append(Violation(path or "body", description))

    def refuses(self, depth: int) -> bool:
        return self.unknown == "refuse" or (self.unknown == "ignore_top" and depth > 0)


def loads(data: bytes) -> Any:
    """Raises ValueError saying why `data` is not JSON. NaN and Infinity are not."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        reason = str(error)
        if reason.startswith("failed to allocate"):
            reason = "nested too deeply"
        raise ValueError(f"is not JSON: {reason}") from None


def read_message(message: Message, value: Any, reading: Reading, path: str = "", depth: int = 0) -> None:
    """Sets the fields of `message` that the JSON value has. `depth` 0 is the top level of a body."""
    if depth > MAX_DEPTH:
        reading.fail(path, f"is nested more than {MAX_DEPTH} levels deep")
        return
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        special(message, value, reading, path, depth)
    elif isinstance(value, dict):
        _read_fields(message, value, reading, path, depth)
    else:
        reading.fail(path, f"must be a JSON object, not {scalars.kind_of(value)}")


def read_field(
    message: Message, found: FieldDescriptor, value: Any, reading: Reading, path: str, depth: int = 0
) -> None:
    """Sets one field of `message` from its JSON value. `depth` is that of the value."""
    if value is None:
        _read_null(message, found)
    elif not found.is_repeated:
        _read_one(message, found, value, reading, path, depth)
    elif descriptors.is_map(found):
        _read_map(message, found, value, reading, path, depth)
    elif isinstance(value, list):
        _read_list(message, found, value, reading, path, depth)
    else:
        reading.fail(path, f"must be a JSON array, not {scalars.kind_of(value)}")


def _read_fields(message: Message, value: dict[str, Any], reading: Reading, path: str, depth: int) -> None:
    names = descriptors.fields_of(descriptors.of(message))
    seen: set[str] = set()
    prefix = f"{path}." if path else ""
    for key, item in value.items():
        found = names.get(key)
        if found is None:
            if reading.refuses(depth):
                reading.fail(prefix + scalars.quoted(key)[1:-1], "is not a field that exists")
            continue
        if found.name in seen:
            reading.fail(prefix + found.name, "is given twice, in snake_case and in camelCase")
            continue
        seen.add(found.name)
        if found.containing_oneof is not None and item is not None:
            other = message.WhichOneof(found.containing_oneof.name)
            if other is not None:
                reading.fail(prefix + found.name, f"cannot be set beside {other}")
                continue
        read_field(message, found, item, reading, prefix + found.name, depth + 1)


def _read_null(message: Message, found: FieldDescriptor) -> None:
    """Unset, but for the types to which null is a value."""
    if found.is_repeated:
        return
    if descriptors.type_name(found) == _VALUE:
        getattr(message, found.name).null_value = 0
    elif descriptors.type_name(found) == "google.protobuf.NullValue":
        setattr(message, found.name, 0)


def _read_one(
    message: Message, found: FieldDescriptor, value: Any, reading: Reading, path: str, depth: int
) -> None:
    if descriptors.is_message(found):
        child = getattr(message, found.name)
        child.SetInParent()
        read_message(child, value, reading, path, depth)
        return
    try:
        setattr(message, found.name, scalar(found)(value))
    except ValueError as error:
        reading.fail(path, str(error))


def _read_list(
    message: Message, found: FieldDescriptor, value: list[Any], reading: Reading, path: str, depth: int
) -> None:
    items = getattr(message, found.name)
    one = None if descriptors.is_message(found) else scalar(found)
    nullable = descriptors.type_name(found) == _VALUE
    for index, item in enumerate(value):
        at = f"{path}[{index}]"
        if len(reading.errors) >= MAX_VIOLATIONS:
            return
        if item is None and not nullable:
            reading.fail(at, "must not be null")
        elif one is None:
            read_message(items.add(), item, reading, at, depth)
        else:
            try:
                items.append(one(item))
            except ValueError as error:
                reading.fail(at, str(error))


def _read_map(
    message: Message, found: FieldDescriptor, value: Any, reading: Reading, path: str, depth: int
) -> None:
    if not isinstance(value, dict):
        reading.fail(path, f"must be a JSON object, not {scalars.kind_of(value)}")
        return
    items = getattr(message, found.name)
    entry = descriptors.message_of(found)
    read_key, of = _key(entry.fields_by_name["key"]), entry.fields_by_name["value"]
    one = None if descriptors.is_message(of) else scalar(of)
    nullable = descriptors.type_name(of) == _VALUE
    for text, item in value.items():
        at = f"{path}[{scalars.quoted(text)}]"
        if len(reading.errors) >= MAX_VIOLATIONS:
            return
        try:
            key = read_key(text)
            if item is None and not nullable:
                raise ValueError("must not be null")
            if one is None:
                read_message(items[key], item, reading, at, depth)
            else:
                items[key] = one(item)
        except ValueError as error:
            reading.fail(at, str(error))


def _key(found: FieldDescriptor) -> Scalar:
    if found.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        return scalar(found)

    def boolean(text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError(f'must be "true" or "false", not {scalars.quoted(text)}')
        return text == "true"

    return boolean


_scalars: dict[FieldDescriptor, Scalar] = {}


def scalar(found: FieldDescriptor) -> Scalar:
    """Reads one value of a field that is no message. The reader raises ValueError."""
    reader = _scalars.get(found)
    if reader is None:
        reader = _scalars[found] = _scalar(found)
    return reader


def _scalar(found: FieldDescriptor) -> Scalar:
    kind = found.cpp_type
    if kind in scalars.RANGES:
        low, high = scalars.RANGES[kind]
        return lambda value: scalars.read_integer(value, low, high)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        enum = descriptors.enum_of(found)
        return lambda value: scalars.read_enum(value, enum)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        single = kind == FieldDescriptor.CPPTYPE_FLOAT
        return lambda value: scalars.read_number(value, single=single)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return scalars.read_boolean
    return scalars.read_bytes if found.type == FieldDescriptor.TYPE_BYTES else scalars.read_text


# The well-known types, whose JSON is not an object of their fields.
Special = Callable[[Any, Any, Reading, str, int], None]


def _timestamp(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    try:
        message.seconds, message.nanos = scalars.read_timestamp(value)
    except ValueError as error:
        reading.fail(path, str(error))


def _duration(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    try:
        message.seconds, message.nanos = scalars.read_duration(value)
    except ValueError as error:
        reading.fail(path, str(error))


def _mask(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    try:
        message.paths.extend(scalars.read_mask(value))
    except ValueError as error:
        reading.fail(path, str(error))


def _wrapper(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    _read_one(message, message.DESCRIPTOR.fields_by_name["value"], value, reading, path, depth)


def _struct(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    if not isinstance(value, dict):
        reading.fail(path, f"must be a JSON object, not {scalars.kind_of(value)}")
        return
    message.SetInParent()
    for key, item in value.items():
        read_message(message.fields[key], item, reading, f"{path}[{scalars.quoted(key)}]", depth + 1)


def _list_value(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    if not isinstance(value, list):
        reading.fail(path, f"must be a JSON array, not {scalars.kind_of(value)}")
        return
    message.SetInParent()
    for index, item in enumerate(value):
        read_message(message.values.add(), item, reading, f"{path}[{index}]", depth + 1)


def _value(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, dict):
        _struct(message.struct_value, value, reading, path, depth)
    else:
        _list_value(message.list_value, value, reading, path, depth)


def _any(message: Any, value: Any, reading: Reading, path: str, depth: int) -> None:
    if not isinstance(value, dict):
        reading.fail(path, f"must be a JSON object, not {scalars.kind_of(value)}")
        return
    if not value:
        return
    type_url = value.get("@type")
    at = f"{path}.@type" if path else "@type"
    if not isinstance(type_url, str):
        reading.fail(at, "must name the message's type")
        return
    known = convert.class_of(type_url)
    if known is None:
        reading.fail(at, f"{scalars.quoted(type_url)} is not a type that is known here")
        return
    inner = known()
    rest = {key: item for key, item in value.items() if key != "@type"}
    if known.DESCRIPTOR.full_name not in descriptors.SPECIAL:
        read_message(inner, rest, reading, path, depth + 1)
    elif set(rest) == {"value"}:
        read_message(inner, rest["value"], reading, f"{path}.value" if path else "value", depth + 1)
    else:
        reading.fail(path, f'must hold "@type" and "value" only, as {inner.DESCRIPTOR.full_name} is special')
    message.type_url = type_url
    message.value = inner.SerializeToString()


_SPECIAL: Final[dict[str, Special]] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": _mask,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list_value,
    "google.protobuf.Value": _value,
    "google.protobuf.Any": _any,
    **dict.fromkeys(descriptors.WRAPPERS, _wrapper),
}
