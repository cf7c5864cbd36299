"""A jumpstarter service over real sockets, as its tests see it: clients, exporters, leases, REST.

One service serves many tests: each takes a namespace of its own (`Yard.lab()`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import grpc
import grpc.aio
import pytest
import yarl
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from mongomock_motor import AsyncMongoMockClient

from services.jumpstarter.api.tokens import CLIENT, COLLECTIONS, EXPORTER, ROLES, Subject
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.rpc.client import Failure, failure_of
from shared.service.config import Config
from shared.service.testing import TestService, started
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Kind, Put
from tests.mongo_server import drop_database, new_database, server_url
from tests.patience import PATIENCE

WIRE = pytest.param("wire", marks=pytest.mark.mongo_server)
BACKENDS = ("memory", "sqlite", "mongomock", WIRE)
HOUR = 3600
_BY = Author("test", "test:lab:arrange")


class Clock:
    """Nanoseconds since 1970 that move when a test says so. Starts now: tokens are checked against
    it as well."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now


@dataclass(frozen=True)
class Caller:
    """A client or an exporter, and the token that proves it."""

    kind: str
    namespace: str
    id: str
    token: str

    @property
    def name(self) -> str:
        return COLLECTIONS[self.kind].name(self.namespace, self.id)

    @property
    def metadata(self) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.token}",
            "jumpstarter-kind": self.kind,
            "jumpstarter-namespace": self.namespace,
            "jumpstarter-name": self.id,
        }


@dataclass(frozen=True)
class Answer:
    """Of REST: the status and the JSON."""

    status: int
    body: Any
    headers: Any = field(repr=False)

    @property
    def ok(self) -> Any:
        assert self.status == 200, self.body
        return self.body

    def is_error(self, status: int, code: grpc.StatusCode, *words: str) -> None:
        """In the form of Google's APIs, saying `words`."""
        assert (self.status, self.body["code"]) == (status, code.value[0]), self.body
        assert [word for word in words if word not in self.body["message"]] == [], self.body


class Yard:
    """A running service and ways to call it."""

    def __init__(
        self, service: TestService, http: aiohttp.ClientSession, channel: grpc.aio.Channel, clock: Clock
    ) -> None:
        self.service = service
        self.http = http
        self.channel = channel
        self.clock = clock
        self.stub = ClientServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self._numbers = itertools.count(1)

    @property
    def store(self) -> Any:
        return self.service.running.environment.store

    async def lab(self, **labels: str) -> Lab:
        """A namespace that nobody used before, with the client `alice`, who has these labels."""
        lab = Lab(self, f"lab-{next(self._numbers)}")
        lab.alice = await lab.client("alice", **labels)
        return lab

    def staff(self, role: str, **headers: str) -> dict[str, str]:
        """The metadata of a person: viewer, operator or admin."""
        named = {f"jumpstarter-{key}": value for key, value in headers.items()}
        return {"authorization": f"Bearer {self.service.tokens[role]}", **named}

    async def apply(self, **lists: list[dict[str, Any]]) -> int:
        """A manifest; answers the revision."""
        request = admin_pb2.ApplyRequest(manifest=json.dumps(lists))
        metadata = tuple(self.staff("admin").items())
        return (await self.admin.Apply(request, metadata=metadata, timeout=PATIENCE)).revision

    async def call(self, method: str, request: Message, metadata: dict[str, str]) -> Any:
        """Of ClientService."""
        return await getattr(self.stub, method)(request, metadata=tuple(metadata.items()), timeout=PATIENCE)

    async def fails(
        self, code: grpc.StatusCode, method: str, request: Message, metadata: dict[str, str], *said: str
    ) -> Failure:
        """How the call fails: with `code`, naming or saying each of `said`."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, metadata)
        failure = failure_of(caught.value)
        assert failure.code is code, failure
        fields = {violation.field for violation in failure.violations}
        assert [text for text in said if text not in fields and text not in failure.message] == [], failure
        return failure

    async def rest(
        self, verb: str, path: str, body: Any = None, *, who: dict[str, str], **query: Any
    ) -> Answer:
        """`path` goes out as it stands, `query` is encoded behind it."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = "?" + urlencode(query, doseq=True, quote_via=quote) if query else ""
        url = yarl.URL(self.service.url + path + asked, encoded=True)
        async with self.http.request(verb, url, data=data, headers=who) as got:
            text = await got.read()
            assert got.headers["Content-Type"].startswith("application/json")
            return Answer(got.status, json.loads(text), got.headers)

    async def advance(self, seconds: float) -> None:
        """Set the clock forward, and have the controller look at it: a commit wakes it."""
        self.clock.now += int(seconds * 1_000_000_000)
        await self.store.commit([Put("claim", "tick", str(self.clock.now).encode())], by=_BY)


