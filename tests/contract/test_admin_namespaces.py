"""The admin API in multi-user mode: nobody sees or touches what is in other people's namespaces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from tests.contract.pipelines_yard import Yard, opened

DENIED = StatusCode.PERMISSION_DENIED
KIND = "experiment"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Yard]:
    """`operator` lives in ns1; m1 is there, m2 in ns2."""
    async with opened(tmp_path, multi_user=True) as yard:
        user = access_pb2.User(subject="operator", role="operator", namespaces=["ns1"])
        await yard.call(yard.access.PutUser, access_pb2.PutUserRequest(user=user), "admin")
        await apply(yard, entry("m1", "ns1"), entry("m2", "ns2"), who="admin")
        yield yard


def entry(name: str, namespace: str, **more: str) -> dict[str, str]:
    return {"display_name": name, "experiment_id": name, "namespace": namespace, **more}


def manifest(*entries: dict[str, str], **more: Any) -> pb.ApplyRequest:
    return pb.ApplyRequest(manifest=json.dumps({"experiments": entries}), **more)


async def apply(yard: Yard, *entries: dict[str, str], who: str = "operator", **more: Any) -> pb.ApplyResponse:
    return await yard.call(yard.admin.Apply, manifest(*entries, **more), who)


async def test_lists_exports_and_watches_show_ones_own(house: Yard) -> None:
    for who, names in (("operator", ["m1"]), ("admin", ["m1", "m2"]), ("viewer", [])):
        listed = await house.call(house.admin.List, pb.ListRequest(kind=KIND), who)
        assert ([o.name for o in listed.objects], listed.total_size) == (names, len(names))
        exported = house.admin.Export(pb.ExportRequest(), metadata=house.metadata(who))
        assert [found.name async for found in exported] == names
        watching = house.admin.Watch(pb.WatchRequest(kind=KIND), metadata=house.metadata(who))
        first = await watching.read()
        assert [change.current.name for change in first.changes] == names
        watching.cancel()


async def test_one_object_of_others_is_denied(house: Yard) -> None:
    for method, request in (
        (house.admin.Get, pb.GetRequest(kind=KIND, name="m2")),
        (house.admin.History, pb.HistoryRequest(kind=KIND, name="m2")),
        (house.admin.Delete, pb.DeleteRequest(kind=KIND, name="m2")),
    ):
        await house.fails(method, request, DENIED)
        await house.call(method, type(request)(kind=KIND, name="m1"))


@pytest.mark.parametrize(
    "wanted",
    [
        entry("new", "ns2"),
        entry("m2", "ns2"),
        entry("m2", "ns2", description="mine now"),
        entry("m2", "ns1"),
    ],
    ids=["created", "unchanged", "changed", "moved"],
)
async def test_a_manifest_reaches_ones_own_only(house: Yard, wanted: dict[str, str]) -> None:
    before = await house.store.head()
    await house.fails(house.admin.Apply, manifest(entry("mine", "ns1"), wanted), DENIED)
    assert await house.store.head() == before


async def test_pruning_removes_ones_own_only(house: Yard) -> None:
    answer = await apply(house, entry("mine", "ns1"), prune=True)
    assert {(d.name, d.action) for d in answer.differences} == {
        ("mine", pb.Difference.CREATE),
        ("m1", pb.Difference.DELETE),
    }
    left = await house.call(house.admin.List, pb.ListRequest(kind=KIND), "admin")
    assert {found.name for found in left.objects} == {"mine", "m2"}


async def test_a_token_of_another_scope_is_refused(house: Yard) -> None:
    page = await house.call(house.admin.List, pb.ListRequest(kind=KIND, page_size=1), "admin")
    request = pb.ListRequest(kind=KIND, page_size=1, page_token=page.next_page_token)
    assert (await house.fails(house.admin.List, request, StatusCode.INVALID_ARGUMENT)).fields == (
        "page_token",
    )


async def test_in_single_user_mode_there_are_no_namespaces_to_keep_to(yard: Yard) -> None:
    request = v2.CreateExperimentRequest(experiment=v2.Experiment(display_name="a"))
    await yard.call(yard.v2.CreateExperiment, request)
    assert (await yard.call(yard.admin.List, pb.ListRequest(kind=KIND), "viewer")).total_size == 1
