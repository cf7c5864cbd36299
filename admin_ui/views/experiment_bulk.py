"""Writes to many experiments: archive, restore, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from admin_ui import render
from admin_ui.list_state import ListState
from admin_ui.operations import ARCHIVE, DELETE, UNARCHIVE, Item, Verb
from admin_ui.pipelines import Pipelines
from admin_ui.presenters import experiments
from admin_ui.views import bulk
from admin_ui.views.bulk import Many, Preview, Selection

# How many a confirmation names; of the others it says the number.
NAMED: Final = 20


class Experiments(Many):
    noun = "experiment"
    titles = "Experiments"
    home = "/experiments"
    template = "experiments/_bulk.html"
    everything = True

    def __init__(self, request: web.Request) -> None:
        self._pipelines = Pipelines(render.caller(request))

    def permission(self, verb: Verb) -> str:
        return f"experiments.{verb.name}"

    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        return self._pipelines.act(verb.name)

    async def preview(self, verb: Verb, selection: Selection) -> Preview:
        state = _state(selection)
        values: dict[str, Any] = {"sentence": experiments.sentence(state), "named": []}
        if selection.all:
            return Preview(await self._pipelines.count(state), values=values)
        some = self._pipelines.named(selection.ids[:NAMED], state.namespace)
        values["named"] = [item async for item in some]
        return Preview(len(selection.items), selection.items, values)

    def named(self, selection: Selection) -> AsyncIterator[Item]:
        return self._pipelines.named(selection.ids, _state(selection).namespace)

    def matching(self, selection: Selection) -> AsyncIterator[Item]:
        return self._pipelines.matching(_state(selection))


def _state(selection: Selection) -> ListState:
    """Of the list that they were selected in."""
    return ListState.parse(dict(parse_qsl(urlsplit(selection.back).query)))


async def archive(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Experiments(request), ARCHIVE)


async def unarchive(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Experiments(request), UNARCHIVE)


async def delete(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Experiments(request), DELETE)
