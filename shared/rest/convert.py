"""Protobuf messages to JSON by functions compiled once per (message type, style).

The result is proto3 JSON as `google.protobuf.json_format` writes it (a property test compares them),
several times faster: each message type becomes one Python function without a loop over fields. A
value that proto3 JSON cannot say (a Timestamp outside the years 1 to 9999) is null rather than an
error: reading what is stored never fails.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from contextvars import ContextVar
from math import copysign
from typing import Any, Final, Literal

import orjson
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from shared.rest import descriptors, scalars
from shared.rest.cache import ByteCache
from shared.rest.descriptors import SPECIAL, WRAPPERS

Names = Literal["json", "proto"]
Convert = Callable[[Any], Any]
# An Any may hold a message that holds an Any ... without a limit of its own.
_ANY_DEPTH: Final = 16
_CACHE_BYTES: Final = 8 << 20
_any_depth: ContextVar[int] = ContextVar("any_depth", default=0)


class Converter:
    """Turns messages into what `orjson.dumps` takes.

    `names`: "json" is lowerCamelCase, "proto" the names of the proto file. `emit_defaults`: False
    leaves unset fields out; True writes every field, null for unset messages and optional scalars,
    and leaves out unset members of a oneof.
    """

    def __init__(self, names: Names, *, emit_defaults: bool) -> None:
        self._by_json_name = names == "json"
        self._emit_defaults = emit_defaults
        # What compiled functions may call: helpers, the converters of other types, enum tables.
        self._namespace: dict[str, Any] = {
            "timestamp": scalars.write_timestamp,
            "duration": scalars.write_duration,
            "mask": scalars.write_mask,
            "base64": scalars.write_bytes,
            "double": scalars.write_double,
            "single": scalars.write_float,
            "struct": _struct,
            "list_value": _list_value,
            "json_value": _json_value,
            "copysign": copysign,
            "any_": self._any,
        }
        self._cache = ByteCache(_CACHE_BYTES)
        self._known: dict[Any, str] = {}
        self._compiled: dict[Descriptor, Convert] = {}

    def __call__(self, message: Message) -> Any:
        return self.of(descriptors.of(message))(message)

    def dumps(self, message: Message, *, indent: bool = False) -> bytes:
        return orjson.dumps(self(message), option=orjson.OPT_INDENT_2 if indent else None)

    def dumps_serialized(self, kind: type[Message], data: bytes) -> bytes:
        """JSON of a serialized message. What did not change since it was last asked for is not
        converted again."""
        found = self._cache.get(kind, data)
        if found is None:
            found = self.dumps(kind.FromString(data))
            self._cache.put(kind, data, found)
        return found

    def of(self, descriptor: Descriptor) -> Convert:
        """The function for messages of one type. Compiled at the first use."""
        found = self._compiled.get(descriptor)
        if found is None:
            name = f"top{len(self._compiled)}"
            found = self._define(name, [f"return {self._message(descriptor, 'm')}"])
            self._compiled[descriptor] = found
        return found

    def _define(self, name: str, lines: list[str]) -> Convert:
        """Compiles `def name(m)`. The source holds nothing but field names and our own names."""
        source = f"def {name}(m):\n" + "".join(f"    {line}\n" for line in lines)
        exec(compile(source, f"<converter {name}>", "exec"), self._namespace)
        return self._namespace[name]

    def _message(self, descriptor: Descriptor, value: str) -> str:
        """The expression that converts a message held by the variable `value`."""
        full_name = descriptor.full_name
        if full_name in _EXPRESSIONS:
            return _EXPRESSIONS[full_name].format(v=value)
        if full_name in WRAPPERS:
            return self._one(descriptor.fields_by_name["value"], f"{value}.value")
        name = self._known.get(descriptor)
        if name is None:
            # Registered first: a message may hold itself.
            name = self._known[descriptor] = f"message{len(self._known)}"
            self._define(name, self._lines(descriptor))
        return f"{name}({value})"

    def _lines(self, descriptor: Descriptor) -> list[str]:
        lines = ["d = {}"]
        for field in descriptor.fields:
            quiet = keyword.iskeyword(field.name)
            attribute = f"getattr(m, {field.name!r})" if quiet else f"m.{field.name}"
            store = f"d[{(field.json_name if self._by_json_name else field.name)!r}]"
            value = self._whole(field)
            if field.has_presence:
                lines.append(f"if m.HasField({field.name!r}): v = {attribute}; {store} = {value}")
                oneof = field.containing_oneof
                if self._emit_defaults and (oneof is None or len(oneof.fields) == 1):
                    lines.append(f"else: {store} = None")
            elif self._emit_defaults:
                lines.append(f"v = {attribute}; {store} = {value}")
            else:
                lines.append(f"v = {attribute}")
                lines.append(f"if {_is_set(field)}: {store} = {value}")
        return [*lines, "return d"]

    def _whole(self, field: FieldDescriptor) -> str:
        """The expression for all of a field, whose value is in `v`."""
        if not field.is_repeated:
            return self._one(field, "v")
        if descriptors.is_map(field):
            entry = descriptors.message_of(field).fields_by_name
            boolean = entry["key"].cpp_type == FieldDescriptor.CPPTYPE_BOOL
            key = "('true' if k else 'false')" if boolean else "str(k)"
            return f"{{{key}: {self._one(entry['value'], 'x')} for k, x in v.items()}}"
        return f"[{self._one(field, 'x')} for x in v]"

    def _one(self, field: FieldDescriptor, value: str) -> str:
        """The expression for one value of a field."""
        kind = field.cpp_type
        if descriptors.is_message(field):
            return self._message(descriptors.message_of(field), value)
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self._enum(descriptors.enum_of(field), value)
        if kind in scalars.INT64S:
            return f"str({value})"
        if kind == FieldDescriptor.CPPTYPE_DOUBLE:
            return f"double({value})"
        if kind == FieldDescriptor.CPPTYPE_FLOAT:
            return f"single({value})"
        return f"base64({value})" if field.type == FieldDescriptor.TYPE_BYTES else value

    def _enum(self, enum: EnumDescriptor, value: str) -> str:
        if enum.full_name == "google.protobuf.NullValue":
            return "None"
        name = self._known.get(enum)
        if name is None:
            name = self._known[enum] = f"enum{len(self._known)}"
            # Of two names of one number the first counts.
            self._namespace[name] = {item.number: item.name for item in reversed(enum.values)}.get
        return f"{name}({value}, {value})"

    def _any(self, message: Any) -> dict[str, Any]:
        """What is not known here, or not valid, is shown in base64 under "value"."""
        if not message.type_url and not message.value:
            return {}
        inner = None
        if _any_depth.get() < _ANY_DEPTH:
            inner = unpacked(message.type_url, message.value)
        if inner is None:
            return {"@type": message.type_url, "value": scalars.write_bytes(message.value)}
        token = _any_depth.set(_any_depth.get() + 1)
        try:
            value = self(inner)
        finally:
            _any_depth.reset(token)
        if descriptors.of(inner).full_name not in SPECIAL:
            return {"@type": message.type_url, **value}
        return {"@type": message.type_url, "value": value}


def _is_set(field: FieldDescriptor) -> str:
    """Whether `v`, of a field without presence, is not the default. Minus zero is not."""
    if not field.is_repeated and field.cpp_type in (
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    ):
        return "v or copysign(1.0, v) < 0"
    return "v"


def class_of(type_url: str) -> type[Message] | None:
    """The message type that an Any's type_url names, if this process knows it."""
    slash, name = type_url.rfind("/"), type_url[type_url.rfind("/") + 1 :]
    if slash < 0:
        return None
    try:
        return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    except KeyError:
        return None


