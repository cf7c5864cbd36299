"""Two clusters of pods as people have them, and the console over the service that keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from services.pods.service import SERVICE
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment
from shared.pb.storage.pod_pb2 import Pod
from shared.service.testing import started
from tests.console.harness import Console, console_of
from tests.contract.pods_yard import CLUSTER, OTHER, Yard, deployment_id, id_of, pod

WEB, API, JOB = deployment_id(1), deployment_id(2), deployment_id(3)
DIGEST = f"sha256:{0xF00D:064x}"
# Ids of pods that tests speak of.
WEB_1, LONE, WAITING, FAILED = id_of(1), id_of(50), id_of(51), id_of(52)


def web(number: int, **fields: Any) -> Pod:
    """One that runs in east/prod."""
    found = {"name": f"web-{number}", "namespace": "prod", "deployment_id": WEB, **fields}
    one = pod(number, **found)
    for instance in one.live_instances:
        instance.started.seconds = 1_700_000_100
        instance.image_digest = DIGEST
        instance.container_ips.append("10.0.0.7")
        instance.instance_id.container_runtime = 2
    return one


def ended(number: int) -> Pod:
    """One of which a run was killed, and the last one failed."""
    found = web(number, name="crashing", live_instances=None)
    bucket = found.terminated_instances.add()
    for run, (code, reason) in enumerate(((0, "Completed"), (137, "OOMKilled"))):
        bucket.instances.add(
            container_name="app",
            exit_code=code,
            termination_reason=reason,
            started={"seconds": 1_700_000_000 + run},
            finished={"seconds": 1_700_000_060 + run},
        )
    return found


FLEET = (
    *(web(number) for number in range(1, 4)),
    pod(10, name="api-1", namespace="dev", deployment_id=API, cluster_id=OTHER),
    pod(50, name="lone", namespace="prod", deployment_id=None),
    pod(51, name="waiting", namespace="dev", deployment_id=WEB),
    ended(52),
)
INVENTORY = (
    Cluster(id=CLUSTER, name="east"),
    Deployment(
        id=WEB,
        name="shop",
        type="Deployment",
        cluster_id=CLUSTER,
        namespace="prod",
        labels={"app": "shop", "team": "<b>core</b>"},
        pod_labels={"tier": "front"},
        annotations={"owner": "ann@example.com"},
        service_account="runner",
    ),
)


@dataclass
class Fleet:
    console: Console
    yard: Yard

    async def fill(self) -> None:
        await self.yard.upsert(*FLEET)
        await self.yard.inventory(*INVENTORY)


@asynccontextmanager
async def fleet(folder: Path, **settings: Any) -> AsyncIterator[Fleet]:
    """Empty; an admin is signed in. The viewer may touch `dev`, the operator everything."""
    async with (
        started(SERVICE, folder / "data") as service,
        aiohttp.ClientSession() as http,
        grpc.aio.insecure_channel(service.target) as channel,
        console_of(service, folder / "console", name="pods", **settings) as console,
    ):
        yard = Yard(service, http, channel)
        await yard.put_user("viewer", "viewer", "dev")
        await yard.put_user("operator", "operator", "*")
        await console.sign_in("admin")
        yield Fleet(console, yard)
