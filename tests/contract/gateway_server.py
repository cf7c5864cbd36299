"""A gateway over handlers that say what they saw, for the tests of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry

from services.pipelines.style import STYLE
from shared.auth.identity import Identity
from shared.errors import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from shared.pb.backend.api.v1beta1 import experiment_pb2
from shared.pb.roundhouse.admin.v1 import access_pb2, admin_pb2
from shared.rest import errors as rest_errors
from shared.rest.gateway import SERVER_OPTIONS, Gateway
from shared.rest.style import GOOGLE, Style
from shared.rpc.interceptors import Pipeline
from shared.rpc.method import PUBLIC, HttpRule, Method, http_rules
from shared.rpc.metrics import RpcMetrics
from shared.rpc.status import Status
from tests.unit.rest_messages import AllTypes

DEADLINE = 60.0
TOKEN = {"Authorization": "Bearer good"}
EXPERIMENTS = "/apis/v1beta1/experiments"
SERVICE = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"]
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


class Tokens:
    """Knows one token, which may read only, and one that may do everything."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Identity:
        token = metadata.get("authorization", "")
        if token == "Bearer good":
            return Identity("someone", "admin", frozenset({"read", "write"}))
        if token == "Bearer small":
            return Identity("someone", "viewer", frozenset({"read"}))
        raise Unauthenticated(f"no token, or not one of ours: {token}")


@dataclass
class Handlers:
    """What the test's methods do, and what they saw."""

    calls: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def seen(self, request: Any, call: Any) -> None:
        self.requests.append(request)
        self.calls.append(call)

    async def create(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        if not request.experiment.name:
            raise InvalidArgument.at("experiment.name", "must not be empty")
        return experiment_pb2.Experiment(id="new", name=request.experiment.name, storage_state=1)

    async def get(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        if request.id == "crash":
            raise RuntimeError("secret detail")
        if request.id == "missing":
            raise NotFound("no experiment missing", kind="experiment", name="missing")
        # Bytes, as a service hands out what it stored.
        return experiment_pb2.Experiment(id=request.id, name="ä" * 3).SerializeToString()

    async def list(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        found = experiment_pb2.ListExperimentsResponse()
        for number in range(request.page_size):
            found.experiments.add(id=str(number), name=f"experiment {number}")
        return found

    async def delete(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        return empty_pb2.Empty()

    async def archive(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        return empty_pb2.Empty()

    async def watch(self, request: Any, call: Any) -> AsyncIterator[Any]:
        """The filter says what to do."""
        self.seen(request, call)
        try:
            if request.filter == "bad":
                raise InvalidArgument.at("filter", "is bad")
            if request.filter == "forever":
                self.opened.set()
                yield admin_pb2.WatchResponse(is_current=True, resume_token="t0", revision=7)
                await asyncio.Event().wait()
            if request.filter == "silent":
                self.opened.set()
                await asyncio.Event().wait()
            if request.filter == "flood":
                while True:
                    yield admin_pb2.WatchResponse(resume_token="x" * 10_000)
            for number in range(3):
                yield admin_pb2.WatchResponse(resume_token=f"t{number}", revision=number)
            if request.filter == "fails":
                raise FailedPrecondition("broke half-way")
            yield admin_pb2.WatchResponse(is_hard_reset=True).SerializeToString()
        finally:
            self.closed.set()

    async def sign_in(self, request: Any, call: Any) -> Any:
        self.seen(request, call)
        return access_pb2.CreateTokenResponse(value=request.code)

    async def nested(self, request: Any, call: Any) -> Any:
        """Deeper than JSON writers go."""
        message = any_pb2.Any()
        for _ in range(10):
            inner = AllTypes(any=message)
            for _ in range(80):
                inner = AllTypes(child=inner)
            message.Pack(inner)
        return admin_pb2.Object(name="deep", body=message)


def methods(handlers: Handlers) -> tuple[list[Method], list[Method], list[Method]]:
    """The experiment API, the internal one, and one of pods' kind."""

    def of(service: Any, name: str, handler: Any, permission: str = "read") -> Method:
        found = service.methods_by_name[name]
        return Method(
            service=service.full_name,
            name=name,
            request=GetMessageClass(found.input_type),
            response=GetMessageClass(found.output_type),
            handler=handler,
            permission=permission,
            rules=http_rules(found),
            server_streaming=found.server_streaming,
        )

    experiments = [
        of(SERVICE, "CreateExperiment", handlers.create, "write"),
        of(SERVICE, "GetExperiment", handlers.get),
        of(SERVICE, "ListExperiment", handlers.list),
        of(SERVICE, "DeleteExperiment", handlers.delete, "write"),
        of(SERVICE, "ArchiveExperiment", handlers.archive, "write"),
        of(SERVICE, "GetExperimentV1", handlers.get),
    ]
    access = access_pb2.DESCRIPTOR.services_by_name["AccessService"]
    internal = [
        of(ADMIN, "Watch", handlers.watch),
        of(ADMIN, "Get", handlers.nested),
        of(access, "RedeemSignInCode", handlers.sign_in, PUBLIC),
    ]
    export = of(ADMIN, "Watch", handlers.watch)
    rules = (HttpRule("GET", "/v1/export/pods"),)
    pods = [
        Method(
            service="v1.PodService",
            name="ExportPods",
            request=export.request,
            response=export.response,
            handler=handlers.watch,
            permission="read",
            rules=rules,
            server_streaming=True,
        )
    ]
    return experiments, internal, pods


def runtime_error(status: Status) -> dict[str, Any]:
    return {"error": status.message, "code": status.number, "message": status.message, "details": []}


def stream_error(status: Status) -> dict[str, Any]:
    return {"grpcCode": status.number, "httpCode": rest_errors.http_status(status), "message": status.message}


PODS = Style(
    emit_defaults=True,
    error=runtime_error,
    stream_error=stream_error,
    unknown_query="ignore",
    wrong_method=501,
    pretty=True,
    gzip_streams=True,
    open_stream_after=None,
)


@dataclass
class Server:
    handlers: Handlers
    client: aiohttp.ClientSession
    port: int

    async def get(self, path: str, **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        return await self.call("GET", path, **more)

    async def call(self, verb: str, path: str, **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        headers = {**TOKEN, **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.client.request(verb, url, headers=headers, **more) as response:
            data = await response.read()
            return response.status, orjson.loads(data) if data else None, response.headers

    async def raw(self, data: bytes) -> bytes:
        """Everything that the server answers to these bytes until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(DEADLINE):
                    return await reader.read()
            return b""
        finally:
            writer.close()


def pipeline() -> Pipeline:
    return Pipeline(Tokens(), RpcMetrics(CollectorRegistry()))


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    handlers = Handlers()
    experiments, internal, pods = methods(handlers)
    gateway = Gateway(pipeline(), [(experiments, STYLE), (internal, GOOGLE), (pods, PODS)])
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **SERVER_OPTIONS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"])
        async with session as client:
            yield Server(handlers, client, runner.addresses[0][1])
    finally:
        await runner.cleanup()
