"""Questions about fields that reading, writing and describing JSON all ask."""

from __future__ import annotations

from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

MESSAGE: Final = FieldDescriptor.CPPTYPE_MESSAGE
WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
# Messages whose JSON is one string.
STRINGS: Final = frozenset(f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "FieldMask"))
# Messages whose JSON is not an object of their fields.
SPECIAL: Final = (
    STRINGS | WRAPPERS | {f"google.protobuf.{name}" for name in ("Struct", "ListValue", "Value", "Any")}
)


def of(message: Message | type[Message]) -> Descriptor:
    return cast(Descriptor, message.DESCRIPTOR)


def is_message(field: FieldDescriptor) -> bool:
    return field.cpp_type == MESSAGE


def is_map(field: FieldDescriptor) -> bool:
    return is_message(field) and bool(message_of(field).GetOptions().map_entry)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The type of a field that is a message."""
    return cast(Descriptor, field.message_type)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The type of a field that is an enum."""
    return cast(EnumDescriptor, field.enum_type)


def type_name(field: FieldDescriptor) -> str:
    """Full name of a message or enum field's type, "" for other fields."""
    kind: Any = field.message_type or field.enum_type
    return kind.full_name if kind is not None else ""


_names: dict[Descriptor, dict[str, FieldDescriptor]] = {}


def fields_of(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """By proto name and by JSON name."""
    found = _names.get(descriptor)
    if found is None:
        found = {f.json_name: f for f in descriptor.fields} | {f.name: f for f in descriptor.fields}
        _names[descriptor] = found
    return found
