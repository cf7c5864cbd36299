"""The API server that tests of the collector bring along answers as a real one does.

With KUBE_APISERVER a real one has to pass as well: what is said here is true of both.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests import kube_apiserver
from tests.kubernetes_yard import Kube, ended, http, kube, pod, running, workload

ALL = "/api/v1/namespaces/shop/pods"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube_apiserver.ApiServer]:
    with kube_apiserver.running(tmp_path_factory.mktemp("kubernetes")) as found:
        yield found


@pytest.fixture(params=["ours", *(["real"] if kube_apiserver.PROGRAM else [])])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Kube]:
    async with kube(request.getfixturevalue("real") if request.param == "real" else None) as found:
        yield found


class Watch:
    """The events of one watch, a line each."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(20):
            event = json.loads(await self.answer.content.readline())
        return event["type"], event["object"]

    async def end(self) -> None:
        async with asyncio.timeout(20):
            assert await self.answer.content.readline() == b""


async def watch(cluster: Kube, version: str, **more: str) -> Watch:
    params = {"watch": "1", "resourceVersion": version, **more}
    answer = await cluster.http.get(cluster.url + ALL, params=params, raise_for_status=True)
    assert answer.headers["Content-Type"] == "application/json"
    return Watch(answer)


async def refusal(cluster: Kube, path: str, **params: str) -> tuple[int, dict[str, Any]]:
    async with cluster.http.get(cluster.url + path, params=params) as answer:
        said = await answer.json()
        assert (said["kind"], said["status"], said["code"]) == ("Status", "Failure", answer.status)
        return answer.status, said


async def compact(cluster: Kube) -> None:
    """Up to the newest revision."""
    if cluster.real is None:
        cluster.server.compact()
        return
    newest = (await cluster.call("GET", ALL))["metadata"]["resourceVersion"]
    cluster.real.compact(int(newest))


def version(found: dict[str, Any]) -> str:
    return found["metadata"]["resourceVersion"]


async def test_objects_get_what_is_theirs(cluster: Kube) -> None:
    asked = pod("a", "shop", team="x")
    made = await cluster.create({**asked, "status": running("a")})
    about = made["metadata"]
    assert (made["kind"], about["name"], about["namespace"], about["labels"]) == (
        ("Pod", "a", "shop", {"team": "x"})
    )
    assert str(uuid.UUID(about["uid"])) == about["uid"]
    assert about["creationTimestamp"].endswith("Z") and len(about["creationTimestamp"]) == 20
    assert made["status"]["containerStatuses"][0]["containerID"].startswith("containerd://")
    changed = await cluster.status(made, ended("a"))
    assert version(changed) != version(made)
    assert changed["metadata"]["uid"] == about["uid"]
    assert "running" not in changed["status"]["containerStatuses"][0]["state"]
    # Nothing new is no change.
    assert version(await cluster.status(made, ended("a"))) == version(changed)
    await cluster.delete(made)
    again = await cluster.create(asked)
    assert again["metadata"]["uid"] != about["uid"]
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        await cluster.create(asked)
    assert caught.value.status == 409


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob"])
async def test_owners(cluster: Kube, kind: str) -> None:
    top = await cluster.create(workload("ReplicationController", "top", "shop"))
    made = await cluster.create(workload(kind, "below", "shop", top, tier="x"))
    found = next(one for one in await cluster.objects(kind) if one["metadata"]["name"] == "below")
    assert found["metadata"]["ownerReferences"][0]["uid"] == top["metadata"]["uid"]
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    freed = await cluster.patch(found, {"metadata": {"ownerReferences": None}})
    assert not freed["metadata"].get("ownerReferences")


