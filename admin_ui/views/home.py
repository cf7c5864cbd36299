"""Home: is everything up, what is there, what needs someone, what happened last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from aiohttp import web

from admin_ui import render, sse
from admin_ui.catalogue import BY_KIND, KINDS, Catalogue, CatalogueKind
from admin_ui.clients import JOBS, JUMPSTARTER, META, PIPELINES, PODS, SHORT_DEADLINE
from admin_ui.jobs import JOB
from admin_ui.lab_kinds import EXPORTER, LEASE
from admin_ui.list_state import ListState
from admin_ui.pipelines import KIND, Pipelines
from admin_ui.pods import POD
from admin_ui.presenters import history
from admin_ui.presenters.history import Entry
from admin_ui.records import Records
from admin_ui.views import common, home_jobs, home_lab, pods
from admin_ui.views.activity import names_in
from shared.rpc.client import CallFailed, Failure

# Tokens that end within this time are worth a word.
SOON: Final = timedelta(days=3)
RECENT: Final = 8
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

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
                for name in ("health", "counts", "catalogue", "lab", "jobs", "pods", "attention", "recent")
            }
        )

    feeds = [
        *common.feeds(request, META, *BY_KIND),
        *common.feeds(request, JUMPSTARTER, EXPORTER.kind, LEASE.kind),
        *common.feeds(request, JOBS, JOB),
        *common.feeds(request, PIPELINES, KIND),
        *common.feeds(request, PODS, POD),
    ]
    monitor = request.app[render.MONITOR]
    # The page itself says of a service that is down that it is; the rest of it is as new as ever.
    return await sse.stream(
        request, look, [monitor], feeds=feeds, excused=lambda feed: not monitor.services[feed.service].up
    )


async def _still_signed_in(request: web.Request) -> None:
    try:
        request[render.PERSON] = await request.app[render.PEOPLE].who(render.caller(request))
    except CallFailed as error:
        if error.failure.code.name == "UNAUTHENTICATED":
            raise


async def _load(request: web.Request) -> dict[str, Any]:
    """Never raises CallFailed: what cannot be known is a failure beside what can."""
    enabled = request.app[render.CLIENTS].endpoints
    catalogue, lab, jobs, counted, experiments, recent = await asyncio.gather(
        _catalogue(request) if META in enabled else _nothing(),
        _attempt(home_lab.load(request)) if JUMPSTARTER in enabled else _nothing(),
        _attempt(home_jobs.load(request)) if JOBS in enabled else _nothing(),
        _attempt(pods.totals(request)) if PODS in enabled else _nothing(),
        _experiments(request) if PIPELINES in enabled else _nothing(),
        _recent(request) if render.person(request).may("audit.list") else _nothing(),
    )
    entries = recent if isinstance(recent, list) else []
    return {
        "services": list(request.app[render.MONITOR].services.values()),
        "catalogue": catalogue,
        "lab": lab,
        "jobs": jobs,
        "pods": counted,
        "experiments": experiments,
        "facts": experiments["facts"] if experiments else None,
        "recent": recent,
        "names": await names_in(request, entries),
        "notices": _notices(request),
        "failed": lambda value: isinstance(value, Failure),
    }


async def _catalogue(request: web.Request) -> list[tuple[CatalogueKind, int | Failure]]:
    """How many there are of each kind."""
    found = Catalogue(render.caller(request))
    counts = await asyncio.gather(*(_attempt(found.count(kind)) for kind in KINDS.values()))
    return list(zip(KINDS.values(), counts, strict=True))


async def _experiments(request: web.Request) -> dict[str, Any]:
    """How many are active and archived: None where it is not known of all namespaces together."""
    pipelines = Pipelines(render.caller(request))
    facts = await _attempt(pipelines.facts())
    if not isinstance(facts, Failure) and facts.multi_user:
        return {"facts": facts, "active": None, "archived": None}
    active, archived = await asyncio.gather(
        _attempt(pipelines.count(ListState())),
        _attempt(pipelines.count(ListState(state="archived"))),
    )
    return {"facts": facts, "active": active, "archived": archived}


async def _recent(request: web.Request) -> list[Entry] | Failure:
    """The last writes of all services. A service that does not answer is left out, unless none does."""
    caller = render.caller(request)
    asked = (
        Records(caller, service).audit(steps=False, page_size=RECENT) for service in caller.clients.endpoints
    )
    answers = await asyncio.gather(*map(_attempt, asked))
    known = [answer for answer in answers if not isinstance(answer, Failure)]
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    if failures and not known:
        return failures[0]
    entries = [history.of_audit(entry) for answer in known for entry in answer.entries]
    return sorted(entries, key=lambda entry: entry.at or _LONG_AGO, reverse=True)[:RECENT]


async def _attempt(call: Awaitable[T]) -> T | Failure:
    """A service that hangs does not hold up what the others say."""
    return await common.attempt(call, within=SHORT_DEADLINE)


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