@dataclass
class Lab:
    """One namespace."""

    yard: Yard
    namespace: str
    alice: Caller = field(init=False)

    @property
    def parent(self) -> str:
        return f"namespaces/{self.namespace}"

    # -- who and what is there

    async def client(self, id: str, **labels: str) -> Caller:
        name = f"{self.parent}/clients/{id}"
        await self.yard.apply(clients=[{"name": name, "labels": labels}])
        return await self._caller(CLIENT, id, lab_pb2.Client)

    async def exporter(
        self, id: str, *, enabled: bool = True, free: bool = True, **labels: str
    ) -> lab_pb2.Exporter:
        """Labels may be written `example_com__zone` for `example.com/zone`. `free`: registered, online
        and available; otherwise never seen."""
        await self.exporters([id], enabled=enabled, **labels)
        return await self.state(id) if free else await self.stored(id)

    async def exporters(self, ids: Iterable[str], *, enabled: bool = True, **labels: str) -> None:
        """Never seen ones, at once."""
        found = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
        items = [{"name": f"{self.parent}/exporters/{id}", "labels": found, "enabled": enabled} for id in ids]
        await self.yard.apply(exporters=items)

    async def exporter_caller(self, id: str) -> Caller:
        """A stored exporter as a caller."""
        return await self._caller(EXPORTER, id, lab_pb2.Exporter)

    async def state(
        self, id: str, status: common.ExporterStatus = common.EXPORTER_STATUS_AVAILABLE, message: str = ""
    ) -> lab_pb2.Exporter:
        """As if the exporter had registered and reported `status`."""

        def change(exporter: lab_pb2.Exporter) -> None:
            exporter.registered = True
            exporter.online = status != common.EXPORTER_STATUS_OFFLINE
            exporter.status, exporter.status_message = status, message
            exporter.last_seen.FromNanoseconds(self.yard.clock())

        return await self._store_exporter(id, change)

    async def enable(self, id: str, enabled: bool) -> None:
        def change(exporter: lab_pb2.Exporter) -> None:
            exporter.enabled = enabled

        await self._store_exporter(id, change)

    async def policy(self, id: str, *rules: dict[str, Any], **labels: str) -> None:
        """For the exporters with these labels."""
        name = f"{self.parent}/accessPolicies/{id}"
        selector = {"match_labels": labels}
        await self.yard.apply(
            access_policies=[{"name": name, "exporter_selector": selector, "policies": rules}]
        )

    async def stored(self, id: str) -> lab_pb2.Exporter:
        record = await self.yard.store.get("exporter", f"{self.parent}/exporters/{id}")
        return lab_pb2.Exporter.FromString(record.body)

    async def stored_lease(self, id: str) -> lab_pb2.Lease:
        record = await self.yard.store.get("lease", self.lease_name(id))
        return lab_pb2.Lease.FromString(record.body)

    async def _store_exporter(self, id: str, change: Callable[[lab_pb2.Exporter], None]) -> lab_pb2.Exporter:
        store, name = self.yard.store, f"{self.parent}/exporters/{id}"
        record = await store.get("exporter", name)
        found = lab_pb2.Exporter.FromString(record.body)
        change(found)
        body = found.SerializeToString(deterministic=True)
        await store.commit([Put("exporter", name, body, self.parent, record.revision)], by=_BY)
        return found

    async def _caller(self, kind: str, id: str, message: Any) -> Caller:
        record = await self.yard.store.get(kind.lower(), COLLECTIONS[kind].name(self.namespace, id))
        subject = Subject.of(message.FromString(record.body))
        access = self.yard.service.running.environment.access
        token, _ = await access.issue(str(subject), ROLES[kind], timedelta(hours=1), creator="test", by=_BY)
        return Caller(kind, self.namespace, id, token)

    # -- leases

    def lease_name(self, id: str) -> str:
        return f"{self.parent}/leases/{id}"

    async def create(
        self, selector: str = "", *, id: str = "", who: Caller | None = None, **fields: Any
    ) -> pb.Lease:
        """For an hour unless `fields` say otherwise; see `lease`."""
        request = self.creation(selector, id=id, **fields)
        return await self.yard.call("CreateLease", request, (who or self.alice).metadata)

    def creation(self, selector: str = "", *, id: str = "", **fields: Any) -> pb.CreateLeaseRequest:
        wanted = lease(**({"selector": selector, "duration": HOUR} | fields))
        return pb.CreateLeaseRequest(parent=self.parent, lease_id=id, lease=wanted)

    def changed(self, id: str, *mask: str, **fields: Any) -> pb.UpdateLeaseRequest:
        found = pb.UpdateLeaseRequest(lease=lease(name=self.lease_name(id), **fields))
        found.update_mask.paths.extend(mask)
        return found

    async def update(self, id: str, *mask: str, who: Caller | None = None, **fields: Any) -> pb.Lease:
        request = self.changed(id, *mask, **fields)
        return await self.yard.call("UpdateLease", request, (who or self.alice).metadata)

    async def delete(self, id: str, who: Caller | None = None) -> None:
        request = pb.DeleteLeaseRequest(name=self.lease_name(id))
        await self.yard.call("DeleteLease", request, (who or self.alice).metadata)

    async def get(self, id: str, who: Caller | None = None) -> pb.Lease:
        request = pb.GetLeaseRequest(name=self.lease_name(id))
        return await self.yard.call("GetLease", request, (who or self.alice).metadata)

    async def leases(self, who: Caller | None = None, **fields: Any) -> list[str]:
        """The ids that ListLeases answers."""
        request = pb.ListLeasesRequest(parent=self.parent, **fields)
        found = await self.yard.call("ListLeases", request, (who or self.alice).metadata)
        return [one.name.rpartition("/")[2] for one in found.leases]

    async def boards(self, filter: str = "", **fields: Any) -> list[str]:
        """The ids that ListExporters answers."""
        request = pb.ListExportersRequest(parent=self.parent, filter=filter, **fields)
        found = await self.yard.call("ListExporters", request, self.alice.metadata)
        return [one.name.rpartition("/")[2] for one in found.exporters]

    async def fails(
        self, code: grpc.StatusCode, method: str, request: Message, *said: str, who: Caller | None = None
    ) -> Failure:
        return await self.yard.fails(code, method, request, (who or self.alice).metadata, *said)

    async def until_ended(self, id: str) -> pb.Lease:
        """The lease, once the controller has seen to it."""
        return await until(lambda: self.get(id), ended)


