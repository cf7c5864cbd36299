"""A pods service over real sockets, as its tests see it: feeds, exports, lines, failures."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
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
from mongomock_motor import AsyncMongoMockClient

from services.pods.kinds import POD
from services.pods.service import SERVICE
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.api.v1.pod_service_pb2_grpc import PodServiceStub
from shared.pb.api.v1.search_service_pb2 import RawQuery
from shared.pb.roundhouse.admin.v1.access_pb2 import PutUserRequest, User
from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as feed
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2_grpc import PodFeedServiceStub
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.client import Failure, failure_of
from shared.service.config import Config
from shared.service.service import Service
from shared.service.testing import TestService, started
from shared.storage.mongo import MongoStore
from shared.storage.port import Query
from tests.mongo_server import drop_database, new_database, server_url
from tests.patience import PATIENCE

WIRE = pytest.param("wire", marks=pytest.mark.mongo_server)
BACKENDS = ("memory", "sqlite", "mongomock", WIRE)
EXPORT = "/v1/export/pods"
CLUSTER = "c1050000-0000-4000-8000-000000000001"
OTHER = "c1050000-0000-4000-8000-000000000002"


def id_of(number: int, block: int = 0xA) -> str:
    return str(uuid.UUID(int=block << 96 | number, version=4))


def deployment_id(number: int) -> str:
    return id_of(number, 0xD)


def pod(number: int, **fields: Any) -> Pod:
    """A pod with a live instance, in one of five deployments and of three namespaces."""
    found = {
        "id": id_of(number),
        "name": f"web-{number}",
        "namespace": ("prod", "dev", "Test")[number % 3],
        "deployment_id": deployment_id(number % 5),
        "cluster_id": CLUSTER,
        "started": {"seconds": 1_700_000_000 + number},
        "live_instances": [
            {
                "container_name": "app",
                "instance_id": {"id": f"run-{number}", "node": f"node-{number % 4}"},
                "image_digest": f"sha256:{number % 7:04x}",
            }
        ],
        **fields,
    }
    return Pod(**{key: value for key, value in found.items() if value is not None})


def by_id(pods: Iterable[Pod]) -> dict[str, Pod]:
    """Raises AssertionError when one is there twice."""
    found: dict[str, Pod] = {}
    for one in pods:
        assert one.id not in found
        found[one.id] = one
    return found


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came."""

    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        assert not self.body or self.body.endswith(b"\n")
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def pods(self) -> list[Any]:
        """Of an export that succeeded."""
        assert self.status == 200, self.body[:500]
        assert all(list(line) == ["result"] and list(line["result"]) == ["pod"] for line in self.lines)
        return [line["result"]["pod"] for line in self.lines]

    def is_error(self, status: int, code: int, *words: str) -> None:
        """A RuntimeError that says `words`."""
        assert (self.status, self.json.get("code")) == (status, code), self.body
        assert set(self.json) == {"error", "code", "message", "details"}
        assert self.json["error"] == self.json["message"] != ""
        assert self.headers["Content-Type"].startswith("application/json")
        for word in words:
            assert word in self.json["message"], self.json


