"""The collector between a Kubernetes API server and the pods service, all over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import certifi
import click
import pytest

from services.pods.collect import inventory
from services.pods.collect.__main__ import collect, given_ids, wanted
from services.pods.collect.backoff import Backoff
from services.pods.collect.cluster import Cluster, reached
from services.pods.collect.credentials import Credentials
from services.pods.collect.feed import Push
from services.pods.collect.kubernetes import Busy, KubernetesApi
from services.pods.collect.owners import Owners
from services.pods.collect.probes import probed
from services.pods.collect.state import State
from services.pods.feed_service import PodFeedService
from shared.cli.yard import load
from shared.errors import ApiError, FailedPrecondition, PermissionDenied, Unauthenticated, Unavailable
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as feed
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.client import CallFailed, Client
from shared.service.config import Config
from tests import kube_apiserver
from tests.contract.pods_yard import Yard, event, opened
from tests.kubernetes_server import Fault, kubeconfig
from tests.kubernetes_yard import (
    Kube,
    Proxy,
    digest,
    ended,
    eventually,
    expected,
    http,
    kube,
    namespace,
    owned,
    pod,
    proxied,
    running,
    shown,
    workload,
)

# Also on a real server where there is one: what needs no trouble made on request.
ANYWHERE = pytest.mark.parametrize(
    "cluster", ["ours", *(["real"] if kube_apiserver.PROGRAM else [])], indirect=True
)
ID = "c1050000-0000-4000-8000-0000000000aa"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube_apiserver.ApiServer]:
    with kube_apiserver.running(tmp_path_factory.mktemp("kubernetes")) as found:
        yield found


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Kube]:
    on_real = getattr(request, "param", "ours") == "real"
    async with kube(request.getfixturevalue("real") if on_real else None) as found:
        yield found


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service writes what it is fed at once, the collector what it knows."""
    monkeypatch.setitem(PodFeedService.__init__.__kwdefaults__, "seconds", 0.02)
    monkeypatch.setattr(inventory, "PAUSE", 0.02)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path / "service") as found:
        yield found


def soon() -> Backoff:
    return Backoff(0.01, 0.1)


@asynccontextmanager
async def api(
    cluster: Kube,
    folder: Path,
    *,
    page: int = 3,
    watch: tuple[int, int] = (60, 60),
    token: str = "",
    url: str = "",
) -> AsyncIterator[KubernetesApi]:
    given = {"token": token} if token else {}
    if cluster.real is not None:
        given["authority"] = str(cluster.real.authority)
    path = kubeconfig(folder, **given, test=url or cluster.url)
    async with KubernetesApi(Credentials(str(path)).client, page=page, watch_seconds=watch) as found:
        yield found


@asynccontextmanager
async def collecting(
    cluster: Kube,
    yard: Yard,
    folder: Path,
    *,
    connect: Callable[[], Client] | None = None,
    id: str = ID,
    **options: Any,
) -> AsyncIterator[Cluster]:
    async with api(cluster, folder, **options) as reading:
        found = await reached(State("test"), id, reading, soon)
        task = asyncio.create_task(
            found.run(connect or (lambda: Client(yard.service.target, token=yard.service.tokens["admin"])))
        )
        try:
            yield found
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def same(cluster: Kube, yard: Yard, id: str = ID) -> dict[str, Any]:
    """Once the export is what the cluster holds."""
    differing: Any = None

    async def check() -> Any:
        nonlocal differing
        wanted, found = await expected(cluster, id), shown(await yard.export(f"Cluster ID:{id}"))
        differing = [one for one in (*wanted, *found) if wanted.get(one) != found.get(one)]
        return found == wanted and (found or {"": {}})

    try:
        return await eventually(check)
    except AssertionError:
        raise AssertionError(f"the export differs: {differing}") from None


async def rows(yard: Yard) -> dict[str, Deployment]:
    page = await yard.admin.List(
        admin_pb2.ListRequest(kind="pod_deployment", page_size=1000), metadata=yard.metadata()
    )
    found = {}
    for one in page.objects:
        row = Deployment()
        assert one.body.Unpack(row)
        found[one.name] = row
    return found


