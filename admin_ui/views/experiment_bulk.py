"""Writes to many experiments: the selected ones, or all that match the list's filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from admin_ui import render, session
from admin_ui.list_state import ListState
from admin_ui.operations import Verb
from admin_ui.pipelines import Pipelines
from admin_ui.presenters import experiments
from admin_ui.security import safe_next
from admin_ui.views.operations import ARCHIVE, DELETE, UNARCHIVE, run

# How many a confirmation names; of the others it says the number.
NAMED: Final = 20
MAX_SELECTED: Final = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """What a form asks to act on. `all`: whatever the list at `back` shows, on all its pages."""

    ids: list[str]
    all: bool
    back: str
    state: ListState
    confirmed: bool

    @classmethod
    def of(cls, data: MultiDictProxy[Any]) -> Selection:
        back = safe_next(str(data.get("return_to", "")), "/experiments")
        state = ListState.parse(dict(parse_qsl(urlsplit(back).query)))
        ids = [str(id) for id in data.getall("id", []) if id]
        return cls(
            list(dict.fromkeys(ids))[:MAX_SELECTED],
            data.get("scope") == "all",
            back,
            state,
            data.get("confirmed") == "yes",
        )


async def archive(request: web.Request) -> web.StreamResponse:
    return await _bulk(request, ARCHIVE)


async def unarchive(request: web.Request) -> web.StreamResponse:
    return await _bulk(request, UNARCHIVE)


async def delete(request: web.Request) -> web.StreamResponse:
    return await _bulk(request, DELETE)


async def _bulk(request: web.Request, verb: Verb) -> web.StreamResponse:
    selection = Selection.of(await request.post())
    if not selection.ids and not selection.all:
        await session.flash(request, "Nothing was selected. Tick some rows first.", tone="info")
        return render.redirect(selection.back)
    if (selection.all or verb is DELETE) and not selection.confirmed:
        return await _confirm(request, verb, selection)
    pipelines = Pipelines(render.caller(request))
    if selection.all:
        source = pipelines.matching(selection.state)
    else:
        source = pipelines.named(selection.ids, selection.state.namespace)
    return await run(request, verb, source, back=selection.back)


async def _confirm(request: web.Request, verb: Verb, selection: Selection) -> web.Response:
    """Names what is about to be written; nothing happens before a second, different button."""
    pipelines = Pipelines(render.caller(request))
    if selection.all:
        count = await pipelines.count(selection.state)
        named = []
    else:
        count = len(selection.ids)
        named = [item async for item in pipelines.named(selection.ids[:NAMED], selection.state.namespace)]
    values = {
        "verb": verb,
        "selection": selection,
        "count": count,
        "named": named,
        "sentence": experiments.sentence(selection.state),
    }
    return await render.page(request, "experiments/bulk.html", values)