class Yard:
    """A running service and ways to call it. `who` is a role, "" for no token, or a token."""

    def __init__(self, service: TestService, http: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.http = http
        self.channel = channel
        self.stub = PodServiceStub(channel)
        self.feeds = PodFeedServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.access = AccessServiceStub(channel)

    @property
    def store(self) -> Any:
        return self.service.running.environment.store

    def metadata(self, who: str = "admin") -> tuple[tuple[str, str], ...]:
        token = self.service.tokens.get(who, who)
        return (("authorization", f"Bearer {token}"),) if token else ()

    # -- feeding

    async def push(self, *events: feed.PodEvent, who: str = "admin") -> feed.PushResult:
        """The last answer."""
        results = [r async for r in self.feeds.Push(iter(events), metadata=self.metadata(who))]
        return results[-1]

    async def upsert(self, *pods: Pod, source: str = "") -> feed.PushResult:
        return await self.push(*(feed.PodEvent(pod=one, source=source) for one in pods))

    async def sync(self, *pods: Pod, source: str = "k8s", cluster: str = CLUSTER) -> feed.SyncResult:
        start = feed.SyncItem(start=feed.SyncStart(cluster_id=cluster, source=source))
        items = iter([start, *(feed.SyncItem(pod=one) for one in pods)])
        return await self.feeds.Sync(items, metadata=self.metadata())

    async def inventory(self, *rows: Cluster | Deployment) -> feed.PutResult:
        items = [
            feed.InventoryItem(cluster=row)
            if isinstance(row, Cluster)
            else feed.InventoryItem(deployment=row)
            for row in rows
        ]
        return await self.feeds.PutInventory(iter(items), metadata=self.metadata())

    async def stored(self) -> dict[str, StoredPod]:
        return {r.name: StoredPod.FromString(r.body) async for r in self.store.scan(Query(POD))}

    # -- reading

    async def export(self, query: str = "", timeout: int = 0, who: str = "admin") -> list[Pod]:
        request = ExportPodRequest(query=query, timeout=timeout)
        return [r.pod async for r in self.stub.ExportPods(request, metadata=self.metadata(who))]

    async def names(self, query: str = "", who: str = "admin") -> set[str]:
        return {one.name for one in await self.export(query, who=who)}

    async def get_pods(self, query: str = "", who: str = "admin", **pagination: Any) -> list[Pod]:
        request = RawQuery(query=query, pagination=pagination or None)
        return list((await self.stub.GetPods(request, metadata=self.metadata(who), timeout=PATIENCE)).pods)

    async def fails(self, call: Any) -> Failure:
        """Why a call, or a stream that is read to its end, fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(PATIENCE):
                if hasattr(call, "__aiter__"):
                    async for _ in call:
                        pass
                else:
                    await call
        return failure_of(caught.value)

    async def rest(
        self,
        verb: str,
        target: str,
        data: Any = None,
        *,
        who: str = "admin",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`target` goes out as it stands."""
        token = self.service.tokens.get(who, who)
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        url = yarl.URL(self.service.url + target, encoded=True)
        async with self.http.request(verb, url, data=data, headers={**sent, **(headers or {})}) as got:
            return Answer(got.status, await got.read(), got.headers)

    async def lines(self, query: str = "", *, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """The export over HTTP."""
        given = {"query": query, **more} if query else more
        return await self.rest("GET", f"{EXPORT}?{urlencode(given, quote_via=quote)}", headers=headers)

    async def put_user(self, subject: str, role: str, *namespaces: str) -> None:
        user = User(subject=subject, role=role, namespaces=namespaces)
        await self.access.PutUser(PutUserRequest(user=user), metadata=self.metadata())


@asynccontextmanager
async def opened(
    data: Path, backend: str = "memory", *, service: Service = SERVICE, **settings: Any
) -> AsyncIterator[Yard]:
    """The service on a fresh store of `backend`."""
    store: Any = settings.pop("store", backend)
    database = ""
    if backend == "mongomock":
        store = _mongo(AsyncMongoMockClient(), "pods")
    elif backend == "wire":
        database = new_database()
        store = _mongo(await asyncio.to_thread(server_url), database)
    try:
        async with (
            started(service, data, store=store, **settings) as found,
            aiohttp.ClientSession() as http,
            # Windows that grow as they are used would let a stream be whole before anybody read of it.
            grpc.aio.insecure_channel(found.target, options=[("grpc.http2.bdp_probe", 0)]) as channel,
        ):
            yield Yard(found, http, channel)
    finally:
        if database:
            await asyncio.to_thread(drop_database, server_url(), database)


def _mongo(client: Any, database: str) -> MongoStore:
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "")
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    return MongoStore(client, database, kinds)


def event(action: Any, one: Pod, source: str = "") -> feed.PodEvent:
    return feed.PodEvent(action=action, pod=one, source=source)


def serialized(messages: Sequence[Message]) -> list[bytes]:
    return sorted(message.SerializeToString(deterministic=True) for message in messages)
