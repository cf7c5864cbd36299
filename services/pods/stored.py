"""Bodies of stored pods: made once when a pod is written, and cut into what the export sends.

A body begins with the pod as field 1 and its line as field 2. So its first bytes are an
ExportPodResponse as it goes over gRPC, and what follows them is the line as it goes over HTTP.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from shared.pb.roundhouse.pods.v1.pods_pb2 import StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.rest import descriptors
from shared.rest.convert import converter
from shared.rpc import frames

_POD: Final = StoredPod.POD_FIELD_NUMBER
_LINE: Final = StoredPod.LINE_FIELD_NUMBER
_SOURCE: Final = StoredPod.SOURCE_FIELD_NUMBER
_UPDATED_AT: Final = StoredPod.UPDATED_AT_FIELD_NUMBER
# Every field is written, null for unset messages.
_to_json: Final[Any] = converter("json", emit_defaults=True).of(descriptors.of(Pod))


def line_of(pod: Pod) -> bytes:
    """The pod's line of the export over HTTP."""
    return orjson.dumps({"result": {"pod": _to_json(pod)}}, option=orjson.OPT_APPEND_NEWLINE)


def body_of(pod: Pod, source: str, updated_at: int) -> bytes:
    """A serialized StoredPod. `updated_at`: nanoseconds since 1970."""
    return (
        frames.messages(_POD, [pod.SerializeToString(deterministic=True)])
        + frames.messages(_LINE, [line_of(pod)])
        + frames.text(_SOURCE, source)
        + frames.integer(_UPDATED_AT, updated_at)
    )


def frame(body: bytes) -> bytes:
    """The serialized ExportPodResponse."""
    return body[: _end(body, 0)]


def line(body: bytes) -> bytes:
    """The line over HTTP."""
    size, at = _varint(body, 1)
    size, at = _varint(body, at + size + 1)
    return body[at : at + size]


def without_line(body: bytes) -> bytes:
    """The StoredPod without its line."""
    end = _end(body, 0)
    return body[:end] + body[_end(body, end) :]


def _end(body: bytes, start: int) -> int:
    """Behind the length-delimited field that starts at `start`."""
    size, at = _varint(body, start + 1)
    return at + size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends."""
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    number, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = body[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at + 1
        shift += 7
