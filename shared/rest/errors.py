"""Error bodies, and the errors that the gateway itself makes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from grpc import StatusCode

from shared.errors import NotFound
from shared.rest.convert import converter
from shared.rpc import status as statuses
from shared.rpc.status import HTTP, Status, StatusError

log = logging.getLogger(__name__)

GOOGLE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "google.rpc.Status",
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "A gRPC status code."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {"type": "object", "properties": {"@type": {"type": "string"}}},
        },
    },
    "required": ["code", "message", "details"],
}


def google(status: Status) -> dict[str, Any]:
    """google.rpc.Status as JSON (AIP-193)."""
    return {"code": status.number, "message": status.message, "details": details(status)}


def details(status: Status) -> list[dict[str, Any]]:
    """The google.rpc details as JSON, each with its "@type"."""
    to_json = converter("json")
    return [to_json(packed) for packed in status.proto().details]


def http_status(status: Status) -> int:
    return HTTP[status.code]


def unknown_path(path: str) -> Status:
    return statuses.of(NotFound(f"no such path: {_printable(path)}"))


def wrong_method(verb: str, path: str, allowed: Sequence[str]) -> Status:
    return Status(
        StatusCode.UNIMPLEMENTED,
        f"{_printable(verb)} is not allowed on {_printable(path)}; allowed: {', '.join(allowed)}",
    )


def of(error: Exception) -> Status:
    """The status of what went wrong between the handler and the socket. What is not foreseen is
    logged: it is a bug."""
    if isinstance(error, (RecursionError, orjson.JSONEncodeError)):
        reason = "the answer is nested more deeply than JSON can say; ask over gRPC"
        return Status(StatusCode.FAILED_PRECONDITION, reason)
    found = statuses.of(error)
    if found.code is StatusCode.INTERNAL and not isinstance(error, StatusError):
        log.error("answering crashed", exc_info=error)
    return found


def _printable(text: str) -> str:
    """What a caller sent, as an error may repeat it: short, and valid Unicode."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= 200 else clean[:197] + "..."
