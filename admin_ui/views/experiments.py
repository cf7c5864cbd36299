"""Experiments: the list, one experiment, and both of them live."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.clients import PIPELINES
from admin_ui.list_state import PAGE_SIZES, STATES, ListState
from admin_ui.pipelines import DEFAULT_ORDER, KIND, Pipelines, list_request
from admin_ui.presenters import experiments, failures, history
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.rpc.client import CallFailed, Failure

# Columns that can be sorted: the API's field, the heading, the order of a first click.
COLUMNS: Final = (
    ("display_name", "Name", "asc"),
    ("storage_state", "State", "asc"),
    ("created_at", "Created", "desc"),
    ("description", "Description", "asc"),
)
FILTER_KEYS: Final = (
    "display_name",
    "description",
    "created_at",
    "storage_state",
    "experiment_id",
    "namespace",
)
# What a session remembers: the namespace looked at last.
NAMESPACE: Final = "namespace"


def _pipelines(request: web.Request) -> Pipelines:
    return Pipelines(render.caller(request))


# --- the list -----------------------------------------------------------------------------------


async def list_(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)
    facts = await _facts(request)
    if facts and facts.multi_user and not state.namespace:
        return await _choose_namespace(request, state)
    try:
        values = await _load(request, state)
    except CallFailed as error:
        return await _list_failed(request, state, error)
    values["multi_user"] = bool(facts and facts.multi_user)
    if state.namespace:
        await session.remember(request, NAMESPACE, state.namespace)
    return await render.page(request, "experiments/list.html", values)


async def list_live(request: web.Request) -> web.StreamResponse:
    state = ListState.parse(request.query)

    async def look() -> sse.View:
        values = await _load(request, state)
        return sse.View(
            parts={
                name: render.part(request, f"experiments/_{name}.html", values)
                for name in ("count", "pager", "empty", "all")
            },
            tables={"rows": render.part(request, "experiments/_rows.html", values)},
        )

    return await sse.stream(request, look, (), feeds=_feeds(request))


def _feeds(request: web.Request) -> list[Any]:
    """None for those who may not watch: their pages are as new as their last reload."""
    if not render.person(request).may("admin.read"):
        return []
    return [request.app[render.HUB].feed(PIPELINES, KIND)]


async def _facts(request: web.Request) -> Any:
    """What the service says of itself; None when it says nothing, which the list then explains."""
    try:
        return await _pipelines(request).facts()
    except CallFailed:
        return None


async def _load(request: web.Request, state: ListState) -> dict[str, Any]:
    asked = list_request(state)
    answer = await _pipelines(request).list(asked)
    return {
        **_frame(request, state),
        "rows": [experiments.experiment(message) for message in answer.experiments],
        "total": answer.total_size,
        "next_token": answer.next_page_token,
        "commands": experiments.commands_for_list(_endpoint(request), asked),
    }


def _frame(request: web.Request, state: ListState) -> dict[str, Any]:
    """What the page needs, whatever is in its table."""
    return {
        "list": state,
        "here": f"/experiments{state.query(**_same_page(state))}",
        "columns": COLUMNS,
        "order": state.order_by or DEFAULT_ORDER,
        "sentence": experiments.sentence(state),
        "states": STATES,
        "page_sizes": PAGE_SIZES,
        "filter_keys": FILTER_KEYS,
        "multi_user": bool(state.namespace),
        "rows": [],
        "total": 0,
        "next_token": "",
        "commands": [],
        "errors": {},
        "problem": None,
    }


def _same_page(state: ListState) -> dict[str, Any]:
    return {"page_token": state.page_token, "trail": state.trail, "page": state.page}


async def _list_failed(request: web.Request, state: ListState, error: CallFailed) -> web.StreamResponse:
    """A place in the list that is gone leads to the first page; a filter that is wrong is shown
    under its box; anything else is an error in place of the table, with the rest of the page."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    wrong = failures.by_field(failure)
    invalid = failure.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
    if invalid and state.page_token:
        # Whatever else is wrong, the first page says it.
        await session.flash(
            request, "That page of the list is no longer there. This is the first page.", tone="info"
        )
        return render.redirect(f"/experiments{state.first()}")
    if invalid and state.order_by and "sort_by" in wrong:
        await session.flash(request, f"The list cannot be sorted by “{state.order_by}”.", tone="warn")
        return render.redirect(f"/experiments{state.query(order_by='')}")
    values = _frame(request, state)
    if invalid and state.filter:
        values["errors"] = {"filter": await _about_filter(request, state) or failure.message}
    else:
        values["problem"] = failure
    return await render.page(
        request, "experiments/list.html", values, status=failures.explain(failure).status
    )


