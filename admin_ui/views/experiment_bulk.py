"""Writes to many experiments: the selected ones, or all that match the list's filter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from admin_ui import render, session
from admin_ui.list_state import ListState
from admin_ui.operations import Item, Verb, finished
from admin_ui.pipelines import Pipelines
from admin_ui.presenters import experiments
from admin_ui.security import safe_next

# Seconds that an answer waits for the end: most operations are done and need no page of their own.
PATIENCE: Final = 1.5
NAMED: Final = 20
MAX_SELECTED: Final = 1000

ARCHIVE: Final = Verb("archive", "Archived", "Archiving", inverse="unarchive")
UNARCHIVE: Final = Verb("unarchive", "Restored", "Restoring", inverse="archive")
DELETE: Final = Verb("delete", "Deleted", "Deleting")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a form asks to act on. `all`: whatever the list at `back` shows, on all its pages."""

    ids: list[str]
    all: bool
    back: str
    state: ListState
    confirmed: bool

    @classmethod
    def of(cls, data: MultiDictProxy[str | web.FileField]) -> Selection:
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
        return web.HTTPSeeOther(selection.back)
    if (selection.all or verb is DELETE) and not selection.confirmed:
        return await _confirm(request, verb, selection)
    pipelines = Pipelines(render.caller(request))
    operation = request.app[render.OPERATIONS].start(
        verb,
        "experiment",
        subject=render.person(request).subject,
        back=selection.back,
        source=_source(pipelines, selection),
        act=_act(pipelines, verb),
    )
    await finished(operation, PATIENCE)
    if not operation.clean:
        return web.HTTPSeeOther(render.url(request.app, "operations.detail", id=operation.id))
    count = len(operation.items)
    noun = f"“{operation.items[0].label}”" if count == 1 else f"{count} experiments"
    link = {"href": render.url(request.app, "operations.detail", id=operation.id), "label": "Details"}
    undo = {}
    # A form of many ids does not fit the cookie that carries this: the operation's page has it.
    if verb.inverse and count == 1:
        undo = {"undo": render.url(request.app, f"experiments.{verb.inverse}", id=operation.items[0].id)}
    await session.flash(request, f"{verb.done} {noun}.", link=link, **undo)
    return web.HTTPSeeOther(selection.back)


def _source(pipelines: Pipelines, selection: Selection) -> AsyncIterator[Item]:
    if selection.all:
        return pipelines.matching(selection.state)
    return pipelines.named(selection.ids, selection.state.namespace)


def _act(pipelines: Pipelines, verb: Verb) -> Callable[[Item], Awaitable[object]]:
    call = {"archive": pipelines.archive, "unarchive": pipelines.unarchive, "delete": pipelines.delete}[verb.name]
    return lambda item: call(item.id)


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
