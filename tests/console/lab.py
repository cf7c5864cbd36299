"""A lab such as people have, and its clients and exporters, who call the service as the real ones do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import grpc.aio

from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import common_pb2
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from shared.pb.roundhouse.admin.v1 import access_pb2, access_pb2_grpc, admin_pb2, admin_pb2_grpc
from shared.pb.roundhouse.lab.v1 import lab_pb2, lab_service_pb2, lab_service_pb2_grpc
from shared.rpc.client import Client
from shared.service.testing import TestService

AVAILABLE = common_pb2.EXPORTER_STATUS_AVAILABLE
# What an exporter with a power switch and a serial line reports: a tree of one root.
DEVICES = (
    ("root", "", "", {}),
    ("power", "root", "jumpstarter_driver_power.client.PowerClient", {"on": "Power on", "off": "Power off"}),
    ("serial", "root", "jumpstarter_driver_pyserial.client.PySerialClient", {}),
)


@dataclass
class LabClient:
    """As an admin, and as each client and exporter. Names are ids; all is in one namespace."""

    service: TestService
    client: Client
    channel: grpc.aio.Channel
    stack: AsyncExitStack
    namespace: str = "default"
    tokens: dict[str, str] = field(default_factory=dict)

    def name(self, plural: str, id: str) -> str:
        return f"namespaces/{self.namespace}/{plural}/{id}"

    async def apply(self, **lists: Any) -> int:
        """Answers the revision."""
        request = admin_pb2.ApplyRequest(manifest=json.dumps(lists))
        return int((await self.client.call(admin_pb2_grpc.AdminServiceStub, "Apply", request)).revision)

    async def stored(self, kind: str, plural: str, id: str, form: Any) -> Any:
        """Raises CallFailed."""
        request = admin_pb2.GetRequest(kind=kind, name=self.name(plural, id))
        found = await self.client.call(admin_pb2_grpc.AdminServiceStub, "Get", request)
        return form.FromString(found.body.value)

    async def exporter_of(self, id: str) -> lab_pb2.Exporter:
        return await self.stored("exporter", "exporters", id, lab_pb2.Exporter)

    async def lease_of(self, id: str) -> lab_pb2.Lease:
        return await self.stored("lease", "leases", id, lab_pb2.Lease)

    async def user(self, subject: str, role: str, *namespaces: str) -> None:
        user = access_pb2.User(subject=subject, role=role, namespaces=namespaces)
        request = access_pb2.PutUserRequest(user=user)
        await self.client.call(access_pb2_grpc.AccessServiceStub, "PutUser", request)

    # -- exporters and clients

    async def exporter(self, id: str, *, enabled: bool = True, **labels: str) -> None:
        """One that is free to lease, its status stream open."""
        await self.absent(id, enabled=enabled, **labels)
        reports = [
            pb.DriverInstanceReport(
                uuid=uuid,
                parent_uuid=parent or None,
                labels={
                    "jumpstarter.dev/name": uuid,
                    **({"jumpstarter.dev/client": driver} if driver else {}),
                },
                methods_description=methods,
            )
            for uuid, parent, driver, methods in DEVICES
        ]
        await self._as_exporter(id, "Register", pb.RegisterRequest(reports=reports))
        await self.report(id)
        stub = ControllerServiceStub(self.channel)
        stream = stub.Status(pb.StatusRequest(), metadata=await self._metadata("exporters", id))
        await stream.read()
        self.stack.callback(stream.cancel)

    async def absent(self, id: str, *, enabled: bool = True, **labels: str) -> None:
        """One that was never seen."""
        item = {"name": self.name("exporters", id), "labels": labels, "enabled": enabled}
        await self.apply(exporters=[item])

    async def report(self, id: str, status: common_pb2.ExporterStatus = AVAILABLE, message: str = "") -> None:
        request = pb.ReportStatusRequest(status=status, message=message)
        await self._as_exporter(id, "ReportStatus", request)

    async def unregister(self, id: str) -> None:
        await self._as_exporter(id, "Unregister", pb.UnregisterRequest(reason="Exporter shutdown"))

    async def new_client(self, id: str, **labels: str) -> None:
        await self.apply(clients=[{"name": self.name("clients", id), "labels": labels}])

    async def _as_exporter(self, id: str, method: str, request: Any) -> Any:
        stub = ControllerServiceStub(self.channel)
        return await getattr(stub, method)(
            request, metadata=await self._metadata("exporters", id), timeout=10
        )

    async def _metadata(self, plural: str, id: str) -> tuple[tuple[str, str], ...]:
        name = self.name(plural, id)
        if name not in self.tokens:
            request = lab_service_pb2.IssueTokenRequest(name=name)
            issued = await self.client.call(lab_service_pb2_grpc.LabServiceStub, "IssueToken", request)
            self.tokens[name] = issued.token
        return (
            ("authorization", f"Bearer {self.tokens[name]}"),
            ("jumpstarter-kind", plural.removesuffix("s").capitalize()),
            ("jumpstarter-namespace", self.namespace),
            ("jumpstarter-name", id),
        )

    # -- leases

    async def lease(
        self,
        client: str,
        selector: str = "",
        *,
        id: str,
        exporter: str = "",
        seconds: int = 3600,
        begin: datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> client_pb2.Lease:
        wanted = client_pb2.Lease(selector=selector, exporter_name=exporter or None, tags=tags or {})
        wanted.duration.FromSeconds(seconds)
        if begin is not None:
            wanted.begin_time.FromDatetime(begin)
        request = client_pb2.CreateLeaseRequest(
            parent=f"namespaces/{self.namespace}", lease=wanted, lease_id=id
        )
        return await self._as_client(client, "CreateLease", request)

    async def release(self, client: str, id: str) -> None:
        request = client_pb2.DeleteLeaseRequest(name=self.name("leases", id))
        await self._as_client(client, "DeleteLease", request)

    async def _as_client(self, id: str, method: str, request: Any) -> Any:
        stub = ClientServiceStub(self.channel)
        return await getattr(stub, method)(request, metadata=await self._metadata("clients", id), timeout=10)


@asynccontextmanager
async def lab_client(service: TestService, namespace: str = "default") -> AsyncIterator[LabClient]:
    async with (
        AsyncExitStack() as stack,
        Client(service.target, token=service.tokens["admin"]) as client,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        yield LabClient(service, client, channel, stack, namespace)


async def fill(lab: LabClient) -> None:
    """Eight exporters in every state and six leases: ann and bob hold one each, two wait, one has
    ended, one is to begin tomorrow; two clients, two policies that let everyone in."""
    await lab.new_client("ann", team="kernel")
    await lab.new_client("bob", team="boot")
    for number in (1, 2):
        await lab.exporter(f"rpi4-{number}", board="rpi4", site="berlin", **{"ram-gb": "8"})
    await lab.exporter("imx8-1", board="imx8", site="lyon")
    await lab.exporter("imx8-2", board="imx8", site="berlin", gpu="mali")
    await lab.exporter("jetson-1", board="jetson", site="lyon", gpu="ampere")
    await lab.absent("jetson-2", board="jetson", site="berlin", gpu="ampere")
    await lab.exporter("stm32-1", board="stm32", site="berlin")
    await lab.exporter("stm32-2", board="stm32", enabled=False)
    await lab.report("stm32-1", common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK, "erasing flash")
    await lab.unregister("jetson-1")
    await lab.lease("ann", "board=rpi4", id="rpi4-a", seconds=1740, tags={"build": "1234", "branch": "main"})
    await lab.lease("bob", "board=rpi4", id="rpi4-b", seconds=7800)
    await lab.lease("bob", "board=rpi4", id="rpi4-c")
    await lab.lease("ann", "board in (jetson)", id="jetson-a")
    await lab.lease("ann", exporter="imx8-1", id="imx8-old", tags={"build": "1233"})
    await lab.release("ann", "imx8-old")
    await lab.lease("ann", exporter="imx8-2", id="imx8-later", begin=datetime(2038, 1, 1), seconds=10_800)
    await lab.lease("bob", exporter="nothing", id="impossible")
    everyone = [{"client_selector": {}}]
    kernel = [{"client_selector": {"match_labels": {"team": "kernel"}}}]
    await lab.apply(
        access_policies=[
            {
                "name": lab.name("accessPolicies", "everyone"),
                "policies": [
                    {"description": "everyone, for a day", "from": everyone, "maximum_duration": "86400s"}
                ],
            },
            {
                "name": lab.name("accessPolicies", "gpu-for-kernel"),
                "exporter_selector": {"match_expressions": [{"key": "gpu", "operator": "Exists"}]},
                "policies": [
                    {
                        "description": "kernel first",
                        "priority": 10,
                        "from": kernel,
                        "maximum_duration": "7200s",
                    }
                ],
            },
        ]
    )
