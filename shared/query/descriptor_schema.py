"""Every field of a message, found by its path: for dialects that may name any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.query import path as paths
from shared.query.path import Path, UnknownPath
from shared.query.schema import Field, FieldType, NameForm, Schema
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
_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_WELL_KNOWN: Final[dict[str, FieldType]] = {
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}
# Paths are as many as there are map keys, so only some of the short ones are remembered.
_REMEMBERED: Final = 1024
_SHORT: Final = 128


class DescriptorSchema(Schema):
    """`names` maps paths of resource names and references to their forms, and `indexed` are the
    paths whose values the store keeps: of single values, in any spelling.

    A scalar that is absent reads as its default, an unset time as NULL (below every time); what IS
    NULL means is a field's `null`. Times and durations are nanoseconds.
    """

    def __init__(
        self,
        descriptor: Any,
        *,
        names: Mapping[str, NameForm],
        indexed: tuple[str, ...] = (),
        key: str = "name",
    ) -> None:
        self.descriptor = descriptor
        self._names = {str(paths.resolve(text, descriptor)): form for text, form in names.items()}
        self._cache: dict[str, Field] = {}
        super().__init__(
            tuple(self._build(paths.resolve(text, descriptor), True) for text in indexed), key=key
        )

    def find(self, name: str) -> Field | None:
        """None for a path that does not exist; `resolve` says why."""
        try:
            return self.resolve(name)
        except UnknownPath:
            return None

    def resolve(self, name: str) -> Field:
        """The field at a path in any spelling. Raises UnknownPath."""
        found = self._cache.get(name)
        if found is None:
            path = paths.resolve(name, self.descriptor)
            found = self._by_name.get(str(path)) or self._build(path, False)
            if len(name) <= _SHORT:
                if len(self._cache) >= _REMEMBERED:
                    self._cache.clear()
                self._cache[name] = found
        return found

    def __getitem__(self, name: str) -> Field:
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found

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
            null=_null(path, kind),
            default=None if many else _default(path, kind),
            descriptor=last.enum_type or last.message_type,
            bounds=_BOUNDS.get(_scalar(path).cpp_type),
            pattern=self._names.get(text),
        )


def _scalar(path: Path) -> Any:
    """The descriptor of the value that the path names: of a map with a key, of the key's value."""
    return path.last if path.key is None else path.last.message_type.fields_by_name["value"]


def _default(path: Path, kind: FieldType) -> Any:
    """What a value that may be null compares as. A scalar of the message itself is never null."""
    if (len(path.fields) == 1 and path.key is None) or kind not in ("text", "int", "double", "bool", "enum"):
        return None
    return _value(kind)(_scalar(path).default_value)


def _type(path: Path, name: bool) -> FieldType:
    if paths.is_map(path.last) and path.key is None:
        return "map"
    value = _scalar(path)
    if value.message_type is not None:
        return _WELL_KNOWN.get(value.message_type.full_name, "message")
    return "name" if name else _TYPES[value.cpp_type]


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
        key, default = path.key, _scalar(path).default_value
        return lambda message: convert(getattr(_walk(message, steps), name).get(key, default))
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
    """docs/filters.md, "Nothing there": unset messages, times, names and references; empty lists and
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
