"""A meta service over real sockets, as its tests see it: stubs by kind, watches, REST, failures."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import grpc
import grpc.aio
import pytest
import yarl
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from mongomock_motor import AsyncMongoMockClient

from services.meta.service import SERVICE
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    region_service_pb2,
    region_service_pb2_grpc,
    resource_service_pb2,
    resource_service_pb2_grpc,
    service_service_pb2,
    service_service_pb2_grpc,
)
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc.client import Failure, failure_of
from shared.service.config import Config
from shared.service.service import Service
from shared.service.testing import TestService, started
from shared.storage.mongo import MongoStore
from shared.storage.port import Kind
from tests.mongo_server import drop_database, new_database, server_url
from tests.patience import PATIENCE

WIRE = pytest.param("wire", marks=pytest.mark.mongo_server)
BACKENDS = ("memory", "sqlite", "mongomock", WIRE)
LASTING = BACKENDS[1:]
BASE = "/v1alpha2"
MEGABYTES = (("grpc.max_receive_message_length", 64 << 20),)


@dataclass(frozen=True)
class Api:
    """The five methods of one type. `many` is the collection."""

    title: str
    kind: str
    many: str
    module: Any
    stub: Any

    def method(self, verb: str) -> str:
        """verb: Get, BatchGet, List, Watch or WatchMany."""
        if verb in ("Get", "Watch"):
            return f"{verb}{self.title}"
        return f"{verb.removesuffix('Many')}{self.title}s"

    def request(self, verb: str, fields: dict[str, Any]) -> Message:
        mask = fields.pop("field_mask", None)
        if mask is not None:
            fields["field_mask"] = mask if isinstance(mask, FieldMask) else FieldMask(paths=mask)
        return getattr(self.module, f"{self.method(verb)}Request")(**fields)


APIS = {
    "region": Api(
        "Region", "region", "regions", region_service_pb2, region_service_pb2_grpc.RegionServiceStub
    ),
    "deployment": Api(
        "Deployment",
        "deployment",
        "deployments",
        deployment_service_pb2,
        deployment_service_pb2_grpc.DeploymentServiceStub,
    ),
    "service": Api(
        "Service", "service", "services", service_service_pb2, service_service_pb2_grpc.ServiceServiceStub
    ),
    "resource": Api(
        "Resource",
        "resource",
        "resources",
        resource_service_pb2,
        resource_service_pb2_grpc.ResourceServiceStub,
    ),
}


class Clock:
    """Nanoseconds since 1970 that move when a test says so. Starts now: tokens are checked against
    it as well."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000_000)


class Stream:
    """A watch that is read message by message. Every message is looked at for what all must hold."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        self.call = call

    async def message(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            found = await self.call.read()
        assert found is not grpc.aio.EOF, "a healthy stream never ends with OK"
        return found

    async def change_set(self) -> list[Any]:
        """Messages up to one with is_current."""
        found = [await self.message()]
        while not found[-1].is_current:
            found.append(await self.message())
        return found

    async def changes(self) -> list[Any]:
        """Of the next change set."""
        return [change for message in await self.change_set() for change in changes_of(message)]

    async def failure(self) -> Failure:
        """Why it ends, at once."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.message()
        return failure_of(caught.value)

    def cancel(self) -> None:
        self.call.cancel()


def changes_of(message: Any) -> list[Any]:
    """The changes of a WatchXsResponse, whatever X."""
    field = next(field for field in message.DESCRIPTOR.fields if field.name.endswith("_changes"))
    return list(getattr(message, field.name))


def told(change: Any) -> tuple[str, str]:
    """(which change, name of the resource)."""
    kind = change.WhichOneof("change_type")
    part = getattr(change, kind)
    return kind, part.name if kind == "removed" else resource_of(part).name


def resource_of(part: Any) -> Any:
    """The resource in Added, Modified or Current."""
    field = next(f for f in part.DESCRIPTOR.fields if f.message_type and f.name in APIS)
    return getattr(part, field.name)


