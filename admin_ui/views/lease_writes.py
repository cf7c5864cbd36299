"""Writes to one lease: ask for it, extend it, hand it over, release it.

Staff acts as the lease's owner: the service lets an owner alone change a lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.catalogue import address
from admin_ui.lab_kinds import CLIENT, LEASE, id_of
from admin_ui.preferences import Preferences
from admin_ui.presenters import failures, lab_commands, lab_forms
from admin_ui.presenters import lab as presenter
from admin_ui.security import safe_next
from admin_ui.views import lab
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.rpc.client import CallFailed, Failure

DURATIONS: Final = {"15m": "15 min", "30m": "30 min", "1h": "1 h", "2h": "2 h", "4h": "4 h", "8h": "8 h"}
DEFAULT_DURATION: Final = "1h"
EXTENSIONS: Final = {"15m": "15 min", "1h": "1 h", "4h": "4 h"}
FIELDS: Final = (
    "namespace", "exporter", "selector", "duration", "custom", "start", "begin", "tags", "client",
    "lease_id", "allow_disabled",
)  # fmt: skip
# The form's field, by the last part of the request's.
_FIELD_OF: Final = {
    "exporter_name": "exporter",
    "begin_time": "begin",
    "end_time": "begin",
    "jumpstarter-name": "client",
    "parent": "namespace",
}


# --- ask for one --------------------------------------------------------------------------------


async def new(request: web.Request) -> web.StreamResponse:
    """The form, filled in from the query string."""
    typed = {field: request.query.get(field, "") for field in FIELDS}
    return await _form(request, typed)


async def create(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    typed = {field: str(data.get(field, "")).replace("\r\n", "\n").strip() for field in FIELDS}
    lease, errors = _wanted(typed, Preferences.of(request).zone)
    if errors:
        return await _form(request, typed, errors=errors, status=400)
    client = CLIENT.named(typed["namespace"], typed["client"]) if typed["client"] else ""
    try:
        made = await lab.lab(request).create(typed["namespace"], lease, id=typed["lease_id"], client=client)
    except CallFailed as error:
        return await _refused(request, typed, error)
    await session.flash(request, _made(made))
    return render.redirect(address(made.name))


def _wanted(typed: Mapping[str, str], zone: str) -> tuple[client_pb2.Lease, dict[str, str]]:
    """What the form asks for, and what is wrong with it by field."""
    found = client_pb2.Lease(
        selector=typed["selector"],
        exporter_name=typed["exporter"] or None,
        allow_disabled=typed["allow_disabled"] == "on",
    )
    errors: dict[str, str] = {}
    try:
        found.duration.FromTimedelta(
            lab_forms.span_of(typed["custom"] or typed["duration"] or DEFAULT_DURATION)
        )
    except ValueError as error:
        errors["custom"] = str(error)
    try:
        found.tags.update(lab_forms.pairs_of(typed["tags"]))
    except ValueError as error:
        errors["tags"] = str(error)
    if typed["start"] == "later":
        try:
            found.begin_time.FromDatetime(lab_forms.moment_of(typed["begin"], zone))
        except ValueError as error:
            errors["begin"] = str(error)
    if not typed["namespace"]:
        errors["namespace"] = "say in which namespace"
    if not typed["selector"] and not typed["exporter"]:
        errors["selector"] = "say which labels the exporter must have, or name one exporter"
    return found, errors


def _made(lease: client_pb2.Lease) -> str:
    if lease.exporter:
        return f"{id_of(lease.client)} has {id_of(lease.exporter)} now."
    return "The lease is asked for. It waits for an exporter."


async def _refused(request: web.Request, typed: Mapping[str, str], error: CallFailed) -> web.Response:
    """The form again, nothing typed lost, each complaint under its field."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    wrong: dict[str, str] = {}
    for violation in failure.violations:
        field = violation.field.removeprefix("lease.").partition("[")[0]
        wrong[_FIELD_OF.get(field, field)] = violation.description
    if "duration" in wrong:
        wrong["custom"] = wrong.pop("duration")
    if failure.code is grpc.StatusCode.ALREADY_EXISTS:
        wrong["lease_id"] = failure.message
    return await _form(
        request,
        typed,
        errors=wrong,
        problem=None if wrong.keys() & set(FIELDS) else failure,
        status=failures.explain(failure).status,
    )


