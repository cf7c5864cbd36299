"""What the yard's clients, exporters and staff call beside ClientService, each as itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from shared.pb.roundhouse.admin.v1 import access_pb2, admin_pb2
from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.pb.roundhouse.lab.v1 import lab_service_pb2
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.rpc.client import Failure, failure_of
from shared.storage.port import Author
from tests.contract.jumpstarter_yard import Caller, Lab, Yard
from tests.patience import PATIENCE

AVAILABLE = common.EXPORTER_STATUS_AVAILABLE
OFFLINE = common.EXPORTER_STATUS_OFFLINE
LEASE_READY = common.EXPORTER_STATUS_LEASE_READY

_BY = Author("test", "test:token:create")

# Whoever calls: itself, or what it sends.
Who = Caller | Mapping[str, str] | tuple[tuple[str, str], ...]


def metadata(who: Who) -> tuple[tuple[str, str], ...]:
    sent = who.metadata if isinstance(who, Caller) else who
    return tuple(sent.items()) if isinstance(sent, Mapping) else sent


class Stream:
    """A server stream, read message by message."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        self._call = call

    async def next(self) -> Any:
        """The next message. The streams here never end with OK."""
        async with asyncio.timeout(PATIENCE):
            message = await self._call.read()
        if not isinstance(message, Message):
            pytest.fail("the stream ended with OK")
        return message

    async def failure(self) -> Failure:
        """How it ends, before any other message."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            pytest.fail(f"got {await self.next()!r}")
        return failure_of(caught.value)

    def cancel(self) -> None:
        self._call.cancel()


def told(message: pb.StatusResponse) -> tuple[bool, str | None, str | None, dict[str, str]]:
    """What Status says: whether there is a lease, its name, its client and its context."""
    lease = message.lease_name if message.HasField("lease_name") else None
    client = message.client_name if message.HasField("client_name") else None
    return message.leased, lease, client, dict(message.context)


FREE: tuple[bool, None, None, dict[str, str]] = (False, None, None, {})


class Desk:
    """One lab's callers. Methods are those of the stubs: `desk.controller.Dial`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.yard: Yard = lab.yard
        channel = self.yard.channel
        self.client = ClientServiceStub(channel)
        self.controller = ControllerServiceStub(channel)
        self.operators = LabServiceStub(channel)
        self.access = AccessServiceStub(channel)

    @property
    def alice(self) -> Caller:
        return self.lab.alice

    async def call(self, method: Any, request: Message, who: Who) -> Any:
        return await method(request, metadata=metadata(who), timeout=PATIENCE)

    async def fails(
        self, method: Any, request: Message, code: grpc.StatusCode, who: Who, *said: str
    ) -> Failure:
        """How the call fails: with `code`, naming or saying each of `said`."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, who)
        failure = failure_of(caught.value)
        assert failure.code is code, failure
        fields = {violation.field for violation in failure.violations}
        assert [text for text in said if text not in fields and text not in failure.message] == [], failure
        return failure

    def stream(self, method: Any, request: Message, who: Who) -> Stream:
        return Stream(method(request, metadata=metadata(who)))

    async def head(self) -> int:
        """The store's newest revision."""
        return int(await self.yard.store.head())

    # -- people and tokens

    async def user(self, subject: str, role: str, *namespaces: str) -> dict[str, str]:
        """The metadata of a stored user who may act in some namespaces."""
        wanted = access_pb2.User(subject=subject, role=role, namespaces=namespaces)
        await self.call(self.access.PutUser, access_pb2.PutUserRequest(user=wanted), self.admin)
        return await self.person(subject, role)

    async def person(self, subject: str, role: str) -> dict[str, str]:
        """The metadata of somebody with a token of that role."""
        access = self.yard.service.running.environment.access
        text, _ = await access.issue(subject, role, timedelta(hours=1), creator="test", by=_BY)
        return {"authorization": f"Bearer {text}"}

    @property
    def admin(self) -> dict[str, str]:
        return self.yard.staff("admin")

    async def issued(self, name: str, who: Who | None = None, **fields: Any) -> Any:
        """The answer of IssueToken."""
        request = lab_service_pb2.IssueTokenRequest(name=name, **fields)
        return await self.call(self.operators.IssueToken, request, who or self.admin)

    async def remove(self, caller: Caller) -> None:
        request = admin_pb2.DeleteRequest(kind=caller.kind.lower(), name=caller.name)
        await self.call(self.yard.admin.Delete, request, self.admin)

    # -- exporters

    async def exporter(self, id: str, **labels: str) -> Caller:
        """One that has registered and is free to lease; its status stream is not open."""
        await self.lab.exporter(id, enabled=True, free=False, **labels)
        caller = await self.lab.exporter_caller(id)
        await self.call(self.controller.Register, pb.RegisterRequest(), caller)
        await self.report(caller)
        return caller

    async def leased(self, id: str = "one", status: common.ExporterStatus = LEASE_READY) -> Caller:
        """The exporter `bench` in that status, leased by alice."""
        bench = await self.exporter("bench", board="rpi")
        await self.lab.create("board=rpi", id=id)
        await self.report(bench, status)
        return bench

    async def report(self, exporter: Caller, status: common.ExporterStatus = AVAILABLE, **more: Any) -> None:
        request = pb.ReportStatusRequest(status=status, **more)
        await self.call(self.controller.ReportStatus, request, exporter)

    async def seen(self, exporter: Caller) -> client_pb2.Exporter:
        """As clients see it."""
        request = client_pb2.GetExporterRequest(name=exporter.name)
        return await self.call(self.client.GetExporter, request, self.alice)

    def status(self, exporter: Caller) -> Stream:
        return self.stream(self.controller.Status, pb.StatusRequest(), exporter)

    async def listening(
        self, exporter: Caller, lease: str, channel: grpc.aio.Channel | None = None
    ) -> Stream:
        """A Listen whose exporter can be dialled."""
        stub = self.controller if channel is None else ControllerServiceStub(channel)
        stream = self.stream(stub.Listen, pb.ListenRequest(lease_name=lease), exporter)
        store, name = self.yard.store, self.lab.lease_name(lease)
        async with asyncio.timeout(PATIENCE):
            while await store.get("listener", name) is None:
                await asyncio.sleep(0.01)
        return stream

    async def dial(self, lease: str, who: Who | None = None) -> pb.DialResponse:
        request = pb.DialRequest(lease_name=lease)
        return await self.call(self.controller.Dial, request, who or self.alice)
