"""Deleting many resources of the catalogue: asked on a page that names each and what needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from admin_ui.catalogue import BY_KIND, REGION, CatalogueKind, short
from admin_ui.operations import DELETE, Item, Verb
from admin_ui.presenters import catalogue
from admin_ui.presenters.catalogue import Thing
from admin_ui.presenters.history import unpack
from admin_ui.views import bulk
from admin_ui.views.bulk import Many, Preview, Selection
from admin_ui.views.catalogue import kind_of, records
from admin_ui.views.catalogue_delete import dependants
from shared.rpc.client import Failure

# Questions in flight at once, of one page.
_WIDTH: Final = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One that is to go. `needed`: by what that stays, or cannot go before it."""

    one: Thing
    revision: int
    dependants: list[Any]
    needed: bool


class Resources(Many):
    """Of one kind. To delete by a filter is what `apply --prune` is for."""

    template = "catalogue/_bulk.html"

    def __init__(self, request: web.Request, kind: CatalogueKind) -> None:
        self._request = request
        self._kind = kind
        self._records = records(request)
        self.noun, self.titles, self.home = kind.kind, kind.titles, f"/{kind.plural}"

    def permission(self, verb: Verb) -> str:
        return "admin.delete"

    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        return lambda item: self._records.delete(self._kind.kind, item.id, item.revision)

    async def preview(self, verb: Verb, selection: Selection) -> Preview:
        """Only what nothing needs that stays is confirmed; the others are left alone."""
        found = {object.name: object for object in await self._records.named(self._kind.kind, selection.ids)}
        limit = asyncio.Semaphore(_WIDTH)

        async def ask(name: str) -> list[Any]:
            async with limit:
                return await dependants(self._request, self._kind, name)

        answers = await asyncio.gather(*map(ask, found))
        needs = dict(zip(found, answers, strict=True))
        free = deletable(needs)
        rows = [
            Row(
                catalogue.thing(self._kind, unpack(object.body)),
                object.revision,
                needs[name],
                name not in free,
            )
            for name, object in found.items()
        ]
        items = [Item(row.one.name, short(row.one.name), row.revision) for row in rows if not row.needed]
        values = {
            "kind": self._kind,
            "rows": rows,
            "selected": set(found),
            "default": self._kind is REGION
            and any(row.one.fields.is_default and not row.needed for row in rows),
            "nothing": not any(
                isinstance(group, Failure) or group["total"] for groups in answers for group in groups
            ),
            "gone": [name for name in selection.ids if name not in found],
            "failed": lambda value: isinstance(value, Failure),
        }
        return Preview(len(items), items, values)

    async def named(self, selection: Selection) -> AsyncIterator[Item]:
        for item in selection.items:
            yield Item(item.id, short(item.id) or item.id, item.revision)


def deletable(needs: Mapping[str, list[Any]]) -> set[str]:
    """Which of these can go, each after all that need it. What is not known is left to the service."""
    free: set[str] = set()
    while True:
        more = {
            name
            for name, groups in needs.items()
            if name not in free
            and all(
                isinstance(group, Failure)
                or (group["total"] == len(group["names"]) and free.issuperset(group["names"]))
                for group in groups
            )
        }
        if not more:
            return free
        free |= more


def of_noun(request: web.Request, noun: str) -> Resources:
    return Resources(request, BY_KIND[noun])


async def delete(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Resources(request, kind_of(request)), DELETE)
