"""Pages in the order of names, with tokens that are bound to their query (jumpstarter contract,
section 2.3)."""

from __future__ import annotations

from typing import Any, Final, Protocol

from shared.errors import InvalidArgument
from shared.query import page_token
from shared.query.ast import Node
from shared.query.order_by import Ordering
from shared.query.page_token import Cursor
from shared.resource.collection import Collection, PageRequest
from shared.storage.port import Record

# What a page size of 0 means.
_ALL: Final = 1 << 31
_KEYS: Final = frozenset({"n", "q"})


class Request(Protocol):
    """A list request of ClientService."""

    parent: str
    page_size: int
    page_token: str


async def page(
    collection: Collection[Any], request: Request, filter: Node, *query: str
) -> tuple[list[Record], str]:
    """The records below `request.parent` that match, and the token of the next page; empty on the
    last. `query` is all that decides which records match. Raises InvalidArgument."""
    if request.page_size < 0:
        raise InvalidArgument.at("page_size", f"must not be negative; {request.page_size} is")
    asked = page_token.fingerprint(collection.definition.kind, request.parent, *query)
    found = await collection.page(
        PageRequest(
            request.page_size or _ALL, Ordering(), filter, request.parent, _cursor(request.page_token, asked)
        )
    )
    if found.next is None:
        return found.records, ""
    return found.records, page_token.encode({"n": found.next.name, "q": asked})


def _cursor(token: str, asked: str) -> Cursor | None:
    if not token:
        return None
    payload = page_token.decode(token, _KEYS)
    if not isinstance(payload["n"], str) or payload["q"] != asked:
        raise InvalidArgument.at("page_token", "is of another query; start again without it")
    return Cursor((), payload["n"])


def size_of(asked: int, *, default: int, most: int) -> int:
    """Of a page. Raises InvalidArgument when `asked` is negative."""
    if asked < 0:
        raise InvalidArgument.at("page_size", f"must not be negative; {asked} is")
    return min(asked or default, most)
