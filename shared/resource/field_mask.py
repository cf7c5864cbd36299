"""Field paths of messages: what differs between two, and copying only some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from shared.errors import InvalidArgument, Violation


def differences(before: Message | None, after: Message | None) -> list[str]:
    """Paths of the fields that differ, in field order; a message that is set on both sides is
    looked into, lists and maps are compared whole. With one side absent: every set field of the other."""
    if before is None or after is None:
        present = before if after is None else after
        return [] if present is None else [field.name for field, _ in present.ListFields()]
    found: list[str] = []
    for field in before.DESCRIPTOR.fields:
        if _same(field, before, after):
            continue
        if _single_message(field) and before.HasField(field.name) and after.HasField(field.name):
            inner = differences(getattr(before, field.name), getattr(after, field.name))
            found.extend(f"{field.name}.{path}" for path in inner)
        else:
            found.append(field.name)
    return found


def validate(paths: Iterable[str], descriptor: Any, *, parameter: str = "update_mask") -> None:
    """Raises InvalidArgument naming every path that no field of `descriptor` has."""
    wrong = [
        Violation(parameter, f"{path!r} is no field of {descriptor.name}")
        for path in paths
        if not _exists(path.split("."), descriptor)
    ]
    if wrong:
        raise InvalidArgument.of(wrong)


def merge(source: Message, target: Message, paths: Iterable[str]) -> None:
    """Make the fields at `paths` of `target` what they are in `source`, unset ones included."""
    for path in paths:
        _copy(source, target, path.split("."))


def _copy(source: Message, target: Message, path: list[str]) -> None:
    name, rest = path[0], path[1:]
    field = source.DESCRIPTOR.fields_by_name[name]
    if rest and source.HasField(name):
        _copy(getattr(source, name), getattr(target, name), rest)
        return
    if rest and not target.HasField(name):
        return
    target.ClearField(name)
    if field.is_repeated:
        getattr(target, name).MergeFrom(getattr(source, name))
    elif field.message_type is not None:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
            getattr(target, name).SetInParent()
    elif not field.has_presence or source.HasField(name):
        setattr(target, name, getattr(source, name))


def _same(field: Any, before: Message, after: Message) -> bool:
    if field.has_presence and before.HasField(field.name) != after.HasField(field.name):
        return False
    return bool(getattr(before, field.name) == getattr(after, field.name))


def _single_message(field: Any) -> bool:
    return field.message_type is not None and not field.is_repeated


def _exists(path: list[str], descriptor: Any) -> bool:
    field = descriptor.fields_by_name.get(path[0])
    if field is None:
        return False
    if len(path) == 1:
        return True
    return _single_message(field) and _exists(path[1:], field.message_type)
