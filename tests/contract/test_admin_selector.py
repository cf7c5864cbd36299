"""Label selectors of the admin API: lists and watches of every kind that has labels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.rpc.client import failure_of
from tests.contract.jumpstarter_yard import PATIENCE, Lab, Yard, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=("memory", "sqlite", "mongomock"))
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), request.param) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lab(yard: Yard) -> Lab:
    """a, b and c are leased in that order, c's lease has a tag and b's has ended."""
    found = await yard.lab()
    for id, board in (("a", "rpi"), ("b", "rpi"), ("c", "imx")):
        await found.exporter(id, board=board, site="berlin")
        await found.create(f"board={board}", id=id, tags={"team": "x"} if id == "c" else {})
    await found.delete("b")
    await found.until_ended("b")
    return found


def admins(lab: Lab) -> tuple[tuple[str, str], ...]:
    return tuple(lab.yard.staff("admin").items())


async def listed(lab: Lab, kind: str, **fields: Any) -> pb.ListResponse:
    fields = {"filter": f'namespace = "{lab.namespace}"'} | fields
    request = pb.ListRequest(kind=kind, **fields)
    return await lab.yard.admin.List(request, metadata=admins(lab), timeout=PATIENCE)


def ids(found: pb.ListResponse) -> list[str]:
    return [object.name.rpartition("/")[2] for object in found.objects]


@pytest.mark.parametrize(
    ("kind", "selector", "expected"),
    [
        ("exporter", "", ["a", "b", "c"]),
        ("exporter", "board=rpi", ["a", "b"]),
        ("exporter", "board in (imx, jetson),site", ["c"]),
        ("exporter", "board!=rpi", ["c"]),
        ("exporter", "!site", []),
        ("lease", "board=rpi", ["a", "b"]),
        ("lease", "board=rpi,!jumpstarter.dev/lease-ended", ["a"]),
        ("lease", "metadata.jumpstarter.dev/team=x", ["c"]),
        ("client", "board", []),
    ],
)
async def test_a_list_is_chosen_by_labels(lab: Lab, kind: str, selector: str, expected: list[str]) -> None:
    found = await listed(lab, kind, selector=selector)
    assert (ids(found), found.total_size) == (expected, len(expected))


async def test_a_filter_and_a_selector_must_both_be_met(lab: Lab) -> None:
    filter = f'namespace = "{lab.namespace}" AND ended = true'
    assert ids(await listed(lab, "lease", filter=filter, selector="board=rpi")) == ["b"]
    assert ids(await listed(lab, "lease", filter=filter, selector="board=imx")) == []


async def test_pages_belong_to_their_selector(lab: Lab) -> None:
    first = await listed(lab, "exporter", selector="board=rpi", page_size=1)
    token = first.next_page_token
    second = await listed(lab, "exporter", selector="board=rpi", page_size=1, page_token=token)
    assert (ids(first), ids(second), second.next_page_token) == (["a"], ["b"], "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(lab, "exporter", selector="board", page_size=1, page_token=token)
    assert [v.field for v in failure_of(caught.value).violations] == ["page_token"]


@pytest.mark.parametrize("kind", ["exporter", "access_policy"])
async def test_what_cannot_be_chosen_by_is_said(lab: Lab, kind: str) -> None:
    for call in (
        lab.yard.admin.List(pb.ListRequest(kind=kind, selector="board in ("), metadata=admins(lab)),
        lab.yard.admin.Watch(pb.WatchRequest(kind=kind, selector="board in ("), metadata=admins(lab)).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(PATIENCE):
                await call
        failure = failure_of(caught.value)
        assert failure.code is INVALID
        assert [v.field for v in failure.violations] == ["selector"]
        assert ("position" if kind == "exporter" else "access_policies have no labels") in failure.message


async def test_a_watch_tells_what_comes_to_match_and_what_does_not_any_more(lab: Lab) -> None:
    request = pb.WatchRequest(
        kind="lease", filter=f'namespace = "{lab.namespace}"', selector="!jumpstarter.dev/lease-ended"
    )
    call = lab.yard.admin.Watch(request, metadata=admins(lab))
    try:
        async with asyncio.timeout(PATIENCE):
            first = await call.read()
            assert [change.current.name for change in first.changes] == [
                lab.lease_name("a"),
                lab.lease_name("c"),
            ]
            await lab.delete("c")
            while not (
                removed := [change.removed for change in (await call.read()).changes if change.removed]
            ):
                pass
        assert removed == [lab.lease_name("c")]
    finally:
        call.cancel()
