"""What a list shows, kept in its URL: reload, Back and a pasted link show the same list."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self
from urllib.parse import urlencode

PAGE_SIZES: Final = (10, 20, 50, 100, 200)
DEFAULT_PAGE_SIZE: Final = 20
STATES: Final[Mapping[str, str]] = {"active": "Active", "archived": "Archived", "all": "All"}
# Pages that "previous" can walk back; beyond it the first page is one step away.
MAX_TRAIL: Final = 100
MAX_TRAIL_BYTES: Final = 262_144
_PAGING: Final = frozenset({"page_token", "trail", "page"})


def pack(tokens: tuple[str, ...]) -> str:
    """Page tokens as one short text. They share most of what they say, so they compress well."""
    if not tokens:
        return ""
    return base64.urlsafe_b64encode(zlib.compress("\n".join(tokens).encode(), 9)).decode().rstrip("=")


def unpack(text: str) -> tuple[str, ...]:
    """The tokens that `pack` packed; none for a text that it did not write."""
    if not text:
        return ()
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        inflate = zlib.decompressobj()
        plain = inflate.decompress(raw, MAX_TRAIL_BYTES)
        if inflate.unconsumed_tail or not inflate.eof:
            return ()
        return tuple(plain.decode().split("\n"))[-MAX_TRAIL:]
    except (binascii.Error, ValueError, zlib.error):
        return ()


@dataclass(frozen=True, slots=True)
class ListState:
    """The query string of a list, checked. What is not well-formed is the default.

    APIs give tokens forward only, so the tokens of the pages before stand in `trail`, oldest first;
    the first page's is empty.
    """

    q: str = ""
    state: str = "active"
    filter: str = ""
    order_by: str = ""
    namespace: str = ""
    page_size: int = DEFAULT_PAGE_SIZE
    page_token: str = ""
    trail: tuple[str, ...] = ()
    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        state = query.get("state", "active")
        token = query.get("page_token", "")
        return cls(
            q=query.get("q", "").strip(),
            state=state if state in STATES else "active",
            filter=query.get("filter", "").strip(),
            order_by=" ".join(query.get("order_by", "").split()),
            namespace=query.get("namespace", "").strip(),
            page_size=_page_size(query.get("page_size", "")),
            page_token=token,
            trail=unpack(query.get("trail", "")) if token else (),
            page=_page(query.get("page", "")) if token else 1,
        )

    def replace(self, **changes: Any) -> Self:
        """With `changes`. Whatever changes the list itself starts at its first page again."""
        if not _PAGING & changes.keys():
            changes = {"page_token": "", "trail": (), "page": 1, **changes}
        return replace(self, **changes)

    def query(self, **changes: Any) -> str:
        """The query string with `changes`, defaults left out: `""` or `"?q=..."`."""
        state = self.replace(**changes) if changes else self
        given = []
        for field in fields(state):
            value = getattr(state, field.name)
            if value != field.default:
                given.append((field.name, pack(value) if field.name == "trail" else value))
        return f"?{urlencode(given)}" if given else ""

    def next(self, token: str) -> str:
        """The query string of the page that `token` names."""
        trail = (*self.trail, self.page_token)[-MAX_TRAIL:]
        return self.query(page_token=token, trail=trail, page=self.page + 1)

    def previous(self) -> str:
        """The query string of the page before; of the first page once the trail is used up."""
        if len(self.trail) < 2 or not self.trail[-1]:
            return self.first()
        return self.query(page_token=self.trail[-1], trail=self.trail[:-1], page=max(self.page - 1, 2))

    def first(self) -> str:
        return self.query(page_token="", trail=(), page=1)

    @property
    def is_first(self) -> bool:
        return not self.page_token

    @property
    def offset(self) -> int:
        """How many rows stand on the pages before."""
        return (self.page - 1) * self.page_size

    def sorted_by(self, field: str) -> str:
        """`asc`, `desc` or empty: whether and how the list is sorted by `field`."""
        words = self.order_by.lower().split()
        if not words or words[0] != field:
            return ""
        return "desc" if words[1:] == ["desc"] else "asc"

    def sort(self, field: str, *, first: str = "asc") -> str:
        """The query string that sorts by `field`: a second click turns the order round."""
        now = self.sorted_by(field)
        turned = first if not now else ("asc" if now == "desc" else "desc")
        return self.query(order_by=f"{field} {turned}")


def _page_size(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) in PAGE_SIZES else DEFAULT_PAGE_SIZE


def _page(text: str) -> int:
    return min(max(int(text), 2), 1_000_000) if text.isascii() and text.isdigit() and len(text) < 8 else 2
