"""Resource pools: manifests write them, jobs live in them, their limits hold (jobs contract, section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.jobs.api.pools import DEFAULT_PATH, id_of
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as svc
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.respool import respool_pb2
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2 as pb
from shared.pb.roundhouse.admin.v1 import admin_pb2
from tests.contract.jobs_yard import RUNNING, Yard, opened, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-pools")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PENDING = pod_pb2.POD_STATE_PENDING


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


def pool(path: str, **limits: float) -> dict[str, Any]:
    return {
        "path": path,
        "spec": {"resources": [{"kind": kind, "limit": limit} for kind, limit in limits.items()]},
    }


async def info(yard: Yard, path: str, **fields: Any) -> pb.GetResourcePoolResponse:
    request = pb.GetResourcePoolRequest(**fields)
    request.respool_id.value = id_of(path)
    return await yard.call("GetResourcePool", request)


async def remove(yard: Yard, path: str) -> None:
    await yard.call("Delete", admin_pb2.DeleteRequest(kind="resource_pool", name=id_of(path)))


async def test_the_first_start_makes_the_root_and_a_leaf(yard: Yard) -> None:
    found = (await yard.call("QueryResourcePools", pb.QueryResourcePoolsRequest())).respools
    by_path = {one.path.value: one for one in found}
    root, leaf = by_path["/"], by_path[DEFAULT_PATH]
    assert (root.respool_id.value, root.HasField("parent")) == ("root", False)
    assert leaf.respool_id.value in [child.value for child in root.children]
    assert (leaf.parent.value, leaf.spec.name, list(leaf.children)) == ("root", "DefaultResPool", [])
    assert leaf.spec.parent.value == "root"
    lookup = pb.LookupResourcePoolIDRequest(path={"value": DEFAULT_PATH})
    assert (await yard.call("LookupResourcePoolID", lookup)).respool_id == leaf.respool_id


async def test_a_manifest_makes_a_tree(yard: Yard) -> None:
    revision = await yard.apply(resource_pools=[pool("/ml/train", cpu=2), pool("/ml", cpu=4, memory=1000)])
    found = await info(yard, "/ml", include_child_pools=True)
    assert [one.path.value for one in found.child_respools] == ["/ml/train"]
    assert found.respool.spec.revision.version == 1
    assert [(one.kind, one.limit) for one in found.respool.spec.resources] == [("cpu", 4), ("memory", 1000)]
    assert await yard.apply(resource_pools=[pool("/ml/train", cpu=2)]) == revision
    await yard.apply(resource_pools=[pool("/ml/train", cpu=3)])
    assert (await info(yard, "/ml/train")).respool.spec.revision.version == 2
    assert not (await info(yard, "/ml")).child_respools


@pytest.mark.parametrize(
    ("pools", "field"),
    [
        ([{}], "resource_pools[0].path"),
        ([pool("x")], "resource_pools[0].path"),
        ([pool("//x")], "resource_pools[0].path"),
        ([pool("/x/")], "resource_pools[0].path"),
        ([pool("/-x")], "resource_pools[0].path"),
        ([pool("/ä")], "resource_pools[0].path"),
        ([pool("/" + "x" * 64)], "resource_pools[0].path"),
        ([pool("/a" * 9)], "resource_pools[0].path"),
        ([pool("/no/parent")], "resource_pools[0].path"),
        ([pool("/x"), pool("/x")], "resource_pools[1]"),
        ([pool("/x", cpu=-1)], "resource_pools[0].spec.resources[0].limit"),
        ([pool("/x", disk=1)], "resource_pools[0].spec.resources[0].kind"),
        ([{"path": "/x", "spec": {"resources": [{"kind": "cpu"}, {"kind": "cpu"}]}}],
         "resource_pools[0].spec.resources[1].kind"),
        ([{"path": "/x", "spec": {"resources": [{"kind": "cpu", "reservation": 1}]}}],
         "resource_pools[0].spec.resources[0].reservation"),
        ([{"path": "/x", "spec": {"resources": [{"kind": "cpu", "share": 1}]}}],
         "resource_pools[0].spec.resources[0].share"),
        ([{"path": "/x", "spec": {"resources": [{"kind": "cpu", "type": "RESERVATION_TYPE_STATIC"}]}}],
         "resource_pools[0].spec.resources[0].type"),
        ([{"path": "/x", "spec": {"slack_limit": {"maxPercent": 1}}}], "resource_pools[0].spec.slack_limit"),
        ([{"path": "/x", "id": "mine"}], "resource_pools[0].id"),
        ([{"path": "/x", "spec": {"name": "y"}}], "resource_pools[0].spec.name"),
        ([{"path": "/x/y", "spec": {"parent": {"value": "root"}}}], "resource_pools[0].spec.parent"),
        ([pool("/x", cpu=1), pool("/x/y", cpu=2)], "resource_pools[1].spec.resources[0].limit"),
    ],
)  # fmt: skip
async def test_manifests_that_are_wrong(yard: Yard, pools: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await yard.apply(resource_pools=pools)
    assert caught.value.code() is INVALID
    assert field in (caught.value.details() or "")


async def test_a_parent_cannot_have_less_than_its_children(yard: Yard) -> None:
    await yard.apply(resource_pools=[pool("/big", cpu=8), pool("/big/one", cpu=6)])
    with pytest.raises(grpc.aio.AioRpcError, match="is 6 cpu; /big has 4"):
        await yard.apply(resource_pools=[pool("/big", cpu=4)])
    await yard.apply(resource_pools=[pool("/big", cpu=4), pool("/big/one", cpu=4)])


async def test_what_is_in_use_stays(yard: Yard) -> None:
    await yard.apply(resource_pools=[pool("/used"), pool("/parent"), pool("/parent/child")])
    job = await yard.job(pool=id_of("/used"))
    for path, word in (("/used", job.id), ("/parent", "/parent"), ("/", "always stays")):
        request = admin_pb2.DeleteRequest(kind="resource_pool", name=id_of(path))
        await yard.fails(PRECONDITION, "Delete", request, word)
    await job.delete()
    for path in ("/used", "/parent/child", "/parent"):
        await remove(yard, path)
        request = pb.GetResourcePoolRequest(respool_id={"value": id_of(path)})
        await yard.fails(NOT_FOUND, "GetResourcePool", request)


async def test_creations_and_a_removal_at_once_leave_no_job_without_a_pool(yard: Yard) -> None:
    for number in range(5):
        path = f"/racy-{number}"
        await yard.apply(resource_pools=[pool(path)])
        request = svc.CreateJobRequest(spec=yard.spec(pool=id_of(path)))
        outcomes = await asyncio.gather(
            *(yard.call("CreateJob", request) for _ in range(3)), remove(yard, path), return_exceptions=True
        )
        made = [one for one in outcomes[:3] if not isinstance(one, BaseException)]
        gone = outcomes[3] is None
        assert gone == (await yard.store.get("resource_pool", id_of(path)) is None)
        assert not (made and gone)


async def test_reads_of_pools(yard: Yard) -> None:
    root = await yard.call("GetResourcePool", pb.GetResourcePoolRequest())
    assert root.respool.path.value == "/"
    unknown = pb.GetResourcePoolRequest(respool_id={"value": "x" * 300})
    await yard.fails(NOT_FOUND, "GetResourcePool", unknown)
    for path in ("", "x", "DefaultResPool", "/x/"):
        request = pb.LookupResourcePoolIDRequest(path={"value": path})
        await yard.fails(INVALID, "LookupResourcePoolID", request, "path")
    request = pb.LookupResourcePoolIDRequest(path={"value": "/unknown"})
    await yard.fails(NOT_FOUND, "LookupResourcePoolID", request, "/unknown")


async def usage(yard: Yard, path: str) -> dict[str, float]:
    found: respool_pb2.ResourcePoolInfo = (await info(yard, path)).respool
    return {one.kind: one.allocation for one in found.usages}


async def test_limits_hold_and_what_waits_goes_when_there_is_room(yard: Yard) -> None:
    await yard.apply(resource_pools=[pool("/tight", cpu=3), pool("/tight/a", cpu=2), pool("/tight/b")])
    one = await yard.job(count=2, pool=id_of("/tight/a"), resource={"cpu_limit": 1.0, "mem_limit_mb": 10})
    two = await yard.job(
        count=3, pool=id_of("/tight/b"), resource={"cpu_limit": 0.5, "mem_limit_mb": 10}, settle=False
    )
    waiting = await until(
        two.pods,
        lambda found: (
            sorted(status.state for status in found.values()) == [PENDING, RUNNING, RUNNING]
            and all(status.message for status in found.values() if status.state == PENDING)
        ),
    )
    [pending] = [status for status in waiting.values() if status.state == PENDING]
    assert "/tight" in pending.message and "cpu" in pending.message
    assert await usage(yard, "/tight") == {"cpu": 3, "memory": 40, "gpu": 0}
    assert await usage(yard, "/tight/a") == {"cpu": 2, "memory": 20, "gpu": 0}
    await one.stop_pod(0)
    await two.until_over()
    assert await usage(yard, "/tight") == {"cpu": 2.5, "memory": 40, "gpu": 0}
    await one.start_pod(0)
    await one.until_pod(PENDING, 0, 2)
    # A greater limit counts at once.
    await yard.apply(resource_pools=[pool("/tight", cpu=4)])
    await one.until_pod(RUNNING, 0, 2)
    # A smaller one ends nothing.
    await yard.apply(resource_pools=[pool("/tight", cpu=2)])
    await yard.advance(1)
    assert all(status.state == RUNNING for status in (await two.pods()).values())
