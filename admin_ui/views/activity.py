"""The audit trail: who wrote what, newest first."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.clients import PIPELINES
from admin_ui.list_state import PAGE_SIZES, ListState
from admin_ui.pipelines import KIND, Pipelines
from admin_ui.presenters import failures, history
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import CallFailed

FILTERS: Final = ("subject", "kind", "name")
# The stores that leave a trail: the API's word -> ours.
STORES: Final = {"": "Pipelines", "access": "Access"}


async def list_(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)
    try:
        values = await _load(request, state)
    except CallFailed as error:
        wrong = failures.by_field(error.failure)
        if state.page_token and ("page_token" in wrong or error.failure.code.name == "OUT_OF_RANGE"):
            await session.flash(request, "That page is no longer there. This is the first page.", tone="info")
            return render.redirect("/activity")
        raise
    values["kinds"] = await _kinds(request)
    return await render.page(request, "activity/list.html", values)


async def live(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)

    async def look() -> sse.View:
        values = await _load(request, state)
        return sse.View(
            parts={"pager": render.part(request, "activity/_pager.html", values)},
            tables={"rows": render.part(request, "activity/_rows.html", values)},
        )

    return await sse.stream(request, look, (), feeds=[request.app[render.HUB].feed(PIPELINES, KIND)])


async def _load(request: web.Request, state: ListState) -> dict[str, Any]:
    given = {name: request.query.get(name, "").strip() for name in FILTERS}
    store = request.query.get("store", "")
    store = store if store in STORES else ""
    pipelines = Pipelines(render.caller(request))
    answer = await pipelines.audit(
        page_size=state.page_size, page_token=state.page_token, store=store, **given
    )
    entries = [history.of_audit(entry) for entry in answer.entries]
    return {
        "list": state,
        "given": given,
        "store": store,
        "stores": STORES,
        "extra": {name: value for name, value in {**given, "store": store}.items() if value},
        "entries": entries,
        "names": await pipelines.names_in(entries),
        "next_token": answer.next_page_token,
        "page_sizes": PAGE_SIZES,
    }


async def _kinds(request: web.Request) -> list[str]:
    """For the drop-down; it is a help, so without them the page stands."""
    try:
        answer = await render.caller(request).admin(PIPELINES, "ListKinds", admin_pb2.ListKindsRequest())
    except CallFailed:
        return []
    return [kind.kind for kind in answer.kinds]
