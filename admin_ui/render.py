"""Pages from templates: what every template may use, and how a page becomes an answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
from aiohttp import web

from admin_ui import session
from admin_ui.catalogue import DEPLOYMENT, REGION, SERVICE, CatalogueKind, address, short
from admin_ui.clients import JOBS, JUMPSTARTER, META, PODS, Caller, Clients
from admin_ui.health import Monitor
from admin_ui.lab_kinds import BY_KIND, CLIENT, EXPORTER, LEASE, LabKind
from admin_ui.live import Hub
from admin_ui.operations import Operations
from admin_ui.preferences import THEMES, Preferences
from admin_ui.presenters import failures, jobs, lab_forms, moments
from admin_ui.session import People, Person
from shared.service.config import Config

STATIC: Final = Path(__file__).parent / "static"

CONFIG: Final = web.AppKey("config", Config)
CLIENTS: Final = web.AppKey("clients", Clients)
PEOPLE: Final = web.AppKey("people", People)
MONITOR: Final = web.AppKey("monitor", Monitor)
HUB: Final = web.AppKey("hub", Hub)
OPERATIONS: Final = web.AppKey("operations", Operations)
# Route name -> path template.
PATHS: Final = web.AppKey("paths", dict[str, str])

# Set by the middleware on each request.
REQUEST_ID: Final = web.RequestKey("request_id", str)
CALLER: Final = web.RequestKey("caller", Caller)
# Nobody, when it is not set.
PERSON: Final = web.RequestKey("person", Person)
ROUTE: Final = web.RequestKey("route", str)

# The text of a time grows old by itself: it is no difference between two renderings.
_TIME_TEXT: Final = re.compile(r"(<time\b[^>]*>)[^<]*")
_ROW: Final = re.compile(r'<tr data-key="([^"]*)".*?</tr>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class NavItem:
    name: str
    label: str
    icon: str
    shortcut: str
    # Who may open it, and the service that it shows.
    permission: str = ""
    service: str = ""
    # Other pages that it stands for, by the first word of their routes.
    also: tuple[str, ...] = ()

    def stands_for(self, route: str) -> bool:
        return route.split(".")[0] in (self.name.split(".")[0], *self.also)


def _catalogued(kind: CatalogueKind, shortcut: str, *also: str) -> NavItem:
    return NavItem(
        f"{kind.plural}.list", kind.titles, kind.icon, shortcut, kind.permission("list"), META, also
    )


def _in_lab(kind: LabKind, shortcut: str, permission: str, *also: str) -> NavItem:
    return NavItem(f"{kind.plural}.list", kind.titles, kind.icon, shortcut, permission, JUMPSTARTER, also)


NAVIGATION: Final = (
    NavItem("home", "Home", "home", "h"),
    _catalogued(REGION, "r"),
    _catalogued(SERVICE, "s", "resources"),
    _catalogued(DEPLOYMENT, "d"),
    _in_lab(EXPORTER, "e", "board.list"),
    _in_lab(LEASE, "l", "leases.search"),
    _in_lab(CLIENT, "c", "admin.read", "access_policies", "lab"),
    NavItem("jobs.list", "Jobs", "jobs", "j", "jobs.list", JOBS, ("pools", "job_pods")),
    NavItem("pods.list", "Pods", "grid", "p", "pods.view", PODS),
    NavItem("experiments.list", "Experiments", "flask", "x", "experiments.list", "pipelines"),
    NavItem("activity", "Activity", "activity", "a", "audit.list"),
    NavItem("access", "Access", "key", "u", "tokens.list"),
)


def caller(request: web.Request) -> Caller:
    """Calls services as whoever sent this request."""
    return request[CALLER]


def person(request: web.Request) -> Person:
    return request[PERSON]


def url(app: web.Application, name: str, **parts: str) -> str:
    """The path of the route called `name`, its parts quoted."""
    path = app[PATHS][name]
    for part, value in parts.items():
        path = path.replace(f"{{{part}}}", quote(value, safe=""))
    return path


def object_url(app: web.Application, kind: str, name: str) -> str:
    """The page of a stored object; empty for a kind that has none."""
    if kind in BY_KIND:
        return address(name)
    if kind in ("instance", "job_pod"):
        job, _, instance = name.rpartition("-")
        return url(app, "job_pods.detail", id=job, instance=instance)
    own = {"experiment": "experiments.detail", "job": "jobs.detail", "pod": "pods.detail"}
    return url(app, own[kind], id=name) if kind in own else ""


def set_up(app: web.Application) -> None:
    """Give `app` its templates."""
    found = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("admin_ui"),
        default_helpers=False,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    enabled = app[CLIENTS].endpoints
    found.globals.update(
        asset=_assets(),
        navigation=[item for item in NAVIGATION if not item.service or item.service in enabled],
        at=address,
        object_url=lambda kind, name: object_url(app, kind, name),
        short_name=lambda kind, name: short(name) if kind in BY_KIND else jobs.short(kind, name),
        themes=THEMES,
        duration=moments.duration,
        brief=lab_forms.brief,
        explain=failures.explain,
    )
    found.filters["number"] = lambda value: f"{value:,}".replace(",", "\u202f")
    found.filters["plural"] = lambda count, noun: f"{count:,} {noun}{'' if count == 1 else 's'}".replace(
        ",", "\u202f"
    )


def _assets() -> Mapping[str, str]:
    """File name -> URL with its digest, so that browsers may keep it for ever."""
    return {
        path.name: f"/static/{path.name}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:10]}"
        for path in STATIC.iterdir()
    }


def context(request: web.Request) -> dict[str, Any]:
    """What every template may use besides its own values."""
    preferences = Preferences.of(request)
    who = request.get(PERSON)
    now = datetime.now(UTC)

    return {
        "url": lambda name, **parts: url(request.app, name, **parts),
        "route": request.get(ROUTE, ""),
        "path": request.path_qs if request.method == "GET" else "/",
        "person": who,
        "may": lambda permission: not permission or (who is not None and who.may(permission)),
        "moment": lambda at: moments.moment(at, now=now, zone=preferences.zone),
        "time_left": lambda at: moments.left(at, now=now),
        "clock": lambda at, span: moments.clock(at, zone=preferences.zone, day=span == "week"),
        "preferences": preferences,
        "health": request.app[MONITOR].services,
        "auth": request.app[CONFIG].auth,
        "request_id": request.get(REQUEST_ID, ""),
        "flashes": [],
    }


async def page(
    request: web.Request, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
) -> web.Response:
    """A whole page. Flashes are shown and forgotten."""
    known = context(request)
    known["flashes"] = await session.take_flashes(request)
    text = aiohttp_jinja2.render_string(template, request, {**known, **(values or {})})
    response = web.Response(text=text, status=status, content_type="text/html")
    response.enable_compression()
    return response


def redirect(location: str) -> web.Response:
    """After a write, and to where a page is now: the browser asks for it with GET."""
    return web.Response(status=303, headers={"Location": location})


def part(request: web.Request, template: str, values: Mapping[str, Any]) -> str:
    """A piece of a page, for a live stream."""
    return aiohttp_jinja2.render_string(template, request, {**context(request), **values})


def etag(html: str) -> str:
    """Short text that differs when the rendering differs in more than the age of times."""
    return hashlib.sha256(_TIME_TEXT.sub(r"\1", html).encode()).hexdigest()[:12]


def rows(html: str) -> list[tuple[str, str]]:
    """The keyed table rows of a rendering, in order: (key, html)."""
    return [(match[1], match[0]) for match in _ROW.finditer(html)]
