"""Versions and audit entries: who did what, when, and which fields it changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from admin_ui.presenters import moments
from shared.pb.roundhouse.admin.v1 import admin_pb2

# The sources of actions in words; an action is `source:subject:verb`.
SOURCES: Final = {
    "grpc": "gRPC",
    "rest": "REST",
    "bootstrap": "start-up",
    "start": "start-up",
    "cli": "command line",
    "controller": "the controller",
}
VERBS: Final = {
    "create": ("Created", "plus", "ok"),
    "update": ("Changed", "edit", "info"),
    "delete": ("Deleted", "trash", "bad"),
    "archive": ("Archived", "archive", "muted"),
    "unarchive": ("Restored", "restore", "ok"),
    "apply": ("Applied", "edit", "info"),
    "put": ("Changed", "edit", "info"),
    "revoke": ("Revoked", "trash", "bad"),
    "redeem": ("Signed in", "user", "info"),
    "sign_out": ("Signed out", "user", "muted"),
    "compact": ("Compacted", "clock", "muted"),
    # Of a lab.
    "assign": ("Leased", "plug", "ok"),
    "end": ("Ended", "clock", "muted"),
    "release": ("Released", "restore", "info"),
    "forget": ("Forgotten", "clock", "muted"),
    "issue": ("Token issued", "key", "info"),
    "register": ("Registered", "server", "ok"),
    "unregister": ("Unregistered", "server", "muted"),
    "report_status": ("Reported", "activity", "muted"),
    "attach": ("Connected", "plug", "ok"),
    "detach": ("Disconnected", "plug", "muted"),
    "lose": ("Lost", "cross", "bad"),
    # Of jobs and their pods.
    "replace": ("Replaced", "edit", "info"),
    "patch": ("Patched", "edit", "info"),
    "restart": ("Restarted", "restore", "info"),
    "start": ("Started", "play", "ok"),
    "stop": ("Stopped", "stop", "warn"),
    "pause": ("Paused", "pause", "warn"),
    "resume": ("Resumed", "play", "info"),
    "abort": ("Aborted", "cross", "warn"),
    "reconcile": ("Carried on", "activity", "muted"),
}
_OPERATIONS: Final = {
    admin_pb2.Difference.CREATE: "create",
    admin_pb2.Difference.UPDATE: "update",
    admin_pb2.Difference.DELETE: "delete",
}
# What a job has: written with it, it says less than the job.
_OF_JOBS: Final = frozenset({"configuration", "workflow", "job_pod"})
# Longer values are cut: the raw view has them whole.
MAX_VALUE: Final = 240
# What the server sets with every write: it says nothing beside a change of anything else.
_BOOKKEEPING: Final = ("metadata.update_time", "metadata.resource_version", "metadata.generation")
# A controller's own notes on an exporter.
_NOTES: Final = ("last_seen", "controller")
# In the words of an exporter's page: a lease takes it, and gives it back.
TAKEN: Final = ("Leased", "plug", "ok")
FREED: Final = ("Freed", "restore", "info")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Empty `before` or `after`: the field had no value. `partial`: of a list, what left it and what
    came."""

    path: str
    before: str
    after: str
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Touched:
    """An object that an entry wrote."""

    kind: str
    name: str
    label: str
    operation: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision, for a timeline."""

    revision: int
    at: datetime | None
    title: str
    icon: str
    tone: str
    subject: str
    source: str
    request_id: str
    changes: tuple[FieldChange, ...] = ()
    objects: tuple[Touched, ...] = ()


def of_version(version: admin_pb2.Version, told: Callable[[str], bool] = lambda path: True) -> Entry:
    """`told`: whether people care for the changes of a field path."""
    before, after = unpack(version.before), unpack(version.after)
    operation = "create" if not version.before.type_url else "update"
    if not version.after.type_url:
        operation = "delete"
    shown = [path for path in version.paths if told(path)] if operation == "update" else ()
    changes = field_changes(before, after, shown)
    return _entry(version, operation, changes=changes, one=True)


def of_audit(entry: admin_pb2.AuditEntry) -> Entry:
    objects = tuple(
        Touched(change.kind, change.name, change.kind.replace("_", " "), _OPERATIONS.get(change.action, ""))
        for change in entry.changes
        # Claims keep names unique: a person did not write them.
        if change.kind != "claim"
    )
    # What came or went says more than what changed by it, and a lease more than what it holds.
    objects = tuple(
        sorted(
            objects,
            key=lambda one: (one.kind in _OF_JOBS, one.operation == "update", one.kind == "exporter"),
        )
    )
    return _entry(entry, objects[0].operation if objects else "", objects=objects)


def timeline(versions: Iterable[admin_pb2.Version], audit: Iterable[admin_pb2.AuditEntry]) -> Sequence[Entry]:
    """Newest first. The audit trail fills in what compaction took from the history."""
    known = {version.revision: of_version(version) for version in versions}
    for entry in audit:
        known.setdefault(entry.revision, of_audit(entry))
    return [known[revision] for revision in sorted(known, reverse=True)]


def _entry(
    source: admin_pb2.Version | admin_pb2.AuditEntry,
    operation: str,
    *,
    changes: tuple[FieldChange, ...] = (),
    objects: tuple[Touched, ...] = (),
    one: bool = False,
) -> Entry:
    parts = source.author.action.split(":")
    via = SOURCES.get(parts[0], parts[0]) if len(parts) > 1 else ""
    verb = parts[-1] if parts[-1] in VERBS else operation
    if (verb == "apply" and (one or len(objects) == 1)) or (one and verb in ("create", "delete")):
        # Of one object, what became of it says more than the way.
        verb = operation
    subject = source.author.subject
    if subject.startswith(("client:", "exporter:")) and subject.count(":") == 3:
        # Of a token of a lab: what, where, who, and a number that says nothing to people.
        subject = " ".join((subject.split(":")[0], "/".join(subject.split(":")[1:3])))
    title, icon, tone = VERBS.get(verb, (parts[-1].replace("_", " ").capitalize() or "Wrote", "edit", "info"))
    if held := [change for change in changes if change.path == "lease"]:
        title, icon, tone = TAKEN if held[0].after else FREED
    return Entry(
        source.revision,
        moments.from_timestamp(source.time),
        title,
        icon,
        tone,
        subject,
        via,
        source.author.request_id,
        changes,
        objects,
    )


def unpack(packed: AnyMessage) -> Message | None:
    """The message inside; None for none, or one of a type that this console does not know."""
    name = packed.type_url.rpartition("/")[2]
    if not name:
        return None
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
        return message_factory.GetMessageClass(descriptor).FromString(packed.value)
    except (KeyError, DecodeError):
        return None


def field_changes(
    before: Message | None, after: Message | None, paths: Iterable[str]
) -> tuple[FieldChange, ...]:
    """What differs at `paths`; of maps each key, of lists the elements that left and came."""
    known = [path for path in paths if path.split(".")[0] not in _NOTES]
    told = [path for path in known if not path.startswith(_BOOKKEEPING)] or known
    return tuple(change for path in told for change in _differences(before, after, path))


def _differences(before: Message | None, after: Message | None, path: str) -> Iterable[FieldChange]:
    (old, field), (new, other) = _at(before, path), _at(after, path)
    field = field or other
    if field is None or not field.is_repeated:
        yield FieldChange(path, _cut(_text(old, field)), _cut(_text(new, field)))
    elif _is_map(field):
        old, new = old or {}, new or {}
        for key in sorted({*old, *new}):
            if (key in old, old.get(key)) != (key in new, new.get(key)):
                yield FieldChange(f"{path}.{key}", _cut(_text(old.get(key))), _cut(_text(new.get(key))))
    else:
        left, came = [[_text(each) for each in values or ()] for values in (old, new)]
        known, kept = set(left), set(came)
        gone, added = [t for t in left if t not in kept], [t for t in came if t not in known]
        partial = bool(gone or added)
        texts = (gone, added) if partial else (left, came)
        yield FieldChange(path, _cut("; ".join(texts[0])), _cut("; ".join(texts[1])), partial)


def value_at(message: Message | None, path: str) -> str:
    """The value of a field path, as text for people; empty when it has none."""
    return _cut(_text(*_at(message, path)))


def _at(message: Message | None, path: str) -> tuple[Any, Any]:
    """The value at a field path and its descriptor; None for a value or field that there is not."""
    value: Any = message
    field: Any = None
    for name in path.split("."):
        if not isinstance(value, Message):
            return None, None
        field = value.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            return None, None
        if field.message_type is not None and not field.is_repeated and not value.HasField(name):
            return None, field
        value = getattr(value, name)
    return value, field


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _text(value: Any, field: Any = None) -> str:
    if value is None:
        return ""
    if isinstance(value, Message):
        if value.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
            at = moments.from_timestamp(value)  # type: ignore[arg-type]
            return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
        inside = MessageToDict(value, preserving_proto_field_name=True)
        if any(isinstance(each, dict | list) for each in inside.values()):
            return json.dumps(inside, ensure_ascii=False)
        return ", ".join(f"{name} {each}" for name, each in inside.items())
    if isinstance(value, bool):
        return "true" if value else "false"
    if field is not None and field.is_repeated:
        if _is_map(field):
            return ", ".join(f"{key}: {_text(each)}" for key, each in sorted(value.items()))
        return ", ".join(_text(each) for each in value)
    if field is not None and field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return str(value)
