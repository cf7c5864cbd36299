"""jumpstarter.v1.ControllerService, sentence by sentence of the contract's sections 5 and 7."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from services.jumpstarter.api import controller_service
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1.kubernetes_pb2 import LabelSelector, LabelSelectorRequirement
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2
from shared.service.testing import started
from shared.storage.port import Author, Put
from tests.contract.jumpstarter_callers import AVAILABLE, FREE, LEASE_READY, OFFLINE, Desk, told
from tests.contract.jumpstarter_yard import Caller, Clock, Yard, conditions, opened, until
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-controller")]
INVALID = StatusCode.INVALID_ARGUMENT
DENIED = StatusCode.PERMISSION_DENIED
NOT_FOUND = StatusCode.NOT_FOUND
PRECONDITION = StatusCode.FAILED_PRECONDITION
UNAVAILABLE = StatusCode.UNAVAILABLE

STATUSES = [value for value in common.ExporterStatus.values() if value != common.EXPORTER_STATUS_UNSPECIFIED]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def desk(yard: Yard) -> Desk:
    return Desk(await yard.lab())


# -- Register, ReportStatus, Unregister


async def test_register_replaces_an_exporters_own_labels_and_no_others(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi", example_com__rack="r7")
    uid = (await desk.lab.stored("bench")).uid
    labels = {
        "jumpstarter.dev/model": "four",
        "jumpstarter.dev/rev": "a",
        "board": "stolen",
        "new": "ignored",
    }
    reports = [
        pb.DriverInstanceReport(uuid="1", labels={"jumpstarter.dev/name": "root"}),
        pb.DriverInstanceReport(
            uuid="2", parent_uuid="1", description="switch", methods_description={"on": "x"}
        ),
    ]
    request = pb.RegisterRequest(labels=labels, reports=reports)
    assert (await desk.call(desk.controller.Register, request, bench)).uuid == uid
    stored = await desk.lab.stored("bench")
    assert stored.labels == {
        "board": "rpi",
        "example.com/rack": "r7",
        "jumpstarter.dev/model": "four",
        "jumpstarter.dev/rev": "a",
    }
    assert list(stored.devices) == reports
    assert stored.registered

    request = pb.RegisterRequest(labels={"jumpstarter.dev/rev": "b"})
    assert (await desk.call(desk.controller.Register, request, bench)).uuid == uid
    stored = await desk.lab.stored("bench")
    assert stored.labels == {"board": "rpi", "example.com/rack": "r7", "jumpstarter.dev/rev": "b"}
    assert not stored.devices
    assert stored.registered


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"jumpstarter.dev/a b": ""}, "labels['jumpstarter.dev/a b']"),
        ({"jumpstarter.dev/": "x"}, "labels['jumpstarter.dev/']"),
        ({"jumpstarter.dev/a": "no blanks"}, "labels['jumpstarter.dev/a']"),
        ({"jumpstarter.dev/a": "x" * 64}, "labels['jumpstarter.dev/a']"),
        ({f"jumpstarter.dev/{n}": "x" for n in range(65)}, "labels"),
    ],
)
async def test_labels_that_no_selector_could_name_are_refused(
    desk: Desk, labels: dict[str, str], field: str
) -> None:
    bench = await desk.exporter("bench")
    before = await desk.lab.stored("bench")
    await desk.fails(desk.controller.Register, pb.RegisterRequest(labels=labels), INVALID, bench, field)
    assert await desk.lab.stored("bench") == before


async def test_an_exporter_that_was_never_seen(desk: Desk) -> None:
    await desk.lab.exporter("bench", free=False)
    seen = await desk.seen(await desk.lab.exporter_caller("bench"))
    assert (seen.online, seen.status, seen.status_message) == (False, 0, "Never seen")


@pytest.mark.parametrize("status", STATUSES)
async def test_a_reported_status_is_shown_and_tells_whether_it_is_online(
    desk: Desk, status: common.ExporterStatus
) -> None:
    bench = await desk.exporter("bench")
    await desk.report(bench, status, message="said so")
    seen = await desk.seen(bench)
    assert (seen.status, seen.status_message) == (status, "said so")
    assert seen.online == (status != OFFLINE)
    stored = await desk.lab.stored("bench")
    assert stored.last_seen.ToNanoseconds() == desk.yard.clock.now
    await desk.report(bench, common.EXPORTER_STATUS_UNSPECIFIED)
    seen = await desk.seen(bench)
    assert (seen.online, seen.status, seen.status_message) == (False, 0, "")


async def test_a_status_that_does_not_exist_is_refused_and_a_long_message_cut(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    for number in (8, -1, 2**31 - 1):
        request = pb.ReportStatusRequest(status=number)  # type: ignore[arg-type]  # what is tested
        await desk.fails(desk.controller.ReportStatus, request, INVALID, bench, "status")
    await desk.report(bench, message="x" * 100_000)
    seen = await desk.seen(bench)
    assert (seen.status, len(seen.status_message)) == (AVAILABLE, controller_service.MESSAGE_LENGTH)
    await desk.call(desk.controller.Unregister, pb.UnregisterRequest(reason="x" * 100_000), bench)
    assert len((await desk.seen(bench)).status_message) == controller_service.MESSAGE_LENGTH


async def test_unregister_takes_everything_back(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    report = pb.DriverInstanceReport(uuid="1")
    await desk.call(desk.controller.Register, pb.RegisterRequest(reports=[report]), bench)
    await desk.call(desk.controller.Unregister, pb.UnregisterRequest(reason="Exporter shutdown"), bench)
    seen = await desk.seen(bench)
    assert (seen.online, seen.status, seen.status_message) == (False, OFFLINE, "Exporter shutdown")
    stored = await desk.lab.stored("bench")
    assert (list(stored.devices), stored.registered) == ([], False)
    await desk.call(desk.controller.Unregister, pb.UnregisterRequest(), bench)
    assert (await desk.seen(bench)).status_message
    # It is not given away by its status alone, only once it registers again.
    await desk.report(bench)
    await desk.lab.create("board=rpi", id="one")
    assert conditions(await desk.lab.get("one")) == ["Pending=True/Offline"]
    await desk.call(desk.controller.Register, pb.RegisterRequest(), bench)
    assert (await desk.lab.get("one")).exporter == bench.name


async def test_report_status_may_release_the_lease(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    await desk.lab.create("board=rpi", id="one")
    await desk.report(bench, LEASE_READY)
    await desk.report(bench, common.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, release_lease=True)
    assert conditions(await desk.lab.get("one")) == ["Ready=False/Released"]
    # Without a lease the status counts all the same.
    await desk.report(bench, AVAILABLE, release_lease=True)
    assert (await desk.seen(bench)).status == AVAILABLE
    await desk.lab.create("board=rpi", id="two")
    await desk.report(bench, AVAILABLE, release_lease=False)
    assert (await desk.lab.get("two")).exporter == bench.name


async def test_neither_a_leased_exporter_nor_its_leaseholder_is_removed(desk: Desk) -> None:
    bench, bob = await desk.exporter("bench", board="rpi"), await desk.lab.client("bob")
    await desk.lab.create("board=rpi", id="one")
    await desk.lab.create("board=rpi", id="two")

    async def refused(who: Caller, *said: str) -> None:
        request = admin_pb2.DeleteRequest(kind=who.kind.lower(), name=who.name)
        await desk.fails(desk.yard.admin.Delete, request, PRECONDITION, desk.admin, *said)

    await refused(bench, "is leased by", desk.lab.lease_name("one"))
    await refused(desk.alice, "has the active lease", "release or transfer it first")
    await desk.lab.update("one", client=bob.name)
    await refused(desk.alice, "has the active lease", desk.lab.lease_name("two"))
    await refused(bob, "has the active lease", desk.lab.lease_name("one"))
    await desk.lab.delete("two")
    await desk.remove(desk.alice)
    await desk.lab.delete("one", bob)
    await desk.remove(bench)
    await desk.remove(bob)


# -- Status


async def test_status_tells_the_state_at_once_and_each_change(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    bob = await desk.lab.client("bob")
    stream = desk.status(bench)
    assert told(await stream.next()) == FREE
    await desk.lab.create("board=rpi", id="one", context={"ticket": "7"})
    assert told(await stream.next()) == (True, "one", "alice", {"ticket": "7"})
    # What an exporter says of itself, and a change of times, is no news to it.
    await desk.report(bench, LEASE_READY)
    await desk.lab.update("one", duration=1800)
    await desk.lab.update("one", client=bob.name)
    assert told(await stream.next()) == (True, "one", "bob", {"ticket": "7"})
    await desk.lab.delete("one", bob)
    assert told(await stream.next()) == FREE
    await desk.report(bench)
    again = desk.status(bench)
    assert told(await again.next()) == FREE
    await desk.lab.create("board=rpi", id="two")
    for each in (stream, again):
        assert told(await each.next()) == (True, "two", "alice", {})
        each.cancel()


async def test_status_of_a_leased_exporter_begins_with_its_lease(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    await desk.lab.create("board=rpi", id="one")
    stream = desk.status(bench)
    assert told(await stream.next()) == (True, "one", "alice", {})
    stream.cancel()


async def test_an_exporter_is_told_of_the_end_before_the_next_lease(desk: Desk) -> None:
    """Also when it still reports AVAILABLE, so that the next lease gets it in the same moment."""
    bench = await desk.exporter("bench", board="rpi")
    stream = desk.status(bench)
    assert told(await stream.next()) == FREE
    await desk.lab.create("board=rpi", id="one")
    assert told(await stream.next()) == (True, "one", "alice", {})
    await desk.lab.create("board=rpi", id="two")
    await desk.lab.delete("one")
    assert told(await stream.next()) == FREE
    assert told(await stream.next()) == (True, "two", "alice", {})
    stream.cancel()


async def test_it_is_told_of_the_end_also_when_both_are_one_change(desk: Desk) -> None:
    """As a peer's changes may arrive that were made while this process looked elsewhere."""
    bench = await desk.exporter("bench", board="rpi")
    stream = desk.status(bench)
    assert told(await stream.next()) == FREE
    for id in ("one", "two"):
        await desk.lab.create("board=rpi", id=id)
    assert told(await stream.next()) == (True, "one", "alice", {})
    exporter = await desk.lab.stored("bench")
    ending, next_ = await desk.lab.stored_lease("one"), await desk.lab.stored_lease("two")
    ending.released = ending.ended = True
    exporter.lease, next_.exporter = next_.name, bench.name
    next_.effective_begin_time.FromNanoseconds(desk.yard.clock())
    await desk.yard.store.commit(
        [
            Put(kind, one.name, one.SerializeToString(deterministic=True), desk.lab.parent)
            for kind, one in (("exporter", exporter), ("lease", ending), ("lease", next_))
        ],
        by=Author("test", "test:lease:swap"),
    )
    assert told(await stream.next()) == FREE
    assert told(await stream.next()) == (True, "two", "alice", {})
    stream.cancel()


