"""Experiments: the list, one experiment, and both of them live."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.clients import PIPELINES
from admin_ui.list_state import ACTIONS, STATES, Column, ListState
from admin_ui.pipelines import DEFAULT_ORDER, KIND, Pipelines, list_request
from admin_ui.presenters import experiments
from admin_ui.records import Records
from admin_ui.views import common
from admin_ui.views.common import feeds, raw_view
from admin_ui.views.listing import ALL, SHARED, Action, Listing
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.rpc.client import CallFailed, Failure

COLUMNS: Final = (
    Column("display_name", "Name", css="c-name"),
    Column("storage_state", "State", css="c-state"),
    Column("created_at", "Created", "desc", css="c-created"),
    Column("description", "Description", css="c-description"),
    ACTIONS,
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
# Whether the service keeps namespaces apart.
MULTI_USER: Final = web.RequestKey("multi_user", bool)


def _pipelines(request: web.Request) -> Pipelines:
    return Pipelines(render.caller(request))


# --- the list -----------------------------------------------------------------------------------


async def _settled(request: web.Request, state: ListState) -> ListState | web.StreamResponse:
    facts = await _facts(request)
    if facts is not None:
        request[MULTI_USER] = facts.multi_user
        if facts.multi_user and not state.namespace:
            last = await session.recall(request, NAMESPACE)
            return await render.page(request, "experiments/namespace.html", {"list": state, "last": last})
    if state.namespace:
        await session.remember(request, NAMESPACE, state.namespace)
    return state


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
        "rows": [experiments.experiment(message) for message in answer.experiments],
        "total": answer.total_size,
        "pages": state.pages(len(answer.experiments), answer.total_size, answer.next_page_token),
        "commands": experiments.commands_for_list(_endpoint(request), asked),
    }


async def _frame(request: web.Request, state: ListState) -> dict[str, Any]:
    return {
        "columns": COLUMNS,
        "order": DEFAULT_ORDER,
        "sentence": experiments.sentence(state),
        "states": STATES,
        "filter_keys": FILTER_KEYS,
        "multi_user": request.get(MULTI_USER, bool(state.namespace)),
    }


async def _alone(request: web.Request, state: ListState) -> object:
    alone = pb.ListExperimentsRequest(filter=state.filter, page_size=1, namespace=state.namespace)
    return await _pipelines(request).list(alone)


LIST: Final = Listing(
    template="experiments/list.html",
    rows="experiments/_rows.html",
    parts={**SHARED, **ALL, "empty": "experiments/_empty.html"},
    parse=ListState.parse,
    settle=_settled,
    frame=_frame,
    load=_load,
    alone=_alone,
    feeds=lambda request: feeds(request, PIPELINES, KIND),
    actions=(
        Action("archive", "Archive", "experiments.archive", "archive"),
        Action("unarchive", "Restore", "experiments.unarchive", "restore"),
        Action("delete", "Delete…", "experiments.delete", "trash", "small danger"),
    ),
    order_field="sort_by",
)


def _endpoint(request: web.Request) -> Any:
    return request.app[render.CLIENTS].endpoints[PIPELINES]


# --- one experiment -----------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(request, "experiments/detail.html", _load_detail(request), _gone)


async def _gone(request: web.Request, error: CallFailed) -> web.StreamResponse:
    """What is left of a deleted experiment is its history, which says who deleted it and when."""
    id = request.match_info["id"]
    entries, _ = await _timeline(request, id)
    if not entries:
        raise error
    values = {"id": id, "entries": entries, "problem": None}
    return await render.page(request, "experiments/gone.html", values, status=404)


async def detail_live(request: web.Request) -> web.StreamResponse:
    names, watched = ("heading", "summary", "timeline"), feeds(request, PIPELINES, KIND)
    return await sse.parts(
        request, lambda: _load_detail(request), "experiments/_{}.html", names, feeds=watched
    )


async def raw(request: web.Request) -> web.StreamResponse:
    message, values = await _load_one(request)
    values |= {"tab": "raw", **raw_view(request, message)}
    return await render.page(request, "experiments/raw.html", values)


async def commands(request: web.Request) -> web.StreamResponse:
    _, values = await _load_one(request)
    values |= {"tab": "commands", "commands": experiments.commands_for_one(_endpoint(request), values["one"])}
    return await render.page(request, "experiments/commands.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    message = await _pipelines(request).get(request.match_info["id"])
    return common.download(request.match_info["form"], message, message.experiment_id)


async def _load_one(request: web.Request) -> tuple[pb.Experiment, dict[str, Any]]:
    message = await _pipelines(request).get(request.match_info["id"])
    return message, {"one": experiments.experiment(message)}


async def _load_detail(request: web.Request) -> dict[str, Any]:
    id = request.match_info["id"]
    (_, values), (entries, problem) = await asyncio.gather(_load_one(request), _timeline(request, id))
    return {**values, "entries": entries, "problem": problem}


async def _timeline(request: web.Request, id: str) -> tuple[Any, Failure | None]:
    records = Records(render.caller(request), PIPELINES)
    return await records.timeline(render.person(request), KIND, id)
