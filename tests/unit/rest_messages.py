"""A message with a field of every kind, and random messages of any type."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

F = descriptor_pb2.FieldDescriptorProto
_IMPORTS = (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_NO_SCALARS = {F.TYPE_GROUP, F.TYPE_MESSAGE, F.TYPE_ENUM}
_SCALARS = [
    F.Type.Name(kind).removeprefix("TYPE_").lower() for kind in F.Type.values() if kind not in _NO_SCALARS
]
_MESSAGES = {
    "time": "Timestamp",
    "span": "Duration",
    "mask": "FieldMask",
    "struct": "Struct",
    "value": "Value",
    "values": "ListValue",
    "wrapped": "Int64Value",
    "wrapped_bool": "BoolValue",
    "wrapped_text": "StringValue",
    "wrapped_bytes": "BytesValue",
    "wrapped_double": "DoubleValue",
    "any": "Any",
}


def _add(
    message: Any, name: str, kind: int, *, type_name: str = "", repeated: bool = False, **more: Any
) -> None:
    label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
    number = len(message.field) + 1
    message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=label, **more)


def _map(message: Any, name: str, key: int, value: int, type_name: str = "") -> None:
    entry = message.nested_type.add(name=f"{name.title()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=key, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=value, type_name=type_name or None, label=F.LABEL_OPTIONAL)
    _add(message, name, F.TYPE_MESSAGE, type_name=f".test.rest.AllTypes.{entry.name}", repeated=True)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="test/rest.proto", package="test.rest", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in _IMPORTS)
    enum = file.enum_type.add(name="Kind")
    for number, name in enumerate(["KIND_UNSPECIFIED", "GOOD", "BAD"]):
        enum.value.add(name=name, number=number)
    message = file.message_type.add(name="AllTypes")
    message.oneof_decl.add(name="one")
    message.oneof_decl.add(name="_maybe")
    for name in _SCALARS:
        _add(message, name, F.Type.Value(f"TYPE_{name.upper()}"))
    for name in ("string", "int64", "bool", "bytes", "double", "int32"):
        _add(message, f"many_{name}", F.Type.Value(f"TYPE_{name.upper()}"), repeated=True)
    for name, kind in _MESSAGES.items():
        _add(message, name, F.TYPE_MESSAGE, type_name=f".google.protobuf.{kind}")
    _add(message, "many_value", F.TYPE_MESSAGE, type_name=".google.protobuf.Value", repeated=True)
    _add(message, "enum", F.TYPE_ENUM, type_name=".test.rest.Kind")
    _add(message, "many_enum", F.TYPE_ENUM, type_name=".test.rest.Kind", repeated=True)
    _add(message, "nothing", F.TYPE_ENUM, type_name=".google.protobuf.NullValue")
    _add(message, "from", F.TYPE_STRING)
    _add(message, "child", F.TYPE_MESSAGE, type_name=".test.rest.AllTypes")
    _add(message, "many_child", F.TYPE_MESSAGE, type_name=".test.rest.AllTypes", repeated=True)
    _add(message, "one_text", F.TYPE_STRING, oneof_index=0)
    _add(message, "one_number", F.TYPE_INT32, oneof_index=0)
    _add(message, "one_child", F.TYPE_MESSAGE, type_name=".test.rest.AllTypes", oneof_index=0)
    _add(message, "maybe", F.TYPE_INT32, oneof_index=1, proto3_optional=True)
    _map(message, "labels", F.TYPE_STRING, F.TYPE_STRING)
    _map(message, "counts", F.TYPE_INT64, F.TYPE_INT32)
    _map(message, "flags", F.TYPE_BOOL, F.TYPE_MESSAGE, ".test.rest.AllTypes")
    return file


descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())
ALL_TYPES = descriptor_pool.Default().FindMessageTypeByName("test.rest.AllTypes")
AllTypes: Any = GetMessageClass(ALL_TYPES)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_DOUBLES = st.floats(allow_nan=True, allow_infinity=True)
_BY_CPP_TYPE: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: TEXTS,
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 4),
}


@st.composite
def _timestamps(draw: st.DrawFn) -> timestamp_pb2.Timestamp:
    nanos = draw(st.sampled_from([0, 1, 1_000, 5_000_000, 120_000_000, 999_999_999]))
    return timestamp_pb2.Timestamp(seconds=draw(st.integers(-62135596800, 253402300799)), nanos=nanos)


@st.composite
def _durations(draw: st.DrawFn) -> duration_pb2.Duration:
    sign = draw(st.sampled_from([-1, 1]))
    nanos = draw(st.sampled_from([0, 1, 1_000, 5_000_000, 999_999_999]))
    return duration_pb2.Duration(seconds=sign * draw(st.integers(0, 315575999999)), nanos=sign * nanos)


@st.composite
def _masks(draw: st.DrawFn) -> field_mask_pb2.FieldMask:
    paths = st.lists(st.sampled_from(["a", "created_at", "a.b_c.d", "storage_state"]), max_size=3)
    return field_mask_pb2.FieldMask(paths=draw(paths))


def _json(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    )


JSON = _json(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS)


@st.composite
def _values(draw: st.DrawFn) -> struct_pb2.Value:
    found = struct_pb2.Struct()
    found.update({"x": draw(JSON)})
    return found.fields["x"]


@st.composite
def _structs(draw: st.DrawFn) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    found.update(draw(st.dictionaries(TEXTS, JSON, max_size=3)))
    return found


@st.composite
def _list_values(draw: st.DrawFn) -> struct_pb2.ListValue:
    found = struct_pb2.ListValue()
    found.extend(draw(st.lists(JSON, max_size=3)))
    return found


@st.composite
def _anys(draw: st.DrawFn) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(draw(_timestamps() | _structs() | messages(AllTypes, depth=3)))
    return found


_WELL_KNOWN: dict[str, Any] = {
    "google.protobuf.Timestamp": _timestamps,
    "google.protobuf.Duration": _durations,
    "google.protobuf.FieldMask": _masks,
    "google.protobuf.Struct": _structs,
    "google.protobuf.Value": _values,
    "google.protobuf.ListValue": _list_values,
    "google.protobuf.Any": _anys,
}


def _one(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return draw(messages(GetMessageClass(field.message_type), depth=depth + 1))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=6))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and field.enum_type.name == "NullValue":
        return 0
    return draw(_BY_CPP_TYPE[field.cpp_type])


@st.composite
def messages(draw: st.DrawFn, kind: Any, depth: int = 0) -> Any:
    """Random messages of a type, a few of their fields set, some levels deep."""
    descriptor = kind.DESCRIPTOR
    if descriptor.full_name in _WELL_KNOWN:
        return draw(_WELL_KNOWN[descriptor.full_name]())
    message = kind()
    fields = [f for f in descriptor.fields if depth < 3 or f.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE]
    if not fields:
        return message
    for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda f: f.name)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            target, entry = getattr(message, field.name), field.message_type.fields_by_name
            key, value = _one(draw, entry["key"], depth), _one(draw, entry["value"], depth)
            if entry["value"].message_type is not None:
                target[key].CopyFrom(value)
            else:
                target[key] = value
        elif field.is_repeated:
            count = draw(st.integers(1, 2))
            getattr(message, field.name).extend(_one(draw, field, depth) for _ in range(count))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_one(draw, field, depth))
        else:
            setattr(message, field.name, _one(draw, field, depth))
    return message
