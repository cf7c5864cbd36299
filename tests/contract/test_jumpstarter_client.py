"""jumpstarter.client.v1.ClientService over gRPC, sentence by sentence of the contract's section 2."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from grpc import StatusCode

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from shared.pb.jumpstarter.v1 import common_pb2 as common
from tests.contract.jumpstarter_yard import HOUR, Lab, Yard, as_json, opened, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-client")]
INVALID = StatusCode.INVALID_ARGUMENT
DENIED = StatusCode.PERMISSION_DENIED
NOT_FOUND = StatusCode.NOT_FOUND
PRECONDITION = StatusCode.FAILED_PRECONDITION


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["memory", "sqlite"])
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    settings = {
        "jumpstarter_hidden_labels": "secret,serial",
        "jumpstarter_deprecated_labels": "serial=use uid,type=use board",
    }
    async with opened(tmp_path_factory.mktemp("yard"), request.param, **settings) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lab(yard: Yard) -> Lab:
    return await yard.lab()


# -- 2.1 names and namespaces


def requests(parent: str) -> dict[str, object]:
    return {
        "GetExporter": pb.GetExporterRequest(name=f"{parent}/exporters/x"),
        "ListExporters": pb.ListExportersRequest(parent=parent),
        "GetLease": pb.GetLeaseRequest(name=f"{parent}/leases/x"),
        "ListLeases": pb.ListLeasesRequest(parent=parent),
        "CreateLease": pb.CreateLeaseRequest(parent=parent, lease=pb.Lease(selector="a")),
        "UpdateLease": pb.UpdateLeaseRequest(lease=pb.Lease(name=f"{parent}/leases/x")),
        "DeleteLease": pb.DeleteLeaseRequest(name=f"{parent}/leases/x"),
        "RotateToken": pb.RotateTokenRequest(parent=parent),
    }


@pytest.mark.parametrize("method", requests(""))
async def test_another_namespace_is_not_touched(lab: Lab, method: str) -> None:
    request = requests("namespaces/elsewhere")[method]
    await lab.fails(DENIED, method, request, "namespace mismatch")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", requests(""))
async def test_a_name_is_checked_before_who_calls(lab: Lab, method: str) -> None:
    nobody = {"authorization": lab.alice.metadata["authorization"]}
    request = requests("namespace/x")[method]
    await lab.yard.fails(INVALID, method, request, nobody, "'namespaces' is expected")  # type: ignore[arg-type]
    request = requests(lab.parent)[method]
    await lab.yard.fails(INVALID, method, request, nobody, "jumpstarter-kind")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["ListExporters", "ListLeases"])
async def test_who_calls_is_checked_before_the_filter(lab: Lab, method: str) -> None:
    request = requests("namespaces/elsewhere")[method]
    request.filter = "a in"  # type: ignore[attr-defined]
    await lab.fails(DENIED, method, request, "namespace mismatch")  # type: ignore[arg-type]


async def test_every_client_sees_every_exporter_and_lease(lab: Lab) -> None:
    bob = await lab.client("bob")
    await lab.exporter("bench")
    await lab.create("board", id="hers")
    assert (await lab.get("hers", who=bob)).client == lab.alice.name
    assert await lab.leases(bob, only_active=False) == ["hers"]
    assert await lab.boards() == ["bench"]


# -- 2.3 paging


async def walk(lab: Lab, size: int, **fields: object) -> list[list[str]]:
    """The ids of each page of exporters."""
    pages: list[list[str]] = []
    token = ""
    while True:
        request = pb.ListExportersRequest(parent=lab.parent, page_size=size, page_token=token, **fields)  # type: ignore[arg-type]
        found = await lab.yard.call("ListExporters", request, lab.alice.metadata)
        pages.append([one.name.rpartition("/")[2] for one in found.exporters])
        token = found.next_page_token
        if not token:
            return pages


async def test_pages_in_the_order_of_names(lab: Lab) -> None:
    await lab.exporters(["b", "a", "c.d", "c-d", "c", "10", "9"])
    every = ["10", "9", "a", "b", "c", "c-d", "c.d"]
    assert await walk(lab, 0) == [every], "0: no limit"
    assert await walk(lab, 3) == [every[:3], every[3:6], every[6:]]
    assert await walk(lab, 7) == [every], "an empty token on the last page"
    assert await walk(lab, 2**31 - 1) == [every]


async def test_a_token_is_of_its_query(lab: Lab) -> None:
    await lab.exporters(["a", "b", "c"], board="rpi", site="x")

    def request(**fields: object) -> pb.ListExportersRequest:
        return pb.ListExportersRequest(**({"parent": lab.parent, "page_size": 1} | fields))  # type: ignore[arg-type]

    first = await lab.yard.call("ListExporters", request(filter="board=rpi,site"), lab.alice.metadata)
    token = first.next_page_token
    # The page's size may change, and the filter's spelling; what it means may not.
    again = request(filter="site, board==rpi", page_token=token, page_size=5, show_hidden_labels=True)
    found = await lab.yard.call("ListExporters", again, lab.alice.metadata)
    assert [one.name.rpartition("/")[2] for one in found.exporters] == ["b", "c"]
    for wrong in (request(page_token=token), request(filter="board=rpi", page_token=token)):
        await lab.fails(INVALID, "ListExporters", wrong, "page_token", "of another query")
    leases = pb.ListLeasesRequest(parent=lab.parent, filter="board=rpi,site", page_token=token)
    await lab.fails(INVALID, "ListLeases", leases, "page_token", "of another query")
    other = await lab.yard.lab()
    stray = pb.ListExportersRequest(parent=other.parent, filter="board=rpi,site", page_token=token)
    await other.fails(INVALID, "ListExporters", stray, "page_token", "of another query")
    await lab.fails(INVALID, "ListExporters", request(page_token="x"), "page_token")
    await lab.fails(INVALID, "ListExporters", request(page_size=-1), "page_size")


async def test_pages_of_leases(lab: Lab) -> None:
    for id in ("c", "a", "b"):
        await lab.create("board=rpi", id=id, begin_time=lab.yard.clock() + 10**12, tags={"t": id})
    request = pb.ListLeasesRequest(parent=lab.parent, page_size=2, filter="board=rpi")
    first = await lab.yard.call("ListLeases", request, lab.alice.metadata)
    assert [one.tags["t"] for one in first.leases] == ["a", "b"]
    request.page_token = first.next_page_token
    second = await lab.yard.call("ListLeases", request, lab.alice.metadata)
    assert [one.tags["t"] for one in second.leases] == ["c"] and not second.next_page_token
    for change in ({"only_active": False}, {"tag_filter": "t"}, {"filter": "board"}):
        same = {"parent": lab.parent, "filter": "board=rpi", "page_token": request.page_token}
        wrong = pb.ListLeasesRequest(**(same | change))  # type: ignore[arg-type]
        await lab.fails(INVALID, "ListLeases", wrong, "page_token")
    request.only_active = True
    found = await lab.yard.call("ListLeases", request, lab.alice.metadata)
    assert len(found.leases) == 1, "absent means true"


# -- 2.4 exporters


async def test_filters_over_labels(lab: Lab) -> None:
    await lab.exporter("a", board="rpi4", slots="2", example_com__rack="r7")
    await lab.exporter("b", board="rpi5", slots="10", site="")
    await lab.exporter("c", slots="many")
    for text, said in {
        "": "a b c",
        "board=rpi4": "a",
        "board!=rpi4": "b c",
        "board in (rpi4,rpi5),example.com/rack": "a",
        "board notin (rpi4)": "b c",
        "!board": "c",
        "slots>2": "b",
        "slots<3": "a",
        "site=": "b",
        "board=rpi4,board=rpi5": "",
    }.items():
        assert " ".join(await lab.boards(text)) == said, text
    wrong = pb.ListExportersRequest(parent=lab.parent, filter="board in ()")
    failure = await lab.fails(INVALID, "ListExporters", wrong, "filter")
    assert failure.position == 10


async def test_hidden_and_deprecated_labels(lab: Lab) -> None:
    await lab.exporter("a", board="rpi", secret="1", serial="2", type="3")

    async def shown(**fields: bool) -> tuple[dict[str, str], dict[str, str]]:
        request = pb.GetExporterRequest(name=f"{lab.parent}/exporters/a", **fields)
        found = await lab.yard.call("GetExporter", request, lab.alice.metadata)
        listing = pb.ListExportersRequest(parent=lab.parent, **fields)
        assert (await lab.yard.call("ListExporters", listing, lab.alice.metadata)).exporters == [found]
        return dict(found.labels), dict(found.deprecated_labels)

    deprecated = {"serial": "use uid", "type": "use board"}
    assert await shown() == ({"board": "rpi"}, deprecated)
    every = {"board": "rpi", "secret": "1", "serial": "2", "type": "3"}
    assert await shown(show_hidden_labels=True) == (every, deprecated)
    assert await lab.boards("secret=1,serial=2,type") == ["a"], "filters see all of them"
    await lab.exporter("b", board="rpi")
    request = pb.GetExporterRequest(name=f"{lab.parent}/exporters/b")
    found = await lab.yard.call("GetExporter", request, lab.alice.metadata)
    assert not found.deprecated_labels, "only those that it carries"


async def test_an_exporter_as_it_is(lab: Lab) -> None:
    async def seen() -> pb.Exporter:
        request = pb.GetExporterRequest(name=f"{lab.parent}/exporters/a")
        return await lab.yard.call("GetExporter", request, lab.alice.metadata)

    await lab.exporter("a", free=False)
    assert as_json(await seen()) == {
        "name": f"{lab.parent}/exporters/a",
        "statusMessage": "Never seen",
        "enabled": True,
    }
    await lab.state("a", common.EXPORTER_STATUS_LEASE_READY, "fine")
    found = await seen()
    assert (found.online, found.status, found.status_message) == (
        True,
        common.EXPORTER_STATUS_LEASE_READY,
        "fine",
    )
    await lab.enable("a", False)
    found = await seen()
    assert found.HasField("enabled") and not found.enabled
    missing = pb.GetExporterRequest(name=f"{lab.parent}/exporters/b")
    failure = await lab.fails(NOT_FOUND, "GetExporter", missing, "exporters/b")
    assert failure.resource_name == missing.name


# -- 2.4 reading leases


async def test_a_lease_as_it_is(lab: Lab) -> None:
    await lab.exporter("a", board="rpi", type="x")
    made = await lab.create("type = x , board==rpi", id="mine", tags={"ci": "1"}, context={"job": "7"})
    assert made == await lab.get("mine")
    conditions = [as_json(one) for one in made.conditions]
    assert conditions[-1].items() >= {"type": "Ready", "status": "True", "reason": "Ready"}.items()
    found = as_json(made)
    del found["conditions"]
    begin = found.pop("effectiveBeginTime")
    assert begin.startswith("20") and begin.endswith("Z")
    assert found == {
        "name": lab.lease_name("mine"),
        "selector": "board=rpi,type=x",
        "duration": "3600s",
        "effectiveDuration": "0s",
        "client": lab.alice.name,
        "exporter": f"{lab.parent}/exporters/a",
        "tags": {"ci": "1"},
        "context": {"job": "7"},
        "deprecatedLabels": {"type": "use board"},
    }
    missing = pb.GetLeaseRequest(name=lab.lease_name("none"))
    failure = await lab.fails(NOT_FOUND, "GetLease", missing, "leases/none")
    assert failure.resource_name == missing.name


async def test_elapsed_time(lab: Lab) -> None:
    await lab.exporter("a")
    made = await lab.create(exporter_name="a", id="mine")
    assert not made.HasField("effective_end_time")
    await lab.yard.advance(60.5)
    found = await lab.get("mine")
    assert found.effective_duration.ToMilliseconds() == 60_500
    await lab.delete("mine")
    await lab.yard.advance(10)
    found = await lab.get("mine")
    assert found.effective_duration.ToMilliseconds() == 60_500
    lasted = found.effective_end_time.ToNanoseconds() - found.effective_begin_time.ToNanoseconds()
    assert lasted == 60_500_000_000


async def test_a_lease_that_never_began_has_no_effective_times(lab: Lab) -> None:
    await lab.create("board=none", id="mine")
    found = await lab.until_ended("mine")
    for field in ("effective_duration", "effective_begin_time", "effective_end_time", "exporter"):
        assert not found.HasField(field), field  # type: ignore[arg-type]


async def test_active_leases_and_all(lab: Lab) -> None:
    await lab.exporter("a")
    await lab.create(exporter_name="a", id="one")
    await lab.create(exporter_name="a", id="two")
    await lab.delete("one")
    assert await lab.leases() == ["two"]
    assert await lab.leases(only_active=True) == ["two"]
    assert await lab.leases(only_active=False) == ["one", "two"]
    assert await lab.leases(only_active=False, filter="jumpstarter.dev/lease-ended=true") == ["one"]
    assert await lab.leases(only_active=True, filter="jumpstarter.dev/lease-ended=true") == []


async def test_filters_see_what_a_lease_asked_for(lab: Lab) -> None:
    later = lab.yard.clock() + 10**13
    await lab.create("board=rpi,site!=x,rack in (1,2),slot", id="a", begin_time=later, tags={"ci": "7"})
    await lab.create("board=jetson", id="b", begin_time=later, tags={"ci": "8", "team": "q"})
    for fields, said in (
        ({"filter": "board=rpi"}, "a"),
        ({"filter": "board"}, "a b"),
        ({"filter": "board in (jetson,x)"}, "b"),
        ({"filter": "rack"}, ""),
        ({"filter": "slot"}, ""),
        ({"filter": "site"}, ""),
        ({"filter": "!rack,board=rpi"}, "a"),
        ({"filter": "metadata.jumpstarter.dev/ci=7"}, "a"),
        ({"tag_filter": "ci=7"}, "a"),
        ({"tag_filter": "ci>7"}, "b"),
        ({"tag_filter": "!team"}, "a"),
        ({"tag_filter": "board"}, ""),
        ({"tag_filter": "ci", "filter": "board=jetson"}, "b"),
        ({"tag_filter": "team=q", "filter": "board=rpi"}, ""),
    ):
        assert " ".join(await lab.leases(**fields)) == said, fields
    for field, text in (("filter", "a in"), ("tag_filter", "a=b c"), ("tag_filter", "x.io/a")):
        wrong = pb.ListLeasesRequest(parent=lab.parent, **{field: text})
        await lab.fails(INVALID, "ListLeases", wrong, field)


async def test_why_a_lease_waits_is_told_as_of_now_in_lists_too(lab: Lab) -> None:
    await lab.exporter("a", board="rpi")
    for id in ("held", "second", "third"):
        await lab.create("board=rpi", id=id)
        lab.yard.clock.now += 10**9

    async def told(id: str) -> tuple[str, str]:
        request = pb.ListLeasesRequest(parent=lab.parent)
        listed = await lab.yard.call("ListLeases", request, lab.alice.metadata)
        (found,) = [one for one in listed.leases if one.name == lab.lease_name(id)]
        assert found.conditions == (await lab.get(id)).conditions
        return found.conditions[0].reason, found.conditions[0].message

    leased = "1 exporter matches: 1 leased (for example a)"
    assert await told("second") == ("NotAvailable", f"{leased}; 1 of 2 in the queue")
    assert await told("third") == ("NotAvailable", f"{leased}; 2 of 2 in the queue")
    await lab.delete("second")
    assert await told("third") == ("NotAvailable", f"{leased}; 1 of 1 in the queue")
    await lab.state("a", common.EXPORTER_STATUS_OFFLINE)
    offline = "1 exporter matches: 1 offline (for example a); 1 of 1 in the queue"
    assert await until(lambda: told("third"), lambda found: found[0] == "Offline") == ("Offline", offline)
    assert await told("held") == ("Ready", "An exporter has been acquired: a")


# -- tokens


async def test_rotation(lab: Lab) -> None:
    request = pb.RotateTokenRequest(parent=lab.parent)
    first = await lab.yard.call("RotateToken", request, lab.alice.metadata)
    second = await lab.yard.call("RotateToken", request, lab.alice.metadata)
    assert len({first.token, second.token, lab.alice.token}) == 3, "in one second, too"
    lasts = first.expiry.ToNanoseconds() - lab.yard.clock()
    assert abs(lasts / 10**9 - 365 * 24 * HOUR) < 60, "a full lifetime"
    for token in (first.token, second.token, lab.alice.token):
        metadata = {**lab.alice.metadata, "authorization": f"Bearer {token}"}
        await lab.yard.call("ListLeases", pb.ListLeasesRequest(parent=lab.parent), metadata)


async def test_a_rotated_token_is_of_the_caller_alone(lab: Lab) -> None:
    bob = await lab.client("bob")
    request = pb.RotateTokenRequest(parent=lab.parent)
    token = (await lab.yard.call("RotateToken", request, lab.alice.metadata)).token
    metadata = {**bob.metadata, "authorization": f"Bearer {token}"}
    await lab.yard.fails(DENIED, "ListLeases", pb.ListLeasesRequest(parent=lab.parent), metadata)


# -- staff


async def test_staff_acts_as_the_client_that_it_names(lab: Lab) -> None:
    await lab.exporter("a")
    admin = lab.yard.staff("admin", name="alice", namespace=lab.namespace)
    made = await lab.yard.call("CreateLease", lab.creation(exporter_name="a", id="mine"), admin)
    assert made.client == lab.alice.name
    other = lab.yard.staff("admin", namespace=lab.namespace)
    found = await lab.yard.call("CreateLease", lab.creation(exporter_name="a", id="own"), other)
    assert found.client == f"{lab.parent}/clients/admin"
    await lab.yard.fails(DENIED, "DeleteLease", pb.DeleteLeaseRequest(name=made.name), other, "permission")
