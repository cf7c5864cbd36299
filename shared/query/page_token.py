"""Page tokens: versioned JSON in URL-safe base64, bound to their query, strict when read."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.errors import InvalidArgument
from shared.query.order_by import Ordering
from shared.storage.port import NULL, Value

VERSION = 1
# What a token may have to hold: the longest filter, and the longest text that rows are sorted by.
_MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Cursor:
    """A boundary row: where the next page begins. `backward` reads towards the start."""

    values: tuple[Value | None, ...]
    name: str
    backward: bool = False
    inclusive: bool = False

    def payload(self) -> dict[str, Any]:
        """For JSON: a null is [], a missing value is null."""
        values: list[Any] = [[] if value is NULL else value for value in self.values]
        return {"k": values, "n": self.name, "b": self.backward, "i": self.inclusive}


def encode(payload: Mapping[str, Any]) -> str:
    """A token of `payload` and the format's version."""
    data = orjson.dumps({"v": VERSION, **payload})
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(token: str, keys: frozenset[str], *, parameter: str = "page_token") -> dict[str, Any]:
    """The payload of a token that holds exactly `keys`. Raises InvalidArgument naming `parameter`."""
    wrong = InvalidArgument.at(parameter, "is not a token of this server; start again without it")
    if len(token) > _MAX_CHARACTERS:
        raise wrong
    try:
        raw = token.encode("ascii")
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(data)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise wrong from error
    if not isinstance(found, dict):
        raise wrong
    version = found.pop("v", None)
    # True and 1.0 equal 1, and are none.
    if type(version) is not int or version != VERSION or found.keys() != keys:
        raise wrong
    return found


CURSOR_KEYS = frozenset({"k", "n", "b", "i"})


def cursor(payload: Mapping[str, Any], ordering: Ordering, *, parameter: str = "page_token") -> Cursor:
    """The cursor in a decoded payload, its values checked against the types of `ordering`."""
    wrong = InvalidArgument.at(parameter, "is not a token of this query; start again without it")
    values, name = payload["k"], payload["n"]
    if not isinstance(values, list) or len(values) != len(ordering.keys) or not isinstance(name, str):
        raise wrong
    if type(payload["b"]) is not bool or type(payload["i"]) is not bool:
        raise wrong
    checked: list[Value | None] = []
    for key, value in zip(ordering.keys, values, strict=True):
        text = key.field.type in ("text", "name")
        if value is None:
            checked.append(None)
        elif value == [] and isinstance(value, list):
            checked.append(NULL)
        elif (isinstance(value, str) and text) or (type(value) is int and not text and _fits(value)):
            checked.append(value)
        else:
            raise wrong
    return Cursor(tuple(checked), name, payload["b"], payload["i"])


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def fingerprint(*parts: str) -> str:
    """Of a query: a token of another query is refused by comparing this."""
    return hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()[:16]