async def test_an_open_status_stream_keeps_an_exporter_online(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        desk = Desk(await yard.lab())
        await desk.exporter("silent")
        bench = await desk.exporter("bench")
        stream = desk.status(bench)
        assert told(await stream.next()) == FREE
        silent = await desk.lab.exporter_caller("silent")
        for _ in range(10):
            await yard.advance(11)
            await until(lambda: desk.seen(bench), lambda seen: seen.online)
        lost = await until(lambda: desk.seen(silent), lambda seen: not seen.online)
        assert lost.status == OFFLINE
        assert "lost" in lost.status_message.lower()
        assert (await desk.seen(bench)).status == AVAILABLE

        # The stream's end changes nothing until it was silent for too long.
        stream.cancel()
        await until(lambda: desk.lab.stored("bench"), lambda stored: not stored.controller)
        assert (await desk.seen(bench)).online
        await yard.advance(91)
        assert (await until(lambda: desk.seen(bench), lambda seen: not seen.online)).status == OFFLINE

        # And its next one makes it online again, without a status until it reports one.
        stream = desk.status(bench)
        assert told(await stream.next()) == FREE
        back = await desk.seen(bench)
        assert (back.online, back.status) == (True, common.EXPORTER_STATUS_UNSPECIFIED)
        stream.cancel()


async def test_an_exporter_that_reconnects_is_told_of_the_same_lease(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    await desk.lab.create("board=rpi", id="one")
    await desk.report(bench, OFFLINE)
    assert (await desk.lab.get("one")).exporter == bench.name
    assert conditions(await desk.lab.get("one")) == ["Ready=True/Ready"]
    stream = desk.status(bench)
    assert told(await stream.next()) == (True, "one", "alice", {})
    stream.cancel()


async def test_streams_end_with_unavailable_when_the_process_stops(tmp_path: Path) -> None:
    """Real exporters spin on OK, and wait longer on anything else (contract, section 10)."""
    async with AsyncExitStack() as callers, AsyncExitStack() as process:
        clock = Clock()
        service = await process.enter_async_context(started(SERVICE, tmp_path, clock=clock, stop_grace="1h"))
        channel = await callers.enter_async_context(grpc.aio.insecure_channel(service.target))
        http = await callers.enter_async_context(aiohttp.ClientSession())
        desk = Desk(await Yard(service, http, channel, clock).lab())
        bench = await desk.exporter("bench", board="rpi")
        await desk.lab.create("board=rpi", id="one")
        stream = desk.status(bench)
        await stream.next()
        listen = await desk.listening(bench, "one")
        await desk.report(bench, AVAILABLE)
        dial = asyncio.ensure_future(
            desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), UNAVAILABLE, desk.alice)
        )
        ends = asyncio.gather(stream.failure(), listen.failure())
        await desk.seen(bench)
        async with asyncio.timeout(PATIENCE):
            await process.aclose()
            assert [failure.code for failure in await ends] == [UNAVAILABLE, UNAVAILABLE]
            await dial


