"""Pods: what there are of, the pods themselves, one pod, all of them live, and the export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import grpc
import orjson
from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import JOBS, PODS, Endpoint
from admin_ui.list_state import PAGE_SIZES, Column
from admin_ui.pod_state import CLUSTERS, DEPLOYMENTS, LEVELS, NAMESPACES, SOURCES, PodState
from admin_ui.pod_state import PODS as ROWS
from admin_ui.pods import KINDS, POD, Names, Pods, count_request, list_request
from admin_ui.presenters import failures, filters, pod_commands, pod_query
from admin_ui.presenters import pods as presenter
from admin_ui.records import Records
from admin_ui.views import common
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
# What the service's field is called in the form.
_FIELDS: Final = ("query", "filter")


def _pods(request: web.Request) -> Pods:
    return Pods(render.caller(request))


def _endpoint(request: web.Request) -> Endpoint:
    return request.app[render.CLIENTS].endpoint(PODS)


# --- lists --------------------------------------------------------------------------------------


async def list_(request: web.Request) -> web.StreamResponse:
    state = PodState.parse(request.query)
    try:
        values = await _load(request, state)
    except CallFailed as error:
        return await _list_failed(request, state, error)
    return await render.page(request, "pods/list.html", values)


async def list_live(request: web.Request) -> web.StreamResponse:
    state = PodState.parse(request.query)

    async def look() -> sse.View:
        values = await _load(request, state)
        return sse.View(
            parts={
                name: render.part(request, f"pods/_{name}.html", values)
                for name in ("count", "levels", "path", "pager", "empty")
            },
            tables={"rows": render.part(request, "pods/_rows.html", values)},
        )

    return await sse.stream(request, look, (), feeds=common.feeds(request, PODS, *KINDS))


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
        **_frame(request, state),
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


def _frame(request: web.Request, state: PodState) -> dict[str, Any]:
    """What a list's page needs, whatever is in its table."""
    rest = pod_query.without(state.filter, pod_query.DRILL)
    return {
        "base": BASE,
        "list": state,
        "here": f"{BASE}{state.here()}",
        "columns": COLUMNS[state.by],
        "levels": LEVELS,
        "sizes": dict.fromkeys(LEVELS),
        "sentence": pod_query.sentence(state.filter),
        # What the way into the whole does not say.
        "rest": pod_query.sentence(rest) if rest else "",
        "ignored": pod_query.ignored(state.filter),
        "labels": pod_query.LABELS,
        "examples": pod_query.EXAMPLES,
        "page_sizes": PAGE_SIZES,
        "rows": [],
        "total": 0,
        "pages": None,
        "path": [],
        "commands": [],
        "filling": pod_commands.to_fill(_endpoint(request)),
        "errors": {},
        "caret": None,
        "problem": None,
    }


async def _list_failed(request: web.Request, state: PodState, error: CallFailed) -> web.StreamResponse:
    """A place or an order that there is not leads to where there is something; a value that is wrong
    is shown under the box with a caret; anything else in place of the table."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    elsewhere = await common.recovered(request, failure, state, BASE, order_field="order_by")
    if elsewhere is not None:
        return elsewhere
    values = {**_frame(request, state), "problem": failure, **_mistake(failure, state)}
    return await render.page(request, "pods/list.html", values, status=failures.explain(failure).status)


def _mistake(failure: Failure, state: PodState) -> dict[str, Any]:
    wrong = failures.by_field(failure)
    told = next((wrong[field] for field in _FIELDS if field in wrong), "")
    if not common.is_invalid(failure) or not told or not state.filter:
        return {}
    caret = filters.caret(state.filter, failure.position) if failure.position is not None else None
    return {"errors": {"filter": told}, "caret": caret, "problem": None}


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
    try:
        values = await _load_detail(request)
    except CallFailed as error:
        if error.failure.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return await _gone(request, error)
    return await render.page(request, "pods/detail.html", {**values, "tab": "overview"})


async def detail_live(request: web.Request) -> web.StreamResponse:
    async def look() -> sse.View:
        values = await _load_detail(request)
        names = ("heading", "summary", "instances", "owner", "timeline")
        return sse.View(parts={name: render.part(request, f"pods/_{name}.html", values) for name in names})

    return await sse.stream(request, look, (), feeds=common.feeds(request, PODS, *KINDS))


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
