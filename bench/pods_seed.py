"""Pods that were there before, put into the pods service's store in large commits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from services.pods.kinds import POD
from services.pods.service import SERVICE
from services.pods.stored import body_of
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author, Put

_BATCH: Final = 5_000
_BY: Final = Author("bench", "bench:pod:push")
_AT: Final = 1_700_000_000
# Pods of one deployment.
REPLICAS: Final = 10
CLUSTER: Final = str(UUID(int=0xC1 << 120 | 4 << 76 | 8 << 60))


def pod_id(number: int) -> str:
    return str(UUID(int=0x5EED << 112 | 4 << 76 | 8 << 60 | number))


def deployment_id(number: int) -> str:
    return str(UUID(int=0xD0D0 << 112 | 4 << 76 | 8 << 60 | number // REPLICAS))


def pod(number: int) -> Pod:
    """As Kubernetes has them: one container that runs, and its last run."""
    found = Pod(
        id=pod_id(number),
        name=f"shop-{number // REPLICAS:06d}-7d9f6c5b8-{number:05x}",
        deployment_id=deployment_id(number),
        namespace=f"team-{number // REPLICAS % 50:02d}",
        cluster_id=CLUSTER,
        started={"seconds": _AT + number},
    )
    found.live_instances.append(_instance(number, 1))
    ended = found.terminated_instances.add().instances
    ended.append(_instance(number, 0))
    ended[0].finished.seconds = _AT + number + 60
    ended[0].termination_reason = "OOMKilled"
    ended[0].exit_code = 137
    return found


def _instance(number: int, run: int) -> ContainerInstance:
    return ContainerInstance(
        instance_id={
            "container_runtime": 2,
            "id": f"{number * 2 + run:064x}",
            "node": f"node-{number % 200:03d}.example.com",
        },
        containing_pod_id=f"shop-{number:05x}.team@{pod_id(number)}",
        container_name="app",
        container_ips=[f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"],
        started={"seconds": _AT + number},
        image_digest=f"sha256:{number % 97:064x}",
    )


def bodies(count: int) -> Iterator[bytes]:
    """In the order of the export."""
    numbers = sorted(range(count), key=lambda number: (deployment_id(number), pod_id(number)))
    return (body_of(pod(number), "import", _AT * 10**9) for number in numbers)


def fill(data: Path, count: int) -> None:
    """`count` pods in the SQLite store that the service will open in `data`."""
    asyncio.run(_fill(data, count))


async def _fill(data: Path, count: int) -> None:
    kinds = [d.storage() for d in SERVICE.definitions(Config.load({}, data=data), lambda: 0, lambda: "")]
    store = factory.build("sqlite", SERVICE.name, [*kinds, *SERVICE.kinds], data=data)
    await store.open()
    try:
        for start in range(0, count, _BATCH):
            numbers = range(start, min(start + _BATCH, count))
            puts = [Put(POD, pod_id(n), body_of(pod(n), "import", _AT * 10**9)) for n in numbers]
            await store.commit(puts, by=_BY)
    finally:
        await store.close()
