"""Field paths: `metadata.labels.env`, resolved against a message's descriptor.

A field may be spelled snake_case, lowerCamelCase or kebab-case. A map takes one further segment, its
key, verbatim; `\\.` is a dot inside a key. Filters, orders and masks share this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

_SEPARATOR = re.compile(r"(?<!\\)\.")


class UnknownPath(ValueError):
    """No such field; the text says which segment is wrong, and `offset` how many characters of the
    path stand before it."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Path:
    """`fields` are the descriptors on the way, `key` the map key behind the last one."""

    fields: tuple[Any, ...]
    key: str | None = None

    def __str__(self) -> str:
        """The canonical spelling."""
        names = [field.name for field in self.fields]
        if self.key is not None:
            names.append(self.key.replace(".", "\\."))
        return ".".join(names)

    @property
    def last(self) -> Any:
        """The descriptor of the field that the path names, or of the map that has the key."""
        return self.fields[-1]

    @property
    def through_repeated(self) -> bool:
        """A field before the last one is repeated."""
        return any(field.is_repeated for field in self.fields[:-1])

    def holders(self, message: Message) -> Iterator[Message]:
        """The messages that have the last field: one, or one for each element on the way. Unset
        messages on the way are skipped."""
        found: list[Message] = [message]
        for field in self.fields[:-1]:
            if field.is_repeated:
                found = [element for holder in found for element in getattr(holder, field.name)]
            else:
                found = [getattr(holder, field.name) for holder in found if holder.HasField(field.name)]
        return iter(found)


def split(text: str) -> list[str]:
    """The segments of a path, escapes kept."""
    return _SEPARATOR.split(text)


def resolve(text: str, descriptor: Any) -> Path:
    """Raises UnknownPath."""
    fields: list[Any] = []
    current = descriptor
    segments = split(text)
    offset = 0
    for index, segment in enumerate(segments):
        if current is None:
            raise UnknownPath(f"{fields[-1].name} has no fields, so no {segment!r}", offset)
        field = _find(current, segment)
        if field is None:
            raise UnknownPath(
                f"{current.name} has no field {segment!r}; it has {_listed(current.fields)}", offset
            )
        fields.append(field)
        offset += len(segment) + 1
        if is_map(field):
            return Path(tuple(fields), _key(field, segments[index + 1 :], offset))
        current = field.message_type
        if current is not None and current.full_name.startswith("google.protobuf."):
            current = None
    return Path(tuple(fields))


def is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _find(descriptor: Any, segment: str) -> Any:
    if "\0" in segment:
        return None  # the library compares what stands before it only
    found = descriptor.fields_by_name.get(segment) or descriptor.fields_by_camelcase_name.get(segment)
    if found is None and "-" in segment and "_" not in segment:
        found = descriptor.fields_by_name.get(segment.replace("-", "_"))
    return found


def _key(field: Any, rest: list[str], offset: int) -> str | None:
    if not rest:
        return None
    if len(rest) > 1:
        raise UnknownPath(
            f"{field.name} takes one key; write a dot inside it as '\\.'", offset + len(rest[0]) + 1
        )
    if not rest[0]:
        raise UnknownPath(f"{field.name} is followed by an empty key", offset)
    return rest[0].replace("\\.", ".")


def _listed(fields: Iterable[Any]) -> str:
    return ", ".join(field.name for field in fields)
