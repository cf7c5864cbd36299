"""jumpstarter.v1.ControllerService, sentence by sentence of the contract's sections 5 and 7."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from services.jumpstarter.api import controller_service
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1.kubernetes_pb2 import LabelSelector, LabelSelectorRequirement
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2, lab_service_pb2
from shared.service.testing import started
from shared.storage.port import Author, Put
from tests.contract.jumpstarter_callers import AVAILABLE, LEASE_READY, OFFLINE, Desk
from tests.contract.jumpstarter_yard import HOUR, Caller, Clock, Lab, Yard, conditions, opened, until
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


def told(message: pb.StatusResponse) -> tuple[bool, str | None, str | None, dict[str, str]]:
    lease = message.lease_name if message.HasField("lease_name") else None
    client = message.client_name if message.HasField("client_name") else None
    return message.leased, lease, client, dict(message.context)


FREE: tuple[bool, None, None, dict[str, str]] = (False, None, None, {})


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


# -- Listen and Dial


async def leased(desk: Desk, id: str = "one", status: common.ExporterStatus = LEASE_READY) -> Any:
    """An exporter in that status, leased by alice."""
    bench = await desk.exporter("bench", board="rpi")
    await desk.lab.create("board=rpi", id=id)
    await desk.report(bench, status)
    return bench


async def test_both_ends_get_the_same_place_and_token(desk: Desk) -> None:
    bench = await leased(desk)
    listen = await desk.listening(bench, "one")
    tls = desk.yard.service.running.environment.tls
    assert tls is not None
    tokens = set()
    for _ in range(3):
        answer = await desk.dial("one")
        heard = await listen.next()
        assert (heard.router_endpoint, heard.router_token) == (answer.router_endpoint, answer.router_token)
        assert answer.router_endpoint == tls.endpoint
        tokens.add(answer.router_token)
    assert len(tokens) == 3
    listen.cancel()


@pytest.mark.parametrize(
    "status",
    [
        common.EXPORTER_STATUS_UNSPECIFIED,
        common.EXPORTER_STATUS_BEFORE_LEASE_HOOK,
        common.EXPORTER_STATUS_AFTER_LEASE_HOOK,
        LEASE_READY,
    ],
)
async def test_these_states_take_connections(desk: Desk, status: common.ExporterStatus) -> None:
    bench = await leased(desk, status=status)
    listen = await desk.listening(bench, "one")
    assert (await desk.dial("one")).router_token == (await listen.next()).router_token
    listen.cancel()


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (OFFLINE, "Offline"),
        (common.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, "BeforeLeaseHookFailed"),
        (common.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED, "AfterLeaseHookFailed"),
    ],
)
async def test_these_states_are_refused_at_once(desk: Desk, status: common.ExporterStatus, word: str) -> None:
    bench = await leased(desk, status=status)
    listen = await desk.listening(bench, "one")
    said = f"exporter is not ready (status: {word})"
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), PRECONDITION, desk.alice, said)
    listen.cancel()


async def test_a_dial_waits_for_an_exporter_that_is_about_to_serve(desk: Desk) -> None:
    bench = await leased(desk, status=AVAILABLE)
    listen = await desk.listening(bench, "one")
    dial = asyncio.ensure_future(desk.dial("one"))
    # What is no answer does not end the wait.
    await desk.report(bench, AVAILABLE, message="almost")
    assert not dial.done()
    await desk.report(bench, LEASE_READY)
    async with asyncio.timeout(PATIENCE):
        assert (await dial).router_token == (await listen.next()).router_token
    listen.cancel()


async def test_a_dial_waits_quietly_when_the_lease_was_changed_after_its_exporter(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, read = itertools.count(1), Engine.get

    async def counted(engine: Engine, name: str) -> lab_pb2.Lease:
        assert next(looks) < 100, "it looks again though nothing has changed, and nobody else is served"
        return await read(engine, name)

    monkeypatch.setattr(Engine, "get", counted)
    bench = await leased(desk, status=AVAILABLE)
    await desk.lab.update("one", duration=2 * HOUR)
    listen = await desk.listening(bench, "one")
    dial = asyncio.ensure_future(desk.dial("one"))
    await desk.report(bench, AVAILABLE, message="almost")
    await desk.lab.update("one", duration=3 * HOUR)
    assert not dial.done()
    await desk.report(bench, LEASE_READY)
    async with asyncio.timeout(PATIENCE):
        assert (await dial).router_token == (await listen.next()).router_token
    listen.cancel()


async def test_a_dial_that_waits_learns_of_a_transfer(desk: Desk) -> None:
    bench = await leased(desk, status=AVAILABLE)
    bob = await desk.lab.client("bob")
    request = pb.DialRequest(lease_name="one")
    waiting = asyncio.ensure_future(
        desk.fails(desk.controller.Dial, request, DENIED, desk.alice, "permission denied")
    )
    stream = desk.status(bench)
    await stream.next()
    await desk.lab.update("one", client=bob.name)
    async with asyncio.timeout(PATIENCE):
        await waiting
    stream.cancel()


async def test_a_dial_waits_no_longer_than_it_may(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert controller_service.DIAL_PATIENCE == 30
    monkeypatch.setattr(controller_service, "DIAL_PATIENCE", 0.05)
    bench = await leased(desk, status=AVAILABLE)
    listen = await desk.listening(bench, "one")
    said = "exporter is not ready (status: Available)"
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), PRECONDITION, desk.alice, said)
    listen.cancel()


async def test_a_dial_that_waits_learns_what_became_of_the_lease(desk: Desk) -> None:
    bench = await leased(desk, status=AVAILABLE)
    request = pb.DialRequest(lease_name="one")
    waiting = asyncio.ensure_future(
        desk.fails(desk.controller.Dial, request, PRECONDITION, desk.alice, "lease not active")
    )
    stream = desk.status(bench)
    await stream.next()
    await desk.lab.delete("one")
    async with asyncio.timeout(PATIENCE):
        await waiting
    stream.cancel()


async def test_a_dial_without_a_listener_is_to_be_tried_again(desk: Desk) -> None:
    await leased(desk)
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), UNAVAILABLE, desk.alice)


async def test_an_exporter_that_does_not_read_is_dialled_only_so_often(desk: Desk) -> None:
    bench = await leased(desk)
    narrow = [("grpc.http2.lookahead_bytes", 0), ("grpc.http2.bdp_probe", 0)]
    answers = []
    async with grpc.aio.insecure_channel(desk.yard.service.target, options=narrow) as channel:
        listen = await desk.listening(bench, "one", channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            # The connection itself holds some.
            for _ in range(1000):
                answers.append(await desk.dial("one"))
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert len(answers) >= 8
        for answer in answers:
            assert (await listen.next()).router_token == answer.router_token
        listen.cancel()


async def test_dials_are_refused_for_what_is_no_lease_of_the_caller(desk: Desk) -> None:
    bench = await leased(desk)
    listen = await desk.listening(bench, "one")
    bob, dial = await desk.lab.client("bob"), desk.controller.Dial
    await desk.fails(dial, pb.DialRequest(), INVALID, desk.alice, "lease_name")
    await desk.fails(dial, pb.DialRequest(lease_name="a/b"), INVALID, desk.alice, "lease_name")
    await desk.fails(dial, pb.DialRequest(lease_name="x" * 5000), INVALID, desk.alice, "lease_name")
    await desk.fails(dial, pb.DialRequest(lease_name="nothing"), NOT_FOUND, desk.alice)
    request = pb.DialRequest(lease_name="one")
    await desk.fails(dial, request, DENIED, bob, "permission denied")
    await desk.lab.create("board=rpi", id="two")
    waiting = pb.DialRequest(lease_name="two")
    await desk.fails(dial, waiting, PRECONDITION, desk.alice, "lease not active")
    await desk.lab.update("one", client=bob.name)
    await desk.fails(dial, request, DENIED, desk.alice, "permission denied")
    assert await desk.dial("one", bob)
    await desk.lab.delete("one", bob)
    failure = await desk.fails(dial, request, PRECONDITION, bob, "lease not active")
    assert "expired" not in failure.message
    listen.cancel()


async def test_only_the_exporter_that_is_leased_listens(desk: Desk) -> None:
    bench = await leased(desk)
    other = await desk.exporter("other", board="jetson")
    await desk.lab.create("board=rpi", id="waiting")

    async def refused(who: Any, lease: str) -> Any:
        return await desk.stream(desk.controller.Listen, pb.ListenRequest(lease_name=lease), who).failure()

    for who, lease in ((other, "one"), (bench, "waiting"), (bench, "nothing")):
        failure = await refused(who, lease)
        assert (failure.code, "permission denied" in failure.message) == (DENIED, True)
    for lease in ("", "A b", "a/b"):
        failure = await refused(bench, lease)
        assert (failure.code, failure.violations[0].field) == (INVALID, "lease_name")
    await desk.lab.delete("one")
    assert (await refused(bench, "one")).code is DENIED


async def test_a_newer_listen_takes_over(desk: Desk) -> None:
    bench = await leased(desk)
    first = await desk.listening(bench, "one")
    ended = asyncio.ensure_future(first.failure())
    second = desk.stream(desk.controller.Listen, pb.ListenRequest(lease_name="one"), bench)
    async with asyncio.timeout(PATIENCE):
        failure = await ended
    assert failure.code is UNAVAILABLE
    answer = await desk.dial("one")
    assert (await second.next()).router_token == answer.router_token
    second.cancel()


async def test_a_listen_outlives_its_lease(desk: Desk) -> None:
    """The exporter closes it (contract, section 10)."""
    bench = await leased(desk)
    listen = await desk.listening(bench, "one")
    answer = await desk.dial("one")
    await desk.lab.delete("one")
    assert (await listen.next()).router_token == answer.router_token
    stream = desk.status(bench)
    assert told(await stream.next()) == FREE
    reading = asyncio.ensure_future(listen.next())
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    assert not done
    reading.cancel()
    for each in (stream, listen):
        each.cancel()


async def test_exporters_and_clients_may_call_different_processes(tmp_path: Path) -> None:
    async with opened(tmp_path, "sqlite") as one, opened(tmp_path, "sqlite") as two:
        here, there = Desk(await one.lab()), Desk(Lab(two, "lab-1"))
        there.lab.alice = here.alice
        bench = await here.exporter("bench", board="rpi")
        stream = here.status(bench)
        assert told(await stream.next()) == FREE
        made = await there.lab.create("board=rpi")
        assert made.exporter == bench.name
        id = made.name.rpartition("/")[2]
        assert told(await stream.next()) == (True, id, "alice", {})
        listen = await here.listening(bench, id)
        dial = asyncio.ensure_future(there.dial(id))
        await here.report(bench, LEASE_READY)
        async with asyncio.timeout(PATIENCE):
            answer = await dial
        heard = await listen.next()
        assert (heard.router_endpoint, heard.router_token) == (answer.router_endpoint, answer.router_token)
        tls = one.service.running.environment.tls
        assert tls is not None
        assert answer.router_endpoint == tls.endpoint
        # Changes of another process may come all at once.
        await here.report(bench)
        await there.lab.create("board=rpi", id="next")
        await there.lab.delete(id)
        assert told(await stream.next()) == FREE
        assert told(await stream.next()) == (True, "next", "alice", {})
        await there.lab.delete("next")
        assert told(await stream.next()) == FREE
        await there.remove(bench)
        await there.lab.exporter("bench", free=False, board="rpi")
        failure = await stream.failure()
        assert (failure.code, "was removed" in failure.message) == (DENIED, True)
        listen.cancel()


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
    await leased(desk)
    bob, get = await desk.lab.client("bob"), desk.controller.GetLease
    await desk.fails(get, pb.GetLeaseRequest(name="one"), DENIED, bob, "permission denied")
    await desk.fails(get, pb.GetLeaseRequest(name="two"), NOT_FOUND, bob)
    await desk.fails(get, pb.GetLeaseRequest(), INVALID, bob, "name")


async def test_list_leases_are_the_callers_own(desk: Desk) -> None:
    bench = await leased(desk)
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
    bench = await leased(desk)
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
    await leased(desk)
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
    bench = await leased(desk)
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
