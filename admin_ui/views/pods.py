"""Pods: what there are of, the pods themselves, one pod, all of them live, and the export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JOBS, PODS, Endpoint
from admin_ui.list_state import Column
from admin_ui.pod_state import CLUSTERS, DEPLOYMENTS, LEVELS, NAMESPACES, SOURCES, PodState
from admin_ui.pod_state import PODS as ROWS
from admin_ui.pods import KINDS, POD, Names, Pods, count_request, list_request
from admin_ui.presenters import pod_commands, pod_query
from admin_ui.presenters import pods as presenter
from admin_ui.records import Records
from admin_ui.views import common
from admin_ui.views.listing import SHARED, Listing
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb
from shared.rpc.client import CallFailed, Failure

BASE: Final = "/pods"
_COUNT: Final = Column("pods", "Pods", "desc", css="num")
COLUMNS: Final = {
    CLUSTERS: (
        Column("name", "Cluster", css="c-name"),
        Column("", "Namespaces", css="num wide-only"),
        Column("", "Deployments", css="num wide-only"),
        _COUNT,
    ),
    NAMESPACES: (
        Column("name", "Namespace", css="c-name"),
        Column("", "Cluster", css="narrow-hide"),
        Column("", "Deployments", css="num wide-only"),
        _COUNT,
    ),
    DEPLOYMENTS: (
        Column("name", "Deployment", css="c-name"),
        Column("", "Type", css="wide-only"),
        Column("", "Namespace", css="narrow-hide"),
        Column("", "Cluster", css="narrow-hide"),
        _COUNT,
    ),
    SOURCES: (
        Column("name", "Source", css="c-name"),
        Column("", "Last change", css="c-created"),
        _COUNT,
    ),
    ROWS: (
        Column("name", "Pod", css="c-name"),
        Column("", "State", css="c-state"),
        Column("namespace", "Namespace", css="narrow-hide"),
        Column("deployment_id", "Deployment", css="narrow-hide"),
        Column("", "Node", css="wide-only"),
        Column("updated_at", "Changed", "desc", css="c-created"),
    ),
}


def _pods(request: web.Request) -> Pods:
    return Pods(render.caller(request))


def _endpoint(request: web.Request) -> Endpoint:
    return request.app[render.CLIENTS].endpoint(PODS)


# --- lists --------------------------------------------------------------------------------------


async def _settled(request: web.Request, state: PodState) -> PodState | web.StreamResponse:
    """The export calls the filter `query`; an address that does, too, leads to the list's own."""
    return render.redirect(f"{BASE}{state.here()}") if "query" in request.query else state


async def _load(request: web.Request, state: PodState) -> dict[str, Any]:
    counted = count_request(state)
    found, shown = await asyncio.gather(_pods(request).count(counted), _rows(request, state))
    if state.by != ROWS:
        shown = {
            "rows": [presenter.group(one, state) for one in found.groups],
            "pages": state.pages(len(found.groups), found.total_size, found.next_page_token),
        }
    names = await _pods(request).names(*presenter.pinned_ids(state))
    sizes = {
        CLUSTERS: found.totals.clusters,
        NAMESPACES: found.totals.namespaces,
        DEPLOYMENTS: found.totals.deployments,
        ROWS: found.totals.pods,
        SOURCES: None,
    }
    return {
        **shown,
        "sizes": sizes,
        "total": found.totals.pods,
        "path": presenter.path(state, names),
        "commands": pod_commands.for_list(_endpoint(request), state.filter, counted),
    }


async def _rows(request: web.Request, state: PodState) -> dict[str, Any]:
    """A page of pods, with the names of what they belong to."""
    if state.by != ROWS:
        return {}
    stored, answer = await _pods(request).page(list_request(state))
    names = await _pods(request).names(
        {one.pod.cluster_id for one in stored}, {one.pod.deployment_id for one in stored}
    )
    return {
        "rows": [presenter.pod(one, names) for one in stored],
        "pages": state.pages(len(stored), answer.total_size, answer.next_page_token),
    }


async def _frame(request: web.Request, state: PodState) -> dict[str, Any]:
    rest = pod_query.without(state.filter, pod_query.DRILL)
    return {
        "columns": COLUMNS[state.by],
        "levels": LEVELS,
        "sizes": dict.fromkeys(LEVELS),
        "sentence": pod_query.sentence(state.filter),
        # What the way into the whole does not say.
        "rest": pod_query.sentence(rest) if rest else "",
        "ignored": pod_query.ignored(state.filter),
        "labels": pod_query.LABELS,
        "examples": pod_query.EXAMPLES,
        "path": [],
        "filling": pod_commands.to_fill(_endpoint(request)),
    }


