"""Writes to one experiment: create, archive, restore, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.pipelines import Pipelines
from admin_ui.presenters import experiments, failures
from admin_ui.security import safe_next
from admin_ui.views.experiments import NAMESPACE
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.rpc.client import CallFailed

FIELDS = ("display_name", "description", "namespace")


async def new(request: web.Request) -> web.StreamResponse:
    """The form, filled in from the query string: what was typed survives a sign-in in between."""
    return await _form(request, {field: request.query.get(field, "") for field in FIELDS})


async def create(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    # Browsers send line ends as CRLF; the API keeps text as it is given.
    typed = {field: str(data.get(field, "")).replace("\r\n", "\n") for field in FIELDS}
    try:
        made = await Pipelines(render.caller(request)).create(
            pb.Experiment(
                display_name=typed["display_name"],
                description=typed["description"],
                namespace=typed["namespace"],
            )
        )
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
            raise
        return await _refused(request, typed, error)
    await session.flash(request, f"Created “{made.display_name}”.")
    return render.redirect(render.url(request.app, "experiments.detail", id=made.experiment_id))


async def _refused(request: web.Request, typed: Mapping[str, str], error: CallFailed) -> web.Response:
    """The form again, nothing typed lost, each complaint under its field."""
    failure = error.failure
    explanation = failures.explain(failure)
    wrong = failures.by_field(failure)
    # v1beta1's word for the same field.
    if "name" in wrong:
        wrong.setdefault("display_name", wrong.pop("name"))
    taken = failure.code is grpc.StatusCode.ALREADY_EXISTS
    if taken:
        wrong["display_name"] = failure.message
    return await _form(
        request,
        typed,
        errors=wrong,
        problem=None if wrong.keys() & set(FIELDS) else failure,
        taken=taken,
        status=explanation.status,
    )


async def _form(
    request: web.Request,
    typed: Mapping[str, str],
    *,
    errors: Mapping[str, str] | None = None,
    problem: Any = None,
    taken: bool = False,
    status: int = 200,
) -> web.Response:
    try:
        multi_user = (await Pipelines(render.caller(request)).facts()).multi_user
    except CallFailed:
        multi_user = bool(typed["namespace"])
    if multi_user and not typed["namespace"]:
        typed = {**typed, "namespace": await session.recall(request, NAMESPACE)}
    values = {
        "typed": typed,
        "errors": errors or {},
        "problem": problem,
        "taken": taken,
        "multi_user": multi_user,
    }
    return await render.page(request, "experiments/new.html", values, status=status)


async def archive(request: web.Request) -> web.StreamResponse:
    return await _switch(request, archived=True)


async def unarchive(request: web.Request) -> web.StreamResponse:
    return await _switch(request, archived=False)


async def _switch(request: web.Request, *, archived: bool) -> web.StreamResponse:
    """Reversible, so nothing is asked before and Undo is offered after."""
    id = request.match_info["id"]
    pipelines = Pipelines(render.caller(request))
    await (pipelines.archive(id) if archived else pipelines.unarchive(id))
    name = await _name(pipelines, id)
    inverse = "experiments.unarchive" if archived else "experiments.archive"
    await session.flash(
        request,
        f"{'Archived' if archived else 'Restored'} “{name}”.",
        undo=render.url(request.app, inverse, id=id),
    )
    data = await request.post()
    here = render.url(request.app, "experiments.detail", id=id)
    return render.redirect(safe_next(str(data.get("return_to", "")), here))


async def _name(pipelines: Pipelines, id: str) -> str:
    try:
        return (await pipelines.get(id)).display_name
    except CallFailed:
        # The write was done; that it cannot be read again is no failure of it.
        return id


async def confirm_delete(request: web.Request) -> web.StreamResponse:
    message = await Pipelines(render.caller(request)).get(request.match_info["id"])
    values = {
        "one": experiments.experiment(message),
        "return_to": safe_next(request.query.get("return_to"), ""),
    }
    return await render.page(request, "experiments/delete.html", values)


async def delete(request: web.Request) -> web.StreamResponse:
    id = request.match_info["id"]
    pipelines = Pipelines(render.caller(request))
    name = await _name(pipelines, id)
    data = await request.post()
    try:
        await pipelines.delete(id)
        await session.flash(request, f"Deleted “{name}”.")
    except CallFailed as error:
        if error.failure.code is not grpc.StatusCode.NOT_FOUND:
            raise
        await session.flash(request, f"“{name}” was already gone.", tone="info")
    return render.redirect(safe_next(str(data.get("return_to", "")), "/experiments"))
