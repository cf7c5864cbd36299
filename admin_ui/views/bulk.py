"""Writes to many objects of one sort: the selected ones, or all that match a list's filter.

A sort says what it has to say itself by a `Many`; that a page asks first, the operation with a result
for each object, and the way back are the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from aiohttp import web
from multidict import MultiDictProxy

from admin_ui import render, session
from admin_ui.operations import Item, Verb, finished
from admin_ui.security import safe_next

MAX_SELECTED: Final = 1000
# Seconds that an answer waits for the end: most operations are done and need no page of their own.
PATIENCE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Selection:
    """What a form asks to act on, each with the revision that was shown (0: not said). `all`:
    whatever the list at `back` shows, on all its pages."""

    items: Sequence[Item]
    all: bool
    back: str
    confirmed: bool

    @classmethod
    def of(cls, data: MultiDictProxy[Any], many: Many) -> Selection:
        ids = [str(id) for id in data.getall("id", [])]
        seen = [str(revision) for revision in data.getall("revision", [])]
        if len(seen) != len(ids):
            seen = [""] * len(ids)
        revisions = {id: _revision(text) for id, text in zip(ids, seen, strict=True) if id}
        return cls(
            [Item(id, id, revision) for id, revision in list(revisions.items())[:MAX_SELECTED]],
            many.everything and data.get("scope") == "all",
            safe_next(str(data.get("return_to", "")), many.home),
            data.get("confirmed") == "yes",
        )

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items]


def _revision(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


@dataclass(frozen=True, slots=True)
class Preview:
    """What the page that asks tells: `count` will be written; with `items` those and no others are
    confirmed. `values` are the sort's template's own."""

    count: int
    items: Sequence[Item] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


class Many(ABC):
    """Objects of one sort, as the person of one request may write them. `noun` is also the kind by
    which `render.object_url` knows their pages. Methods raise CallFailed."""

    noun: str
    titles: str
    # The address of their list.
    home: str
    # What the page that asks says of them and of what follows.
    template: ClassVar[str]
    # Whether all that match a filter can be meant without naming them; then there is `matching`.
    everything: ClassVar[bool] = False

    @abstractmethod
    def permission(self, verb: Verb) -> str: ...

    @abstractmethod
    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        """What is done to each."""

    @abstractmethod
    async def preview(self, verb: Verb, selection: Selection) -> Preview: ...

    @abstractmethod
    def named(self, selection: Selection) -> AsyncIterator[Item]:
        """The selected ones, in their order, with what people call them."""

    def matching(self, selection: Selection) -> AsyncIterator[Item]:
        """Every one that the list at `selection.back` shows, on all its pages."""
        raise NotImplementedError


async def write(request: web.Request, many: Many, verb: Verb) -> web.StreamResponse:
    """Answers a list's form, or the page that asks. What cannot be undone is asked first, and so is
    what is more than could be seen."""
    selection = Selection.of(await request.post(), many)
    if not selection.items and not selection.all:
        await session.flash(request, "Nothing was selected. Tick some rows first.", tone="info")
        return render.redirect(selection.back)
    asked = selection.all or not (verb.inverse or verb.harmless)
    if asked and not selection.confirmed:
        return await _confirm(request, many, verb, selection)
    source = many.matching(selection) if selection.all else many.named(selection)
    return await run(request, many, verb, source, back=selection.back)


async def _confirm(request: web.Request, many: Many, verb: Verb, selection: Selection) -> web.Response:
    """Names what is about to be written; nothing happens before a second, different button."""
    preview = await many.preview(verb, selection)
    values = {
        **preview.values,
        "many": many,
        "verb": verb,
        "selection": selection,
        "count": preview.count,
        "items": preview.items,
        "action": request.path,
        "permission": many.permission(verb),
    }
    return await render.page(request, "operations/confirm.html", values)


async def run(
    request: web.Request, many: Many, verb: Verb, source: AsyncIterator[Item], *, back: str
) -> web.StreamResponse:
    """Starts the operation. One that ends soon and well leads back to the list, any other to its
    own page."""
    operation = request.app[render.OPERATIONS].start(
        verb,
        many.noun,
        subject=render.person(request).subject,
        back=back,
        source=source,
        act=many.act(verb),
    )
    await finished(operation, PATIENCE)
    here = render.url(request.app, "operations.detail", id=operation.id)
    if not operation.clean:
        return render.redirect(here)
    count = len(operation.items)
    what = f"“{operation.items[0].label}”" if count == 1 else f"{count} {many.noun}s"
    extra: dict[str, Any] = {"link": {"href": here, "label": "Details"}}
    if verb.inverse and count:
        extra["undo"] = render.url(request.app, "operations.undo", id=operation.id)
    await session.flash(request, f"{verb.done} {what}.", **extra)
    return render.redirect(back)
