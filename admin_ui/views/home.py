"""Home: is everything up, what is there, what needs someone, what happened last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from aiohttp import web

from admin_ui import render, sse
from admin_ui.clients import PIPELINES
from admin_ui.list_state import ListState
from admin_ui.pipelines import KIND, Pipelines
from admin_ui.presenters import history
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import CallFailed, Failure

# Tokens that end within this time are worth a word.
SOON: Final = timedelta(days=3)
RECENT: Final = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Notice:
    tone: str
    icon: str
    text: str
    link: str = ""
    label: str = ""


async def home(request: web.Request) -> web.Response:
    return await render.page(request, "home.html", await _load(request))


async def live(request: web.Request) -> web.StreamResponse:
    async def look() -> sse.View:
        # A token that is no longer good ends the stream here; a service that is down does not.
        await _still_signed_in(request)
        values = await _load(request)
        return sse.View(
            parts={
                name: render.part(request, f"home/_{name}.html", values)
                for name in ("health", "counts", "attention", "recent")
            }
        )

    app = request.app
    feeds = [app[render.HUB].feed(PIPELINES, KIND)] if PIPELINES in app[render.CLIENTS].endpoints else []
    may_watch = render.person(request).may("admin.read")
    return await sse.stream(request, look, [app[render.MONITOR]], feeds=feeds if may_watch else ())


async def _still_signed_in(request: web.Request) -> None:
    try:
        request[render.PERSON] = await request.app[render.PEOPLE].who(render.caller(request))
    except CallFailed as error:
        if error.failure.code.name == "UNAUTHENTICATED":
            raise


async def _load(request: web.Request) -> dict[str, Any]:
    """Never raises CallFailed: what cannot be known is a failure beside what can."""
    who = render.person(request)
    pipelines = Pipelines(render.caller(request))
    facts, recent = await asyncio.gather(
        _try(pipelines.facts()),
        _try(pipelines.audit(page_size=RECENT)) if who.may("audit.list") else _nothing(),
    )
    multi_user = not isinstance(facts, Failure) and facts.multi_user
    active, archived = await asyncio.gather(
        # Of all namespaces together there is no list.
        _nothing() if multi_user else _try(pipelines.count(ListState())),
        _nothing() if multi_user else _try(pipelines.count(ListState(state="archived"))),
    )
    entries = (
        [history.of_audit(entry) for entry in recent.entries]
        if isinstance(recent, admin_pb2.ListAuditResponse)
        else []
    )
    return {
        "services": list(request.app[render.MONITOR].services.values()),
        "facts": facts,
        "active": active,
        "archived": archived,
        "recent": recent if recent is None or isinstance(recent, Failure) else entries,
        "names": await pipelines.names_in(entries),
        "notices": _notices(request),
        "failed": lambda value: isinstance(value, Failure),
    }


async def _try(call: Awaitable[T]) -> T | Failure:
    try:
        return await call
    except CallFailed as error:
        return error.failure


async def _nothing() -> None:
    return None


def _notices(request: web.Request) -> list[Notice]:
    """What needs someone, the worst first."""
    who = render.person(request)
    found = []
    for health in request.app[render.MONITOR].services.values():
        if not health.up:
            title = health.endpoint.title
            found.append(Notice("bad", "alert", f"{title} does not serve: {health.message}"))
    if not request.app[render.CONFIG].auth:
        found.append(
            Notice("warn", "alert", "Authentication is switched off: all who reach this may do everything.")
        )
    if who.expires_at is not None:
        left = datetime.fromtimestamp(who.expires_at, UTC) - datetime.now(UTC)
        if timedelta(0) < left < SOON and left > timedelta(hours=13):
            found.append(Notice("warn", "clock", f"The token that you signed in with ends in {_days(left)}."))
    if not who.verified:
        found.append(
            Notice("warn", "alert", "No service can say what you may do now, so buttons are switched off.")
        )
    return found


def _days(left: timedelta) -> str:
    days = left.days
    return f"{days} day{'s' if days != 1 else ''}" if days else f"{int(left.total_seconds() // 3600)} hours"
