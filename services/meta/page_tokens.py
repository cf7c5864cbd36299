"""Page tokens in the grammar that Go clients parse while they decode a response.

`dir.inclusion.type.value`; ours are of type C with one pair, whose value is our own encoding of the
boundary row and the query. Direction and inclusion stand outside it: clients may turn a token round.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from shared.errors import InvalidArgument
from shared.query import page_token
from shared.query.order_by import Ordering
from shared.query.page_token import Cursor

_KEY: Final = base64.b64encode(b"rh").decode()
_DIRECTIONS: Final = {"l": True, "r": False}
_INCLUSIONS: Final = {"i": True, "e": False}
_KEYS: Final = frozenset({"k", "n", "q"})


def encode(cursor: Cursor | None, query: str) -> str:
    """The token of a cursor for the query with that fingerprint; empty for None."""
    if cursor is None:
        return ""
    direction = "l" if cursor.backward else "r"
    inclusion = "i" if cursor.inclusive else "e"
    place = cursor.payload()
    payload = page_token.encode({"k": place["k"], "n": place["n"], "q": query})
    return f"{direction}.{inclusion}.C.{_KEY}:{base64.b64encode(payload.encode()).decode()}"


def decode(token: str, query: str, ordering: Ordering) -> Cursor:
    """Raises InvalidArgument naming `page_token` for a token that is none, or of another query."""
    wrong = InvalidArgument.at("page_token", "is not a token of this server; start again without it")
    parts = token.split(".")
    if len(parts) != 4 or parts[0] not in _DIRECTIONS or parts[1] not in _INCLUSIONS or parts[2] != "C":
        raise wrong
    key, separator, value = parts[3].partition(":")
    if key != _KEY or not separator:
        raise wrong
    try:
        inner = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise wrong from error
    payload = page_token.decode(inner, _KEYS)
    if payload["q"] != query:
        raise InvalidArgument.at("page_token", "is of another query; start again without it")
    turned = {"b": _DIRECTIONS[parts[0]], "i": _INCLUSIONS[parts[1]]}
    return page_token.cursor({**payload, **turned}, ordering)