LIST: Final = Listing(
    template="pods/list.html",
    rows="pods/_rows.html",
    parts={
        **SHARED,
        **{name: f"pods/_{name}.html" for name in ("levels", "path", "empty")},
    },
    parse=PodState.parse,
    settle=_settled,
    frame=_frame,
    load=_load,
    feeds=lambda request: common.feeds(request, PODS, *KINDS),
    # What the service's methods call the filter.
    fields={"query": "filter", "filter": "filter"},
)


# --- the export ---------------------------------------------------------------------------------


async def export(request: web.Request) -> web.StreamResponse:
    """The lines of all pods that the query means, as they come. What fails before the first of them is
    a page; behind it the download breaks off, its last line saying why."""
    query = PodState.parse(request.query).filter
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/x-ndjson",
            "Content-Disposition": 'attachment; filename="pods.ndjson"',
        }
    )
    async with aclosing(_pods(request).export(query)) as chunks:
        first = await anext(chunks, b"")
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await response.write(first)
            await _written(response, chunks)
        except CallFailed as error:
            failure = error.failure
            line = {"error": {"grpcCode": failure.code.value[0], "message": failure.message}}
            await response.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            if request.transport is not None:
                request.transport.close()
    return response


async def _written(response: web.StreamResponse, chunks: AsyncGenerator[bytes, None]) -> None:
    async for chunk in chunks:
        await response.write(chunk)
        # Others get a turn, however fast the reader is.
        await asyncio.sleep(0)


# --- one pod ------------------------------------------------------------------------------------


async def detail(request: web.Request) -> web.StreamResponse:
    return await common.overview(request, "pods/detail.html", _load_detail(request), _gone)


async def detail_live(request: web.Request) -> web.StreamResponse:
    names = ("heading", "summary", "instances", "owner", "timeline")
    feeds = common.feeds(request, PODS, *KINDS)
    return await sse.parts(request, lambda: _load_detail(request), "pods/_{}.html", names, feeds=feeds)


async def _load_detail(request: web.Request) -> dict[str, Any]:
    id = request.match_info["id"]
    (_, values), (entries, problem) = await asyncio.gather(_load_one(request), _timeline(request, id))
    return {**values, "entries": entries, "problem": problem}


async def _load_one(request: web.Request) -> tuple[Any, dict[str, Any]]:
    stored = await _pods(request).pod(request.match_info["id"])
    names = await common.attempt(_pods(request).names([stored.pod.cluster_id], [stored.pod.deployment_id]))
    known = Names({}, {}) if isinstance(names, Failure) else names
    one = presenter.pod(stored, known)
    if JOBS not in request.app[render.CLIENTS].endpoints:
        one = replace(one, job="", instance="")
    owner, everything = known.deployments.get(one.place.deployment_id), PodState()
    return stored.pod, {
        "one": one,
        "owner": owner,
        "base": BASE,
        "list": everything,
        "labels": presenter.tags("Deployment Label", owner.labels.items() if owner else (), everything),
        "pod_labels": presenter.tags("Pod Label", owner.pod_labels.items() if owner else (), everything),
        "inside": presenter.where(one.place, everything),
    }


async def raw(request: web.Request) -> web.StreamResponse:
    message, values = await _load_one(request)
    values |= {"tab": "raw", **common.raw_view(request, message)}
    return await render.page(request, "pods/raw.html", values)


async def download(request: web.Request) -> web.StreamResponse:
    stored = await _pods(request).pod(request.match_info["id"])
    return common.download(request.match_info["form"], stored.pod, stored.pod.name or stored.pod.id)


async def commands(request: web.Request) -> web.StreamResponse:
    message, values = await _load_one(request)
    values |= {"tab": "commands", "commands": pod_commands.for_one(_endpoint(request), message.id)}
    return await render.page(request, "pods/commands.html", values)


async def _gone(request: web.Request, error: CallFailed) -> web.StreamResponse:
    """What is left of a removed pod is its history. Raises `error` when there never was one."""
    id = request.match_info["id"]
    entries, _ = await _timeline(request, id)
    if not entries:
        raise error
    return await render.page(
        request, "pods/gone.html", {"id": id, "entries": entries, "problem": None}, status=404
    )


async def _timeline(request: web.Request, id: str) -> Any:
    return await Records(render.caller(request), PODS).timeline(render.person(request), POD, id)


async def totals(request: web.Request) -> pb.Totals:
    """Of all pods that the person may see. Raises CallFailed."""
    return (await _pods(request).count(pb.CountPodsRequest())).totals
