"""python -m services.jumpstarter.simulation: the simulated lab, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from datetime import timedelta
from typing import Any, Final

import grpc

from services.jumpstarter.names import EXPORTERS
from services.jumpstarter.simulation.exporter import SimulatedExporter
from services.jumpstarter.simulation.fleet import FLEET, manifest
from shared.auth import bootstrap
from shared.cli import suite
from shared.errors import ApiError, InvalidArgument
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.rpc.client import CallFailed, Client
from shared.service import logging as logs
from shared.service.config import Config

log = logging.getLogger("simulation")
NAMESPACE: Final = "default"
_RETRY: Final = 0.5
# Each start issues new ones.
_TTL: Final = timedelta(days=90)


def main() -> None:
    try:
        config = Config.load()
    except InvalidArgument as error:
        sys.exit(f"simulation: {error.message}")
    logs.configure("simulation", form=config.log_format, level=config.log_level)
    asyncio.run(_until_stopped(config))


async def _until_stopped(config: Config) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    running = asyncio.create_task(run(config))
    ended = asyncio.create_task(stopped.wait())
    await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def run(config: Config) -> None:
    """Provision the lab as soon as the service answers, then be its exporters."""
    target = suite.targets(config)["jumpstarter"]
    async with Client(target, tls_ca=config.tls_ca) as client:
        tokens = await _provisioned(client, config)
        authority = str(config.tls_ca or config.data / "tls" / "ca.pem")
        log.info("ready", extra={"exporters": len(tokens), "namespace": NAMESPACE})
        async with asyncio.TaskGroup() as group:
            for device in FLEET:
                if device.id in tokens:
                    exporter = SimulatedExporter(
                        device, NAMESPACE, tokens[device.id], client.channel, authority
                    )
                    group.create_task(exporter.run(), name=device.id)


async def _provisioned(client: Client, config: Config) -> dict[str, str]:
    """The tokens of those that run, by id."""
    while True:
        try:
            token = (config.data / bootstrap.FILE).read_text().strip()
            metadata = (("authorization", f"Bearer {token}"),)
            request: Any = admin_pb2.ApplyRequest(manifest=manifest(NAMESPACE))
            await client.call(AdminServiceStub, "Apply", request, metadata=metadata)
            found = {}
            for device in FLEET:
                if device.runs and device.enabled:
                    request = pb.IssueTokenRequest(name=EXPORTERS.name(NAMESPACE, device.id))
                    request.ttl.FromTimedelta(_TTL)
                    issued = await client.call(LabServiceStub, "IssueToken", request, metadata=metadata)
                    found[device.id] = issued.token
            return found
        except (OSError, CallFailed, ApiError, grpc.RpcError) as error:
            log.info("the lab cannot be set up yet; trying again", extra={"error": str(error)})
            await asyncio.sleep(_RETRY)


if __name__ == "__main__":
    main()