async def _form(
    request: web.Request,
    typed: Mapping[str, str],
    *,
    errors: Mapping[str, str] | None = None,
    problem: Failure | None = None,
    status: int = 200,
) -> web.Response:
    found = await lab.standing(request)
    namespace = await lab.place(request, found, typed["namespace"])
    clients = await lab.client_ids(request, namespace)
    values = {
        "typed": {**typed, "namespace": namespace},
        "errors": errors or {},
        "problem": problem,
        "durations": DURATIONS,
        "default": DEFAULT_DURATION,
        "namespaces": found.namespaces,
        "own": found.client,
        "clients": clients,
        "commands": lab_commands.for_new_lease(
            lab.endpoint(request), namespace, exporter=typed["exporter"], selector=typed["selector"]
        ),
    }
    return await render.page(request, "leases/new.html", values, status=status)


# --- change one ---------------------------------------------------------------------------------


async def extend(request: web.Request) -> web.StreamResponse:
    """`by` is a span, or `custom` is; `shorten` turns it round."""
    data = await request.post()
    name = LEASE.name(request.match_info)
    text = str(data.get("by", "")) or str(data.get("custom", ""))
    shorten = data.get("shorten") == "on"
    try:
        span = lab_forms.span_of(text)
    except ValueError as error:
        return await _back(request, name, str(error), tone="bad")
    try:
        before = await lab.lab(request).extend(name, -span if shorten else span)
    except CallFailed as error:
        return await _failed(request, name, error)
    total = before.duration.ToTimedelta() + (-span if shorten else span)
    verb = "Shortened" if shorten else "Extended"
    return await _back(
        request, name, f"{verb} by {lab_forms.brief(span)}, to {lab_forms.brief(total)} in all."
    )


async def transfer(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    name, client = LEASE.name(request.match_info), str(data.get("client", "")).strip()
    if not client:
        return await _back(request, name, "Say to which client.", tone="bad")
    try:
        await lab.lab(request).transfer(name, CLIENT.named(request.match_info["namespace"], client))
    except CallFailed as error:
        return await _failed(request, name, error)
    return await _back(request, name, f"Handed over to {client}.")


async def _failed(request: web.Request, name: str, error: CallFailed) -> web.Response:
    """What the service said, on the lease's own page."""
    failure = error.failure
    if failure.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE):
        raise error
    told = "; ".join(violation.description for violation in failure.violations) or failure.message
    return await _back(request, name, told, tone="bad")


async def _back(request: web.Request, name: str, text: str, *, tone: str = "ok") -> web.Response:
    await session.flash(request, text, tone=tone)
    return render.redirect(address(name))


async def confirm_release(request: web.Request) -> web.StreamResponse:
    message = await lab.lab(request).lease(LEASE.name(request.match_info))
    values = {
        "lease": presenter.lease(message, lab.now()),
        "kind": LEASE,
        "return_to": safe_next(request.query.get("return_to"), ""),
    }
    return await render.page(request, "leases/release.html", values)


async def release(request: web.Request) -> web.StreamResponse:
    data, name = await request.post(), LEASE.name(request.match_info)
    try:
        await lab.lab(request).release(name)
        await session.flash(request, f"Released {id_of(name)}.")
    except CallFailed as error:
        code = error.failure.code
        if code not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
            raise
        await session.flash(request, f"{id_of(name)} had ended already.", tone="info")
    return render.redirect(safe_next(str(data.get("return_to", "")), address(name)))
