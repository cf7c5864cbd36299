"""What the views of several kinds do alike: live feeds, pages of one object, raw views."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
from aiohttp import web
from google.protobuf.message import Message

from admin_ui import render
from admin_ui.clients import JUMPSTARTER, PODS
from admin_ui.live import Feed
from admin_ui.presenters import raw
from shared.auth.permissions import ADMIN
from shared.rpc.client import CallFailed, Failure

T = TypeVar("T")
# Services whose kinds are in namespaces: who is no admin sees some of them.
CONFINED: Final = frozenset({JUMPSTARTER, PODS})

_INVALID: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
GONE_PAGE: Final = "That page of the list is no longer there. This is the first page."


def feeds(request: web.Request, service: str, *kinds: str) -> Sequence[Feed]:
    """None for those who may not watch: their pages are as new as their last reload. None of a
    service that is not enabled here."""
    app, who = request.app, render.person(request)
    if not who.may("admin.read") or service not in app[render.CLIENTS].endpoints:
        return []
    # A watch tells only of the namespaces of whose token it has; an admin's, of all.
    scope = who.subject if service in CONFINED and who.role != ADMIN else ""
    return [app[render.HUB].feed(service, kind, scope) for kind in kinds]


def is_invalid(failure: Failure) -> bool:
    """The question itself is wrong, not the service."""
    return failure.code in _INVALID


async def overview(
    request: web.Request,
    template: str,
    found: Awaitable[Mapping[str, Any]],
    gone: Callable[[web.Request, CallFailed], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """The first page of one object: what is `found` of it, or what `gone` tells of one that is not there."""
    try:
        values = await found
    except CallFailed as error:
        if error.failure.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return await gone(request, error)
    return await render.page(request, template, {**values, "tab": "overview"})


def raw_view(request: web.Request, message: Message) -> dict[str, Any]:
    form = "json" if request.query.get("format") == "json" else "yaml"
    return {"form": form, "text": raw.text(message, form)}


def download(form: str, message: Message, name: str) -> web.Response:
    """Raises HTTPNotFound for a form that there is not."""
    if form not in raw.FORMS:
        raise web.HTTPNotFound
    return attachment(raw.text(message, form), name, form)


def attachment(text: str, name: str, form: str) -> web.Response:
    # A file name in a header: nothing that would need quoting.
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "object"
    return web.Response(
        text=text,
        content_type="application/json" if form == "json" else "application/yaml",
        headers={"Content-Disposition": f'attachment; filename="{safe}.{form}"'},
    )


async def attempt(call: Awaitable[T], *, within: float | None = None) -> T | Failure:
    """What `call` answers (`within` seconds), or why it failed: for panels that stand beside what
    did not fail."""
    try:
        async with asyncio.timeout(within):
            return await call
    except CallFailed as error:
        return error.failure
    except TimeoutError:
        return Failure(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {within:.0f} s")
