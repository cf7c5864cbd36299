"""Streams: they end when the caller may no longer read them, and there is a limit to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.pipelines.service import SERVICE
from shared.pb.backend.api.v2beta1 import experiment_pb2
from shared.pb.backend.api.v2beta1.experiment_pb2_grpc import ExperimentServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc import interceptors
from shared.service.testing import TestService, started
from shared.storage.port import Author
from tests.patience import PATIENCE

BY = Author("test")
WATCH = pb.WatchRequest(kind="experiment")


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(SERVICE, tmp_path, max_streams=3) as found:
        yield found


@pytest.fixture
async def channel(yard: TestService) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(yard.target) as opened:
        yield opened


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def create(channel: grpc.aio.Channel, yard: TestService, name: str) -> None:
    request = experiment_pb2.CreateExperimentRequest(experiment=experiment_pb2.Experiment(display_name=name))
    await ExperimentServiceStub(channel).CreateExperiment(request, metadata=bearer(yard.tokens["operator"]))


async def code_of(call: grpc.aio.UnaryStreamCall) -> grpc.StatusCode:
    """Reads until the stream ends."""
    async with asyncio.timeout(PATIENCE):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def fails_before_any_message(call: grpc.aio.UnaryStreamCall) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_idle_stream_ends_when_the_token_expires(
    yard: TestService, channel: grpc.aio.Channel
) -> None:
    access = yard.running.environment.access
    token, _ = await access.issue("brief", "viewer", timedelta(seconds=2), creator="test", by=BY)
    call = AdminServiceStub(channel).Watch(WATCH, metadata=bearer(token))
    assert (await call.read()).is_current
    assert await code_of(call) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_stream_ends_when_the_token_is_revoked(
    yard: TestService, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    """Before another message goes out, and by itself when there is none."""
    monkeypatch.setattr(interceptors, "_RECHECK", 0.0)
    monkeypatch.setattr(interceptors, "_QUIET", 0.05 if quiet else 3600.0)
    access = yard.running.environment.access
    token, record = await access.issue("brief", "viewer", timedelta(hours=1), creator="test", by=BY)
    call = AdminServiceStub(channel).Watch(WATCH, metadata=bearer(token))
    assert (await call.read()).is_current
    await access.revoke(record.id, BY)
    if not quiet:
        await create(channel, yard, "unseen")
    await fails_before_any_message(call)


async def test_more_streams_than_allowed_are_refused_and_ended_ones_make_room(
    yard: TestService, channel: grpc.aio.Channel
) -> None:
    stub, metadata = AdminServiceStub(channel), bearer(yard.tokens["viewer"])
    calls = [stub.Watch(WATCH, metadata=metadata) for _ in range(3)]
    for call in calls:
        assert (await call.read()).is_current
    assert await code_of(stub.Watch(WATCH, metadata=metadata)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    calls[0].cancel()
    async with asyncio.timeout(PATIENCE):
        while True:
            again = stub.Watch(WATCH, metadata=metadata)
            try:
                assert (await again.read()).is_current
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_messages_on_streams_are_counted(yard: TestService, channel: grpc.aio.Channel) -> None:
    call = AdminServiceStub(channel).Watch(WATCH, metadata=bearer(yard.tokens["viewer"]))
    assert (await call.read()).is_current
    await create(channel, yard, "seen")
    assert (await call.read()).is_current
    async with aiohttp.ClientSession() as session, session.get(f"{yard.url}/metrics") as answer:
        metrics = await answer.text()
    found = {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "roundhouse_rpc_stream_messages_total"
    }
    watch = {"service": "roundhouse.admin.v1.AdminService", "method": "Watch", "transport": "grpc"}
    assert found == {tuple(sorted(watch.items())): 2}
    call.cancel()
