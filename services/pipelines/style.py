"""How the Kubeflow Pipelines API speaks JSON: snake_case, and errors that readers of both of its
generations understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from shared.pb.backend.api.v1beta1.error_pb2 import Error
from shared.rest.style import Style
from shared.rpc.status import Status

_DETAIL: Final = "type.googleapis.com/api.Error"


def error_body(status: Status) -> dict[str, Any]:
    """`error` and `message` hold the same text; `details` one api.Error."""
    return {
        "error": status.message,
        "code": status.number,
        "message": status.message,
        "details": [{"@type": _DETAIL, "error_message": _short(status), "error_details": status.message}],
    }


def error_details(status: Status) -> Sequence[Message]:
    """What goes before the google.rpc details of a gRPC error."""
    return [Error(error_message=_short(status), error_details=status.message)]


def _short(status: Status) -> str:
    """What is wrong, without the name of the field in front."""
    for detail in status.details:
        if isinstance(detail, BadRequest) and detail.field_violations:
            return detail.field_violations[0].description
    return status.message


_TEXT: Final = {"type": "string"}
STYLE: Final = Style(
    names="proto",
    error=error_body,
    error_schema={
        "type": "object",
        "properties": {
            "error": _TEXT,
            "code": {"type": "integer", "format": "int32", "description": "A gRPC status code."},
            "message": _TEXT,
            "details": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"@type": _TEXT, "error_message": _TEXT, "error_details": _TEXT},
                },
            },
        },
        "required": ["error", "code", "message", "details"],
    },
    unknown_query="ignore",
    unknown_body="ignore_top",
    unbound_body="ignore",
)
