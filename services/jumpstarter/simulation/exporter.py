"""One exporter without hardware: what a real one says, and when (jumpstarter contract, section 7)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from services.jumpstarter.simulation.fleet import Device
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1 import router_pb2
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from shared.pb.jumpstarter.v1.router_pb2_grpc import RouterServiceStub
from shared.rpc.client import bearer, open_channel

log = logging.getLogger(__name__)

_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_GOODBYE: Final = 2.0


class SimulatedExporter:
    """Registers, says what it is doing and follows its leases until it is cancelled, across every
    restart of the service. Whoever dials it is let in and shown out: it has no drivers."""

    def __init__(
        self, device: Device, namespace: str, token: str, channel: grpc.aio.Channel, ca: str
    ) -> None:
        self._device = device
        self._ca = ca
        self._controller: Any = ControllerServiceStub(channel)
        self._metadata = (
            *bearer(token),
            ("jumpstarter-kind", "Exporter"),
            ("jumpstarter-namespace", namespace),
            ("jumpstarter-name", device.id),
        )

    async def run(self) -> None:
        pause = _PAUSE
        try:
            while True:
                try:
                    await self._serve()
                except grpc.aio.AioRpcError as error:
                    text = {"exporter": self._device.id, "error": f"{error.code().name}: {error.details()}"}
                    log.info("simulated exporter tries again", extra=text)
                    # What is not the network's fault will not be better in a second.
                    passing = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                    pause = _PAUSE if passing else min(2 * pause, _LONGEST_PAUSE)
                await asyncio.sleep(pause)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GOODBYE):
                    await self._leave()

    async def _serve(self) -> None:
        await self._call("Register", pb.RegisterRequest(reports=_reports(self._device)))
        await self._report(common.EXPORTER_STATUS_AVAILABLE, "Waiting for a lease")
        lease, listening = "", None
        status = self._controller.Status(pb.StatusRequest(), metadata=self._metadata)
        try:
            async for state in status:
                if state.lease_name == lease:
                    continue
                if listening is not None:
                    listening.cancel()
                    listening = None
                    await self._after()
                lease = state.lease_name
                if lease:
                    listening = asyncio.create_task(self._held(lease))
        finally:
            status.cancel()
            if listening is not None:
                listening.cancel()

    async def _held(self, lease: str) -> None:
        await self._report(common.EXPORTER_STATUS_BEFORE_LEASE_HOOK, "Preparing the device")
        await asyncio.sleep(self._device.hook)
        await self._report(common.EXPORTER_STATUS_LEASE_READY, "Ready for commands")
        dialled = self._controller.Listen(pb.ListenRequest(lease_name=lease), metadata=self._metadata)
        try:
            async for guest in dialled:
                await self._show_out(guest)
        except grpc.aio.AioRpcError as error:
            log.info("listening ended", extra={"exporter": self._device.id, "error": error.details()})
        finally:
            dialled.cancel()

    async def _after(self) -> None:
        await self._report(common.EXPORTER_STATUS_AFTER_LEASE_HOOK, "Cleaning up")
        await asyncio.sleep(self._device.hook)
        await self._report(common.EXPORTER_STATUS_AVAILABLE, "Waiting for a lease")

    async def _show_out(self, guest: pb.ListenResponse) -> None:
        """Meet at the router and say goodbye."""

        async def goodbye() -> AsyncIterator[router_pb2.StreamRequest]:
            yield router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY)

        async with open_channel(guest.router_endpoint, tls_ca=self._ca) as channel:
            router: Any = RouterServiceStub(channel)
            stream = router.Stream(goodbye(), metadata=bearer(guest.router_token))
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in stream:
                    pass

    async def _leave(self) -> None:
        await self._report(common.EXPORTER_STATUS_OFFLINE, "Exporter shutting down")
        await self._call("Unregister", pb.UnregisterRequest(reason="Exporter shutdown"))

    async def _report(self, status: common.ExporterStatus, message: str) -> None:
        await self._call("ReportStatus", pb.ReportStatusRequest(status=status, message=message))

    async def _call(self, method: str, request: Any) -> Any:
        return await getattr(self._controller, method)(request, metadata=self._metadata, timeout=10)


def _reports(device: Device) -> list[pb.DriverInstanceReport]:
    """A tree of two drivers, as a real exporter's."""
    root, power = f"{device.id}-root", f"{device.id}-power"
    return [
        pb.DriverInstanceReport(uuid=root, labels={"jumpstarter.dev/client": "simulated.Composite"}),
        pb.DriverInstanceReport(
            uuid=power,
            parent_uuid=root,
            labels={"jumpstarter.dev/client": "simulated.Power", "jumpstarter.dev/name": "power"},
            description="A power switch that switches nothing",
            methods_description={"on": "Nothing happens", "off": "Nothing happens"},
        ),
    ]
