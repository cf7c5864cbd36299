"""The catalogue: lists and single resources of its four kinds, and both of them live.

One set of views for all kinds: a route's name begins with its kind's collection.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.catalogue import DEPLOYMENT, KINDS, REGION, RESOURCE, SERVICE, Catalogue, CatalogueKind
from admin_ui.clients import JUMPSTARTER, META, Endpoint
from admin_ui.lab_kinds import KINDS as LAB
from admin_ui.list_state import ACTIONS, CatalogueState
from admin_ui.presenters import catalogue, connectivity, filters, lab_commands
from admin_ui.presenters.catalogue import Thing
from admin_ui.presenters.history import of_version as history_of
from admin_ui.records import Records
from admin_ui.views import common
from admin_ui.views.listing import SHARED, Action, Listing
from shared.rpc.client import CallFailed, Failure

# Of the elements of its pages that follow live.
TEMPLATE: Final = "catalogue/_{}.html"
# Rows of a table that is one panel of a page.
PANEL: Final = 20
# The kinds that a page shows besides its own, by the page's kind.
RELATED: Final = {"region": ("deployment",), "service": ("resource", "deployment")}


def kind_of(request: web.Request) -> CatalogueKind:
    plural = request[render.ROUTE].split(".")[0]
    return LAB.get(plural) or KINDS[plural]


def endpoint(request: web.Request, service: str = META) -> Endpoint:
    return request.app[render.CLIENTS].endpoint(service)


def records(request: web.Request, service: str = META) -> Records:
    return Records(render.caller(request), service)


# --- lists --------------------------------------------------------------------------------------


async def _load(request: web.Request, state: CatalogueState) -> dict[str, Any]:
    kind = kind_of(request)
    asked = kind.asked(state)
    answer = await Catalogue(render.caller(request)).list(kind, asked)
    rows = [catalogue.thing(kind, message) for message in getattr(answer, kind.plural)]
    total = answer.total_results_count
    pages = state.pages(
        len(rows),
        offset=answer.current_offset,
        total=total,
        previous_token=answer.prev_page_token,
        next_token=answer.next_page_token,
    )
    shown = catalogue.commands_for_list(endpoint(request), kind, asked)
    return {"rows": rows, "total": total, "pages": pages, "commands": shown}


async def _frame(request: web.Request, state: CatalogueState) -> dict[str, Any]:
    kind = kind_of(request)
    within = f"of {kind.parent} {state.parent}" if state.parent else ""
    return {
        "kind": kind,
        "columns": (*kind.columns, ACTIONS),
        "examples": kind.examples,
        "sentence": filters.sentence(kind.plural, state.filter, within=within),
    }


LIST: Final = Listing(
    template="catalogue/list.html",
    rows="catalogue/_rows.html",
    parts={**SHARED, "empty": "catalogue/_empty.html"},
    parse=CatalogueState.parse,
    frame=_frame,
    load=_load,
    feeds=lambda request: common.feeds(request, META, kind_of(request).kind),
    actions=(Action("delete", "Delete…", "admin.delete", "trash", "small danger"),),
    fields={"filter": "filter", "parent": "parent"},
)


# --- how regions are connected ------------------------------------------------------------------


async def _load_network(request: web.Request, state: CatalogueState) -> dict[str, Any]:
    """Of the regions that the filter selects, the first ones by name."""
    asked = REGION.asked(state.replace(page_size=connectivity.MOST, page_token="", order_by=""))
    answer = await Catalogue(render.caller(request)).list(REGION, asked)
    regions = connectivity.ordered(catalogue.thing(REGION, message) for message in answer.regions)
    shown = {region.name for region in regions}
    outside = sum(link.target not in shown for link in connectivity.links(regions))
    return {
        "rows": regions,
        "total": answer.total_results_count,
        "matrix": connectivity.matrix(regions),
        "picture": connectivity.network(regions) if regions else None,
        "outside": outside,
    }


NETWORK: Final = replace(
    LIST,
    template="catalogue/network.html",
    rows="",
    parts={"count": "lists/_count.html", "network": "catalogue/_network.html"},
    load=_load_network,
    actions=(),
)


# --- one resource -------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(
        request, f"catalogue/{kind_of(request).kind}.html", _load_detail(request), gone
    )


async def gone(request: web.Request, error: CallFailed) -> web.StreamResponse:
    """What is left of a deleted resource is its history, which says who deleted it and when. Raises
    `error` when there never was one."""
    kind = kind_of(request)
    name = kind.name(request.match_info)
    entries, _ = await records(request, kind.floor).timeline(render.person(request), kind.kind, name)
    if not entries:
        raise error
    values = {"kind": kind, "name": name, "entries": entries, "problem": None}
    return await render.page(request, "catalogue/gone.html", values, status=404)


async def detail_live(request: web.Request) -> web.StreamResponse:
    kind = kind_of(request).kind
    names = ("heading", "summary", "recent", *_PANELS[kind])
    feeds = common.feeds(request, META, kind, *RELATED.get(kind, ()))
    return await sse.parts(request, lambda: _load_detail(request), TEMPLATE, names, feeds=feeds)


_PANELS: Final = {
    "region": ("links", "deployments"),
    "service": ("versions", "resources", "deployments"),
    "deployment": (),
    "resource": (),
}


async def load_one(request: web.Request) -> tuple[Any, dict[str, Any]]:
    kind = kind_of(request)
    name = kind.name(request.match_info)
    if kind.floor == META:
        message = await Catalogue(render.caller(request)).get(kind, name)
    else:
        message = await records(request, kind.floor).message(kind.kind, name, kind.message)
    return message, {"kind": kind, "one": catalogue.thing(kind, message)}


async def _load_detail(request: web.Request) -> dict[str, Any]:
    kind = kind_of(request)
    name = kind.name(request.match_info)
    (_, values), (entries, problem), panels = await asyncio.gather(
        load_one(request),
        records(request).timeline(render.person(request), kind.kind, name),
        _panels(request, kind, name),
    )
    one: Thing = values["one"]
    if kind is REGION:
        coming = panels["coming"]
        known = [] if isinstance(coming, Failure) else coming
        panels["picture"] = connectivity.neighbourhood(one, known)
    return {**values, **panels, "entries": entries, "problem": problem}


async def _panels(request: web.Request, kind: CatalogueKind, name: str) -> dict[str, Any]:
    """What stands beside the resource; of each a failure is told in its place."""
    found = Catalogue(render.caller(request))
    panels: dict[str, Any] = {"failed": lambda value: isinstance(value, Failure)}
    if kind is REGION:
        coming, deployments = await asyncio.gather(
            common.attempt(found.linking_to(name, connectivity.MOST)),
            common.attempt(found.deployments_of(name, PANEL)),
        )
        if not isinstance(coming, Failure):
            coming = [catalogue.thing(REGION, message) for message in coming.regions]
        panels |= {"coming": coming, "deployments": _table(DEPLOYMENT, deployments)}
    if kind is SERVICE:
        resources, deployments = await asyncio.gather(
            common.attempt(found.resources_of(name, PANEL)),
            common.attempt(found.deployments_of(name, PANEL)),
        )
        panels |= {
            "resources": _table(RESOURCE, resources),
            "deployments": _table(DEPLOYMENT, deployments),
        }
    return panels


def _table(kind: CatalogueKind, answer: Any) -> Any:
    if isinstance(answer, Failure):
        return answer
    return {
        "rows": [catalogue.thing(kind, message) for message in getattr(answer, kind.plural)],
        "total": answer.total_results_count,
    }


async def history(request: web.Request) -> web.StreamResponse:
    values = await _load_history(request)
    return await render.page(request, "catalogue/history.html", {**values, "tab": "history"})


async def history_live(request: web.Request) -> web.StreamResponse:
    kind = kind_of(request)
    names, feeds = ("heading", "timeline"), common.feeds(request, kind.floor, kind.kind)
    return await sse.parts(request, lambda: _load_history(request), TEMPLATE, names, feeds=feeds)


async def _load_history(request: web.Request) -> dict[str, Any]:
    """The audit trail fills in the first page only: it has no tokens in common with the history."""
    kind = kind_of(request)
    name, before = kind.name(request.match_info), request.query.get("before", "")
    found = records(request, kind.floor)
    (_, values), versions = await asyncio.gather(load_one(request), found.history(kind.kind, name, before))
    entries, problem = (
        ([history_of(version) for version in versions.versions], None)
        if before or versions.next_page_token
        else await found.timeline(render.person(request), kind.kind, name)
    )
    return {
        **values,
        "entries": entries,
        "problem": problem,
        "before": before,
        "older": versions.next_page_token,
    }


async def raw(request: web.Request) -> web.StreamResponse:
    message, values = await load_one(request)
    values |= {"tab": "raw", **common.raw_view(request, message)}
    return await render.page(request, "catalogue/raw.html", values)


async def commands(request: web.Request) -> web.StreamResponse:
    _, values = await load_one(request)
    kind, name = kind_of(request), values["one"].name
    if kind.floor == JUMPSTARTER:
        shown = lab_commands.for_one(endpoint(request, kind.floor), kind, name)
    else:
        shown = catalogue.commands_for_one(endpoint(request), kind, name)
    values |= {"tab": "commands", "commands": shown}
    return await render.page(request, "catalogue/commands.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    message, values = await load_one(request)
    return common.download(request.match_info["form"], message, values["one"].id)
