"""PatchJob's merge (jobs contract, section 4): what is set overrides, what is absent stays."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec


def merged(current: JobSpec, patch: JobSpec) -> JobSpec:
    """A set scalar or message overrides, field by field; a list or map that is not empty replaces the
    whole."""
    found = JobSpec()
    found.CopyFrom(current)
    _merge(found, patch)
    return found


def _merge(message: Any, patch: Message) -> None:
    for field, value in patch.ListFields():
        if field.is_repeated:
            message.ClearField(field.name)
            getattr(message, field.name).MergeFrom(value)
        elif field.message_type is not None:
            _merge(getattr(message, field.name), value)
        else:
            setattr(message, field.name, value)
