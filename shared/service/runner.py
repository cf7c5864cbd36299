"""Starts a service and stops it in reverse.

config, logging, store, tailer, gRPC, REST, controllers, health SERVING. At SIGTERM: not ready, end
streams with UNAVAILABLE, drain, close.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import orjson
import uvloop
from aiohttp import web

from shared import errors
from shared.admin import access_service
from shared.admin.service import SERVICE as ADMIN
from shared.admin.service import AdminService
from shared.auth import access_store
from shared.auth.access import Access
from shared.auth.bootstrap import ensure_operator_token
from shared.auth.keys import KeyFault, KeyRing
from shared.auth.permissions import PERMISSIONS
from shared.rest import openapi
from shared.rest.gateway import SERVER_OPTIONS, Gateway
from shared.rest.server import http_server
from shared.rest.style import GOOGLE
from shared.rpc import status as statuses
from shared.rpc.interceptors import Pipeline
from shared.rpc.method import methods_of
from shared.rpc.server import GrpcServer
from shared.service import certificates, metrics, retention
from shared.service import logging as logs
from shared.service.certificates import CertificateFault
from shared.service.config import Config
from shared.service.health import Health
from shared.service.ids import random_ids
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service, Tls
from shared.storage import factory
from shared.storage.errors import StoreError
from shared.storage.port import Kind, Store
from shared.watch.tailer import Tailer

log = logging.getLogger(__name__)
# How long /metrics waits for what only the store knows.
_SCRAPE_SECONDS = 2.0
_NEW_OBJECTS = 10_000


@dataclass(frozen=True)
class Running:
    """A started service."""

    service: Service
    config: Config
    environment: Environment
    apis: Sequence[Api]
    grpc_port: int
    http_port: int
    # gRPC over TLS, of services that have that port too.
    tls_port: int | None = None

    @property
    def ports(self) -> dict[str, int]:
        found = {"grpc": self.grpc_port, "http": self.http_port}
        return found if self.tls_port is None else {**found, "tls": self.tls_port}


@asynccontextmanager
async def running(
    service: Service,
    config: Config,
    *,
    clock: Clock = time.time_ns,
    new_id: NewId | None = None,
    store: Store | None = None,
    access: Store | None = None,
    operator_token: bool = False,
) -> AsyncIterator[Running]:
    """The service, ready, until the block ends. `store` and `access` replace the configured ones
    and are opened and closed here. `operator_token` keeps a good one in the data folder. Raises
    OSError when a port is taken, StoreError when a store cannot be opened, and CertificateFault."""
    new_id = new_id or random_ids().__next__
    async with AsyncExitStack() as stack:
        definitions = service.definitions(config, clock, new_id)
        kinds = [*(d.storage() for d in definitions), *service.kinds]
        opened = await _open(stack, config, service.name, kinds, clock, store)
        access_opened = await _open(stack, config, "access", access_store.KINDS, clock, access)
        keys = KeyRing.open(config.data / "keys")
        who = Access(access_opened, keys, lambda: clock() / 1e9, enabled=config.auth)
        await who.start()
        stack.push_async_callback(who.close)
        if operator_token and config.auth:
            await ensure_operator_token(config.data, who)
        tailer = await stack.enter_async_context(Tailer(opened))
        numbers = metrics.Metrics()
        pipeline = Pipeline(
            who,
            numbers.rpc,
            max_streams=config.max_streams,
            max_stream_age=config.max_stream_age.total_seconds(),
        )
        server = GrpcServer(pipeline, max_message_bytes=config.max_message_bytes)
        stack.push_async_callback(server.stop, 0.0)
        grpc_port, tls = _listen(server, service, config)
        environment = Environment(config, opened, tailer, who, keys, numbers, clock, new_id, stack, tls)
        for definition in definitions:
            environment.collection(definition)
        assembly = await service.assemble(environment, definitions)
        apis = [*assembly.apis, _admin(environment), _access(who)]
        server.add((method, api.decorate) for api in apis for method in api.methods)
        await server.start()
        stack.push_async_callback(server.stop, config.stop_grace.total_seconds())
        health = Health(service.name, {"store": opened.ping, "access store": access_opened.ping})
        http_port = await _serve_http(stack, service, environment, assembly, apis, pipeline, health)
        for kept in (opened, access_opened):
            _background(stack, _retain(kept, config, clock))
        await server.serving(True)
        health.serving = True
        try:
            yield Running(service, config, environment, apis, grpc_port, http_port, tls.port if tls else None)
        finally:
            health.serving = False
            await server.serving(False)
            for stop in assembly.on_stop:
                await stop()
            # Watches end with UNAVAILABLE now, before the servers wait for what still runs.
            await tailer.__aexit__(None, None, None)


def main(service: Service) -> None:
    """The process: settings from the environment, until SIGTERM or SIGINT. Exits 2 for wrong
    settings, 1 when it cannot start."""
    try:
        config = Config.load()
    except errors.InvalidArgument as error:
        sys.exit(f"{service.name}: {error.message}")
    logs.configure(service.name, form=config.log_format, level=config.log_level)
    try:
        uvloop.run(_until_stopped(service, config))
    except (OSError, KeyFault, CertificateFault, StoreError, errors.ApiError) as error:
        log.error("cannot start: %s", error)
        sys.exit(1)


async def _until_stopped(service: Service, config: Config) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(service, config, operator_token=True) as started:
        if config.ports_file:
            _write_ports(Path(config.ports_file), started)
        # What is there by now stays: the collector need not go through it again and again. A thousand
        # streams that are told at once hold far more objects than its default for new ones.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        log.info("ready", extra=started.ports)
        await stopped.wait()
        log.info("stopping")
    log.info("stopped")


async def _open(
    stack: AsyncExitStack, config: Config, name: str, kinds: Sequence[Kind], clock: Clock, given: Store | None
) -> Store:
    store = given or factory.build(
        config.store,
        name,
        kinds,
        data=config.data,
        prefix=config.store_name,
        documents=config.store_documents,
        clock=clock,
    )
    stack.push_async_callback(store.close)
    await store.open()
    return store


def _admin(environment: Environment) -> Api:
    servicer = AdminService(
        environment.store,
        environment.tailer,
        environment.collections,
        access=environment.access.records.store,
        access_kinds=frozenset(kind.name for kind in access_store.KINDS),
    )
    return Api("Roundhouse administration", methods_of(ADMIN, servicer, PERMISSIONS))


def _access(who: Access) -> Api:
    return Api("Roundhouse access", access_service.methods(who))


def _listen(server: GrpcServer, service: Service, config: Config) -> tuple[int, Tls | None]:
    """The gRPC port, and the one that speaks TLS in any case. Raises OSError and CertificateFault."""
    port = server.listen(f"{config.host}:{config.ports(service.name)[0]}", _grpc_credentials(config))
    wanted = config.tls_port(service.name)
    if wanted is None:
        return port, None
    # The certificate names the host, whatever the port turns out to be.
    load = partial(certificates.configured, config, config.endpoint(service.name, wanted))
    source = certificates.Certificates(load)
    bound = server.listen(f"{config.host}:{wanted}", source.credentials())
    return port, Tls(bound, config.endpoint(service.name, bound), source)


async def _serve_http(
    stack: AsyncExitStack,
    service: Service,
    environment: Environment,
    assembly: Assembly,
    apis: Sequence[Api],
    pipeline: Pipeline,
    health: Health,
) -> int:
    config = environment.config
    rest = [(api.methods, api.style) for api in apis]
    gateway = Gateway(pipeline, rest, default_style=apis[0].style if apis else GOOGLE)
    document = orjson.dumps(openapi.document(f"Roundhouse {service.name}", _version(), rest))

    async def describe(request: web.BaseRequest) -> web.Response:
        try:
            await environment.access.authenticate({k.lower(): v for k, v in request.headers.items()})
        except (errors.Unauthenticated, StoreError) as error:
            status = statuses.of(error)
            headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.Unauthenticated) else {}
            return web.json_response(GOOGLE.error(status), status=statuses.HTTP[status.code], headers=headers)
        return web.Response(body=document, content_type="application/json")

    async def scrape(request: web.BaseRequest) -> web.Response:
        environment.metrics.revision.set(environment.tailer.head)
        try:
            async with asyncio.timeout(_SCRAPE_SECONDS):
                environment.metrics.floor.set(await environment.store.floor())
                for collect in assembly.on_scrape:
                    await collect()
        except (StoreError, TimeoutError) as error:
            # The other numbers matter most just now; the store's own stay what they were.
            log.info("cannot ask the store for its numbers", extra={"error": str(error)})
        return web.Response(body=environment.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    routes = [
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/metrics", scrape),
        web.get("/openapi.json", describe),
        *assembly.routes,
    ]
    server = http_server(routes, gateway.handle, access_log=None, **SERVER_OPTIONS)
    runner = web.ServerRunner(server, shutdown_timeout=config.stop_grace.total_seconds())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = config.ports(service.name)[1]
    site = web.TCPSite(runner, config.host, port, ssl_context=_http_credentials(config))
    await site.start()
    return runner.addresses[0][1]


def _grpc_credentials(config: Config) -> grpc.ServerCredentials | None:
    if not config.tls_cert:
        return None
    key, certificate = Path(config.tls_key).read_bytes(), Path(config.tls_cert).read_bytes()
    return grpc.ssl_server_credentials([(key, certificate)])


def _http_credentials(config: Config) -> ssl.SSLContext | None:
    if not config.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


async def _retain(store: Store, config: Config, clock: Clock) -> None:
    await retention.run(
        store,
        clock,
        age=config.retention_age,
        keep=config.retention_changes,
        audit_age=config.audit_age,
    )


def _background(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


def _write_ports(path: Path, started: Running) -> None:
    temporary = path.with_name(path.name + f".{os.getpid()}")
    temporary.write_bytes(orjson.dumps(started.ports))
    temporary.replace(path)


def _version() -> str:
    try:
        return metadata.version("roundhouse")
    except metadata.PackageNotFoundError:
        return "0"
