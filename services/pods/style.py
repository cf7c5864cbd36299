"""How the export speaks JSON over HTTP (pods contract, section 6)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from google.rpc.error_details_pb2 import BadRequest

from shared.auth.access import AUTHORIZATION
from shared.auth.identity import Identity
from shared.errors import Unauthenticated
from shared.rest.errors import http_status
from shared.rest.style import Style
from shared.rpc.method import Authenticator, Metadata
from shared.rpc.status import Status

_PARAMETERS: Final = ("timeout", "query")
_TOO_MANY: Final = "has too many values"


def error_body(status: Status) -> dict[str, Any]:
    """RuntimeError: `error` and `message` hold the same text."""
    message = _message(status)
    return {"error": message, "code": status.number, "message": message, "details": []}


def stream_error(status: Status) -> dict[str, Any]:
    """RuntimeStreamError, with the `code` that later versions write instead of the first two fields."""
    code = http_status(status)
    return {
        "grpcCode": status.number,
        "httpCode": code,
        "message": status.message,
        "httpStatus": _phrase(code),
        "details": [],
        "code": status.number,
    }


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Client Closed Request"


def _message(status: Status) -> str:
    """As upstream's gateway words what is wrong with the export's parameters. What is wrong in a query
    is worded by the query language, without the parameter's name in front."""
    texts = []
    for detail in status.details:
        for violation in detail.field_violations if isinstance(detail, BadRequest) else ():
            plain = f"{violation.field}: {violation.description}"
            if violation.field not in _PARAMETERS or plain not in status.message:
                return status.message
            if violation.description.startswith(_TOO_MANY):
                texts.append(f'too many values for field "{violation.field}"')
            else:
                texts.append(f'parsing field "{violation.field}": {violation.description}')
    return "; ".join(texts) or status.message


class Credentials:
    """Says as upstream does that there are none."""

    def __init__(self, inner: Authenticator) -> None:
        self._inner = inner

    async def authenticate(self, metadata: Metadata) -> Identity:
        try:
            return await self._inner.authenticate(metadata)
        except Unauthenticated as error:
            found = "credentials not found"
            if metadata.get(AUTHORIZATION):
                found += f": token-based: cannot extract identity: {error.message}"
            raise Unauthenticated(found) from error


_TEXT: Final = {"type": "string"}
STYLE: Final = Style(
    emit_defaults=True,
    error=error_body,
    stream_error=stream_error,
    error_schema={
        "type": "object",
        "description": "RuntimeError",
        "properties": {
            "error": _TEXT,
            "code": {"type": "integer", "format": "int32", "description": "A gRPC status code."},
            "message": _TEXT,
            "details": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["error", "code", "message", "details"],
    },
    unknown_query="ignore",
    unknown_body="ignore",
    unbound_body="ignore",
    wrong_method=501,
    pretty=True,
    gzip_streams=True,
    # What fails before the first pod is an HTTP status, however long it takes.
    open_stream_after=None,
    stream_headers={"Cache-Control": "no-store, no-cache"},
)