class Yard:
    """A running service and ways to call it. `who` is a role, "" for no token, or a token."""

    def __init__(self, service: TestService, http: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.http = http
        self.channel = channel
        self.stubs = {kind: api.stub(channel) for kind, api in APIS.items()}
        self.admin = AdminServiceStub(channel)

    @property
    def store(self) -> Any:
        return self.service.running.environment.store

    def metadata(self, who: str = "viewer") -> tuple[tuple[str, str], ...]:
        token = self.service.tokens.get(who, who)
        return (("authorization", f"Bearer {token}"),) if token else ()

    # -- the API

    async def call(self, kind: str, verb: str, who: str = "viewer", **fields: Any) -> Any:
        api = APIS[kind]
        method = getattr(self.stubs[kind], api.method(verb))
        return await method(api.request(verb, fields), metadata=self.metadata(who), timeout=PATIENCE)

    async def get(self, kind: str, name: str, **fields: Any) -> Any:
        return await self.call(kind, "Get", name=name, **fields)

    async def list(self, kind: str, **fields: Any) -> Any:
        return await self.call(kind, "List", **fields)

    async def rows(self, kind: str, **fields: Any) -> list[Any]:
        return rows_of(await self.list(kind, **fields))

    async def names(self, kind: str, **fields: Any) -> list[str]:
        return [row.name for row in await self.rows(kind, **fields)]

    async def fails(
        self, kind: str, verb: str, code: grpc.StatusCode, field: str = "", who: str = "viewer", **fields: Any
    ) -> Failure:
        """How the call fails: with `code`, naming `field` when there is one."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if verb.startswith("Watch"):
                async with asyncio.timeout(PATIENCE):
                    await self._watch(kind, verb, who, fields).read()
            else:
                await self.call(kind, verb, who, **fields)
        failure = failure_of(caught.value)
        assert failure.code is code, failure
        if field:
            assert field in {violation.field for violation in failure.violations}, failure
        return failure

    async def refused(self, kind: str, verb: str, field: str, **fields: Any) -> Failure:
        """INVALID_ARGUMENT naming `field`."""
        return await self.fails(kind, verb, grpc.StatusCode.INVALID_ARGUMENT, field, **fields)

    def _watch(self, kind: str, verb: str, who: str, fields: dict[str, Any]) -> Any:
        api = APIS[kind]
        return getattr(self.stubs[kind], api.method(verb))(
            api.request(verb, fields), metadata=self.metadata(who)
        )

    @asynccontextmanager
    async def watch(self, kind: str, who: str = "viewer", **fields: Any) -> AsyncIterator[Stream]:
        """A watch of the collection; STATEFUL unless `type` says otherwise."""
        stream = Stream(self._watch(kind, "WatchMany", who, fields))
        try:
            yield stream
        finally:
            stream.cancel()

    @asynccontextmanager
    async def watch_one(
        self, kind: str, name: str, who: str = "viewer", **fields: Any
    ) -> AsyncIterator[Stream]:
        stream = Stream(self._watch(kind, "Watch", who, {"name": name, **fields}))
        try:
            yield stream
        finally:
            stream.cancel()

    # -- the catalogue

    async def apply(
        self, *, prune: bool = False, dry_run: bool = False, **lists: list[dict[str, Any]]
    ) -> admin_pb2.ApplyResponse:
        request = admin_pb2.ApplyRequest(manifest=json.dumps(lists), prune=prune, dry_run=dry_run)
        return await self.admin.Apply(request, metadata=self.metadata("operator"), timeout=PATIENCE)

    async def apply_fails(self, *, prune: bool = False, dry_run: bool = False, **lists: Any) -> Failure:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.apply(prune=prune, dry_run=dry_run, **lists)
        return failure_of(caught.value)

    async def delete(self, kind: str, name: str) -> int:
        request = admin_pb2.DeleteRequest(kind=kind, name=name)
        found = await self.admin.Delete(request, metadata=self.metadata("operator"), timeout=PATIENCE)
        return found.revision

    # -- REST

    async def rest(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        who: str = "viewer",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> tuple[int, Any]:
        """Status and JSON. `path` goes out as it stands; `query` is encoded behind it."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**dict(self.metadata(who)), **(headers or {})}
        async with self.http.request(verb, self.url(path, **query), data=data, headers=sent) as got:
            text = await got.read()
            assert got.headers["Content-Type"].startswith("application/json")
            return got.status, json.loads(text)

    def url(self, path: str, **query: Any) -> yarl.URL:
        asked = "?" + urlencode(query, doseq=True, quote_via=quote) if query else ""
        return yarl.URL(self.service.url + path + asked, encoded=True)


def rows_of(response: Any) -> list[Any]:
    """The resources of a ListXsResponse or BatchGetXsResponse."""
    field = next(f for f in response.DESCRIPTOR.fields if f.is_repeated and f.message_type)
    return list(getattr(response, field.name))


@asynccontextmanager
async def lasting(
    backend: str, clock: Callable[[], int] = time.time_ns
) -> AsyncIterator[Callable[[], str | MongoStore]]:
    """What makes the `store` of services that are opened one after the other over the same data."""
    if backend == "mongomock":
        client = AsyncMongoMockClient()
        yield lambda: mongo(client, "meta", clock)
    elif backend == "wire":
        url, database = await asyncio.to_thread(server_url), new_database()
        try:
            yield lambda: mongo(url, database, clock)
        finally:
            await asyncio.to_thread(drop_database, url, database)
    else:
        yield lambda: backend


@asynccontextmanager
async def opened(
    data: Path, backend: str = "memory", *, service: Service = SERVICE, **settings: Any
) -> AsyncIterator[Yard]:
    """The service on `backend`, empty. `store` may be a Store that is taken instead."""
    async with lasting(backend, settings.get("clock", time.time_ns)) as store:
        settings = {"store": store(), "watch_heartbeat": "0s", **settings}
        async with (
            started(service, data, **settings) as running,
            aiohttp.ClientSession() as http,
            grpc.aio.insecure_channel(running.target, options=MEGABYTES) as channel,
        ):
            yield Yard(running, http, channel)


def kinds(clock: Callable[[], int] = time.time_ns) -> list[Kind]:
    """What a store of this service keeps."""
    definitions = SERVICE.definitions(Config.load({}), clock, lambda: str(uuid.uuid4()))
    return [*(definition.storage() for definition in definitions), *SERVICE.kinds]


def mongo(client: Any, database: str, clock: Callable[[], int] = time.time_ns) -> MongoStore:
    return MongoStore(client, database, kinds(clock), clock=clock)


def numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Regions regions/r000, regions/r001, ..."""
    return [{"name": f"regions/r{n:03}", **fields} for n in itertools.islice(itertools.count(), count)]
