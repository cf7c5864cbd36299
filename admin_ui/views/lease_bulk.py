"""Releasing many leases: asked on a page that names each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from admin_ui import render
from admin_ui.lab import Lab, leases_request
from admin_ui.lab_kinds import DEFAULT_NAMESPACE, id_of
from admin_ui.lab_state import LeaseState
from admin_ui.operations import Item, Verb
from admin_ui.presenters import lab as presenter
from admin_ui.views import bulk, common, lab
from admin_ui.views.bulk import Many, Preview, Selection
from admin_ui.views.leases import BASE, sentence
from shared.rpc.client import Failure

RELEASE: Final = Verb("release", "Release", "Released", "Releasing", "restore")
# How many a confirmation names; of the others it says the number.
NAMED: Final = 20


class Leases(Many):
    """Each released as its owner."""

    noun = "lease"
    titles = "Leases"
    home = BASE
    template = "leases/_bulk.html"
    everything = True

    def __init__(self, request: web.Request) -> None:
        self._lab = Lab(render.caller(request))

    def permission(self, verb: Verb) -> str:
        return "leases.delete"

    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        return lambda item: self._lab.release(item.id)

    async def preview(self, verb: Verb, selection: Selection) -> Preview:
        state = _state(selection)
        values: dict[str, Any] = {"sentence": sentence(state), "named": []}
        if selection.all:
            own = (await self._lab.standing()).client
            asked = leases_request(state.replace(page_size=NAMED), own)
            return Preview((await self._lab.leases(asked)).total_size, values=values)
        found = [await common.attempt(self._lab.stored(name)) for name in selection.ids[:NAMED]]
        values["named"] = [presenter.lease(one, lab.now()) for one in found if not isinstance(one, Failure)]
        return Preview(len(selection.items), selection.items, values)

    async def named(self, selection: Selection) -> AsyncIterator[Item]:
        for item in selection.items:
            yield Item(item.id, id_of(item.id))

    async def matching(self, selection: Selection) -> AsyncIterator[Item]:
        own = (await self._lab.standing()).client
        async for item in self._lab.matching(_state(selection), own):
            yield item


def _state(selection: Selection) -> LeaseState:
    """Of the list that they were selected in; only what is active can be released."""
    state = LeaseState.parse(dict(parse_qsl(urlsplit(selection.back).query)))
    return state.replace(namespace=state.namespace or DEFAULT_NAMESPACE, show="")


async def release(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Leases(request), RELEASE)