async def test_a_process_that_stops_writes_once_and_not_of_each_exporter(tmp_path: Path) -> None:
    async with opened(tmp_path, "sqlite") as yard:
        desk = Desk(await yard.lab())
        exporters = [await desk.exporter(id) for id in ("a", "b")]
        streams = [desk.status(one) for one in exporters]
        for stream in streams:
            assert told(await stream.next()) == FREE
    async with opened(tmp_path, "sqlite") as yard:
        for one in exporters:
            entries = await yard.store.audit(kind="exporter", name=one.name)
            actions = [entry.by.action for entry in entries]
            assert "grpc:exporter:attach" in actions and "controller:exporter:detach" not in actions


# -- leases by the older API


async def test_request_get_list_and_release(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi", site="berlin")
    selector = LabelSelector(
        match_labels={"board": "rpi"},
        match_expressions=[
            LabelSelectorRequirement(key="rack", operator="NotIn", values=["r8", "r7"]),
            LabelSelectorRequirement(key="site", operator="Exists"),
            LabelSelectorRequirement(key="broken", operator="DoesNotExist"),
        ],
    )
    request = pb.RequestLeaseRequest(duration=Duration(seconds=60), selector=selector)
    name = (await desk.call(desk.controller.RequestLease, request, desk.alice)).name
    assert name[14] == "7"  # UUIDv7
    public = await desk.lab.get(name)
    assert public.selector == "board=rpi,!broken,rack notin (r7,r8),site"
    assert (public.client, public.exporter) == (desk.alice.name, bench.name)

    got = await desk.call(desk.controller.GetLease, pb.GetLeaseRequest(name=name), desk.alice)
    assert got.duration == Duration(seconds=60)
    assert dict(got.selector.match_labels) == {"board": "rpi"}
    expressions = [(e.key, e.operator, list(e.values)) for e in got.selector.match_expressions]
    assert expressions == [
        ("broken", "DoesNotExist", []),
        ("rack", "NotIn", ["r7", "r8"]),
        ("site", "Exists", []),
    ]
    assert got.begin_time.ToNanoseconds() == desk.yard.clock.now
    assert not got.HasField("end_time")
    assert got.exporter_uuid == (await desk.lab.stored("bench")).uid
    assert [(c.type, c.status, c.reason) for c in got.conditions] == [("Ready", "True", "Ready")]

    names = (await desk.call(desk.controller.ListLeases, pb.ListLeasesRequest(), desk.alice)).names
    assert list(names) == [name]
    release = pb.ReleaseLeaseRequest(name=name)
    for _ in range(2):  # again is no error
        await desk.call(desk.controller.ReleaseLease, release, desk.alice)
        await desk.call(desk.controller.ReleaseLease, release, bench)
    assert conditions(await desk.lab.get(name)) == ["Ready=False/Released"]
    got = await desk.call(desk.controller.GetLease, pb.GetLeaseRequest(name=name), desk.alice)
    assert got.end_time.ToNanoseconds() == desk.yard.clock.now
    assert not (await desk.call(desk.controller.ListLeases, pb.ListLeasesRequest(), desk.alice)).names


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.RequestLeaseRequest(duration=Duration(seconds=1)), ["selector"]),
        (pb.RequestLeaseRequest(selector=LabelSelector(match_labels={"a": "b"})), ["duration"]),
        (
            pb.RequestLeaseRequest(
                selector=LabelSelector(match_labels={"a": "b"}), duration=Duration(seconds=-1)
            ),
            ["duration"],
        ),
        (
            pb.RequestLeaseRequest(
                selector=LabelSelector(match_labels={"a": "b"}), duration=Duration(seconds=2**62)
            ),
            ["duration"],
        ),
        (
            pb.RequestLeaseRequest(
                duration=Duration(seconds=1), selector=LabelSelector(match_labels={"a b": "c d"})
            ),
            ["selector.match_labels['a b']", "selector.match_labels['a b']"],
        ),
        (
            pb.RequestLeaseRequest(
                duration=Duration(seconds=1),
                selector=LabelSelector(
                    match_expressions=[LabelSelectorRequirement(key="a", operator="Like")]
                ),
            ),
            ["selector.match_expressions[0].operator"],
        ),
    ],
)
async def test_a_lease_that_makes_no_sense_is_refused(
    desk: Desk, request_: pb.RequestLeaseRequest, fields: list[str]
) -> None:
    failure = await desk.fails(desk.controller.RequestLease, request_, INVALID, desk.alice)
    assert [violation.field for violation in failure.violations] == fields


