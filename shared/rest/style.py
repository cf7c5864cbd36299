"""How one API speaks JSON: names, defaults, errors, and what it makes of what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from shared.rest import errors
from shared.rest.convert import Names
from shared.rest.json_reader import Unknown
from shared.rpc.status import Status

ErrorBody = Callable[[Status], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Style:
    """The defaults are those of Google's APIs (AIP-193 errors, proto3 JSON)."""

    # Output keys. Input always takes both.
    names: Names = "json"
    # True writes every field, null for unset messages and optional scalars.
    emit_defaults: bool = False
    # The JSON object of a failed call.
    error: ErrorBody = errors.google
    # What stands under "error" in the last line of a stream; None: the same object.
    stream_error: ErrorBody | None = None
    # JSON schema of the error object, for the OpenAPI document.
    error_schema: Mapping[str, Any] = field(default_factory=lambda: errors.GOOGLE_SCHEMA)
    unknown_query: Literal["ignore", "refuse"] = "refuse"
    # "ignore_top": ignored at the top level of the body, refused deeper.
    unknown_body: Unknown = "refuse"
    # A body where the rule has none: "merge" reads it as the request, "ignore" does not look at it.
    unbound_body: Literal["ignore", "merge"] = "merge"
    # HTTP status for a known path and another verb.
    wrong_method: int = 405
    # Bytes, after decompression.
    max_body: int = 1 << 20
    # `?pretty` or `Accept: application/json+pretty` indents.
    pretty: bool = False
    # Compress streams for clients that take gzip, too: each message is flushed.
    gzip_streams: bool = False
    # Seconds after which a stream that has said nothing yet is answered 200 all the same, so that
    # an idle watch is seen to be open. None waits: its failure is then always an HTTP status.
    open_stream_after: float | None = 1.0
    # Further headers of a stream's answer.
    stream_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def error_of_stream(self) -> ErrorBody:
        return self.stream_error or self.error


GOOGLE: Final = Style()
