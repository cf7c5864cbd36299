"""A resource as a manifest may say it. Services refuse the rest in manifests, and set it themselves."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message

from shared.pb.goten_sdk.types import meta_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2

# The server's own of a goten.types.Meta.
_META: Final = (
    "create_time", "update_time", "delete_time", "uuid", "generation", "resource_version", "lifecycle",
)  # fmt: skip
# The same of what a lab keeps: fields from this number on, by the text of lab.proto, and an exporter's
# labels under its own prefix.
_FIRST_OF_LAB: Final = 10
_OWN_LABELS: Final = "jumpstarter.dev/"
_LAB: Final = {message.DESCRIPTOR for message in (lab_pb2.Exporter, lab_pb2.Client, lab_pb2.AccessPolicy)}
# Names of those fields of a lab.
OF_LAB_SERVER: Final = frozenset(
    field.name for message in _LAB for field in message.fields if field.number >= _FIRST_OF_LAB
)


def stated(message: Message) -> Message:
    """A copy without what only the server sets."""
    copy: Any = type(message)()
    copy.CopyFrom(message)
    if copy.DESCRIPTOR in _LAB:
        for field in copy.DESCRIPTOR.fields:
            if field.number >= _FIRST_OF_LAB:
                copy.ClearField(field.name)
        for key in [key for key in getattr(copy, "labels", ()) if key.startswith(_OWN_LABELS)]:
            del copy.labels[key]
        return copy
    field = copy.DESCRIPTOR.fields_by_name.get("metadata")
    if field is not None and field.message_type is meta_pb2.Meta.DESCRIPTOR and copy.HasField("metadata"):
        inner: Any = getattr(copy, "metadata")  # noqa: B009 - of some messages only
        for name in _META:
            inner.ClearField(name)
        if not inner.ListFields():
            copy.ClearField("metadata")
    return copy
