"""Clients and access policies: who may lease, and what. One set of views for both kinds."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JUMPSTARTER
from admin_ui.lab import NEWEST
from admin_ui.lab_kinds import CLIENT, KINDS, LEASE, LabKind, namespace_of, parent_of
from admin_ui.lab_state import LabState
from admin_ui.list_state import ACTIONS, Column
from admin_ui.presenters import lab as presenter
from admin_ui.presenters import lab_commands, lab_people
from admin_ui.presenters.catalogue import thing
from admin_ui.views import catalogue, common, lab
from admin_ui.views.listing import SHARED, Listing
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.rpc.client import Failure

COLUMNS: Final = {
    "client": (
        Column("name", "Client", css="c-name"),
        Column("", "Labels", css="c-labels"),
        Column("create_time", "Made", "desc", css="c-created"),
        ACTIONS,
    ),
    "access_policy": (
        Column("name", "Access policy", css="c-name"),
        Column("", "Exporters", css="narrow-hide"),
        Column("", "Lets in"),
        Column("create_time", "Made", "desc", css="c-created"),
        ACTIONS,
    ),
}
_THIS_YEAR: Final = ("made this year", 'create_time >= "2026-01-01T00:00:00Z"')
EXAMPLES: Final = {
    "client": (
        ("with a label", 'labels.team = "kernel"'),
        ("by name", 'name = "namespaces/default/clients/ci"'),
        _THIS_YEAR,
    ),
    "access_policy": (
        ("by a rule", 'policies.description = "kernel first"'),
        ("by name", 'name = "namespaces/default/accessPolicies/ci"'),
        _THIS_YEAR,
    ),
}
# Leases that a client's page shows.
SHOWN: Final = 10


def kind_of(request: web.Request) -> LabKind:
    return KINDS[request[render.ROUTE].split(".")[0]]


# --- lists --------------------------------------------------------------------------------------


async def _frame(request: web.Request, state: LabState) -> dict[str, Any]:
    kind = kind_of(request)
    told = f"{kind.titles.lower()} in {state.namespace}"
    return {
        **lab.frame(request, state),
        "kind": kind,
        "columns": COLUMNS[kind.kind],
        "examples": EXAMPLES[kind.kind],
        "sentence": f"{told} that match the filter" if state.filter else told,
    }


async def _load(request: web.Request, state: LabState) -> dict[str, Any]:
    kind = kind_of(request)
    asked = admin_pb2.ListRequest(
        kind=kind.kind,
        page_size=state.page_size,
        page_token=state.page_token,
        order_by=state.order_by,
        # A filter may end in a comment.
        filter=f"{_within(state)} AND ({state.filter}\n)" if state.filter else _within(state),
    )
    answer = await lab.records(request).page(asked)
    rows = [lab_people.row(kind.message.FromString(one.body.value)) for one in answer.objects]
    return {
        "rows": rows,
        "total": answer.total_size,
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
        "commands": lab_commands.for_kind(kind, parent_of(state.namespace)),
    }


def _within(state: LabState) -> str:
    return f"namespace = {json.dumps(state.namespace, ensure_ascii=False)}"


async def _alone(request: web.Request, state: LabState) -> object:
    asked = admin_pb2.ListRequest(kind=kind_of(request).kind, filter=state.filter, page_size=1)
    return await lab.records(request).page(asked)


LIST: Final[Listing[LabState]] = Listing(
    template="lab/people.html",
    rows="lab/_people_rows.html",
    parts={**SHARED, "empty": "lab/_people_empty.html"},
    parse=LabState.parse,
    settle=lab.settled,
    frame=_frame,
    load=_load,
    alone=_alone,
    feeds=lambda request: common.feeds(request, JUMPSTARTER, kind_of(request).kind),
)


# --- one of them --------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(request, "lab/person.html", _load_detail(request), catalogue.gone)


async def detail_live(request: web.Request) -> web.StreamResponse:
    kind = kind_of(request)
    names = ("summary", "leases", "recent") if kind is CLIENT else ("summary", "recent")
    watched = (kind.kind, LEASE.kind) if kind is CLIENT else (kind.kind,)
    feeds = common.feeds(request, JUMPSTARTER, *watched)
    return await sse.parts(request, lambda: _load_detail(request), "lab/_person_{}.html", names, feeds=feeds)


async def _load_detail(request: web.Request) -> dict[str, Any]:
    kind = kind_of(request)
    name = kind.name(request.match_info)
    stored = lab.records(request)
    message, leases, (entries, problem) = await asyncio.gather(
        stored.message(kind.kind, name, kind.message),
        common.attempt(_leases(request, kind, name)),
        stored.timeline(render.person(request), kind.kind, name),
    )
    return {
        "kind": kind,
        "one": thing(kind, message),
        "row": lab_people.row(message),
        "leases": leases,
        "entries": entries,
        "problem": problem,
        "failed": lambda value: isinstance(value, Failure),
    }


async def _leases(request: web.Request, kind: LabKind, name: str) -> dict[str, Any]:
    """The last ones of a client."""
    if kind is not CLIENT:
        return {"rows": [], "total": 0}
    asked = pb.ListLeasesRequest(
        parent=parent_of(namespace_of(name)), client=name, order_by=NEWEST, page_size=SHOWN
    )
    answer = await lab.lab(request).leases(asked)
    return {"rows": [presenter.lease(one, lab.now()) for one in answer.leases], "total": answer.total_size}
