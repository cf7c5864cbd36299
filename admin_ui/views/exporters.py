"""Exporters: the availability board, one exporter, and both of them live."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JUMPSTARTER
from admin_ui.lab import NEWEST, board_request
from admin_ui.lab_kinds import EXPORTER, LEASE, namespace_of, parent_of
from admin_ui.lab_state import BoardState
from admin_ui.list_state import ACTIONS, Column
from admin_ui.presenters import gantt, lab_commands
from admin_ui.presenters import lab as presenter
from admin_ui.presenters.catalogue import thing
from admin_ui.presenters.devices import tree
from admin_ui.views import catalogue, common, lab
from admin_ui.views.listing import SHARED, Listing
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.rpc.client import Failure

COLUMNS: Final = (
    Column("name", "Exporter", css="c-name"),
    Column("state", "State", css="c-state"),
    Column("until", "Held by, until", css="narrow-hide"),
    Column("", "Waiting", css="num wide-only"),
    Column("", "Labels", css="c-labels wide-only"),
    ACTIONS,
)
EXAMPLES: Final = (
    ("with a label", "board=rpi4"),
    ("one of some", "board in (rpi4,imx8),site!=lyon"),
    ("that have a label, or have it not", "gpu,!broken"),
    ("by number", "ram-gb>4"),
)
# Past leases that a page shows, and those that its timeline reaches.
PAST: Final = 10
PICTURED: Final = 100


# --- the board ----------------------------------------------------------------------------------


async def _frame(request: web.Request, state: BoardState) -> dict[str, Any]:
    return {
        **lab.frame(request, state),
        "columns": COLUMNS,
        "examples": EXAMPLES,
        "counts": presenter.counts(()),
        "all": 0,
        "sentence": _sentence(state),
    }


def _sentence(state: BoardState) -> str:
    word = f"{presenter.STATES[state.state].label.lower()} exporters" if state.state else "exporters"
    told = f"{word} in {state.namespace}"
    return f"{told} whose labels match {state.filter}" if state.filter else told


async def _load(request: web.Request, state: BoardState) -> dict[str, Any]:
    asked = board_request(state)
    answer = await lab.lab(request).board(asked)
    rows = [presenter.slot(slot, lab.now()) for slot in answer.slots]
    counts = presenter.counts(answer.counts)
    return {
        "rows": rows,
        "total": answer.total_size,
        "counts": counts,
        "all": sum(one.count for one in counts),
        "pages": state.pages(len(rows), answer.total_size, answer.next_page_token),
        "commands": lab_commands.for_board(lab.endpoint(request), asked),
    }


LIST: Final[Listing[BoardState]] = Listing(
    template="exporters/list.html",
    rows="exporters/_rows.html",
    parts={**SHARED, **{name: f"exporters/_{name}.html" for name in ("availability", "empty")}},
    parse=BoardState.parse,
    settle=lab.settled,
    frame=_frame,
    load=_load,
    feeds=lambda request: common.feeds(request, JUMPSTARTER, EXPORTER.kind, LEASE.kind),
)


# --- one exporter -------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(request, "exporters/detail.html", _load_detail(request), catalogue.gone)


async def detail_live(request: web.Request) -> web.StreamResponse:
    names = ("heading", "now", "summary", "queue", "timeline", "devices", "recent")
    feeds = common.feeds(request, JUMPSTARTER, EXPORTER.kind, LEASE.kind)
    return await sse.parts(request, lambda: _load_detail(request), "exporters/_{}.html", names, feeds=feeds)


async def _load_detail(request: web.Request) -> dict[str, Any]:
    name = EXPORTER.name(request.match_info)
    namespace = namespace_of(name)
    calls, stored = lab.lab(request), lab.records(request)
    asked = pb.ListLeasesRequest(
        parent=parent_of(namespace), exporter=name, order_by=NEWEST, page_size=PICTURED
    )
    found, message, queue, leases, (entries, problem) = await asyncio.gather(
        calls.slot(name),
        stored.message(EXPORTER.kind, name, lab_pb2.Exporter),
        common.attempt(calls.queue(namespace, name)),
        common.attempt(calls.leases(asked)),
        stored.timeline(render.person(request), EXPORTER.kind, name),
    )
    now = lab.now()
    slot = presenter.slot(found, now)
    span = request.query.get("span", "")
    had: Any = leases if isinstance(leases, Failure) else [presenter.lease(one, now) for one in leases.leases]
    return {
        "kind": EXPORTER,
        "one": thing(EXPORTER, message),
        "slot": slot,
        "exporter": slot.exporter,
        "devices": tree(message.devices),
        "queue": queue if isinstance(queue, Failure) else [presenter.waiting(one) for one in queue],
        "leases": had,
        "past": PAST,
        "span": span if span in gantt.SPANS else "day",
        "picture": None
        if isinstance(had, Failure)
        else gantt.picture(had, now, gantt.SPANS.get(span, gantt.SPANS["day"])),
        "entries": entries,
        "problem": problem,
        "failed": lambda value: isinstance(value, Failure),
    }
