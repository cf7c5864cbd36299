"""What happens around every handler: request ids, measures, error pages, and who may come in."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

import grpc
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from admin_ui import render, session
from admin_ui.clients import REQUEST_ID
from admin_ui.presenters import failures
from admin_ui.security import SAFE_METHODS, CrossSite, safe_next
from admin_ui.session import Person
from shared.rpc.client import CallFailed, Failure

# Permissions of routes that ask for none of the services' own.
OPEN: Final = "open"  # no session is looked at: probes, metrics, files
PUBLIC: Final = "public"  # for everyone, signed in or not
SIGNED_IN: Final = "signed in"

log = logging.getLogger(__name__)


class Gated(Protocol):
    """What the gate must know of a route."""

    @property
    def name(self) -> str: ...

    @property
    def permission(self) -> str: ...


class SignInNeeded(Exception):
    """Nobody is signed in, or no longer (`ended`)."""

    def __init__(self, *, ended: bool = False) -> None:
        super().__init__("sign in first")
        self.ended = ended


class Metrics:
    """Names and labels are documented in docs/console.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "roundhouse_console_requests", "Requests that ended.", ["route", "method", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "roundhouse_console_seconds", "How long pages took.", ["route"], registry=self.registry
        )
        self.streams = Gauge("roundhouse_console_streams", "Live pages.", registry=self.registry)


METRICS: Final = web.AppKey("metrics", Metrics)


def observe(metrics: Metrics, routes: Mapping[tuple[str, str], Gated]) -> Middleware:
    """Gives each request its id and counts it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[render.REQUEST_ID] = request_id = uuid.uuid4().hex
        begun = time.perf_counter()
        route = find(routes, request)
        name = route.name if route is not None else "none"
        status = 500
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            error.headers[REQUEST_ID] = request_id
            status = error.status
            raise
        finally:
            metrics.requests.labels(name, request.method, str(status)).inc()
            metrics.seconds.labels(name).observe(time.perf_counter() - begun)
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id
        return response

    return middleware


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure is a page that says what happened, what to do and under which id to find it."""
    try:
        return await handler(request)
    except SignInNeeded as error:
        return await _to_sign_in(request, ended=error.ended)
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
            return await _to_sign_in(request, ended=True)
        return await failure_page(request, error.failure)
    except web.HTTPException as error:
        if error.status < 400 or not _wants_page(request):
            raise
        explanation = failures.PLAIN.get(error.status, failures.UNEXPECTED)
        cause = "" if isinstance(error, CrossSite) else error.reason
        return await _error_page(request, explanation, status=error.status, cause=cause)
    except ConnectionResetError:
        # Whoever asked is gone; nobody reads this.
        return web.Response(status=499)
    except Exception:
        log.exception("a page failed", extra={"request_id": request[render.REQUEST_ID], "path": request.path})
        return await _error_page(request, failures.UNEXPECTED, status=500)


async def failure_page(request: web.Request, failure: Failure) -> web.Response:
    explanation = failures.explain(failure)
    if explanation.status >= 500:
        log.warning(
            "a service failed a page",
            extra={
                "request_id": request[render.REQUEST_ID],
                "path": request.path,
                "code": failure.code.name,
                "error": failure.message,
            },
        )
    return await _error_page(
        request,
        explanation,
        status=explanation.status,
        cause=failure.message,
        code=failure.code.name,
        permission=failure.permission,
    )


async def _error_page(
    request: web.Request,
    explanation: failures.Explanation,
    *,
    status: int,
    cause: str = "",
    code: str = "",
    permission: str = "",
) -> web.Response:
    # A page that may come back is tried again; any other is left for where its link stood.
    own = request.method in SAFE_METHODS and explanation.retry
    values = {
        "explanation": explanation,
        "status": status,
        "cause": "" if permission else cause,
        "code": code,
        "permission": permission,
        "again": request.path_qs if own else own_referer(request),
    }
    return await render.page(request, "error.html", values, status=status)


def _wants_page(request: web.Request) -> bool:
    return not request.path.startswith(("/static/", "/healthz", "/readyz", "/metrics"))


def own_referer(request: web.Request) -> str:
    """The page of this console that the request came from; home when there is none."""
    parts = urlsplit(request.headers.get("Referer", ""))
    if parts.netloc.lower() != request.host.lower():
        return "/"
    return safe_next(f"{parts.path}?{parts.query}" if parts.query else parts.path)


async def _to_sign_in(request: web.Request, *, ended: bool) -> web.StreamResponse:
    """To the sign-in page and then back to where this person was."""
    await session.sign_out(request)
    if "text/event-stream" in request.headers.get("Accept", ""):
        return web.Response(
            text='event: end\ndata: {"reason":"signed-out"}\n\n', content_type="text/event-stream"
        )
    target = request.path_qs if request.method in SAFE_METHODS else own_referer(request)
    query = {"next": target} if target != "/" else {}
    if ended:
        query["ended"] = "1"
    return render.redirect(f"/sign-in?{urlencode(query)}" if query else "/sign-in")


def gate(routes: Mapping[tuple[str, str], Gated]) -> Middleware:
    """Lets in who may come in. `routes`: (method, path template) -> its name and permission.

    Raises SignInNeeded, or CallFailed (PERMISSION_DENIED) that names the permission. The services
    decide again about every call.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        permission = PUBLIC
        route = find(routes, request)
        if route is not None:
            request[render.ROUTE] = route.name
            permission = route.permission
        if permission == OPEN:
            return await handler(request)
        await _identify(request, needed=permission != PUBLIC)
        if permission not in (PUBLIC, SIGNED_IN):
            await require(request, permission)
        return await handler(request)

    return middleware


def find(routes: Mapping[tuple[str, str], Gated], request: web.Request) -> Gated | None:
    """The route that answers `request`; None for an address or a method that there is not."""
    resource = request.match_info.route.resource
    method = "GET" if request.method == "HEAD" else request.method
    return routes.get((method, resource.canonical)) if resource is not None else None


async def _identify(request: web.Request, *, needed: bool) -> None:
    """Sets the request's caller and person."""
    app = request.app
    signed = await session.signed_in(request) if app[render.CONFIG].auth else None
    caller = app[render.CLIENTS].caller(signed.token if signed else "", request_id=request[render.REQUEST_ID])
    request[render.CALLER] = caller
    if signed is None and app[render.CONFIG].auth:
        if needed:
            held = (await session.get_session(request)).get("token") is not None
            raise SignInNeeded(ended=held)
        return
    try:
        request[render.PERSON] = await app[render.PEOPLE].who(caller)
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
            if needed:
                raise SignInNeeded(ended=True) from None
            return
        # No service can say: pages explain that; the person stays signed in.
        subject, role = (signed.subject, signed.role) if signed else ("anonymous", "admin")
        request[render.PERSON] = Person(subject, role, verified=False)


async def require(request: web.Request, permission: str) -> None:
    """Raises CallFailed (PERMISSION_DENIED) unless the person has `permission`, asked again before
    saying no. Does nothing when no service could say: the call itself will fail."""
    who = render.person(request)
    if who.may(permission) or not who.verified:
        return
    who = await request.app[render.PEOPLE].who(render.caller(request), fresh=True)
    request[render.PERSON] = who
    if not who.may(permission):
        message = f"your role {who.role} does not have the permission {permission}"
        raise CallFailed(Failure(grpc.StatusCode.PERMISSION_DENIED, message, permission=permission))
