"""How objects are shown: aligned tables for people, JSON for programs, YAML that `apply` takes back."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml
from google.protobuf import any_pb2, descriptor_pool, json_format, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from shared.admin.stated import stated
from shared.pb.roundhouse.admin.v1 import admin_pb2

# How wide a cell and how many columns of a kind's own fields a table shows.
CELL: Final = 40
COLUMNS: Final = 5
MARKS: Final[dict[int, str]] = {
    admin_pb2.Difference.ACTION_UNSPECIFIED: "?",
    admin_pb2.Difference.CREATE: "+",
    admin_pb2.Difference.UPDATE: "~",
    admin_pb2.Difference.DELETE: "-",
}
_TIMESTAMP: Final = timestamp_pb2.Timestamp.DESCRIPTOR.full_name
# What people look for first, where that is not what a message begins with.
_FIRST: Final[dict[str, tuple[str, ...]]] = {
    "roundhouse.jobs.v1.Job": ("name", "state", "instance_count", "owner", "updated_at"),
    "roundhouse.jobs.v1.Pod": ("instance", "run", "status.state", "status.start_time", "status.reason"),
    "roundhouse.jobs.v1.Run": ("pod", "run", "status.state", "status.start_time", "status.reason"),
    "roundhouse.lab.v1.Exporter": ("status", "lease", "last_seen", "status_message"),
    "roundhouse.lab.v1.Lease": ("client", "selector", "exporter", "effective_begin_time", "ended_time"),
    "roundhouse.pods.v1.StoredPod": ("pod.name", "pod.namespace", "pod.cluster_id", "source", "updated_at"),
}
# Whole numbers of these names are nanoseconds since 1970.
_MOMENT: Final = "_at"
_NUMBERS: Final = frozenset(
    {
        *(FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64),
        *(FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64),
    }
)
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def unpack(body: any_pb2.Any) -> Message | None:
    """The message inside; None when there is none, or when this version does not know its type."""
    if not body.type_url:
        return None
    name = body.type_url.rpartition("/")[2]
    pool = descriptor_pool.Default()
    try:
        descriptor = pool.FindMessageTypeByName(name)
    except KeyError:
        _import_stubs()
        try:
            descriptor = pool.FindMessageTypeByName(name)
        except KeyError:
            return None
    try:
        return GetMessageClass(descriptor).FromString(body.value)
    except DecodeError:
        return None


def _import_stubs() -> None:
    """Registers every message of ours in the default pool."""
    import shared.pb

    for module in pkgutil.walk_packages(shared.pb.__path__, "shared.pb."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)


def fields(body: any_pb2.Any) -> dict[str, Any]:
    """Of the body, under proto field names; `@type` alone when the type is not known here."""
    message = unpack(body)
    if message is None:
        return {"@type": body.type_url} if body.type_url else {}
    return _fields(message)


def _fields(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def manifest(found: admin_pb2.Object) -> dict[str, Any]:
    """An object as `apply` takes it."""
    message = unpack(found.body)
    return fields(found.body) if message is None else _fields(stated(message))


def entry(found: admin_pb2.Object) -> dict[str, Any]:
    """An object as programs get it."""
    return {
        "kind": found.kind,
        "name": found.name,
        "revision": found.revision,
        "body": fields(found.body),
    }


def to_json(value: object, *, indent: int | None = 2) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def to_yaml(value: object) -> str:
    return yaml.dump(value, Dumper=_DUMPER, allow_unicode=True, sort_keys=False, width=110).rstrip("\n")


def columns(objects: Iterable[admin_pb2.Object]) -> list[str]:
    """The fields a table shows, as paths: those of `_FIRST`, else the first single-valued ones, that are
    set in some row and do not repeat its name."""
    chosen: dict[str, int] = {}
    for found in objects:
        message = unpack(found.body)
        if message is None:
            continue
        for index, path in enumerate(_paths(message)):
            if _text(message, path) not in ("", "0", found.name):
                chosen[path] = index
    return sorted(chosen, key=lambda path: chosen[path])[:COLUMNS]


def _paths(message: Message) -> Iterable[str]:
    first = _FIRST.get(message.DESCRIPTOR.full_name)
    return first or (found.name for found in message.DESCRIPTOR.fields if _shown(found))


def _shown(descriptor: Any) -> bool:
    if descriptor.is_repeated:
        return False
    if descriptor.message_type is not None:
        return descriptor.message_type.full_name == _TIMESTAMP
    return descriptor.type != FieldDescriptor.TYPE_BYTES


def _text(message: Message, path: str) -> str:
    """Of the field at a path; empty where there is none."""
    *outer, name = path.split(".")
    for step in outer:
        if step not in message.DESCRIPTOR.fields_by_name:
            return ""
        message = getattr(message, step)
    descriptor = message.DESCRIPTOR.fields_by_name.get(name)
    return _cell(message, descriptor) if descriptor is not None else ""


def _cell(message: Message, descriptor: Any) -> str:
    value = getattr(message, descriptor.name)
    if descriptor.message_type is not None:
        return value.ToJsonString() if message.HasField(descriptor.name) else ""
    if descriptor.enum_type is not None:
        known = descriptor.enum_type.values_by_number.get(value)
        return (known.name if known else str(value)) if value else ""
    if descriptor.type in _NUMBERS:
        if not descriptor.name.endswith(_MOMENT):
            return str(value)
        return timestamp(value) if value else ""
    return "" if value == descriptor.default_value else str(value)


def timestamp(nanoseconds: int) -> str:
    found = timestamp_pb2.Timestamp()
    found.FromNanoseconds(nanoseconds)
    return found.ToJsonString()


def cells(found: admin_pb2.Object, names: Sequence[str]) -> list[str]:
    """The texts of those fields, each on one line and cut to the width of a cell."""
    message = unpack(found.body)
    if message is None:
        return ["?" for _ in names]
    return [cut(_text(message, name)) for name in names]


def cut(text: str, width: int = CELL) -> str:
    text = "".join(char if char.isprintable() else "·" for char in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns under an upper-case header."""
    lines = [[name.upper() for name in header], *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in lines) for column in range(len(header))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    ]