async def test_get_lease_is_for_its_owner(desk: Desk) -> None:
    await desk.leased()
    bob, get = await desk.lab.client("bob"), desk.controller.GetLease
    await desk.fails(get, pb.GetLeaseRequest(name="one"), DENIED, bob, "permission denied")
    await desk.fails(get, pb.GetLeaseRequest(name="two"), NOT_FOUND, bob)
    await desk.fails(get, pb.GetLeaseRequest(), INVALID, bob, "name")


async def test_list_leases_are_the_callers_own(desk: Desk) -> None:
    bench = await desk.leased()
    bob = await desk.lab.client("bob")
    await desk.lab.create("board=rpi", id="two", who=bob)
    await desk.lab.create("board=rpi", id="a-third")
    listing = pb.ListLeasesRequest()
    assert list((await desk.call(desk.controller.ListLeases, listing, desk.alice)).names) == [
        "a-third",
        "one",
    ]
    assert list((await desk.call(desk.controller.ListLeases, listing, bob)).names) == ["two"]
    await desk.lab.update("one", client=bob.name)
    assert list((await desk.call(desk.controller.ListLeases, listing, bob)).names) == ["one", "two"]
    assert (await desk.lab.get("one")).exporter == bench.name


async def test_a_lease_is_released_by_its_owner_or_by_what_it_holds(desk: Desk) -> None:
    bench = await desk.leased()
    bob, other = await desk.lab.client("bob"), await desk.exporter("other", board="jetson")
    release, request = desk.controller.ReleaseLease, pb.ReleaseLeaseRequest(name="one")
    await desk.fails(release, request, DENIED, bob, "permission denied")
    await desk.fails(release, request, PRECONDITION, other, "does not hold")
    await desk.fails(release, pb.ReleaseLeaseRequest(name="nothing"), NOT_FOUND, bench)
    await desk.fails(release, pb.ReleaseLeaseRequest(name="nothing"), NOT_FOUND, bob)
    await desk.fails(release, pb.ReleaseLeaseRequest(), INVALID, bench, "name")
    await desk.call(release, request, bench)
    assert conditions(await desk.lab.get("one")) == ["Ready=False/Released"]
    await desk.fails(release, request, PRECONDITION, other, "does not hold")
    await desk.fails(release, request, DENIED, bob)


