"""Writes to exporters and clients: made by a form, switched on and off, and given what connects them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.catalogue import address
from admin_ui.lab_kinds import EXPORTER, KINDS, LabKind, id_of
from admin_ui.presenters import failures, lab_commands, lab_forms
from admin_ui.security import safe_next
from admin_ui.views import lab
from shared.rpc.client import CallFailed, Failure

FIELDS: Final = ("namespace", "id", "labels")


def kind_of(request: web.Request) -> LabKind:
    return KINDS[request[render.ROUTE].split(".")[0]]


# --- something new ------------------------------------------------------------------------------


async def new(request: web.Request) -> web.StreamResponse:
    return await _form(request, {field: request.query.get(field, "") for field in FIELDS})


async def create(request: web.Request) -> web.StreamResponse:
    """Stores it and shows at once what connects it."""
    kind, data = kind_of(request), await request.post()
    typed = {field: str(data.get(field, "")).replace("\r\n", "\n").strip() for field in FIELDS}
    errors: dict[str, str] = {}
    fields: dict[str, Any] = {}
    try:
        fields["labels"] = lab_forms.pairs_of(typed["labels"])
    except ValueError as error:
        errors["labels"] = str(error)
    for field, what in (("namespace", "in which namespace"), ("id", "what it is called")):
        if not typed[field]:
            errors[field] = f"say {what}"
    if errors:
        return await _form(request, typed, errors=errors, status=400)
    name = kind.named(typed["namespace"], typed["id"])
    try:
        await lab.create(request, kind, name, fields)
    except CallFailed as error:
        return await _refused(request, kind, typed, error)
    await session.remember(request, lab.NAMESPACE, typed["namespace"])
    if not render.person(request).may("tokens.issue"):
        await session.flash(request, f"{kind.title} {typed['id']} is stored.")
        return render.redirect(address(name))
    return await _config(request, kind, name, made=True)


async def _refused(
    request: web.Request, kind: LabKind, typed: Mapping[str, str], error: CallFailed
) -> web.Response:
    """The form again, nothing typed lost, each complaint under its field."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    wrong: dict[str, str] = {}
    for violation in failure.violations:
        field = violation.field.removeprefix(f"{kind.plural}[0].").partition("[")[0]
        wrong["id" if field == "name" else field] = violation.description
    if failure.code is grpc.StatusCode.ALREADY_EXISTS:
        wrong["id"] = failure.message
    problem = None if wrong.keys() & set(FIELDS) else failure
    status = failures.explain(failure).status
    return await _form(request, typed, errors=wrong, problem=problem, status=status)


async def _form(
    request: web.Request,
    typed: Mapping[str, str],
    *,
    errors: Mapping[str, str] | None = None,
    problem: Failure | None = None,
    status: int = 200,
) -> web.Response:
    found = await lab.standing(request)
    namespace = typed["namespace"] or await lab.place(request, found, "")
    values = {
        "kind": kind_of(request),
        "typed": {**typed, "namespace": namespace},
        "namespaces": found.namespaces,
        "errors": errors or {},
        "problem": problem,
        "commands": lab_commands.for_new(kind_of(request), namespace),
    }
    return await render.page(request, "lab/new.html", values, status=status)


# --- what connects it ---------------------------------------------------------------------------


async def connect(request: web.Request) -> web.StreamResponse:
    """Says what a file is for; only the button makes one."""
    kind = kind_of(request)
    name = kind.name(request.match_info)
    await lab.records(request).get(kind.kind, name)
    return await render.page(request, "lab/connect.html", _values(kind, name))


async def issue(request: web.Request) -> web.StreamResponse:
    kind = kind_of(request)
    return await _config(request, kind, kind.name(request.match_info))


async def _config(request: web.Request, kind: LabKind, name: str, *, made: bool = False) -> web.Response:
    """Shows the token in the answer itself: it is nowhere else to be had afterwards."""
    try:
        issued = await lab.lab(request).issue(name)
    except CallFailed as error:
        if not made or error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
            raise
        values = {**_values(kind, name), "made": True, "problem": error.failure}
        return await render.page(request, "lab/connect.html", values)
    values = {
        **_values(kind, name),
        "made": made,
        "config": issued.config,
        "token": issued.token,
        "endpoint": issued.endpoint,
        "expires": issued.expire_time.ToDatetime(tzinfo=lab.now().tzinfo),
    }
    return await render.page(request, "lab/connect.html", values)


def _values(kind: LabKind, name: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "id": id_of(name),
        "made": False,
        "config": "",
        "token": "",
        "endpoint": "",
        "expires": None,
        "problem": None,
        "commands": lab_commands.for_config(kind, name),
    }


# --- on and off ---------------------------------------------------------------------------------


async def enable(request: web.Request) -> web.StreamResponse:
    return await _switch(request, enabled=True)


async def disable(request: web.Request) -> web.StreamResponse:
    return await _switch(request, enabled=False)


async def _switch(request: web.Request, *, enabled: bool) -> web.StreamResponse:
    """Reversible, so nothing is asked before and Undo is offered after."""
    name = EXPORTER.name(request.match_info)
    await lab.change(request, EXPORTER, name, {"enabled": enabled})
    inverse = "exporters.disable" if enabled else "exporters.enable"
    told = "can be leased again" if enabled else "is given to nobody new; who has it keeps it"
    await session.flash(
        request, f"{id_of(name)} {told}.", undo=render.url(request.app, inverse, **request.match_info)
    )
    data = await request.post()
    return render.redirect(safe_next(str(data.get("return_to", "")), address(name)))
