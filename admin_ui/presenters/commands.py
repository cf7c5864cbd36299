"""The same in a terminal: commands that do what a page does, ready to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from admin_ui.clients import Endpoint


@dataclass(frozen=True, slots=True)
class Snippet:
    tool: str
    text: str


def rest(endpoint: Endpoint) -> str:
    """The base URL of the service's REST side, or a variable that says what is missing."""
    return endpoint.rest or f"${endpoint.name.upper()}_URL"


def fields(request: Message) -> dict[str, Any]:
    """What a request says, in the names of its proto, without its place in the list."""
    given = MessageToDict(request, preserving_proto_field_name=True)
    given.pop("page_token", None)
    return given


def curl(url: str, given: Mapping[str, Any] | None = None, *, options: str = "") -> str:
    """`given`: query parameters, for a GET."""
    data = " ".join(
        f"--data-urlencode {shlex.quote(f'{key}={_plain(value)}')}" for key, value in (given or {}).items()
    )
    parts = ["curl", "-G" if data else "", options, '-H "Authorization: Bearer $TOKEN"', quoted(url), data]
    return " ".join(filter(None, parts))


def grpcurl(endpoint: Endpoint, method: str, request: Mapping[str, Any]) -> str:
    """`method`: its full name, `package.Service/Method`."""
    plain = "" if endpoint.rest.startswith("https:") else "-plaintext "
    return (
        f'grpcurl {plain}-H "authorization: Bearer $TOKEN" '
        f"-d {shlex.quote(json.dumps(request, ensure_ascii=False))} {shlex.quote(endpoint.target)} {method}"
    )


def roundhouse(*words: str) -> str:
    return shlex.join(("roundhouse", *words))


def query(url: str, given: Mapping[str, Any]) -> str:
    """A URL with its query string, for methods whose parameters are no form."""
    pairs = "&".join(f"{quote(key)}={quote(_plain(value), safe='')}" for key, value in given.items())
    return f"{url}?{pairs}" if pairs else url


def quoted(url: str) -> str:
    """Quoted for a shell, with a leading variable still expanded."""
    if url.startswith("$"):
        variable, slash, rest = url.partition("/")
        return f'"{variable}"{shlex.quote(slash + rest)}'
    return shlex.quote(url)


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
