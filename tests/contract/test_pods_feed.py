"""How pods get in (pods contract, section 7): Push, Sync, PutInventory and their twins over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.pods.feed import Event, Feed
from services.pods.feed_service import PodFeedService
from services.pods.inventory import Inventory
from services.pods.kinds import POD
from services.pods.stored import body_of
from shared.errors import Aborted
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Commit, Put, Query
from tests.contract.pods_yard import (
    CLUSTER,
    OTHER,
    Yard,
    by_id,
    deployment_id,
    event,
    feed,
    id_of,
    opened,
    pod,
)
from tests.patience import PATIENCE

PODS = "/v1/feed/pods"
INVENTORY = "/v1/feed/inventory"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path) as found:
        yield found


def ended(number: int, container: str = "app") -> dict[str, Any]:
    return {"container_name": container, "instance_id": {"id": f"{number}"}, "finished": {"seconds": number}}


def counts(result: Any) -> tuple[int, int, int, int]:
    return result.stored, result.unchanged, result.removed, result.refused


# -- Push


async def test_actions(yard: Yard) -> None:
    first, second = pod(1), pod(2)
    assert counts(await yard.upsert(first, second)) == (2, 0, 0, 0)
    changed = pod(1, live_instances=[ended(5), {"container_name": "app"}])
    result = await yard.push(
        event(feed.UPSERT, changed),
        event(feed.REPLACE, pod(2, live_instances=[ended(7)], name="new")),
        event(feed.UPSERT, pod(3)),
        event(feed.REMOVE, Pod(id=id_of(3).upper())),
        event(feed.REMOVE, pod(4)),
    )
    assert counts(result) == (3, 0, 1, 0)
    assert result.revision == await yard.store.head() == 2
    found = by_id(await yard.export())
    assert found.keys() == {first.id, second.id}
    one = found[first.id]
    assert [i.container_name for i in one.live_instances] == ["app"]
    assert [i.finished.seconds for i in one.terminated_instances[0].instances] == [5]
    # Verbatim: what has ended stays where it was sent.
    assert found[second.id] == pod(2, live_instances=[ended(7)], name="new")


async def test_a_pod_grows_its_buckets_event_by_event(yard: Yard) -> None:
    runs = [pod(1, live_instances=[ended(number)]) for number in range(1, 14)]
    await yard.upsert(*runs[:7])
    await yard.upsert(*runs[7:])
    (found,) = await yard.export()
    (bucket,) = found.terminated_instances
    assert [i.finished.seconds for i in bucket.instances] == list(range(4, 14))


async def test_the_same_again_writes_nothing(yard: Yard) -> None:
    sent = [pod(number, live_instances=[ended(1), {"container_name": "b"}]) for number in range(3)]
    await yard.upsert(*sent)
    head, before = await yard.store.head(), await yard.stored()
    assert counts(await yard.upsert(*sent, *sent)) == (0, 6, 0, 0)
    assert (await yard.store.head(), await yard.stored()) == (head, before)


async def test_ids_are_kept_in_lower_case(yard: Yard) -> None:
    await yard.upsert(pod(1, id=id_of(1).upper(), cluster_id=CLUSTER.upper(), deployment_id=id_of(9).upper()))
    (found,) = await yard.export(f"Cluster ID:{CLUSTER}")
    assert (found.id, found.deployment_id) == (id_of(1), id_of(9))
    assert list(await yard.stored()) == [id_of(1)]


async def test_who_fed_what_and_when(yard: Yard) -> None:
    await yard.upsert(pod(1), pod(2), source="k8s")
    (first, _) = (await yard.stored()).values()
    assert first.source == "k8s" and first.updated_at > 1_700_000_000 * 10**9
    await yard.sync(pod(1))
    await yard.inventory(Cluster(id=CLUSTER, name="east"))
    await yard.rest("POST", INVENTORY, ndjson({"kind": "cluster", "id": CLUSTER, "name": "west"}))
    entries = [(entry.revision, entry.by.subject, entry.by.action) for entry in await yard.store.audit()]
    assert sorted(entries) == [
        (1, "admin", "grpc:pod:push"),
        (2, "admin", "grpc:pod:sync"),
        (3, "admin", "grpc:inventory:put"),
        (4, "admin", "rest:inventory:put"),
    ]


@pytest.mark.parametrize("action", [feed.UPSERT, feed.REPLACE, feed.REMOVE])
async def test_sources_never_overwrite_each_other(yard: Yard, action: Any) -> None:
    await yard.upsert(pod(1), pod(2), source="k8s")
    before = await yard.stored()
    result = await yard.push(
        event(action, pod(1, name="stolen"), "jobs"),
        event(action, pod(3), "jobs"),
        event(feed.UPSERT, pod(2, name="own"), "k8s"),
    )
    assert result.refused == 1
    assert [(one.id, one.source) for one in result.refusals] == [(id_of(1), "k8s")]
    after = await yard.stored()
    assert after[id_of(1)] == before[id_of(1)]
    assert after[id_of(2)].pod.name == "own"
    assert (id_of(3) in after) == (action != feed.REMOVE)


@pytest.mark.parametrize("batch", [1000, 7])
async def test_the_first_twenty_that_were_refused_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setitem(PodFeedService.__init__.__kwdefaults__, "batch", batch)
    async with opened(tmp_path) as yard:
        await yard.upsert(*(pod(number) for number in range(30)), source="k8s")
        result = await yard.upsert(*(pod(number, name="x") for number in range(30)), source="lab")
        assert counts(result) == (0, 0, 0, 30)
        assert [one.id for one in result.refusals] == [id_of(number) for number in range(20)]
        assert {one.source for one in result.refusals} == {"k8s"}


async def test_what_this_installation_itself_has_stored_can_be_removed_only(yard: Yard) -> None:
    own = "roundhouse/jobs"
    bodies = [body_of(pod(number), own, 1) for number in (1, 2)]
    puts = [Put(POD, id_of(number), body) for number, body in zip((1, 2), bodies, strict=True)]
    await yard.store.commit(puts, by=Author("jobs"))
    for one in (event(feed.UPSERT, pod(1), own), event(feed.REPLACE, pod(3), own)):
        failure = await yard.fails(yard.feeds.Push(iter([one]), metadata=yard.metadata()))
        assert (failure.code, [v.field for v in failure.violations]) == (INVALID, ["events[0].source"])
    assert counts(await yard.push(event(feed.REMOVE, pod(2), "lab"))) == (0, 0, 0, 1)
    assert counts(await yard.push(event(feed.REMOVE, pod(2), own))) == (0, 0, 1, 0)
    assert list(await yard.stored()) == [id_of(1)]


async def test_what_feeds_and_exports_did_is_counted(yard: Yard) -> None:
    await yard.upsert(pod(1), pod(2), pod(3), source="k8s")
    await yard.push(event(feed.UPSERT, pod(1), "k8s"), event(feed.REMOVE, pod(2), "k8s"))
    await yard.upsert(pod(3, name="x"), source="lab")
    await yard.sync(pod(1), source="k8s")
    await yard.export()
    await yard.export("Namespace:none")
    await yard.lines()
    assert await metric(yard, "roundhouse_pods ") == 1
    for rpc, numbers in (("push", (3, 1, 1, 1)), ("sync", (0, 1, 1, 0))):
        for result, number in zip(("stored", "unchanged", "removed", "refused"), numbers, strict=True):
            name = f'roundhouse_pods_fed_total{{result="{result}",rpc="{rpc}"}}'
            assert await metric(yard, name) == number, name
    for transport in ("grpc", "rest"):
        assert await metric(yard, f'roundhouse_pods_exported_total{{transport="{transport}"}}') == 1


async def test_a_removed_pod_is_anybodys(yard: Yard) -> None:
    await yard.upsert(pod(1), source="a")
    result = await yard.push(event(feed.REMOVE, pod(1), "a"), event(feed.UPSERT, pod(1), "b"))
    assert counts(result) == (1, 0, 1, 0)
    assert (await yard.stored())[id_of(1)].source == "b"


class Stream:
    """A Push that is written event by event."""

    def __init__(self, yard: Yard) -> None:
        self.call = yard.feeds.Push(metadata=yard.metadata())

    async def send(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self.call.write(feed.PodEvent(pod=pod(number)))

    async def answer(self) -> feed.PushResult:
        async with asyncio.timeout(PATIENCE):
            return await self.call.read()


async def test_batches_are_answered_once_they_are_stored(yard: Yard) -> None:
    stream = Stream(yard)
    await stream.send(range(1000))
    first = await stream.answer()
    assert (first.stored, first.revision) == (1000, 1)
    assert len(await yard.stored()) == 1000
    # Fewer wait for a second at most.
    await stream.send(range(1000, 1003))
    second = await stream.answer()
    assert (second.stored, second.revision) == (1003, 2)
    assert len(await yard.export()) == 1003
    await stream.send([5])
    await stream.call.done_writing()
    assert (await stream.answer()).unchanged == 1
    assert await stream.answer() is grpc.aio.EOF


@pytest.mark.parametrize("how", ["cancelled", "broken"])
async def test_a_feed_that_breaks_off_changes_nothing_unanswered(yard: Yard, how: str) -> None:
    stream = Stream(yard)
    await stream.send(range(1000))
    await stream.answer()
    await stream.send(range(1000, 1500))
    if how == "cancelled":
        stream.call.cancel()
    else:
        await stream.call.write(feed.PodEvent(pod=pod(1500, id="no uuid")))
        failure = await yard.fails(stream.answer())
        assert (failure.code, [v.field for v in failure.violations]) == (INVALID, ["events[1500].pod.id"])
    await settled(yard)
    assert await yard.store.count(Query(POD)) == 1000


async def settled(yard: Yard) -> None:
    """No stream is served any more."""
    async with asyncio.timeout(PATIENCE):
        while (await metric(yard, "roundhouse_rpc_streams")) > 0:
            await asyncio.sleep(0.01)


async def metric(yard: Yard, name: str) -> float:
    text = (await yard.rest("GET", "/metrics", who="")).body.decode()
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


async def test_what_is_wrong_is_said_to_a_client_that_goes_on_sending(yard: Yard) -> None:
    def events() -> Iterable[feed.PodEvent]:
        yield feed.PodEvent(pod=pod(1, cluster_id="x", deployment_id="y"))
        for number in range(3000):
            yield feed.PodEvent(pod=pod(number))

    for _ in range(5):
        failure = await yard.fails(yard.feeds.Push(events(), metadata=yard.metadata()))
        assert failure.code is INVALID, failure
        fields = [violation.field for violation in failure.violations]
        assert fields == ["events[0].pod.cluster_id", "events[0].pod.deployment_id"]
        denied = await yard.fails(yard.feeds.Push(events(), metadata=yard.metadata("viewer")))
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED
    assert await yard.stored() == {}


async def test_feeding_needs_all_namespaces(yard: Yard) -> None:
    start = feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="k8s"))
    row = feed.InventoryItem(cluster=Cluster(id=CLUSTER, name="east"))
    lines = ndjson({"id": id_of(1), "clusterId": CLUSTER}), ndjson({"kind": "cluster", "id": CLUSTER})

    def calls() -> list[Any]:
        metadata = yard.metadata("operator")
        return [
            yard.feeds.Push(iter([feed.PodEvent(pod=pod(1))]), metadata=metadata),
            yard.feeds.Sync(iter([start, feed.SyncItem(pod=pod(2))]), metadata=metadata),
            yard.feeds.PutInventory(iter([row]), metadata=metadata),
        ]

    await yard.put_user("operator", "operator", "prod")
    for call in calls():
        failure = await yard.fails(call)
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED and "all namespaces" in failure.message
    for path, body in zip((PODS, INVENTORY), lines, strict=True):
        (await yard.rest("POST", path, body, who="operator")).is_error(403, 7, "all namespaces")
    assert await yard.store.head() == 0

    await yard.put_user("operator", "operator", "*")
    push, sync, inventory = calls()
    assert (await anext(aiter(push))).stored == (await sync).stored == (await inventory).stored == 1
    for path, body in zip((PODS, INVENTORY), lines, strict=True):
        assert (await yard.rest("POST", path, body, who="operator")).status == 200


# -- Sync


async def test_a_sync_makes_a_sources_pods_what_it_names(yard: Yard) -> None:
    await yard.upsert(*(pod(number) for number in range(6)), source="k8s")
    await yard.upsert(pod(10), pod(11), source="jobs")
    await yard.upsert(pod(20, cluster_id=OTHER), source="k8s")
    head = await yard.store.head()
    result = await yard.sync(
        pod(0), pod(1, name="changed"), pod(7), pod(10), pod(12, cluster_id=CLUSTER.upper())
    )
    assert counts(result) == (3, 1, 4, 1)
    assert [(one.id, one.source) for one in result.refusals] == [(id_of(10), "jobs")]
    # In one revision.
    assert result.revision == await yard.store.head() == head + 1
    (commit,) = await yard.store.changes(head, 10)
    assert len(commit.changes) == 7
    found = await yard.stored()
    assert found.keys() == {id_of(number) for number in (0, 1, 7, 10, 11, 12, 20)}
    assert found[id_of(1)].pod.name == "changed" and found[id_of(10)].source == "jobs"


async def test_a_sync_merges_like_an_upsert(yard: Yard) -> None:
    await yard.sync(pod(1, live_instances=[ended(1)]))
    await yard.sync(pod(1, live_instances=[ended(2)]))
    (found,) = await yard.export()
    assert [i.finished.seconds for i in found.terminated_instances[0].instances] == [1, 2]


async def test_a_sync_of_nothing_removes_all_of_the_source(yard: Yard) -> None:
    await yard.upsert(pod(1), pod(2), source="k8s")
    await yard.upsert(pod(3), source="other")
    assert counts(await yard.sync()) == (0, 0, 2, 0)
    assert list(await yard.stored()) == [id_of(3)]
    assert counts(await yard.sync()) == (0, 0, 0, 0)


@pytest.mark.parametrize("how", ["cancelled", "invalid", "closed"])
async def test_a_broken_sync_changes_nothing(yard: Yard, how: str) -> None:
    await yard.upsert(*(pod(number) for number in range(5)), source="k8s")
    before = await yard.store.head()
    async with grpc.aio.insecure_channel(yard.service.target) as channel:
        method = channel.stream_unary(
            "/podfeed.v1.PodFeedService/Sync",
            request_serializer=feed.SyncItem.SerializeToString,
            response_deserializer=feed.SyncResult.FromString,
        )
        call = method(metadata=yard.metadata())
        await call.write(feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="k8s")))
        await call.write(feed.SyncItem(pod=pod(1)))
        if how == "cancelled":
            call.cancel()
        elif how == "invalid":
            await call.write(feed.SyncItem(pod=pod(2, id="x")))
            failure = await yard.fails(call)
            assert [v.field for v in failure.violations] == ["items[2].pod.id"]
    # A new call is answered after what is left of the old one.
    await yard.upsert(pod(9), source="z")
    assert len(await yard.stored()) == 6
    assert await yard.store.head() == before + 1


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items[0].start"),
        ([feed.SyncItem(pod=pod(1))], "items[0].start"),
        ([feed.SyncItem()], "items[0].start"),
        ([feed.SyncItem(start=feed.SyncStart(source="a"))], "items[0].start.cluster_id"),
        ([feed.SyncItem(start=feed.SyncStart(cluster_id="x", source="a"))], "items[0].start.cluster_id"),
        ([feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER))], "items[0].start.source"),
        (
            [feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="a"))] * 2,
            "items[1].pod",
        ),
        (
            [
                feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="a")),
                feed.SyncItem(pod=pod(1, cluster_id=OTHER)),
            ],
            "items[1].pod.cluster_id",
        ),
    ],
)
async def test_syncs_that_are_wrong(yard: Yard, items: list[feed.SyncItem], field: str) -> None:
    failure = await yard.fails(yard.feeds.Sync(iter(items), metadata=yard.metadata()))
    assert (failure.code, [v.field for v in failure.violations]) == (INVALID, [field])


async def test_a_sync_has_a_size(tmp_path: Path) -> None:
    async with opened(tmp_path, pods_max_sync=3) as yard:
        await yard.sync(*(pod(number) for number in range(3)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await yard.sync(*(pod(number) for number in range(4)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(await yard.stored()) == 3


class Racing(MemoryStore):
    """Somebody else writes a pod just before a commit, so many times."""

    def __init__(self, kinds: Any) -> None:
        super().__init__(kinds)
        self.races = 0

    async def commit(self, changes: Any, *, checks: Any = (), by: Author) -> Commit:
        if self.races:
            self.races -= 1
            body = StoredPod(pod=pod(1, name=f"raced-{self.races}"), source="k8s").SerializeToString()
            await super().commit([Put(POD, id_of(1), body)], by=Author("peer"))
        return await super().commit(changes, checks=checks, by=by)


async def test_pods_that_change_meanwhile_are_merged_anew(yard: Yard) -> None:
    store = Racing(yard.store.kinds.values())
    await store.open()
    clock = iter(range(1, 1000)).__next__
    feeder = Feed(store, clock, max_sync=100)
    events = [Event(feed.UPSERT, pod(1, name="mine"), "k8s"), Event(feed.UPSERT, pod(2), "k8s")]
    store.races = 3
    outcome = await feeder.push(events, Author("me"))
    assert (outcome.stored, outcome.revision) == (2, 4)
    record = await store.get(POD, id_of(1))
    assert record is not None and StoredPod.FromString(record.body).pod.name == "mine"
    store.races = 100
    with pytest.raises(Aborted):
        await feeder.push([Event(feed.UPSERT, pod(1, name="again"), "k8s")], Author("me"))


# -- inventory


async def test_inventory(yard: Yard) -> None:
    cluster, shop = (
        Cluster(id=CLUSTER, name="east"),
        Deployment(id=deployment_id(1), name="shop", cluster_id=CLUSTER),
    )
    result = await yard.inventory(cluster, shop)
    assert (result.stored, result.revision) == (2, 1)
    assert (await yard.inventory(cluster, shop)).unchanged == 2
    assert await yard.store.head() == 1
    await yard.upsert(pod(1), pod(2))
    assert await yard.names("Deployment:shop") == {"web-1"}
    assert await yard.names("Cluster:east") == {"web-1"}
    # The query follows the inventory, one revision after the other.
    await yard.inventory(Cluster(id=CLUSTER, name="west"), Deployment(id=deployment_id(2), name="shop-2"))
    assert await yard.names("Cluster:east") == set()
    assert await yard.names("Cluster:west") == {"web-1"}
    assert await yard.names("Deployment:shop") == {"web-1", "web-2"}
    gone = [
        feed.InventoryItem(removed_deployment=deployment_id(1).upper()),
        feed.InventoryItem(removed_cluster=OTHER),
    ]
    result = await yard.feeds.PutInventory(iter(gone), metadata=yard.metadata())
    assert (result.removed, result.unchanged, result.stored) == (1, 0, 0)
    assert await yard.names("Deployment:*") == {"web-2"}


async def test_an_inventory_is_that_of_a_revision(yard: Yard) -> None:
    """An export that began before a change looks its deployments up as they were then."""
    for name in ("first", "second"):
        await yard.inventory(
            Cluster(id=CLUSTER, name=name), Deployment(id=deployment_id(1), cluster_id=CLUSTER)
        )
    inventory = Inventory()
    for revision, name in ((1, "first"), (2, "second"), (1, "first"), (2, "second")):
        (row,) = await inventory.rows(yard.store, revision)
        assert row.cluster_name == name
    assert await inventory.rows(yard.store, 0) == []


async def test_a_cluster_that_is_not_known_is_called_what_its_deployment_says(yard: Yard) -> None:
    await yard.upsert(pod(1))
    await yard.inventory(Deployment(id=deployment_id(1), cluster_id=CLUSTER, cluster_name="told"))
    assert await yard.names("Cluster:told") == {"web-1"}
    await yard.inventory(Cluster(id=CLUSTER, name="known"))
    assert (await yard.names("Cluster:told"), await yard.names("Cluster:known")) == (set(), {"web-1"})
    await yard.feeds.PutInventory(
        iter([feed.InventoryItem(removed_cluster=CLUSTER)]), metadata=yard.metadata()
    )
    assert await yard.names("Cluster:told") == {"web-1"}


async def test_more_deployments_than_a_store_is_asked_for(yard: Yard) -> None:
    await yard.upsert(*(pod(number, deployment_id=deployment_id(number)) for number in range(8)))
    rows = (Deployment(id=deployment_id(number), name=f"shop-{number}") for number in range(1, 1200))
    await yard.inventory(*rows)
    assert await yard.names("Deployment:shop") == {f"web-{number}" for number in range(1, 8)}
    # With the rest of the query, and for lists and counts as well.
    assert await yard.names("Deployment:shop+Namespace:dev") == {"web-1", "web-4", "web-7"}
    assert [one.name for one in await yard.get_pods("Deployment:!shop-3", offset=5)] == ["web-7"]


async def test_another_process_changes_the_inventory(tmp_path: Path) -> None:
    async with opened(tmp_path / "a", "sqlite") as yard:
        await yard.upsert(pod(1), pod(2))
        await yard.inventory(Deployment(id=deployment_id(1), name="shop"))
        async with opened(tmp_path / "a", "sqlite") as peer:
            assert await peer.names("Deployment:shop") == {"web-1"}
            await peer.inventory(Deployment(id=deployment_id(2), name="shop"))
        assert await yard.names("Deployment:shop") == {"web-1", "web-2"}


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (feed.InventoryItem(), "items[1]"),
        (feed.InventoryItem(cluster=Cluster(id="x")), "items[1].cluster.id"),
        (feed.InventoryItem(deployment=Deployment()), "items[1].deployment.id"),
        (
            feed.InventoryItem(deployment=Deployment(id=id_of(1), cluster_id="y")),
            "items[1].deployment.cluster_id",
        ),
        (
            feed.InventoryItem(deployment=Deployment(id=id_of(1), namespace_id="y")),
            "items[1].deployment.namespace_id",
        ),
        (
            feed.InventoryItem(deployment=Deployment(id=id_of(1), annotations={"a": "x" * 300_000})),
            "items[1].deployment",
        ),
        (
            feed.InventoryItem(deployment=Deployment(id=id_of(1), created={"seconds": 1 << 60})),
            "items[1].deployment.created",
        ),
        (feed.InventoryItem(deployment=Deployment(id=id_of(1), name="n" * 2000)), "items[1].deployment.name"),
        (feed.InventoryItem(removed_cluster="x"), "items[1].removed_cluster"),
    ],
)
async def test_inventories_that_are_wrong_change_nothing(
    yard: Yard, item: feed.InventoryItem, field: str
) -> None:
    items = [feed.InventoryItem(cluster=Cluster(id=CLUSTER, name="good")), item]
    failure = await yard.fails(yard.feeds.PutInventory(iter(items), metadata=yard.metadata()))
    assert (failure.code, [v.field for v in failure.violations]) == (INVALID, [field])
    assert await yard.store.head() == 0


async def test_an_inventory_has_a_size(tmp_path: Path) -> None:
    async with opened(tmp_path, pods_max_sync=2) as yard:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await yard.inventory(*(Cluster(id=id_of(number)) for number in range(3)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# -- over HTTP


def ndjson(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


async def test_an_export_fed_to_another_server_and_exported_again_is_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as one, opened(tmp_path / "b", "sqlite") as other:
        await one.upsert(*(pod(number, live_instances=[ended(number + 1), {}]) for number in range(50)))
        await one.push(event(feed.REPLACE, pod(60, live_instances=[ended(3)], terminated_instances=[{}])))
        lines = await one.lines(headers={"Accept-Encoding": "identity"})
        fed = await other.rest("POST", f"{PODS}?mode=replace", lines.body)
        assert fed.status == 200 and fed.lines[-1]["result"]["stored"] == 51
        again = await other.lines(headers={"Accept-Encoding": "identity"})
        assert sorted(again.body.splitlines()) == sorted(lines.body.splitlines())
        assert by_id(await other.export()) == by_id(await one.export())


async def test_modes(yard: Yard) -> None:
    ending = {
        "id": id_of(1),
        "clusterId": CLUSTER,
        "liveInstances": [{"containerName": "a", "finished": "2026-01-01T00:00:00Z"}],
    }
    for target in (PODS, f"{PODS}?mode=upsert", f"{PODS}?mode="):
        assert (await yard.rest("POST", target, ndjson(ending))).status == 200
        (found,) = await yard.export()
        assert not found.live_instances and len(found.terminated_instances) == 1
    # Replacing stores it as it is and deletes nothing.
    await yard.upsert(pod(2))
    assert (await yard.rest("POST", f"{PODS}?mode=replace", ndjson(ending))).status == 200
    found = by_id(await yard.export())[id_of(1)]
    assert len(found.live_instances) == 1 and not found.terminated_instances
    assert len(await yard.stored()) == 2


async def test_sources_over_http(yard: Yard) -> None:
    bare = {"id": id_of(1), "clusterId": CLUSTER, "unknown": [1], "started": None}
    await yard.rest("POST", f"{PODS}?source=lab", ndjson(bare))
    refused = await yard.rest("POST", PODS, ndjson({**bare, "name": "x"}))
    (line,) = refused.lines
    assert line["result"] == {
        "stored": 0,
        "unchanged": 0,
        "removed": 0,
        "refused": 1,
        "refusals": [{"id": id_of(1), "source": "lab"}],
        "revision": "1",
    }


async def test_an_inventory_over_http(yard: Yard) -> None:
    await yard.upsert(pod(1))
    rows = ndjson(
        {"kind": "cluster", "id": CLUSTER, "name": "east"},
        {
            "kind": "deployment",
            "id": deployment_id(1),
            "name": "shop",
            "clusterId": CLUSTER,
            "labels": {"a": "b"},
        },
    )
    found = await yard.rest("POST", INVENTORY, rows)
    assert (found.status, found.json) == (200, {"stored": 2, "unchanged": 0, "removed": 0, "revision": "2"})
    assert await yard.names("Deployment Label:a=b+Cluster:east") == {"web-1"}


async def test_many_batches_over_http_answer_as_they_are_stored(yard: Yard) -> None:
    """The body goes on while answers come: a stored batch is known at once."""
    lines = [ndjson({"id": id_of(number), "clusterId": CLUSTER}) for number in range(1500)]
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"".join(lines[:1000])
        await more.wait()
        yield b"".join(lines[1000:])

    headers = {"Authorization": f"Bearer {yard.service.tokens['admin']}"}
    async with (
        asyncio.timeout(PATIENCE),
        yard.http.post(yard.service.url + PODS, data=body(), headers=headers) as answer,
    ):
        first = json.loads(await answer.content.readline())
        assert first["result"]["stored"] == 1000
        assert await yard.store.count(Query(POD)) == 1000
        more.set()
        rest = [json.loads(line) for line in (await answer.read()).splitlines()]
    assert rest[-1]["result"]["stored"] == 1500


@pytest.mark.parametrize("sent", [0, 1000])
async def test_an_upload_that_breaks_off_changes_nothing_unanswered(yard: Yard, sent: int) -> None:
    body = ndjson(*({"id": id_of(number), "clusterId": CLUSTER} for number in range(sent + 500)))
    head = f"POST {PODS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.service.tokens['admin']}\r\n"
    chunked = f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", yard.service.running.http_port)
    writer.write(head.encode() + chunked.encode() + body + b"\r\n")
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        if sent:
            assert await reader.readuntil(b'"stored":1000')
        else:
            while await metric(yard, "roundhouse_rpc_streams") < 1:
                await asyncio.sleep(0.01)
    # In the middle of the body: no last chunk, no goodbye.
    writer.transport.abort()
    await settled(yard)
    assert await yard.store.count(Query(POD)) == sent


async def test_a_wrong_line_behind_a_stored_batch(yard: Yard) -> None:
    good = [{"id": id_of(number), "clusterId": CLUSTER} for number in range(1200)]
    found = await yard.rest("POST", PODS, ndjson(*good, {"id": "x"}))
    assert found.status == 200
    assert found.lines[0]["result"]["stored"] == 1000
    error = found.lines[-1]["error"]
    assert (error["grpcCode"], error["httpCode"], error["code"], error["httpStatus"]) == (
        3,
        400,
        3,
        "Bad Request",
    )
    assert "line 1201: id: must be a UUID" in error["message"]
    assert await yard.store.count(Query(POD)) == 1000


async def test_blank_lines_and_the_missing_last_newline(yard: Yard) -> None:
    one, two = ({"id": id_of(number), "clusterId": CLUSTER} for number in (1, 2))
    body = b"\n  \n" + ndjson(one) + b"\r\n" + ndjson(two).rstrip(b"\n")
    assert (await yard.rest("POST", PODS, body)).lines[-1]["result"]["stored"] == 2
    found = await yard.rest("POST", PODS, b"")
    assert (found.status, found.body) == (200, b"")


async def test_an_export_that_failed_is_not_fed_as_if_it_were_whole(yard: Yard) -> None:
    broken = ndjson(
        {"result": {"pod": {"id": id_of(1), "clusterId": CLUSTER}}}, {"error": {"message": "too slow"}}
    )
    (await yard.rest("POST", PODS, broken)).is_error(400, 3, "line 2", "did not end well", "too slow")
    assert await yard.stored() == {}


async def test_compressed_feeds(yard: Yard) -> None:
    lines = ndjson(*({"id": id_of(number), "clusterId": CLUSTER} for number in range(300)))
    coded = {"Content-Encoding": "gzip"}
    (await yard.rest("POST", PODS, gzip.compress(lines)[:-9], headers=coded)).is_error(400, 3, "body")
    (await yard.rest("POST", PODS, lines, headers=coded)).is_error(400, 3, "body")
    (await yard.rest("POST", PODS, lines, headers={"Content-Encoding": "br"})).is_error(
        400, 3, "body: is encoded"
    )
    assert await yard.stored() == {}
    assert (await yard.rest("POST", PODS, gzip.compress(lines), headers=coded)).lines[-1]["result"][
        "stored"
    ] == 300
