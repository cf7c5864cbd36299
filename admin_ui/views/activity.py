"""The audit trail: who wrote what, newest first. Each service has its own; that of access they share."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.catalogue import BY_KIND
from admin_ui.clients import JOBS, JUMPSTARTER, META, PIPELINES, PODS
from admin_ui.jobs import JOB, POOL, Jobs
from admin_ui.lab_kinds import KINDS as LAB
from admin_ui.list_state import PAGE_SIZES, ListState
from admin_ui.pipelines import KIND, Pipelines
from admin_ui.pods import POD
from admin_ui.presenters import failures, history
from admin_ui.presenters.history import Entry
from admin_ui.records import ACCESS_STORE, Records
from admin_ui.views import common
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc.client import CallFailed
from shared.service.steps import STEPS

FILTERS: Final = ("subject", "kind", "name")
# The kinds whose writes an open trail follows, by service.
KINDS: Final = {
    META: tuple(BY_KIND),
    JUMPSTARTER: tuple(kind.kind for kind in LAB.values()),
    JOBS: (JOB, POOL),
    PIPELINES: (KIND,),
    PODS: (POD,),
}


async def list_(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)
    try:
        values = await _load(request, state)
    except CallFailed as error:
        wrong = failures.by_field(error.failure)
        if state.page_token and ("page_token" in wrong or error.failure.code.name == "OUT_OF_RANGE"):
            await session.flash(request, common.GONE_PAGE, tone="info")
            return render.redirect("/activity")
        raise
    values["kinds"] = await _kinds(request, values["store"])
    return await render.page(request, "activity/list.html", values)


async def live(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)

    async def look() -> sse.View:
        values = await _load(request, state)
        return sse.View(
            parts={"pager": render.part(request, "activity/_pager.html", values)},
            tables={"rows": render.part(request, "activity/_rows.html", values)},
        )

    service = _store(request)
    return await sse.stream(request, look, (), feeds=common.feeds(request, service, *KINDS.get(service, ())))


def _stores(request: web.Request) -> dict[str, str]:
    """The trails that there are: the address's word -> ours. The first one needs no word."""
    services = request.app[render.CLIENTS].endpoints.values()
    return {**{endpoint.name: endpoint.title for endpoint in services}, ACCESS_STORE: "Access"}


def _store(request: web.Request) -> str:
    stores = _stores(request)
    given = request.query.get("store", "")
    return given if given in stores else next(iter(stores))


async def _load(request: web.Request, state: ListState) -> dict[str, Any]:
    given = {name: request.query.get(name, "").strip() for name in FILTERS}
    store, stores = _store(request), _stores(request)
    steps = request.query.get("steps") == "1"
    asked: dict[str, Any] = {"page_size": state.page_size, "page_token": state.page_token, **given}
    if store == ACCESS_STORE:
        question = admin_pb2.ListAuditRequest(store=ACCESS_STORE, **asked)
        answer = await render.caller(request).anyone(AdminServiceStub, "ListAudit", question)
    else:
        answer = await Records(render.caller(request), store).audit(steps=steps, **asked)
    entries = [history.of_audit(entry) for entry in answer.entries]
    # What leads to another place of the same trail.
    trail = {"store": "" if store == next(iter(stores)) else store, "steps": "1" if steps else ""}
    trail = {name: value for name, value in trail.items() if value}
    return {
        "list": state,
        "given": given,
        "store": store,
        "stores": stores,
        "steps": steps,
        "has_steps": store in STEPS,
        "trail": trail,
        "extra": {name: value for name, value in given.items() if value} | trail,
        "entries": entries,
        "names": await names_in(request, entries),
        "pages": state.pages(len(entries), None, answer.next_page_token),
        "page_sizes": PAGE_SIZES,
    }


async def names_in(request: web.Request, entries: list[Entry]) -> dict[str, str]:
    """What people call the objects of `entries` whose names say nothing."""
    caller, enabled = render.caller(request), request.app[render.CLIENTS].endpoints
    found: dict[str, str] = {}
    if PIPELINES in enabled:
        found |= await Pipelines(caller).names_in(entries)
    if JOBS in enabled:
        found |= await Jobs(caller).names_in(entries)
    return found


async def _kinds(request: web.Request, store: str) -> list[str]:
    """For the drop-down; it is a help, so without them the page stands."""
    if store == ACCESS_STORE:
        return ["user", "token", "sign_in_code"]
    try:
        return [kind.kind for kind in (await Records(render.caller(request), store).kinds()).kinds]
    except CallFailed:
        return []