def unpacked(type_url: str, value: bytes) -> Message | None:
    known = class_of(type_url)
    if known is None:
        return None
    try:
        return known.FromString(value)
    except DecodeError:
        return None


def _struct(message: Any) -> dict[str, Any]:
    return {key: _json_value(value) for key, value in message.fields.items()}


def _list_value(message: Any) -> list[Any]:
    return [_json_value(value) for value in message.values]


def _json_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return _struct(message.struct_value)
    if kind == "list_value":
        return _list_value(message.list_value)
    if kind == "number_value":
        return scalars.write_double(message.number_value)
    return getattr(message, kind)


_EXPRESSIONS: Final[dict[str, str]] = {
    "google.protobuf.Timestamp": "timestamp({v}.seconds, {v}.nanos)",
    "google.protobuf.Duration": "duration({v}.seconds, {v}.nanos)",
    "google.protobuf.FieldMask": "mask({v}.paths)",
    "google.protobuf.Struct": "struct({v})",
    "google.protobuf.ListValue": "list_value({v})",
    "google.protobuf.Value": "json_value({v})",
    "google.protobuf.Any": "any_({v})",
}

_converters: dict[tuple[Names, bool], Converter] = {}


def converter(names: Names = "json", *, emit_defaults: bool = False) -> Converter:
    """The shared converter of a style."""
    key = (names, emit_defaults)
    if key not in _converters:
        _converters[key] = Converter(names, emit_defaults=emit_defaults)
    return _converters[key]