def lease(**fields: Any) -> pb.Lease:
    """Durations in seconds, times in nanoseconds since 1970."""
    found = pb.Lease()
    for field_ in ("begin_time", "end_time"):
        if field_ in fields:
            getattr(found, field_).CopyFrom(time_at(fields.pop(field_)))
    if "duration" in fields:
        seconds = fields.pop("duration")
        if seconds is not None:
            found.duration.CopyFrom(span(seconds))
    found.MergeFrom(pb.Lease(**fields))
    return found


def span(seconds: float) -> Duration:
    found = Duration()
    found.FromNanoseconds(int(seconds * 1_000_000_000))
    return found


def time_at(nanoseconds: int) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(nanoseconds)
    return found


def conditions(found: pb.Lease) -> list[str]:
    """`Ready=True/Ready` and the like, in order."""
    return [f"{one.type}={one.status}/{one.reason}" for one in found.conditions]


# Of a lease that had an exporter at once: Pending=False is for clients that would wait on for ever.
EXPIRED = ["Ready=False/Expired", "Pending=False/Expired"]


def ended(found: pb.Lease) -> bool:
    """As clients see it."""
    finished = {"Ready=False/Released", "Ready=False/Expired"}
    return any(
        text in finished or text.startswith(("Unsatisfiable=True", "Invalid=True"))
        for text in conditions(found)
    )


async def until(read: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
    """What `read` answers once it is `done`."""
    async with asyncio.timeout(PATIENCE):
        while not done(found := await read()):
            await asyncio.sleep(0.01)
    return found


def as_json(message: Message) -> Any:
    return json_format.MessageToDict(message)


@asynccontextmanager
async def opened(data: Path, backend: str = "memory", **settings: Any) -> AsyncIterator[Yard]:
    """The service on `backend`, empty, at the time that its `clock` says."""
    clock = Clock()
    settings = {"store": backend, "clock": clock, **settings}
    database = ""
    if backend == "mongomock":
        settings["store"] = mongo(AsyncMongoMockClient(), "jumpstarter", clock)
    elif backend == "wire":
        url, database = await asyncio.to_thread(server_url), new_database()
        settings["store"] = mongo(url, database, clock)
    try:
        async with (
            started(SERVICE, data, **settings) as running,
            aiohttp.ClientSession() as http,
            grpc.aio.insecure_channel(running.target) as channel,
        ):
            yield Yard(running, http, channel, clock)
    finally:
        if database:
            await asyncio.to_thread(drop_database, url, database)


def kinds(clock: Callable[[], int]) -> list[Kind]:
    """What a store of this service keeps."""
    definitions = SERVICE.definitions(Config.load({}), clock, lambda: "")
    return [*(definition.storage() for definition in definitions), *SERVICE.kinds]


def mongo(client: Any, database: str, clock: Callable[[], int]) -> MongoStore:
    return MongoStore(client, database, kinds(clock), clock=clock)