async def _about_filter(request: web.Request, state: ListState) -> str:
    """What the service says of the typed predicates alone, without what the page added to them."""
    alone = pb.ListExperimentsRequest(filter=state.filter, page_size=1, namespace=state.namespace)
    try:
        await _pipelines(request).list(alone)
    except CallFailed as error:
        return failures.by_field(error.failure).get("filter", error.failure.message)
    return ""


async def _choose_namespace(request: web.Request, state: ListState) -> web.Response:
    last = await session.recall(request, NAMESPACE)
    return await render.page(request, "experiments/namespace.html", {"list": state, "last": last})


def _endpoint(request: web.Request) -> Any:
    return request.app[render.CLIENTS].endpoints[PIPELINES]


# --- one experiment -----------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    try:
        values = await _load_detail(request)
    except CallFailed as error:
        if error.failure.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return await _gone(request, error)
    return await render.page(request, "experiments/detail.html", {**values, "tab": "overview"})


async def _gone(request: web.Request, error: CallFailed) -> web.StreamResponse:
    """What is left of a deleted experiment is its history, which says who deleted it and when."""
    id = request.match_info["id"]
    entries, _ = await _timeline(request, id)
    if not entries:
        raise error
    values = {"id": id, "entries": entries, "problem": None}
    return await render.page(request, "experiments/gone.html", values, status=404)


async def detail_live(request: web.Request) -> web.StreamResponse:
    async def look() -> sse.View:
        values = await _load_detail(request)
        return sse.View(
            parts={
                name: render.part(request, f"experiments/_{name}.html", values)
                for name in ("heading", "summary", "timeline")
            }
        )

    return await sse.stream(request, look, (), feeds=_feeds(request))


async def raw(request: web.Request) -> web.StreamResponse:
    message, values = await _load_one(request)
    form = "json" if request.query.get("format") == "json" else "yaml"
    values |= {"tab": "raw", "form": form, "text": experiments.raw(message, form)}
    return await render.page(request, "experiments/raw.html", values)


async def commands(request: web.Request) -> web.StreamResponse:
    _, values = await _load_one(request)
    values |= {"tab": "commands", "commands": experiments.commands_for_one(_endpoint(request), values["one"])}
    return await render.page(request, "experiments/commands.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    form = request.match_info["form"]
    if form not in ("yaml", "json"):
        raise web.HTTPNotFound
    message = await _pipelines(request).get(request.match_info["id"])
    # A file name in a header: nothing that would need quoting.
    safe = re.sub(r"[^A-Za-z0-9_-]", "", message.experiment_id) or "experiment"
    return web.Response(
        text=experiments.raw(message, form),
        content_type="application/json" if form == "json" else "application/yaml",
        headers={"Content-Disposition": f'attachment; filename="{safe}.{form}"'},
    )


async def _load_one(request: web.Request) -> tuple[pb.Experiment, dict[str, Any]]:
    message = await _pipelines(request).get(request.match_info["id"])
    return message, {"one": experiments.experiment(message)}


async def _load_detail(request: web.Request) -> dict[str, Any]:
    id = request.match_info["id"]
    (message, values), (entries, problem) = await asyncio.gather(_load_one(request), _timeline(request, id))
    return {**values, "entries": entries, "problem": problem, "raw": experiments.raw(message, "yaml")}


async def _timeline(request: web.Request, id: str) -> tuple[Any, Failure | None]:
    """The history, with the audit trail where the person may read it. A failure here is told beside
    the experiment, not instead of it."""
    pipelines, who = _pipelines(request), render.person(request)
    try:
        versions = (await pipelines.history(id)).versions if who.may("admin.read") else ()
        entries = (
            (await pipelines.audit(kind=KIND, name=id, page_size=50)).entries if who.may("audit.list") else ()
        )
    except CallFailed as error:
        return (), error.failure
    return history.timeline(versions, entries), None
