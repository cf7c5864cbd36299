"""For balancers and collectors, and the files that pages need. No session, no token."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client import generate_latest

from admin_ui import render
from admin_ui.middleware import METRICS

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


async def healthz(request: web.Request) -> web.Response:
    """The process is up."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """The console serves pages, also about services that are down: those are named, and no reason
    to take it out of a balancer."""
    peers = {name: health.state for name, health in request.app[render.MONITOR].services.items()}
    return web.json_response({"status": "ok", "services": peers})


async def metrics(request: web.Request) -> web.Response:
    text = generate_latest(request.app[METRICS].registry)
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def static(request: web.Request) -> web.StreamResponse:
    return _file(request.match_info["file"], versioned="v" in request.query)


async def favicon(request: web.Request) -> web.StreamResponse:
    return _file("favicon.svg", versioned=False)


def _file(name: str, *, versioned: bool) -> web.StreamResponse:
    """One of the few files that we ship; their names are known, so no path can lead elsewhere."""
    path = next((path for path in render.STATIC.iterdir() if path.name == name), None)
    if path is None:
        raise web.HTTPNotFound
    # The address holds the file's digest: what it answers never changes.
    cache = "public, max-age=31536000, immutable" if versioned else "no-cache"
    response = web.Response(
        body=path.read_bytes(),
        headers={"Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8", "Cache-Control": cache},
    )
    response.enable_compression()
    return response
