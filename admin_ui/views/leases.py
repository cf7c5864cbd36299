"""Leases: the list, one lease, and both of them live."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JUMPSTARTER
from admin_ui.lab import leases_request
from admin_ui.lab_kinds import EXPORTER, LEASE, namespace_of
from admin_ui.lab_state import LeaseState
from admin_ui.list_state import ACTIONS, Column
from admin_ui.presenters import lab as presenter
from admin_ui.presenters import lab_commands
from admin_ui.presenters.catalogue import thing
from admin_ui.views import catalogue, common, lab
from admin_ui.views.listing import SHARED, Action, Listing
from shared.rpc.client import Failure

BASE: Final = "/leases"
COLUMNS: Final = (
    Column("name", "Lease", css="c-name"),
    Column("", "State", css="c-state"),
    Column("client", "Client", css="wide-only"),
    Column("exporter", "Exporter", css="narrow-hide"),
    Column("", "Time", css="narrow-hide"),
    Column("create_time", "Asked", "desc", css="c-created"),
    ACTIONS,
)
EXAMPLES: Final = (
    ("that asked for a label", "board=rpi4"),
    ("that asked for one of some", "board in (rpi4,imx8)"),
    ("with a tag", "metadata.jumpstarter.dev/build=1234"),
)


# --- the list -----------------------------------------------------------------------------------


async def _frame(request: web.Request, state: LeaseState) -> dict[str, Any]:
    return {
        **lab.frame(request, state),
        "columns": COLUMNS,
        "examples": EXAMPLES,
        "sentence": sentence(state),
    }


def sentence(state: LeaseState) -> str:
    """What the list shows, in words."""
    told = ["" if state.show == "all" else "active", "leases"]
    if state.whose == "mine":
        told.insert(0, "your own")
    told.append(f"in {state.namespace}")
    if state.client and state.whose != "mine":
        told.append(f"of {state.client}")
    if state.exporter:
        told.append(f"on {state.exporter}")
    if state.filter:
        told.append(f"that asked for {state.filter}")
    if state.tags:
        told.append(f"tagged {state.tags}")
    return " ".join(filter(None, told))


async def _load(request: web.Request, state: LeaseState) -> dict[str, Any]:
    asked = leases_request(state, (await lab.standing(request)).client)
    answer = await lab.lab(request).leases(asked)
    rows = [presenter.lease(one, lab.now()) for one in answer.leases]
    return {
        "rows": rows,
        "total": answer.total_size,
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
        "commands": lab_commands.for_leases(lab.endpoint(request), asked),
    }


LIST: Final[Listing[LeaseState]] = Listing(
    template="leases/list.html",
    rows="leases/_rows.html",
    parts={**SHARED, "empty": "leases/_empty.html", "all": "leases/_all.html"},
    parse=LeaseState.parse,
    settle=lab.settled,
    frame=_frame,
    load=_load,
    feeds=lambda request: common.feeds(request, JUMPSTARTER, LEASE.kind),
    actions=(Action("release", "Release…", "leases.delete", "restore"),),
    fields={"filter": "filter", "tag_filter": "tags", "client": "client", "exporter": "exporter"},
)


# --- one lease ----------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(request, "leases/detail.html", _load_detail(request), catalogue.gone)


async def detail_live(request: web.Request) -> web.StreamResponse:
    names = ("heading", "now", "summary", "change", "conditions", "recent")
    feeds = common.feeds(request, JUMPSTARTER, LEASE.kind, EXPORTER.kind)
    return await sse.parts(request, lambda: _load_detail(request), "leases/_{}.html", names, feeds=feeds)


async def _load_detail(request: web.Request) -> dict[str, Any]:
    name = LEASE.name(request.match_info)
    calls, stored = lab.lab(request), lab.records(request)
    message, clients, queue, (entries, problem) = await asyncio.gather(
        calls.lease(name),
        lab.client_ids(request, namespace_of(name)),
        common.attempt(calls.queue(namespace_of(name))),
        stored.timeline(render.person(request), LEASE.kind, name),
    )
    waiting = [] if isinstance(queue, Failure) else [presenter.waiting(one) for one in queue]
    return {
        "kind": LEASE,
        "one": thing(LEASE, message),
        "lease": presenter.lease(message, lab.now()),
        "place": next((one for one in waiting if one.lease == name), None),
        "queued": sum(bool(one.position) for one in waiting),
        "clients": clients,
        "entries": entries,
        "problem": problem,
        "commands": lab_commands.for_one(lab.endpoint(request), LEASE, name),
    }
