"""Every field of a message, found by its path: for dialects that may name any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.query import path as paths
from shared.query.path import Path, UnknownPath
from shared.query.schema import Field, FieldType, Schema
from shared.storage.port import NULL

_TYPES: Final[dict[int, FieldType]] = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_UINT32: "int",
    FieldDescriptor.CPPTYPE_UINT64: "int",
    FieldDescriptor.CPPTYPE_DOUBLE: "double",
    FieldDescriptor.CPPTYPE_FLOAT: "double",
}
_WELL_KNOWN: Final[dict[str, FieldType]] = {
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}


class DescriptorSchema(Schema):
    """`names` maps paths of resource names and references to their patterns (`matches(text)`), and
    `indexed` are the paths whose values the store keeps.

    A scalar that is absent reads as its default, an unset time as NULL (below every time); what IS
    NULL means is a field's `null`. Times and durations are nanoseconds.
    """

    def __init__(self, descriptor: Any, *, names: Mapping[str, Any], indexed: tuple[str, ...] = ()) -> None:
        self.descriptor = descriptor
        self._names = dict(names)
        self._cache: dict[str, Field | None] = {}
        super().__init__(tuple(self._build(paths.resolve(text, descriptor), True) for text in indexed))

    def find(self, name: str) -> Field | None:
        """None for a path that does not exist; `explain` says why."""
        if name not in self._cache:
            if len(self._cache) > 4096:
                self._cache.clear()
            try:
                resolved = paths.resolve(name, self.descriptor)
            except UnknownPath:
                self._cache[name] = None
            else:
                known = self._by_name.get(str(resolved))
                self._cache[name] = known or self._build(resolved, False)
        return self._cache[name]

    def __getitem__(self, name: str) -> Field:
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found

    def explain(self, name: str) -> str:
        """What is wrong with a path that `find` does not know."""
        try:
            paths.resolve(name, self.descriptor)
        except UnknownPath as error:
            return str(error)
        return ""

    @property
    def names(self) -> list[str]:
        """The top-level fields and those below messages, for messages to people."""
        found: list[str] = []
        for field in self.descriptor.fields:
            found.append(field.name)
            nested = field.message_type
            if nested is not None and not paths.is_map(field) and not nested.full_name.startswith("google."):
                found.extend(f"{field.name}.{inner.name}" for inner in nested.fields)
        return sorted(found)

    def _build(self, path: Path, indexed: bool) -> Field:
        last, text = path.last, str(path)
        repeated = last.is_repeated and not paths.is_map(last)
        many = path.through_repeated or repeated
        kind = _type(path, text in self._names)
        single = _reader(path, kind)
        null = _null(path, kind)
        get: Callable[[Any], Any] = single
        if many:
            get = _many(path, single, repeated)
        return Field(
            text,
            kind,
            get,
            indexed=indexed,
            many=many,
            repeated=repeated,
            null=null,
            descriptor=last.enum_type or last.message_type,
            pattern=self._names.get(text),
        )


def _type(path: Path, name: bool) -> FieldType:
    last = path.last
    if paths.is_map(last):
        if path.key is None:
            return "map"
        value = last.message_type.fields_by_name["value"]
        return _TYPES.get(value.cpp_type, "message")
    if last.message_type is not None:
        return _WELL_KNOWN.get(last.message_type.full_name, "message")
    return "name" if name else _TYPES[last.cpp_type]


def _value(kind: FieldType) -> Callable[[Any], Any]:
    """From a field's Python value to a comparable one."""
    if kind in ("timestamp", "duration"):
        return lambda value: value.seconds * 1_000_000_000 + value.nanos
    if kind == "message":
        return lambda value: value.SerializeToString(deterministic=True)
    if kind == "bool":
        return int
    return lambda value: value


def _reader(path: Path, kind: FieldType) -> Callable[[Any], Any]:
    """The value of a path that goes through no repeated field."""
    last, name, convert = path.last, path.last.name, _value(kind)
    steps = tuple(field.name for field in path.fields[:-1])
    if paths.is_map(last) and path.key is not None:
        key, default = path.key, last.message_type.fields_by_name["value"].default_value
        return lambda message: getattr(_walk(message, steps), name).get(key, default)
    if kind == "map":
        return lambda message: dict(getattr(_walk(message, steps), name))
    if last.message_type is not None:

        def read(message: Any) -> Any:
            holder = _walk(message, steps)
            return convert(getattr(holder, name)) if holder.HasField(name) else NULL

        return read
    return lambda message: convert(getattr(_walk(message, steps), name))


def _walk(message: Any, steps: tuple[str, ...]) -> Any:
    """Unset messages read as empty ones, whose fields have their defaults."""
    for step in steps:
        message = getattr(message, step)
    return message


def _many(path: Path, single: Callable[[Any], Any], repeated: bool) -> Callable[[Any], tuple[Any, ...]]:
    name, kind = path.last.name, _type(path, False)
    convert = _value(kind)
    if repeated:
        return lambda message: tuple(
            convert(element) for holder in path.holders(message) for element in getattr(holder, name)
        )
    below = Path((path.last,), path.key)
    read = _reader(below, kind)
    return lambda message: tuple(read(holder) for holder in path.holders(message))


def _null(path: Path, kind: FieldType) -> Callable[[Any], bool]:
    """Contract of meta, section 8.4: unset messages, times, names and references; empty lists and
    maps; missing keys; anything below an unset message. A plain scalar in a present message never."""
    last, name, key = path.last, path.last.name, path.key

    def absent(holder: Message) -> bool:
        if paths.is_map(last):
            found = getattr(holder, name)
            return key not in found if key is not None else not found
        if last.is_repeated or kind == "name":
            return not getattr(holder, name)
        if last.message_type is not None:
            return not holder.HasField(name)
        return False

    return lambda message: all(map(absent, path.holders(message)))