async def test_pages_are_of_one_moment(cluster: Kube) -> None:
    for name in "abcde":
        await cluster.create(pod(name, "shop"))
    first = await cluster.call("GET", ALL, limit=2)
    assert [one["metadata"]["name"] for one in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    # In lists objects do not say of which kind they are; the list does.
    assert first["kind"] == "PodList" and "kind" not in first["items"][0]
    await cluster.create(pod("bb", "shop"))
    names, more = [], first["metadata"]["continue"]
    while more:
        page = await cluster.call("GET", ALL, **{"limit": 2, "continue": more})
        assert version(page) == version(first)
        names += [one["metadata"]["name"] for one in page["items"]]
        more = page["metadata"].get("continue")
    assert names == ["c", "d", "e"]
    assert len((await cluster.call("GET", ALL))["items"]) == 6


async def test_a_page_of_a_moment_that_is_forgotten(cluster: Kube) -> None:
    for name in "abc":
        await cluster.create(pod(name, "shop"))
    first = await cluster.call("GET", ALL, limit=1)
    await cluster.create(pod("d", "shop"))
    await compact(cluster)
    code, said = await refusal(cluster, ALL, limit="1", **{"continue": first["metadata"]["continue"]})
    assert (code, said["reason"]) == (410, "Expired")
    # What goes on from there is another moment's.
    more = said["metadata"]["continue"]
    page = await cluster.call("GET", ALL, **{"continue": more})
    assert [one["metadata"]["name"] for one in page["items"]] == ["b", "c", "d"]
    assert version(page) != version(first)


async def test_a_watch_goes_on_from_a_list(cluster: Kube) -> None:
    one = await cluster.create(pod("one", "shop"))
    listed = version(await cluster.call("GET", ALL))
    changed = await cluster.status(one, running("one"))
    two = await cluster.create(pod("two", "shop"))
    found = await watch(cluster, listed)
    assert await found.next() == ("MODIFIED", changed)
    assert await found.next() == ("ADDED", two)
    await cluster.delete(one)
    type, marked = await found.next()
    assert type == "MODIFIED" and marked["metadata"]["deletionTimestamp"]
    type, last = await found.next()
    assert (type, last["metadata"]["uid"]) == ("DELETED", one["metadata"]["uid"])
    # Its version is that of its end, from which one may go on.
    assert version(last) not in (version(changed), version(two))
    three = await cluster.create(pod("three", "shop"))
    again = await watch(cluster, version(last))
    assert await again.next() == ("ADDED", three)
    found.answer.close()
    again.answer.close()


async def test_a_watch_ends_when_it_is_told_to_with_a_bookmark_before(cluster: Kube) -> None:
    listed = version(await cluster.call("GET", ALL))
    found = await watch(cluster, listed, timeoutSeconds="4", allowWatchBookmarks="true")
    # A real one knows nothing to mark before something has happened.
    newest = await cluster.create(pod("one", "shop"))
    assert await found.next() == ("ADDED", newest)
    type, mark = await found.next()
    assert (type, mark["kind"]) == ("BOOKMARK", "Pod")
    assert int(version(mark)) >= int(version(newest))
    assert not mark["metadata"].get("name")
    while (line := await found.answer.content.readline()) != b"":
        assert json.loads(line)["type"] == "BOOKMARK"
    silent = await watch(cluster, version(mark), timeoutSeconds="1")
    await silent.end()


async def test_a_watch_from_what_is_forgotten(cluster: Kube) -> None:
    await cluster.create(pod("one", "shop"))
    await compact(cluster)
    found = await watch(cluster, "1", timeoutSeconds="5")
    type, said = await found.next()
    assert (type, said["kind"], said["code"]) == ("ERROR", "Status", 410)
    assert said["reason"] in ("Expired", "Gone")
    await found.end()


async def test_who_may_not(cluster: Kube) -> None:
    wrong = http("wrong", cluster.real.trust if cluster.real else None)
    async with wrong:
        code, said = await refusal(Kube(cluster.url, wrong), ALL)
    assert (code, said["reason"], said["message"]) == (401, "Unauthorized", "Unauthorized")
    if cluster.real is None:
        cluster.server.forbidden.add(("list", "replicasets"))
        code, said = await refusal(cluster, "/apis/apps/v1/replicasets")
    else:
        async with http(kube_apiserver.NOBODY, cluster.real.trust) as nobody:
            code, said = await refusal(Kube(cluster.url, nobody), "/apis/apps/v1/replicasets")
    assert (code, said["reason"]) == (403, "Forbidden")
    assert 'cannot list resource "replicasets" in API group "apps" at the cluster scope' in said["message"]


async def test_what_is_not_there(cluster: Kube) -> None:
    async with cluster.http.get(cluster.url + "/apis/nobody.example/v1/things") as answer:
        assert (answer.status, await answer.text()) == (404, "404 page not found\n")
    code, said = await refusal(cluster, f"{ALL}/nothing")
    assert (code, said["reason"], said["message"]) == (404, "NotFound", 'pods "nothing" not found')
