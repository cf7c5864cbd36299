"""A collector's own port: /healthz, /readyz and /metrics, as the services have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from services.pods.collect.state import State, States
from shared.rest.server import http_server
from shared.service.config import Config
from shared.service.health import Health
from shared.service.metrics import CONTENT_TYPE

_STOP: Final = 1.0


@asynccontextmanager
async def probed(config: Config, states: Collection[State]) -> AsyncIterator[tuple[Health, int | None]]:
    """What /readyz says, and the port; None unless the setting `http_port` names one. Raises OSError
    when it is taken."""
    health = Health("collector", {f"cluster {state.name}": state.check for state in states})
    if config.http_port is None:
        yield health, None
        return
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(States(states))

    async def metrics(request: web.BaseRequest) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})

    async def missing(request: web.BaseRequest) -> web.Response:
        return web.Response(status=404, text="there are /healthz, /readyz and /metrics\n")

    routes = [
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/metrics", metrics),
    ]
    runner = web.ServerRunner(http_server(routes, missing, access_log=None), shutdown_timeout=_STOP)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.http_port).start()
        yield health, runner.addresses[0][1]
    finally:
        health.serving = False
        await runner.cleanup()