async def web(cluster: Kube, pods: int = 3) -> dict[str, Any]:
    """A deployment, its replica set and their pods; answers the first two."""
    top = await cluster.create(workload("Deployment", "web", "shop", tier="front"))
    middle = await cluster.create(workload("ReplicaSet", "web-1", "shop", top))
    for number in range(pods):
        one = pod(f"web-1-{number}", "shop", middle, app="web")
        await cluster.create({**one, "status": running(one["metadata"]["name"])})
    return {"Deployment": top, "ReplicaSet": middle}


@ANYWHERE
async def test_what_there_is_and_what_changes(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    owners = await web(cluster, pods=7)
    alone = await cluster.create(pod("alone", "shop", team="sre"))
    async with collecting(cluster, yard, tmp_path):
        found = await same(cluster, yard)
        assert len(found) == 8
        assert {one["deployment"] for one in found.values()} == {
            owners["Deployment"]["metadata"]["uid"],
            alone["metadata"]["uid"],
        }
        added = await cluster.create(pod("web-1-new", "shop", owners["ReplicaSet"]))
        await same(cluster, yard)
        await cluster.status(added, running("web-1-new"))
        await cluster.delete(alone)
        await same(cluster, yard)


@ANYWHERE
async def test_what_pods_belong_to_is_searchable(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    owners = await web(cluster)
    job = await cluster.create(workload("Job", "nightly-1", "shop", None))
    await cluster.create(pod("nightly-1-x", "shop", job))
    alone = await cluster.create(pod("alone", "shop", team="sre"))
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        await eventually(lambda: yard.names("Deployment:alone"))
        front = {"web-1-0", "web-1-1", "web-1-2"}
        assert await yard.names('Deployment:"web"+Cluster:test') == front
        assert await yard.names("Deployment Label:tier=front") == front
        assert await yard.names("Deployment Type:Job") == {"nightly-1-x"}
        assert await yard.names("Deployment Type:Pod+Pod Label:team=sre") == {"alone"}
        assert await yard.names("Service Account:runner+Pod Label:app=web") == front | {"nightly-1-x"}
        space = next(one for one in await cluster.objects("Namespace") if one["metadata"]["name"] == "shop")
        assert len(await yard.names(f"Namespace ID:{space['metadata']['uid']}")) == 5
        # Replica sets of a deployment are no rows of their own.
        tops = {one["metadata"]["uid"] for one in (owners["Deployment"], job, alone)}
        assert (await rows(yard)).keys() == tops

        await cluster.patch(owners["Deployment"], {"metadata": {"labels": {"tier": "back"}}})
        await cluster.delete(alone)
        assert await eventually(lambda: yard.names("Deployment Label:tier=back")) == front

        async def gone() -> bool:
            return alone["metadata"]["uid"] not in await rows(yard)

        await eventually(gone)


@ANYWHERE
async def test_what_ended_is_remembered(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    one = await cluster.create({**pod("app", "shop"), "status": running("app", "1")})
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        for run in "123":
            await cluster.status(one, ended("app", run, 3))
            await same(cluster, yard)
            await cluster.status(one, running("app", f"{run}+"))
            await same(cluster, yard)
        (found,) = await yard.export()
        (bucket,) = found.terminated_instances
        assert [i.instance_id.id for i in bucket.instances] == [digest(f"app{run}")[7:] for run in "123"]
        assert {(i.exit_code, i.termination_reason) for i in bucket.instances} == {(3, "Error")}


async def test_a_pod_may_come_before_its_owner(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    async with collecting(cluster, yard, tmp_path):
        await eventually(lambda: watches(cluster, 9))
        top = await cluster.create(workload("Deployment", "late", "shop"))
        middle = workload("ReplicaSet", "late-1", "shop", top)
        middle["metadata"]["uid"] = "0e0e0e0e-0000-4000-8000-000000000001"
        await cluster.create(pod("early", "shop", middle))
        (early,) = await eventually(yard.export)
        assert early.deployment_id == ""
        cluster.server.create("replicasets", middle)
        await same(cluster, yard)


async def test_a_row_may_come_before_its_namespace(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    top = cluster.server.create("deployments", workload("Deployment", "web", "later"))

    async def row() -> Deployment | None:
        return (await rows(yard)).get(top["metadata"]["uid"])

    async with collecting(cluster, yard, tmp_path):
        assert (await eventually(row)).namespace_id == ""
        space = await cluster.create(namespace("later"))

        async def told() -> bool:
            return (await rows(yard))[top["metadata"]["uid"]].namespace_id == space["metadata"]["uid"]

        await eventually(told)


async def watches(cluster: Kube, count: int) -> bool:
    return cluster.server.watches >= count


@ANYWHERE
async def test_pods_follow_an_owner_that_is_adopted(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    owners = await web(cluster)
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        await cluster.patch(owners["ReplicaSet"], {"metadata": {"ownerReferences": None}})
        found = await same(cluster, yard)
        assert {one["deployment"] for one in found.values()} == {owners["ReplicaSet"]["metadata"]["uid"]}
        other = await cluster.create(workload("Deployment", "other", "shop"))
        await cluster.patch(owners["ReplicaSet"], {"metadata": {"ownerReferences": owned(other)}})
        found = await same(cluster, yard)
        assert {one["deployment"] for one in found.values()} == {other["metadata"]["uid"]}


@ANYWHERE
async def test_what_goes_last_still_belongs_to_what_went_first(
    cluster: Kube, yard: Yard, tmp_path: Path
) -> None:
    owners = await web(cluster, pods=1)
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        for kind in ("Deployment", "ReplicaSet"):
            await cluster.delete(owners[kind])

        async def no_row() -> bool:
            return not await rows(yard)

        await eventually(no_row)
        (one,) = await cluster.objects("Pod")
        await cluster.status(one, ended("web-1-0"))

        async def has_ended() -> bool:
            return bool((await yard.export())[0].terminated_instances)

        await eventually(has_ended)
        assert [one.deployment_id for one in await yard.export()] == [owners["Deployment"]["metadata"]["uid"]]


# -- what goes wrong


async def test_a_watch_whose_past_is_gone_lists_anew(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    owners = await web(cluster)
    await cluster.create(pod("alone", "shop"))
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        await eventually(lambda: watches(cluster, 9))
        # Nobody sees these: the watches end, and what they would go on from is forgotten.
        server = cluster.server
        server.cut()
        server.delete("pods", "shop", "web-1-0")
        server.create("pods", {**pod("unseen", "shop", owners["ReplicaSet"])})
        server.delete("deployments", "shop", "web")
        server.delete("pods", "shop", "alone")
        server.compact()
        found = await same(cluster, yard)
        assert "unseen" in {one["name"] for one in found.values()}

        async def forgotten() -> bool:
            return not await rows(yard)

        await eventually(forgotten)


async def test_what_is_still_under_way_does_not_undo_a_list(
    cluster: Kube, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service takes its time with a pod that is gone when everything is listed anew."""
    monkeypatch.setitem(PodFeedService.__init__.__kwdefaults__, "seconds", 300.0)
    sent: asyncio.Future[Push] = asyncio.get_running_loop().create_future()
    send = Push.upsert

    async def noticed(push: Push, one: Pod) -> None:
        await send(push, one)
        sent.set_result(push)

    monkeypatch.setattr(Push, "upsert", noticed)
    async with opened(tmp_path / "slow") as slow, collecting(cluster, slow, tmp_path):
        await eventually(lambda: watches(cluster, 9))
        ghost = await cluster.create(pod("ghost", "shop"))
        async with asyncio.timeout(60):
            push = await sent
        assert await slow.names() == set()
        server = cluster.server
        server.cut()
        server.delete("pods", "shop", ghost["metadata"]["name"])
        server.compact()
        lists = len(server.requests)

        async def listed_anew() -> bool:
            """And watches what comes after that."""
            asked = [one for one in server.requests[lists:] if "/api/v1/pods?" in one]
            return len(asked) > 1 and "limit" in asked[-2] and "watch" in asked[-1]

        await eventually(listed_anew)
        async with asyncio.timeout(60):
            await push.drain()
        assert await slow.names() == set()
        # It was written, and removed by what was listed.
        assert await slow.store.head() >= 3


async def test_an_owner_that_comes_while_pods_are_listed(
    cluster: Kube, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = await cluster.create(workload("Deployment", "web", "shop"))
    middle = workload("ReplicaSet", "web-1", "shop", top)
    middle["metadata"]["uid"] = "0e0e0e0e-0000-4000-8000-000000000001"
    for number in range(4):
        await cluster.create(pod(f"web-1-{number}", "shop", middle))
    known = asyncio.Event()
    put = Owners.put

    def noticed(owners: Owners, kind: str, found: Any) -> bool:
        if kind == "ReplicaSet":
            asyncio.get_running_loop().call_soon(known.set)
        return put(owners, kind, found)

    monkeypatch.setattr(Owners, "put", noticed)

    async def between() -> None:
        """Before the second page of pods."""
        cluster.server.create("replicasets", middle)
        async with asyncio.timeout(60):
            await known.wait()

    cluster.server.faults.append(
        Fault(lambda request: request.path.endswith("/pods") and "continue" in request.query, before=between)
    )
    async with collecting(cluster, yard, tmp_path):
        async with asyncio.timeout(60):
            await known.wait()
        found = await same(cluster, yard)
    assert len(found) == 4
    assert {one["deployment"] for one in found.values()} == {top["metadata"]["uid"]}


async def test_a_list_whose_past_goes_meanwhile_is_begun_anew(
    cluster: Kube, yard: Yard, tmp_path: Path
) -> None:
    await web(cluster, pods=10)
    server = cluster.server

    def compacting(request: Any) -> bool:
        """Between a first page of pods and the next, once."""
        if request.path.endswith("/pods") and "continue" in request.query and not server.compacted:
            server.create("namespaces", namespace("other"))
            server.compact()
        return False

    server.faults.append(Fault(compacting))
    async with collecting(cluster, yard, tmp_path):
        assert len(await same(cluster, yard)) == 10
        assert server.compacted
        # Fewer, larger pages.
        assert "/api/v1/pods?limit=6" in server.requests


async def test_bookmarks_keep_a_quiet_watch_from_being_too_old(
    cluster: Kube, yard: Yard, tmp_path: Path
) -> None:
    await web(cluster)
    cluster.server.bookmarks = 0.05
    async with collecting(cluster, yard, tmp_path, watch=(1, 1)):
        await same(cluster, yard)
        await eventually(lambda: watches(cluster, 9))
        # Nothing that any watch but one would tell of moves the cluster on.
        for number in range(5):
            await cluster.create(namespace(f"n{number}"))
        newest = cluster.server.revision
        path = f"/api/v1/pods?watch=1&resourceVersion={newest}"

        async def resumed() -> bool:
            return any(one.startswith(path) for one in cluster.server.requests)

        await eventually(resumed)
        lists = [one for one in cluster.server.requests if one.startswith("/api/v1/pods?limit=3")]
        assert sum("continue" not in one for one in lists) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_server_in_trouble_is_asked_again(
    cluster: Kube, yard: Yard, tmp_path: Path, code: int
) -> None:
    await web(cluster)
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
        cluster.server.faults.append(Fault(lambda request: True, times=12, status=code))
        cluster.server.cut()
        await cluster.http.close()
        async with kube_again(cluster) as again:
            cluster.server.create("pods", pod("after", "shop"))
            await same(again, yard)


async def test_it_tells_how_it_fares(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    """On a port of its own, if it has one: each cluster, what is wrong with it, and what was fed."""
    states = [State("test"), State("other")]
    config = Config.load({}, data=tmp_path, http_port="0")

    async def answer(path: str) -> tuple[int, str]:
        async with yard.http.get(f"http://127.0.0.1:{port}{path}") as got:
            return got.status, await got.text()

    async def checks() -> dict[str, str]:
        status, text = await answer("/readyz")
        found: dict[str, str] = json.loads(text)["checks"]
        assert status == (200 if set(found.values()) == {"ok"} else 503)
        return found

    async def numbers() -> dict[str, float]:
        lines = (await answer("/metrics"))[1].splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("roundhouse_collector_")]
        return {name.removeprefix("roundhouse_collector_"): float(value) for name, value in pairs}

    async def until(feed: str) -> None:
        async def told() -> bool:
            return feed in (await checks())["cluster test"]

        await eventually(told)

    await web(cluster)
    # A watch of which nothing is told is well from its first moment on.
    cluster.server.bookmarks = 3600.0
    watch = (3600, 3600)
    async with probed(config, states) as (health, port), api(cluster, tmp_path, watch=watch) as reading:
        assert (await answer("/healthz"))[0] == 200 and (await answer("/other"))[0] == 404
        assert (await answer("/readyz"))[0] == 503
        health.serving = True
        waiting = "feed: not all is listed yet"
        assert await checks() == {"serving": "ok", "cluster test": waiting, "cluster other": waiting}
        assert not any(name.startswith("heard") for name in await numbers())
        found = await reached(states[0], ID, reading, soon)
        token = yard.service.tokens["admin"]
        task = asyncio.create_task(found.run(lambda: Client(yard.service.target, token=token)))
        try:
            await until("ok")
            assert states[1].well is False
            began = await numbers()
            assert began['following{cluster="test"}'] == 1 and began['following{cluster="other"}'] == 0
            assert began['starts_total{cluster="test"}'] == 1
            fed = {"stored": 3, "unchanged": 0, "removed": 0, "refused": 0}
            assert fed == {r: began[f'fed_total{{cluster="test",result="{r}"}}'] for r in fed}
            # One more over the stream that follows, and one less; what else is told of it changes nothing.
            extra = await cluster.create(pod("extra", "shop"))
            await same(cluster, yard)
            await cluster.delete(extra)

            async def removed() -> bool:
                now = await numbers()
                return [now[f'fed_total{{cluster="test",result="{r}"}}'] for r in ("stored", "removed")] == [
                    4,
                    1,
                ]

            await eventually(removed)
            # The cluster's server is in trouble, and then it is not.
            cluster.server.faults.append(
                Fault(lambda request: "/pods" in request.path, times=1000, status=503)
            )
            cluster.server.cut()
            await until("/api/v1/pods: ")
            assert (await numbers())['following{cluster="test"}'] == 0
            cluster.server.faults.clear()
            await until("ok")
            after = await numbers()
            assert after['following{cluster="test"}'] == 1 and after['starts_total{cluster="test"}'] == 1
            assert (
                after['heard_timestamp_seconds{cluster="test"}']
                > began['heard_timestamp_seconds{cluster="test"}']
            )
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_without_the_setting_it_has_no_port(tmp_path: Path) -> None:
    async with probed(Config.load({}, data=tmp_path), [State("test")]) as (_, port):
        assert port is None


@asynccontextmanager
async def kube_again(cluster: Kube) -> AsyncIterator[Kube]:
    """The same cluster, called past its troubles."""
    cluster.server.tokens.add("test")
    for fault in cluster.server.faults:
        meant = fault.meant
        fault.meant = lambda request, meant=meant: (  # type: ignore[misc]
            meant(request) and not request.headers["Authorization"].endswith(" test")
        )
    async with http("test") as session:
        yield Kube(cluster.url, session, cluster.server)


async def test_a_server_says_how_long_it_wants_to_be_left_alone(cluster: Kube, tmp_path: Path) -> None:
    server = cluster.server
    server.faults.append(Fault(lambda request: True, status=429, headers={"Retry-After": "7"}))
    async with api(cluster, tmp_path) as reading:
        with pytest.raises(Busy) as caught:
            await reading.get("/api/v1/pods")
    assert caught.value.seconds == 7


async def test_credentials_that_are_refused_are_read_anew(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    await web(cluster)
    server = cluster.server
    async with collecting(cluster, yard, tmp_path), kube_again(cluster) as again:
        await same(again, yard)
        server.tokens = {"test", "newer"}
        kubeconfig(tmp_path, token="newer", test=cluster.url)
        server.cut()
        server.create("pods", pod("after", "shop"))
        await same(again, yard)


async def test_a_pods_service_that_forgot_everything_is_told_everything(
    cluster: Kube, tmp_path: Path
) -> None:
    await web(cluster)
    services: list[Yard] = []

    def connect() -> Client:
        service = services[-1].service
        return Client(service.target, token=service.tokens["admin"])

    async with AsyncExitStack() as stack:
        async with opened(tmp_path / "one") as first:
            services.append(first)
            await stack.enter_async_context(collecting(cluster, first, tmp_path, connect=connect))
            await same(cluster, first)
        await cluster.create(pod("meanwhile", "shop"))
        async with opened(tmp_path / "two") as second:
            services.append(second)
            await same(cluster, second)

            async def both() -> bool:
                return len(await rows(second)) == 2

            await eventually(both)


@ANYWHERE
async def test_rows_from_before_are_forgotten(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    owners = await web(cluster)
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)
    await cluster.delete(owners["Deployment"])
    await cluster.delete(owners["ReplicaSet"])
    for one in await cluster.objects("Pod"):
        await cluster.delete(one)
    elsewhere = Deployment(id="0e0e0e0e-0000-4000-8000-00000000000e", name="other", cluster_id=ID[:-1] + "b")
    await yard.inventory(elsewhere)
    async with collecting(cluster, yard, tmp_path):
        await same(cluster, yard)

        async def only_elsewhere() -> bool:
            return (await rows(yard)).keys() == {elsewhere.id}

        await eventually(only_elsewhere)


@ANYWHERE
async def test_pods_of_other_sources_stay_as_they_are(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    one = await cluster.create(pod("app", "shop"))
    async with collecting(cluster, yard, tmp_path):
        (mine,) = await same(cluster, yard)
    foreign = Pod(id=mine, name="foreign", cluster_id=ID)
    await yard.push(event(feed.REMOVE, foreign, f"kubernetes:{ID}"))
    await yard.upsert(foreign, Pod(id=ID, name="another", cluster_id=ID), source="import")
    async with collecting(cluster, yard, tmp_path):
        await cluster.create(pod("next", "shop"))

        async def three() -> bool:
            return await yard.names() == {"foreign", "another", "next"}

        await eventually(three)
        await cluster.delete(one)
        await cluster.create(pod("last", "shop"))

        async def four() -> bool:
            return await yard.names() == {"foreign", "another", "next", "last"}

        await eventually(four)


async def test_two_clusters_with_the_same_pods(yard: Yard, tmp_path: Path) -> None:
    other = ID[:-1] + "b"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with kube() as first, kube() as second:
        for one in (first, second):
            await web(one)
        async with (
            collecting(first, yard, tmp_path / "one"),
            collecting(second, yard, tmp_path / "two", id=other),
        ):
            await same(first, yard)
            await same(second, yard, other)
            for one in await second.objects("Pod"):
                await second.delete(one)
            await same(second, yard, other)
            assert len(await same(first, yard)) == 3


# -- at the start


@ANYWHERE
async def test_the_cluster_is_known_by_its_system_namespace(cluster: Kube, tmp_path: Path) -> None:
    async with api(cluster, tmp_path) as reading:
        found = await reached(State("test"), "", reading)
    system = next(o for o in await cluster.objects("Namespace") if o["metadata"]["name"] == "kube-system")
    assert found.id == system["metadata"]["uid"]
    assert found.source == f"kubernetes:{found.id}"


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_missing_permission_is_named(cluster: Kube, tmp_path: Path, verb: str) -> None:
    cluster.server.forbidden.add((verb, "replicasets"))
    async with api(cluster, tmp_path) as reading:
        with pytest.raises(PermissionDenied, match=rf"'test'.*cannot {verb} resource \"replicasets\""):
            await reached(State("test"), "", reading)


async def test_a_token_that_is_not_accepted(cluster: Kube, tmp_path: Path) -> None:
    async with api(cluster, tmp_path, token="wrong") as reading:
        with pytest.raises(Unauthenticated, match="does not accept the credentials"):
            await reached(State("test"), "", reading)


async def test_nobody_listens(cluster: Kube, tmp_path: Path) -> None:
    await cluster.server.stop()
    async with api(cluster, tmp_path) as reading:
        with pytest.raises(Unavailable, match=r"no answer from http://127.0.0.1:\d+/api/v1/namespaces"):
            await reached(State("test"), "", reading)


async def test_a_pods_service_that_refuses_the_token(cluster: Kube, yard: Yard, tmp_path: Path) -> None:
    async with api(cluster, tmp_path) as reading:
        found = await reached(State("test"), ID, reading, soon)
        for token, code in (("nonsense", "UNAUTHENTICATED"), (yard.service.tokens["viewer"], "PERMISSION")):
            with pytest.raises(CallFailed, match=code):
                await found.run(lambda token=token: Client(yard.service.target, token=token))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("clusters", "file", "words"),
    [
        ((), "", "no kubeconfig at ~/.kube/config"),
        (("a=live",), "missing", "no kubeconfig at .*missing.*--kubeconfig"),
        (("a=nowhere",), "kubeconfig", "kubeconfig cannot be used: .*nowhere"),
        (("a=live",), "broken", "broken cannot be used"),
        ((), "empty", "empty cannot be used"),
        (("a=live", "a=dead"), "kubeconfig", "--cluster: 'a' is there twice"),
        (("a=live", "b=live"), "kubeconfig", "two lead to the same cluster"),
        (("a\nb=live",), "kubeconfig", "is no name"),
        (("a=dead",), "kubeconfig", "cluster 'a': no answer from http://127.0.0.1:9"),
        (("a=live",), "kubeconfig", "no token in .*nowhere"),
    ],
)
async def test_why_it_does_not_start(
    cluster: Kube,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clusters: tuple[str, ...],
    file: str,
    words: str,
) -> None:
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    kubeconfig(tmp_path, live=cluster.url, dead="http://127.0.0.1:9")
    (tmp_path / "broken").write_text("contexts: {")
    (tmp_path / "empty").write_text("")
    where = load(data=tmp_path, base_port=None, token_file=tmp_path / "nowhere")
    with pytest.raises((ApiError, click.UsageError)) as caught:
        await collect(where, wanted(clusters, str(tmp_path / file) if file else ""), {})
    assert re.search(words, caught.value.message), caught.value.message


def test_ids_are_given_by_name() -> None:
    known = {"a": Credentials()}
    assert given_ids([f"a={ID.upper()}"], known) == {"a": ID}
    for wrong in ("a=x", f"b={ID}", ID):
        with pytest.raises(click.UsageError, match="--cluster-id"):
            given_ids([wrong], known)


async def test_two_names_of_one_cluster(cluster: Kube, tmp_path: Path) -> None:
    kubeconfig(tmp_path, one=cluster.url, two=cluster.url)
    where = load(data=tmp_path, base_port=None)
    with pytest.raises(FailedPrecondition, match="two clusters have the id"):
        await collect(where, wanted(("a=one", "b=two"), str(tmp_path / "kubeconfig")), {})


async def test_in_a_pod_the_service_account_is_used(
    cluster: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_asyncio.config import incluster_config

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    assert wanted((), "").keys() == {"kubernetes"}
    with pytest.raises(FailedPrecondition, match=r"service account of this pod cannot be used: .*token"):
        await Credentials().client()
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "ca.crt").write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    client = await Credentials().client()
    try:
        assert client.configuration.host == "https://127.0.0.1:9"
        settings = await client.configuration.auth_settings()
        assert settings["BearerToken"]["value"] == "Bearer of-the-pod"
    finally:
        await client.close()


# -- everything at random


class Chaos:
    """Somebody who works with a cluster. Owners go after their pods, as garbage collection has it."""

    def __init__(self, cluster: Kube, proxy: Proxy, seed: int) -> None:
        self.cluster = cluster
        self.proxy = proxy
        self.random = random.Random(seed)
        self.names = (f"x{number}" for number in range(10_000))
        self.tops: list[dict[str, Any]] = []
        self.middles: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []

    async def step(self) -> None:
        actions = [self.add_pod] * 4 + [self.change_pod] * 5 + [self.drop_pod] * 2
        actions += [self.add_workload, self.drop_workload, self.adopt, self.trouble]
        await self.random.choice(actions)()

    async def add_workload(self) -> None:
        name, kind = (
            next(self.names),
            self.random.choice(["Deployment", "DaemonSet", "StatefulSet", "CronJob"]),
        )
        top = await self.cluster.create(workload(kind, name, "shop"))
        self.tops.append(top)
        below = {"Deployment": "ReplicaSet", "CronJob": "Job"}.get(kind)
        if below:
            by = top if self.random.random() < 0.9 else None
            self.middles.append(await self.cluster.create(workload(below, f"{name}-1", "shop", by)))

    async def add_pod(self) -> None:
        owners = [top for top in self.tops if top["kind"] in ("DaemonSet", "StatefulSet")] + self.middles
        by = self.random.choice([*owners, None])
        self.pods.append(await self.cluster.create(pod(next(self.names), "shop", by)))

    async def change_pod(self) -> None:
        if self.pods:
            one = self.random.choice(self.pods)
            name, run = one["metadata"]["name"], str(self.random.randrange(5))
            await self.cluster.status(one, self.random.choice([running, ended])(name, run))

    async def drop_pod(self) -> None:
        if self.pods:
            await self.cluster.delete(self.pods.pop(self.random.randrange(len(self.pods))))

    async def drop_workload(self) -> None:
        if self.middles:
            middle = self.middles.pop(self.random.randrange(len(self.middles)))
            uid = middle["metadata"]["uid"]
            for one in [p for p in self.pods if _owner(p) == uid]:
                self.pods.remove(one)
                await self.cluster.delete(one)
            await self.cluster.delete(middle)

    async def adopt(self) -> None:
        sets = [one for one in self.middles if one["kind"] == "ReplicaSet"]
        tops = [top for top in self.tops if top["kind"] == "Deployment"]
        if sets and tops and self.random.random() < 0.3:
            references = self.random.choice([None, owned(self.random.choice(tops))])
            await self.cluster.patch(self.random.choice(sets), {"metadata": {"ownerReferences": references}})

    async def trouble(self) -> None:
        kind = self.random.randrange(4)
        if kind == 0:
            self.proxy.cut()
        elif kind == 1:
            await self.compact()
        elif kind == 2:
            self.proxy.cut_after(self.random.randrange(1, 20_000))
            self.proxy.cut()
        elif self.cluster.real is None:
            fault = Fault(_of_the_collector, status=self.random.choice([500, 410, 429]))
            self.cluster.server.faults.append(fault)
            self.proxy.cut()

    async def compact(self) -> None:
        if self.cluster.real is None:
            self.cluster.server.compact()
        else:
            newest = (await self.cluster.call("GET", self.cluster.path("Pod"), limit=1))["metadata"]
            with contextlib.suppress(OSError):
                self.cluster.real.compact(int(newest["resourceVersion"]))

    def no_more_trouble(self) -> None:
        self.proxy.cut_after(None)
        if self.cluster.real is None:
            self.cluster.server.faults.clear()


def _owner(one: dict[str, Any]) -> str:
    references = one["metadata"].get("ownerReferences") or [{"uid": ""}]
    return references[0]["uid"]


def _of_the_collector(request: Any) -> bool:
    return "watch" in request.query or "limit" in request.query


@ANYWHERE
@pytest.mark.parametrize("seed", range(3))
async def test_the_export_is_what_the_cluster_holds(
    cluster: Kube, yard: Yard, tmp_path: Path, seed: int, scale: Callable[[int, int], int]
) -> None:
    async with proxied(cluster.url) as proxy:
        chaos = Chaos(cluster, proxy, seed)
        for _ in range(15):
            await chaos.step()
        chaos.no_more_trouble()
        async with collecting(cluster, yard, tmp_path, url=proxy.url):
            for _ in range(scale(2, 30)):
                for _ in range(40):
                    await chaos.step()
                await same(cluster, yard)
        # Nobody watches; what happens now is found when somebody does again.
        for _ in range(20):
            await chaos.step()
        chaos.no_more_trouble()
        async with collecting(cluster, yard, tmp_path, url=proxy.url):
            await same(cluster, yard)