async def test_a_lease_that_has_ended_by_itself_is_released_without_a_trace(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    await desk.lab.create("board=rpi", id="one", duration=60)
    await desk.yard.advance(61)
    await desk.lab.until_ended("one")
    before = await desk.lab.stored_lease("one")
    for who in (desk.alice, bench):
        await desk.call(desk.controller.ReleaseLease, pb.ReleaseLeaseRequest(name="one"), who)
    assert await desk.lab.stored_lease("one") == before


async def test_a_lease_that_waits_is_released_too(desk: Desk) -> None:
    await desk.leased()
    await desk.lab.create("board=rpi", id="two")
    await desk.call(desk.controller.ReleaseLease, pb.ReleaseLeaseRequest(name="two"), desk.alice)
    assert "Ready=False/Released" in conditions(await desk.lab.get("two"))


# -- the rest of the service


async def test_there_are_no_further_endpoints_and_no_audit_streams(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    answer = await desk.call(desk.controller.GetServiceEndpoints, pb.GetServiceEndpointsRequest(), bench)
    assert not answer.telemetry_endpoints

    async def records() -> AsyncIterator[pb.AuditStreamRequest]:
        yield pb.AuditStreamRequest(severity="info")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        metadata = tuple(bench.metadata.items())
        await desk.controller.AuditStream(records(), metadata=metadata, timeout=PATIENCE)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def test_the_queue_tells_who_waits_for_what_and_why(desk: Desk) -> None:
    bench = await desk.leased()
    other = await desk.exporter("other", board="jetson")
    await desk.lab.create("board=jetson", id="taken")
    bob = await desk.lab.client("bob")
    desk.yard.clock.now += 10**9
    await desk.lab.create("board=rpi", id="first")
    desk.yard.clock.now += 10**9
    await desk.lab.create("board=jetson", id="second", who=bob)
    await desk.lab.create("", id="later", exporter_name="bench", begin_time=desk.yard.clock.now + 10**12)

    async def queue(exporter: str = "") -> list[tuple[str, str, int, str]]:
        request = lab_service_pb2.ListQueueRequest(parent=desk.lab.parent, exporter=exporter)
        found = await desk.call(desk.operators.ListQueue, request, desk.yard.staff("admin"))
        return [
            (w.lease.rpartition("/")[2], w.client.rpartition("/")[2], w.position, w.pending.reason)
            for w in found.waiting
        ]

    everyone = [
        ("first", "alice", 1, "NotAvailable"),
        ("second", "bob", 2, "NotAvailable"),
        ("later", "alice", 0, ""),
    ]
    assert await queue() == everyone
    assert await queue(bench.name) == [everyone[0], everyone[2]]
    assert await queue(other.name) == [everyone[1]]
    await desk.lab.delete("first")
    assert await queue() == [("second", "bob", 1, "NotAvailable"), everyone[2]]

    admin = desk.yard.staff("admin")
    for parent, exporter, code, said in (
        ("lab", "", INVALID, "parent"),
        (desk.lab.parent, "bench", INVALID, "exporter"),
        (desk.lab.parent, f"{desk.lab.parent}/exporters/nobody", NOT_FOUND, "not found"),
        (desk.lab.parent, "namespaces/elsewhere/exporters/bench", DENIED, "namespace mismatch"),
    ):
        request = lab_service_pb2.ListQueueRequest(parent=parent, exporter=exporter)
        await desk.fails(desk.operators.ListQueue, request, code, admin, said)
    viewer = await desk.user("vic", "viewer", "elsewhere")
    request = lab_service_pb2.ListQueueRequest(parent=desk.lab.parent)
    await desk.fails(desk.operators.ListQueue, request, DENIED, viewer, "--add-namespace")


async def test_who_wrote_what_is_on_record(desk: Desk) -> None:
    bench = await desk.exporter("bench", board="rpi")
    request = pb.RequestLeaseRequest(
        duration=Duration(seconds=60), selector=LabelSelector(match_labels={"board": "rpi"})
    )
    name = (await desk.call(desk.controller.RequestLease, request, desk.alice)).name
    await desk.call(desk.controller.ReleaseLease, pb.ReleaseLeaseRequest(name=name), bench)
    store = desk.yard.store
    entries = await store.audit(kind="lease", name=desk.lab.lease_name(name))
    subjects = [(entry.by.subject.split(":")[0], entry.by.action) for entry in entries]
    assert subjects == [("exporter", "grpc:lease:release"), ("client", "grpc:lease:create")]
    entries = await store.audit(kind="exporter", name=bench.name)
    assert {"grpc:exporter:register", "grpc:exporter:report_status"} <= {e.by.action for e in entries}
