"""LabService's lists: the board of exporters, leases by who has them, and one's namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc import StatusCode

from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.rpc.client import Failure, failure_of
from shared.storage.port import Author
from tests.contract.jumpstarter_yard import Caller, Lab, Yard, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module")]
BACKENDS = ("memory", "sqlite", "mongomock")
INVALID = StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), request.param) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lab(yard: Yard) -> Lab:
    return await yard.lab()


async def call(yard: Yard, method: str, request: Message, who: dict[str, str] | None = None) -> Any:
    metadata = tuple((who or yard.staff("admin")).items())
    return await getattr(LabServiceStub(yard.channel), method)(request, metadata=metadata, timeout=20)


async def fails(yard: Yard, method: str, request: Message, who: dict[str, str] | None = None) -> Failure:
    with pytest.raises(Exception) as caught:
        await call(yard, method, request, who)
    return failure_of(caught.value)  # type: ignore[arg-type]


async def board(lab: Lab, **fields: Any) -> pb.ListBoardResponse:
    return await call(lab.yard, "ListBoard", pb.ListBoardRequest(**{"parent": lab.parent, **fields}))


async def leases(lab: Lab, **fields: Any) -> pb.ListLeasesResponse:
    return await call(lab.yard, "ListLeases", pb.ListLeasesRequest(parent=lab.parent, **fields))


def ids(found: pb.ListBoardResponse) -> list[str]:
    return [slot.exporter.name.rpartition("/")[2] for slot in found.slots]


def counts(found: pb.ListBoardResponse) -> dict[str, int]:
    return {pb.Availability.Name(one.state): one.count for one in found.counts if one.count}


async def fill(lab: Lab) -> Caller:
    """a and b of board rpi are leased (b for less long), c is free, d never seen, e disabled; two
    leases wait for a rpi. Answers the client bob, who has every other one."""
    bob = await lab.client("bob")
    for id in "ab":
        await lab.exporter(id, board="rpi")
    await lab.exporter("c", board="imx")
    await lab.exporter("d", free=False, board="imx")
    await lab.exporter("e", enabled=False, board="rpi")
    await lab.create("board=rpi", id="1", duration=600)
    await lab.create("board=rpi", id="2", duration=300, who=bob)
    # Who waits is served in the order of time.
    await lab.yard.advance(1)
    await lab.create("board=rpi", id="3")
    await lab.yard.advance(1)
    await lab.create("board=rpi", id="4", who=bob)
    return bob


async def test_the_board_says_who_has_what_and_how_many_wait(lab: Lab) -> None:
    await fill(lab)
    found = await board(lab)
    assert ids(found) == ["a", "b", "c", "d", "e"]
    assert [pb.Availability.Name(slot.state) for slot in found.slots] == [
        "LEASED", "LEASED", "FREE", "OFFLINE", "DISABLED",
    ]  # fmt: skip
    assert [slot.waiting for slot in found.slots] == [2, 2, 0, 0, 2]
    assert found.slots[0].lease.client == lab.alice.name
    assert not found.slots[2].HasField("lease")
    assert counts(found) == {"LEASED": 2, "FREE": 1, "OFFLINE": 1, "DISABLED": 1}
    assert found.total_size == 5


async def test_the_board_is_filtered_by_labels_and_state_and_counts_by_labels_alone(lab: Lab) -> None:
    await fill(lab)
    found = await board(lab, filter="board in (rpi)", states=[pb.LEASED])
    assert ids(found) == ["a", "b"]
    assert counts(found) == {"LEASED": 2, "DISABLED": 1}
    assert found.total_size == 2
    one = await board(lab, exporter=f"{lab.parent}/exporters/d")
    assert ids(one) == ["d"] and counts(one) == {"OFFLINE": 1}


@pytest.mark.parametrize(
    "order,expected",
    [
        ("", "abcde"),
        ("name desc", "edcba"),
        ("state", "cabde"),
        ("state desc", "edbac"),
        ("until", "bacde"),
    ],
)
async def test_the_board_in_pages_is_the_board(lab: Lab, order: str, expected: str) -> None:
    await fill(lab)
    assert "".join(ids(await board(lab, order_by=order))) == expected
    told, token = "", ""
    while True:
        page = await board(lab, order_by=order, page_size=2, page_token=token)
        told += "".join(ids(page))
        token = page.next_page_token
        if not token:
            break
    assert told == expected


@pytest.mark.parametrize(
    "fields,field",
    [
        ({"filter": "board in ("}, "filter"),
        ({"order_by": "labels"}, "order_by"),
        ({"order_by": "name up"}, "order_by"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"exporter": "a"}, "exporter"),
        ({"parent": "lab"}, "parent"),
    ],
)
async def test_what_the_board_cannot_be_asked(lab: Lab, fields: dict[str, Any], field: str) -> None:
    failure = await fails(lab.yard, "ListBoard", pb.ListBoardRequest(**{"parent": lab.parent, **fields}))
    assert failure.code is INVALID
    assert [violation.field for violation in failure.violations] == [field]


async def test_a_token_is_of_its_own_list(lab: Lab) -> None:
    await fill(lab)
    token = (await board(lab, page_size=1)).next_page_token
    other = pb.ListBoardRequest(parent=lab.parent, page_size=1, page_token=token, filter="board=rpi")
    assert (await fails(lab.yard, "ListBoard", other)).violations[0].field == "page_token"
    token = (await leases(lab, page_size=1)).next_page_token
    another = pb.ListLeasesRequest(parent=lab.parent, page_size=1, page_token=token, only_active=True)
    assert (await fails(lab.yard, "ListLeases", another)).violations[0].field == "page_token"


async def test_leases_by_client_exporter_labels_tags_and_end(lab: Lab) -> None:
    bob = await fill(lab)
    await lab.create(id="5", exporter_name="c", tags={"build": "7"}, who=bob)
    await lab.delete("5", bob)
    assert (await leases(lab)).total_size == 5
    active = await leases(lab, only_active=True, order_by="create_time desc, name desc")
    assert [lease.name[-1] for lease in active.leases][:2] == ["4", "3"] and active.total_size == 4
    assert (await leases(lab, client=lab.alice.name)).total_size == 2
    assert (await leases(lab, client=bob.name, only_active=True, filter="board=rpi")).total_size == 2
    ended = await leases(lab, tag_filter="build=7", exporter=f"{lab.parent}/exporters/c")
    assert [lease.name[-1] for lease in ended.leases] == ["5"]
    assert ended.leases[0].ended


async def test_leases_in_pages_are_all_and_say_what_they_wait_for(lab: Lab) -> None:
    await fill(lab)
    told, token = [], ""
    while True:
        page = await leases(lab, order_by="create_time desc, name desc", page_size=3, page_token=token)
        told += page.leases
        token = page.next_page_token
        if not token:
            break
    assert [lease.name[-1] for lease in told] == ["4", "3", "2", "1"]
    assert "2 of 2 in the queue" in told[0].conditions[0].message
    assert "1 of 2 in the queue" in told[1].conditions[0].message


@pytest.mark.parametrize(
    "fields,field",
    [
        ({"filter": "="}, "filter"),
        ({"tag_filter": "a b"}, "tag_filter"),
        ({"client": "alice"}, "client"),
        ({"exporter": "namespaces/lab/clients/alice"}, "exporter"),
        ({"order_by": "nothing"}, "order_by"),
        ({"page_token": "x"}, "page_token"),
        ({"page_size": -1}, "page_size"),
    ],
)
async def test_what_leases_cannot_be_asked(lab: Lab, fields: dict[str, Any], field: str) -> None:
    failure = await fails(lab.yard, "ListLeases", pb.ListLeasesRequest(parent=lab.parent, **fields))
    assert failure.code is INVALID
    assert [violation.field for violation in failure.violations] == [field]


async def test_one_sees_the_namespaces_that_one_may_touch(lab: Lab) -> None:
    yard = lab.yard
    everywhere = await call(yard, "ListNamespaces", pb.ListNamespacesRequest())
    assert {"default", lab.namespace} <= set(everywhere.namespaces)
    assert everywhere.client == "admin"
    user = access_pb2.User(subject="Ann@example.org", role="operator", namespaces=["mine", "default"])
    admin = tuple(yard.staff("admin").items())
    await AccessServiceStub(yard.channel).PutUser(access_pb2.PutUserRequest(user=user), metadata=admin)
    access = yard.service.running.environment.access
    by = Author("test", "test:token:create")
    token, _ = await access.issue(user.subject, user.role, timedelta(hours=1), creator="test", by=by)
    ann = {"authorization": f"Bearer {token}"}
    mine = await call(yard, "ListNamespaces", pb.ListNamespacesRequest(), ann)
    assert list(mine.namespaces) == ["default", "mine"]
    assert mine.client.startswith("ann-example-org-")
    for method, request in (
        ("ListBoard", pb.ListBoardRequest(parent=lab.parent)),
        ("ListLeases", pb.ListLeasesRequest(parent=lab.parent)),
        ("ListQueue", pb.ListQueueRequest(parent=lab.parent)),
    ):
        failure = await fails(yard, method, request, ann)
        assert failure.code is StatusCode.PERMISSION_DENIED and lab.namespace in failure.message
