"""Listen and Dial of jumpstarter.v1.ControllerService, sentence by sentence of the contract's section 5."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from grpc import StatusCode

from services.jumpstarter.api import controller_service
from services.jumpstarter.leasing.engine import Engine
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.roundhouse.lab.v1 import lab_pb2
from tests.contract.jumpstarter_callers import AVAILABLE, FREE, LEASE_READY, OFFLINE, Desk, told
from tests.contract.jumpstarter_yard import HOUR, Lab, Yard, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-dial")]
INVALID = StatusCode.INVALID_ARGUMENT
DENIED = StatusCode.PERMISSION_DENIED
NOT_FOUND = StatusCode.NOT_FOUND
PRECONDITION = StatusCode.FAILED_PRECONDITION
UNAVAILABLE = StatusCode.UNAVAILABLE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def desk(yard: Yard) -> Desk:
    return Desk(await yard.lab())


async def test_both_ends_get_the_same_place_and_token(desk: Desk) -> None:
    bench = await desk.leased()
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
    bench = await desk.leased(status=status)
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
    bench = await desk.leased(status=status)
    listen = await desk.listening(bench, "one")
    said = f"exporter is not ready (status: {word})"
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), PRECONDITION, desk.alice, said)
    listen.cancel()


async def test_a_dial_waits_for_an_exporter_that_is_about_to_serve(desk: Desk) -> None:
    bench = await desk.leased(status=AVAILABLE)
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
    bench = await desk.leased(status=AVAILABLE)
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
    bench = await desk.leased(status=AVAILABLE)
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
    bench = await desk.leased(status=AVAILABLE)
    listen = await desk.listening(bench, "one")
    said = "exporter is not ready (status: Available)"
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), PRECONDITION, desk.alice, said)
    listen.cancel()


async def test_a_dial_that_waits_learns_what_became_of_the_lease(desk: Desk) -> None:
    bench = await desk.leased(status=AVAILABLE)
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
    await desk.leased()
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="one"), UNAVAILABLE, desk.alice)


async def test_an_exporter_that_does_not_read_is_dialled_only_so_often(desk: Desk) -> None:
    bench = await desk.leased()
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
    bench = await desk.leased()
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
    bench = await desk.leased()
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
    bench = await desk.leased()
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
    bench = await desk.leased()
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
