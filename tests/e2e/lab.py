"""Callers of jumpstarter processes, and what the log of their store says they did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.jumpstarter import kinds
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.lab.v1 import lab_pb2, lab_service_pb2
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.service.config import Config
from shared.storage.port import Kind, Store
from tests.patience import PATIENCE

PARENT = "namespaces/lab"
CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION)

Metadata = tuple[tuple[str, str], ...]


def stored_kinds() -> list[Kind]:
    definitions = SERVICE.definitions(Config.load({}), lambda: 0, lambda: "")
    return [*(definition.storage() for definition in definitions), *SERVICE.kinds]


def name(plural: str, id: str) -> str:
    return f"{PARENT}/{plural}/{id}"


class Desk:
    """The stubs of one process."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.client = ClientServiceStub(channel)
        self.controller = ControllerServiceStub(channel)
        self.staff = LabServiceStub(channel)
        self.admin = AdminServiceStub(channel)


@asynccontextmanager
async def desk(target: str) -> AsyncIterator[Desk]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield Desk(channel)


async def furnish(desk: Desk, data: Path, exporters: int, clients: int) -> list[Metadata]:
    """That many exporters, free, with the label board=rpi; answers the metadata of the clients.
    `data` is the folder of a process that `desk` calls."""
    staff = (("authorization", f"Bearer {(data / 'operator.token').read_text().strip()}"),)
    manifest = {
        "exporters": [
            {"name": name("exporters", f"e{number:02}"), "labels": {"board": "rpi"}}
            for number in range(exporters)
        ],
        "clients": [{"name": name("clients", f"c{number:02}")} for number in range(clients)],
    }
    await desk.admin.Apply(admin_pb2.ApplyRequest(manifest=json.dumps(manifest)), metadata=staff)

    async def metadata(kind: str, plural: str, id: str) -> Metadata:
        request = lab_service_pb2.IssueTokenRequest(name=name(plural, id))
        token = (await desk.staff.IssueToken(request, metadata=staff, timeout=PATIENCE)).token
        who = (("kind", kind), ("namespace", "lab"), ("name", id))
        return (("authorization", f"Bearer {token}"), *((f"jumpstarter-{key}", value) for key, value in who))

    for number in range(exporters):
        own = await metadata("Exporter", "exporters", f"e{number:02}")
        await desk.controller.Register(jumpstarter_pb2.RegisterRequest(), metadata=own, timeout=PATIENCE)
        status = jumpstarter_pb2.ReportStatusRequest(status=common.EXPORTER_STATUS_AVAILABLE)
        await desk.controller.ReportStatus(status, metadata=own, timeout=PATIENCE)
    return [await metadata("Client", "clients", f"c{number:02}") for number in range(clients)]


def creation(id: str, seconds: float = 3600, **fields: Any) -> pb.CreateLeaseRequest:
    lease = pb.Lease(selector="board=rpi")
    lease.duration.FromNanoseconds(int(seconds * 1e9))
    for field_ in ("begin_time", "end_time"):
        if field_ in fields:
            getattr(lease, field_).FromNanoseconds(fields[field_])
    return pb.CreateLeaseRequest(parent=PARENT, lease_id=id, lease=lease)


async def until(read: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
    """What `read` answers once it is `done`."""
    async with asyncio.timeout(PATIENCE):
        while not done(found := await read()):
            await asyncio.sleep(0.05)
    return found


# -- the log


@dataclass
class History:
    """Everything that was committed, one after the other, and whether it was right."""

    exporters: dict[str, lab_pb2.Exporter] = field(default_factory=dict)
    leases: dict[str, lab_pb2.Lease] = field(default_factory=dict)
    # Leases in the order in which they got an exporter.
    given: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, store: Store) -> History:
        """Raises AssertionError for the first commit that was wrong."""
        found = cls()
        for commit in await store.changes(0, 1 << 30):
            given = [found._take(change.kind, change.name, change.after) for change in commit.changes]
            found._check(commit.revision)
            found.given += filter(None, given)
        return found

    def _take(self, kind: str, name: str, body: bytes | None) -> str:
        """The name of a lease that gets an exporter by it."""
        if kind == kinds.EXPORTER:
            assert body is not None
            self.exporters[name] = lab_pb2.Exporter.FromString(body)
        if kind != kinds.LEASE:
            return ""
        assert body is not None, "no lease is old enough to be forgotten"
        before, after = self.leases.get(name, lab_pb2.Lease()), lab_pb2.Lease.FromString(body)
        self.leases[name] = after
        if before.ended:
            before.released = after.released
            assert before == after, f"{name} has changed after its end"
        if not after.exporter or before.exporter:
            assert before.exporter == after.exporter, f"{name} was moved to another exporter"
            return ""
        overtaken = [lease.name for lease in self.waiting if _place(lease) < _place(after)]
        assert not overtaken, f"{name} got {after.exporter} before {overtaken}"
        return name

    @property
    def waiting(self) -> list[lab_pb2.Lease]:
        """All ask for the same here; those that are to begin later do not wait yet."""
        return [
            lease
            for lease in self.leases.values()
            if not lease.ended and not lease.exporter and not lease.HasField("begin_time")
        ]

    def _check(self, revision: int) -> None:
        held = {exporter.lease: exporter.name for exporter in self.exporters.values() if exporter.lease}
        holding = {lease.name: lease.exporter for lease in self.leases.values() if _holds(lease)}
        assert held == holding, f"exporters and leases differ at revision {revision}"


def _holds(lease: lab_pb2.Lease) -> bool:
    return bool(lease.exporter) and not lease.ended


def _place(lease: lab_pb2.Lease) -> tuple[int, str]:
    return rules.queued_at(lease), lease.name


# -- work


class Work:
    """Clients that lease and release, each through the process that it is told; where that has died,
    through another one."""

    def __init__(self, desks: Sequence[Desk]) -> None:
        self._desks = desks
        self.created: set[str] = set()
        self.released: set[str] = set()

    async def __call__(self, client: Metadata, ids: Sequence[str], first: int) -> None:
        for id in ids:
            full = name("leases", id)
            await self._call("CreateLease", creation(id), client, first)
            self.created.add(full)
            await until(
                lambda full=full: self._call("GetLease", pb.GetLeaseRequest(name=full), client, first),
                lambda lease: lease.HasField("exporter"),
            )
            await self._call("DeleteLease", pb.DeleteLeaseRequest(name=full), client, first)
            self.released.add(full)

    async def _call(self, method: str, request: Any, client: Metadata, first: int) -> Any:
        """A call that was cut off is made again: that it had been made before is fine then."""
        for attempt in range(1000):
            desk = self._desks[(first + attempt) % len(self._desks)]
            try:
                return await getattr(desk.client, method)(request, metadata=client, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                assert error.code() in CODES, error
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    assert attempt, error
                    return None
        raise AssertionError("no process answers")
