"""What consoles ask of pods: counts by what they belong to, and the export's lines over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb
from shared.pb.roundhouse.pods.v1.browse_pb2_grpc import BrowseServiceStub
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from tests.contract.pods_yard import BACKENDS, CLUSTER, OTHER, Yard, deployment_id, id_of, opened, pod

EVERY = [
    pod(1, namespace="prod", deployment_id=deployment_id(1)),
    pod(2, namespace="prod", deployment_id=deployment_id(1)),
    pod(3, namespace="prod", deployment_id=deployment_id(2)),
    pod(4, namespace="dev", deployment_id=None),
    pod(5, namespace="prod", deployment_id=deployment_id(3), cluster_id=OTHER),
]
INVENTORY = (
    Cluster(id=CLUSTER, name="east"),
    Deployment(id=deployment_id(1), name="web", type="Deployment", cluster_id=CLUSTER),
    Deployment(id=deployment_id(2), name="api", type="StatefulSet", labels={"app": "x"}),
)


class Browser:
    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.stub = BrowseServiceStub(yard.channel)

    async def count(
        self, query: str = "", by: int = 0, who: str = "admin", **more: Any
    ) -> pb.CountPodsResponse:
        request = pb.CountPodsRequest(query=query, by=by, **more)
        return await self.stub.CountPods(request, metadata=self.yard.metadata(who), timeout=30)

    async def lines(self, query: str = "", who: str = "admin") -> bytes:
        stream = self.stub.ExportLines(ExportPodRequest(query=query), metadata=self.yard.metadata(who))
        return b"".join([chunk.lines async for chunk in stream])


def told(found: pb.Totals) -> tuple[int, int, int, int]:
    return found.pods, found.clusters, found.namespaces, found.deployments


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with opened(tmp_path, "sqlite") as yard:
        await yard.upsert(*EVERY)
        await yard.inventory(*INVENTORY)
        yield Browser(yard)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_counts_on_every_backend(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend) as yard:
        browser = Browser(yard)
        assert told((await browser.count()).totals) == (0, 0, 0, 0)
        await yard.upsert(*EVERY)
        await yard.inventory(*INVENTORY)
        found = await browser.count(by=pb.CLUSTER)
        assert told(found.totals) == (5, 2, 3, 3)
        assert [(g.cluster, g.cluster_id, told(g.totals)) for g in found.groups] == [
            ("", OTHER, (1, 1, 1, 1)),
            ("east", CLUSTER, (4, 1, 2, 2)),
        ]
        found = await browser.count(by=pb.NAMESPACE)
        assert [(g.namespace, g.cluster, g.totals.pods) for g in found.groups] == [
            ("dev", "east", 1), ("prod", "", 1), ("prod", "east", 3),
        ]  # fmt: skip
        found = await browser.count(by=pb.DEPLOYMENT)
        assert [(g.deployment, g.deployment_type, g.totals.pods) for g in found.groups] == [
            ("", "", 1), ("", "", 1), ("api", "StatefulSet", 1), ("web", "Deployment", 2),
        ]  # fmt: skip
        assert found.total_size == 4


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ('Namespace:"prod"', (4, 2, 2, 3)),
        ("Pod Name:r/web-[12]", (2, 1, 1, 1)),
        (f"Pod ID:{id_of(4)},{id_of(5)}", (2, 2, 2, 1)),
        ("Deployment Label:app=x", (1, 1, 1, 1)),
        (f"Cluster ID:{CLUSTER}+Node:node-1", (1, 1, 1, 1)),
        ("Namespace:none", (0, 0, 0, 0)),
    ],
)
async def test_counts_are_those_of_a_query(browser: Browser, query: str, wanted: tuple[int, ...]) -> None:
    found = await browser.count(query, pb.DEPLOYMENT)
    assert told(found.totals) == wanted
    assert (
        sum(group.totals.pods for group in found.groups) == wanted[0] == len(await browser.yard.export(query))
    )


async def test_counts_follow_what_is_written(browser: Browser) -> None:
    assert (await browser.count()).totals.pods == 5
    await browser.yard.upsert(pod(6))
    counts = await asyncio.gather(*(browser.count() for _ in range(20)))
    assert {found.totals.pods for found in counts} == {6}
    await browser.yard.sync(source="import")
    assert (await browser.count(by=pb.CLUSTER)).totals.pods == 1
    await browser.yard.inventory(Cluster(id=OTHER, name="west"))
    assert [group.cluster for group in (await browser.count(by=pb.CLUSTER)).groups] == ["west"]


async def test_pages_and_orders(browser: Browser) -> None:
    names, token = [], ""
    while True:
        page = await browser.count(by=pb.NAMESPACE, page_size=2, page_token=token, order_by="pods desc")
        assert page.total_size == 3
        names += [(group.namespace, group.totals.pods) for group in page.groups]
        token = page.next_page_token
        if not token:
            break
    assert names == [("prod", 3), ("dev", 1), ("prod", 1)]
    found = await browser.count(by=pb.NAMESPACE, order_by="name desc")
    assert [group.namespace for group in found.groups] == ["prod", "prod", "dev"]


async def test_sources_say_when_they_last_changed_something(browser: Browser) -> None:
    await browser.yard.upsert(pod(7), source="jobs")
    stored = await browser.yard.stored()
    found = await browser.count(by=pb.SOURCE)
    newest = max(one.updated_at for one in stored.values() if one.source == "import")
    assert [(g.source, g.totals.pods, g.changed.ToNanoseconds()) for g in found.groups] == [
        ("import", 5, newest),
        ("jobs", 1, stored[id_of(7)].updated_at),
    ]
    found = await browser.count("Pod Name:web-7+Node:*", pb.SOURCE)
    assert [(group.source, group.totals.pods) for group in found.groups] == [("jobs", 1)]


async def test_a_scope_counts_what_one_may_see(browser: Browser) -> None:
    await browser.yard.put_user("viewer", "viewer", "dev")
    found = await browser.count(by=pb.NAMESPACE, who="viewer")
    assert [group.namespace for group in found.groups] == ["dev"] and told(found.totals) == (1, 1, 1, 0)
    assert [g.source for g in (await browser.count(by=pb.SOURCE, who="viewer")).groups] == ["import"]
    assert (await browser.lines(who="viewer")).count(b"\n") == 1
    await browser.yard.put_user("viewer", "viewer")
    assert (await browser.count(who="viewer")).totals.pods == 0
    assert await browser.lines(who="viewer") == b""


async def test_scopes_share_neither_counts_nor_pages(browser: Browser) -> None:
    await browser.yard.put_user("viewer", "viewer", "dev")
    assert (await browser.count()).totals.pods == 5
    assert (await browser.count(who="viewer")).totals.pods == 1
    assert (await browser.count()).totals.pods == 5
    token = (await browser.count(by=pb.NAMESPACE, page_size=1)).next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await browser.count(by=pb.NAMESPACE, page_size=1, page_token=token, who="viewer")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    # When a source last stored something that one may not see is not told either.
    await browser.yard.upsert(pod(1, name="newer", namespace="prod"))
    (seen,) = (await browser.count(by=pb.SOURCE, who="viewer")).groups
    stored = await browser.yard.stored()
    assert seen.changed.ToNanoseconds() == stored[id_of(4)].updated_at < stored[id_of(1)].updated_at


async def test_the_lines_are_those_of_the_export(browser: Browser) -> None:
    for query in ("", 'Namespace:"prod"', "Pod Name:r/web-[12]"):
        assert await browser.lines(query) == (await browser.yard.lines(query)).body
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await browser.lines("Pod ID:x")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_admin_api_sorts_by_name_without_case_in_pages(browser: Browser) -> None:
    await browser.yard.upsert(pod(20, name="Web-3a"), pod(21, name="ABC"))
    for order, wanted in (
        ("name", ["ABC", "web-1", "web-2", "web-3", "Web-3a", "web-4", "web-5"]),
        ("name desc", ["web-5", "web-4", "Web-3a", "web-3", "web-2", "web-1", "ABC"]),
    ):
        names, token = [], ""
        while True:
            request = admin_pb2.ListRequest(kind="pod", order_by=order, page_size=3, page_token=token)
            page = await browser.yard.admin.List(request, metadata=browser.yard.metadata())
            names += [StoredPod.FromString(one.body.value).pod.name for one in page.objects]
            token = page.next_page_token
            if not token:
                break
        assert names == wanted
