"""What a list shows, kept in its URL: reload, Back and a pasted link show the same list."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final, Self
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
class Column:
    """A column's heading. `field`: the API's field that it sorts by, empty for none; `first`: the
    direction of a first click; `css`: its class. `unseen`: the label is for screen readers alone."""

    field: str
    label: str
    first: str = "asc"
    css: str = ""
    unseen: bool = False


# The last column of rows that have buttons of their own.
ACTIONS: Final = Column("", "Actions", css="c-act", unseen=True)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a page stands in its list. `total` None: the API does not say. `previous` and `next` are
    query strings, None where there is nothing in that direction."""

    offset: int
    count: int
    total: int | None
    previous: str | None
    next: str | None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The query string of any list, checked. What is not well-formed is the default. CHOICES: the fields
    by which a list shows less than everything."""

    CHOICES: ClassVar[tuple[str, ...]] = ("filter",)

    filter: str = ""
    order_by: str = ""
    page_size: int = DEFAULT_PAGE_SIZE
    page_token: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        return cls(**cls.given(query))

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        """The fields from an address."""
        return {
            # Browsers send line ends of a text as CRLF.
            "filter": query.get("filter", "").replace("\r\n", "\n").strip(),
            "order_by": " ".join(query.get("order_by", "").split()),
            "page_size": _page_size(query.get("page_size", "")),
            "page_token": query.get("page_token", ""),
        }

    def replace(self, **changes: Any) -> Self:
        """With `changes`. Whatever changes the list itself starts at its first page again."""
        if not _PAGING & changes.keys():
            names = {field.name for field in fields(self)}
            first = {"page_token": "", "trail": (), "page": 1}
            changes = {**{name: value for name, value in first.items() if name in names}, **changes}
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

    def first(self) -> str:
        """The query string of the first page."""
        return self.replace().query()

    def here(self) -> str:
        """The query string of this very page."""
        paging = _PAGING & {field.name for field in fields(self)}
        return self.query(**{name: getattr(self, name) for name in paging})

    def cleared(self) -> str:
        """The query string of the list of everything."""
        return self.query(**dict.fromkeys(self.CHOICES, ""))

    @property
    def chosen(self) -> bool:
        """It does not show everything."""
        return any(getattr(self, name) for name in self.CHOICES)

    @property
    def is_first(self) -> bool:
        return not self.page_token

    def sorted_by(self, field: str) -> str:
        """`asc`, `desc` or empty: whether and how the list is sorted by `field`, before all else."""
        words = self.order_by.partition(",")[0].lower().split()
        if not words or words[0] != field:
            return ""
        return "desc" if words[1:] == ["desc"] else "asc"

    def sort(self, field: str, *, first: str = "asc") -> str:
        """The query string that sorts by `field`: a second click turns the order round."""
        now = self.sorted_by(field)
        turned = first if not now else ("asc" if now == "desc" else "desc")
        return self.query(order_by=f"{field} {turned}")


@dataclass(frozen=True, slots=True)
class ForwardQuery(ListQuery):
    """A list of an API that gives page tokens forward only: the tokens of the pages before stand in
    `trail`, oldest first; the first page's is empty."""

    trail: tuple[str, ...] = ()
    page: int = 1

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        token = query.get("page_token", "")
        return {
            **ListQuery.given(query),
            "trail": unpack(query.get("trail", "")) if token else (),
            "page": _page(query.get("page", "")) if token else 1,
        }

    def next(self, token: str) -> str:
        """The query string of the page that `token` names."""
        trail = (*self.trail, self.page_token)[-MAX_TRAIL:]
        return self.query(page_token=token, trail=trail, page=self.page + 1)

    def previous(self) -> str:
        """The query string of the page before; of the first page once the trail is used up."""
        if len(self.trail) < 2 or not self.trail[-1]:
            return self.first()
        return self.query(page_token=self.trail[-1], trail=self.trail[:-1], page=max(self.page - 1, 2))

    def pages(self, count: int, total: int | None, next_token: str) -> Pages:
        return Pages(
            (self.page - 1) * self.page_size,
            count,
            total,
            None if self.is_first else self.previous(),
            self.next(next_token) if next_token else None,
        )


@dataclass(frozen=True, slots=True)
class ListState(ForwardQuery):
    """Of experiments, and of the audit trail."""

    CHOICES = ("q", "filter")

    q: str = ""
    state: str = "active"
    namespace: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        state = query.get("state", "active")
        return {
            **ForwardQuery.given(query),
            "q": query.get("q", "").strip(),
            "state": state if state in STATES else "active",
            "namespace": query.get("namespace", "").strip(),
        }


@dataclass(frozen=True, slots=True)
class CatalogueState(ListQuery):
    """A list of an API that gives page tokens in both directions. `parent`: the id of the one
    resource whose children are listed; empty is all."""

    CHOICES = ("filter", "parent")

    parent: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        return {**ListQuery.given(query), "parent": query.get("parent", "").strip()}

    def pages(self, count: int, *, offset: int, total: int, previous_token: str, next_token: str) -> Pages:
        """The first page, reached backwards, has no token of its own: so Live shows what is new there."""

        def at(token: str) -> str | None:
            return self.query(page_token=token) if token else None

        back = at(previous_token)
        if back is not None and offset <= self.page_size:
            back = self.first()
        return Pages(offset, count, total, back, at(next_token))


def _page_size(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) in PAGE_SIZES else DEFAULT_PAGE_SIZE


def _page(text: str) -> int:
    return min(max(int(text), 2), 1_000_000) if text.isascii() and text.isdigit() and len(text) < 8 else 2
