"""A pipelines service over real sockets, as its tests see it: REST answers, stubs, failures."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
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
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2
from mongomock_motor import AsyncMongoMockClient

from services.pipelines.service import SERVICE
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import experiment_pb2_grpc as v1_grpc
from shared.pb.backend.api.v1beta1.error_pb2 import Error
from shared.pb.backend.api.v2beta1 import experiment_pb2_grpc as v2_grpc
from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.service.config import Config
from shared.service.testing import TestService, started
from shared.storage.mongo import MongoStore
from tests.patience import PATIENCE

BACKENDS = ("memory", "sqlite", "mongomock")
V1 = "/apis/v1beta1/experiments"
V2 = "/apis/v2beta1/experiments"


class Clock:
    """Nanoseconds since 1970 that move when a test says so. Starts now: tokens are checked against
    it as well."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000_000)

    @property
    def seconds(self) -> int:
        return self.now // 1_000_000_000


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `body` is its JSON."""

    status: int
    body: Any
    headers: Any

    def is_error(self, status: int, code: int, *words: str) -> Answer:
        """The error body that readers of both generations understand, saying `words`."""
        assert (self.status, self.body.get("code")) == (status, code), self.body
        assert set(self.body) == {"error", "code", "message", "details"}
        assert self.body["error"] == self.body["message"] != ""
        (detail,) = self.body["details"]
        assert set(detail) == {"@type", "error_message", "error_details"}
        assert detail["@type"] == "type.googleapis.com/api.Error"
        assert detail["error_details"] == self.body["message"]
        assert detail["error_message"] and detail["error_message"] in self.body["message"]
        assert self.headers["Content-Type"].startswith("application/json")
        for word in words:
            assert word in self.body["message"], self.body["message"]
        return self

    @property
    def ok(self) -> Any:
        """The body of a success."""
        assert self.status == 200, self.body
        assert self.headers["Content-Type"].startswith("application/json")
        return self.body


@dataclass(frozen=True)
class Failure:
    """A gRPC failure with its details unpacked. `short` is api.Error's error_message."""

    code: grpc.StatusCode
    message: str
    short: str
    fields: tuple[str, ...]
    resource: tuple[str, str]
    reason: str
    metadata: dict[str, str]


class Yard:
    """A running service and ways to call it. `who` is a role, "" for no token, or a token."""

    def __init__(self, service: TestService, http: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.http = http
        self.channel = channel
        self.v1 = v1_grpc.ExperimentServiceStub(channel)
        self.v2 = v2_grpc.ExperimentServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.access = AccessServiceStub(channel)

    @property
    def store(self) -> Any:
        return self.service.running.environment.store

    def token(self, who: str) -> str:
        return self.service.tokens.get(who, who)

    def metadata(self, who: str = "operator", **more: str) -> tuple[tuple[str, str], ...]:
        token = self.token(who)
        found = {"authorization": f"Bearer {token}"} if token else {}
        return tuple({**found, **{key.replace("_", "-"): value for key, value in more.items()}}.items())

    async def call(self, method: Any, request: Message, who: str = "operator", **more: str) -> Any:
        return await method(request, metadata=self.metadata(who, **more), timeout=PATIENCE)

    async def fails(
        self, method: Any, request: Message, code: grpc.StatusCode, who: str = "operator", **more: str
    ) -> Failure:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, who, **more)
        failure = unpacked(caught.value)
        assert failure.code is code, failure
        return failure

    async def rest(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        who: str = "operator",
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`path` goes out as it stands. `body` becomes JSON; `data` goes as it is."""
        token = self.token(who)
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        payload = json.dumps(body).encode() if body is not None else data
        url = yarl.URL(self.service.url + path, encoded=True)
        async with self.http.request(verb, url, data=payload, headers={**sent, **(headers or {})}) as got:
            text = await got.read()
            found = json.loads(text) if text else None
            return Answer(got.status, found, got.headers)

    async def list(self, path: str = V1, *, who: str = "operator", **query: Any) -> Any:
        """The body of a list that succeeds; `filter` may be the filter as an object."""
        return (await self.listed(path, who=who, **query)).ok

    async def listed(self, path: str = V1, *, who: str = "operator", **query: Any) -> Answer:
        if isinstance(query.get("filter"), dict):
            query["filter"] = json.dumps(query["filter"])
        return await self.rest("GET", f"{path}?{urlencode(query, quote_via=quote)}", who=who)

    async def names(self, path: str = V1, **query: Any) -> list[str]:
        found = (await self.list(path, **query)).get("experiments", [])
        return [item["name" if path == V1 else "display_name"] for item in found]

    async def create(self, name: str, description: str = "", who: str = "operator") -> v1.Experiment:
        wanted = v1.Experiment(name=name, description=description)
        return await self.call(self.v1.CreateExperiment, v1.CreateExperimentRequest(experiment=wanted), who)


@asynccontextmanager
async def opened(data: Path, backend: str = "memory", **settings: Any) -> AsyncIterator[Yard]:
    """The service on `backend`, without a default experiment unless `settings` say otherwise.

    `store` may be a Store that is taken instead."""
    settings = {"default_experiment": False, "store": backend, **settings}
    if settings["store"] == "mongomock":
        settings["store"] = mongomock(**settings)
    async with (
        started(SERVICE, data, **settings) as service,
        aiohttp.ClientSession() as http,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        yield Yard(service, http, channel)


def mongomock(client: Any = None, **settings: Any) -> MongoStore:
    """A MongoDB store of this service's kinds on mongomock."""
    clock = settings.get("clock", time.time_ns)
    ids = map(str, itertools.count())
    taken = {key: settings[key] for key in ("multi_user",) if key in settings}
    definitions = SERVICE.definitions(Config.load({}, **taken), clock, lambda: next(ids))
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    return MongoStore(client or AsyncMongoMockClient(), "pipelines", kinds, clock=clock)


def unpacked(error: grpc.aio.AioRpcError) -> Failure:
    """A failure whose details stand in the promised order: api.Error, then google.rpc's."""
    trailer = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailer["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    short, fields, resource, info = "", (), ("", ""), details_pb2.ErrorInfo()
    for index, detail in enumerate(status.details):
        if detail.Is(Error.DESCRIPTOR):
            assert index == 0
            said = Error.FromString(detail.value)
            assert said.error_details == error.details()
            short = said.error_message
        elif detail.Is(details_pb2.BadRequest.DESCRIPTOR):
            bad = details_pb2.BadRequest.FromString(detail.value)
            fields = tuple(violation.field for violation in bad.field_violations)
        elif detail.Is(details_pb2.ResourceInfo.DESCRIPTOR):
            about = details_pb2.ResourceInfo.FromString(detail.value)
            resource = (about.resource_type, about.resource_name)
        elif detail.Is(details_pb2.ErrorInfo.DESCRIPTOR):
            info.ParseFromString(detail.value)
    return Failure(
        error.code(), error.details() or "", short, fields, resource, info.reason, dict(info.metadata)
    )


def predicates(*items: dict[str, Any]) -> dict[str, Any]:
    return {"predicates": list(items)}


def where(key: str, operation: str | int, **value: Any) -> dict[str, Any]:
    """A v1beta1 filter of one predicate."""
    return predicates({"op": operation, "key": key, **value})
