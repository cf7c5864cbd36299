"""The console's composition root: everything it is made of, put together in one place."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp_session
from aiohttp import web

from admin_ui import middleware, render, routes, security, session
from admin_ui.clients import Clients, endpoints
from admin_ui.health import Monitor
from admin_ui.job_logs import SEARCHES, Searches
from admin_ui.live import Hub
from admin_ui.operations import Operations
from admin_ui.session import People
from shared.service.config import Config

# The largest form: a description of 65,535 characters, in UTF-8 and percent-encoded.
MAX_FORM_BYTES: Final = 1 << 20


def build_app(config: Config, *, clock: session.Clock = time.time) -> web.Application:
    """The console for `config`. Call it inside the event loop that runs it.

    Raises ValueError for a `services` setting that cannot be read.
    """
    clients = Clients(endpoints(config), tls_ca=config.tls_ca)
    metrics = middleware.Metrics()
    addresses = routes.by_address()
    app = web.Application(
        client_max_size=MAX_FORM_BYTES,
        middlewares=[
            middleware.observe(metrics, addresses),
            aiohttp_session.session_middleware(
                session.storage(config, session.load_key(config.data / "keys"))
            ),
            middleware.errors,
            security.same_origin(config.public_url),
            middleware.gate(addresses),
        ],
    )
    app[render.CONFIG] = config
    app[session.CLOCK] = clock
    app[render.CLIENTS] = clients
    app[render.PEOPLE] = People(clients)
    app[render.MONITOR] = Monitor(clients)
    app[render.HUB] = Hub(clients)
    app[render.OPERATIONS] = Operations()
    app[SEARCHES] = Searches()
    render.set_up(app)
    app[render.PATHS] = {route.name: route.path for route in routes.ROUTES}
    app[middleware.METRICS] = metrics
    routes.add_routes(app)
    app.on_response_prepare.append(security.add_headers)
    app.cleanup_ctx.append(_life)
    # Live pages end at once: they are never done by themselves.
    app.on_shutdown.append(_end_streams)
    return app


async def _life(app: web.Application) -> AsyncIterator[None]:
    app[render.MONITOR].start()
    yield
    await app[render.OPERATIONS].close()
    await app[render.HUB].close()
    await app[render.MONITOR].close()
    await app[render.CLIENTS].close()


async def _end_streams(app: web.Application) -> None:
    app[render.HUB].closing.set()
