"""Stored versions as admin messages."""

from __future__ import annotations

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.resource import field_mask
from shared.resource.definition import Definition
from shared.storage.port import AuditEntry, Author, Record, Version

_PREFIX = "type.googleapis.com/"
_ACTIONS = {
    "create": pb.Difference.CREATE,
    "update": pb.Difference.UPDATE,
    "delete": pb.Difference.DELETE,
}


def packed(definition: Definition, body: bytes | None) -> any_pb2.Any | None:
    """The body as an Any, without parsing it."""
    if body is None:
        return None
    name = definition.message.DESCRIPTOR.full_name
    return any_pb2.Any(type_url=_PREFIX + name, value=definition.shown(body))


def shown(definition: Definition, record: Record) -> pb.Object:
    return pb.Object(
        kind=definition.kind,
        name=record.name,
        revision=record.revision,
        body=packed(definition, record.body),
    )


def difference(
    definition: Definition, name: str, before: Message | None, after: Message | None
) -> pb.Difference:
    """CREATE without `before`, DELETE without `after`, else UPDATE."""
    action = "update" if before is not None and after is not None else "delete" if after is None else "create"
    return pb.Difference(
        action=_ACTIONS[action],
        kind=definition.kind,
        name=name,
        before=packed(definition, _bytes(before)),
        after=packed(definition, _bytes(after)),
        paths=field_mask.differences(before, after),
    )


def _bytes(message: Message | None) -> bytes | None:
    return None if message is None else message.SerializeToString(deterministic=True)


def version(definition: Definition, found: Version) -> pb.Version:
    change = found.change
    before = None if change.before is None else definition.parse(definition.shown(change.before))
    after = None if change.after is None else definition.parse(definition.shown(change.after))
    return pb.Version(
        revision=found.revision,
        time=time(found.at),
        author=author(found.by),
        before=packed(definition, change.before),
        after=packed(definition, change.after),
        paths=field_mask.differences(before, after),
    )


def audit(entry: AuditEntry, kinds: frozenset[str]) -> pb.AuditEntry:
    """With the changes of `kinds` only: claims and marks mean nothing to people."""
    return pb.AuditEntry(
        revision=entry.revision,
        time=time(entry.at),
        author=author(entry.by),
        changes=[
            pb.AuditEntry.Change(kind=change.kind, name=change.name, action=_ACTIONS[change.op])
            for change in entry.changes
            if change.kind in kinds
        ],
    )


def author(by: Author) -> pb.Author:
    return pb.Author(subject=by.subject, action=by.action, request_id=by.request_id)


def time(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
