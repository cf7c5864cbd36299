"""What the console asks of the pods service, beside the admin API that all services have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc

from admin_ui.clients import PODS, Caller
from admin_ui.pod_state import PodState
from admin_ui.records import Records
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb
from shared.pb.roundhouse.pods.v1.browse_pb2_grpc import BrowseServiceStub
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from shared.rpc.client import CallFailed, failure_of

T = TypeVar("T", Cluster, Deployment)
POD: Final = "pod"
CLUSTER: Final = "pod_cluster"
DEPLOYMENT: Final = "pod_deployment"
KINDS: Final = (POD, CLUSTER, DEPLOYMENT)
# Ids that one filter holds: it may be 8 KiB.
_SOME: Final = 100
_LEVELS: Final = {
    "clusters": pb.CLUSTER,
    "namespaces": pb.NAMESPACE,
    "deployments": pb.DEPLOYMENT,
    "sources": pb.SOURCE,
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the inventory knows, by id."""

    clusters: Mapping[str, Cluster]
    deployments: Mapping[str, Deployment]


def count_request(state: PodState) -> pb.CountPodsRequest:
    """Of a list of pods itself: the totals."""
    if state.by not in _LEVELS:
        return pb.CountPodsRequest(query=state.filter)
    return pb.CountPodsRequest(
        query=state.filter,
        by=_LEVELS[state.by],
        page_size=state.page_size,
        page_token=state.page_token,
        order_by=state.order_by,
    )


def list_request(state: PodState) -> admin_pb2.ListRequest:
    return admin_pb2.ListRequest(
        kind=POD,
        filter=state.filter,
        order_by=state.order_by or "name",
        page_size=state.page_size,
        page_token=state.page_token,
    )


@dataclass(frozen=True, slots=True)
class Pods:
    """Calls as `caller`. Every method raises CallFailed."""

    caller: Caller

    @property
    def _records(self) -> Records:
        return Records(self.caller, PODS)

    async def count(self, request: pb.CountPodsRequest) -> pb.CountPodsResponse:
        return await self.caller.call(PODS, BrowseServiceStub, "CountPods", request)

    async def page(self, request: admin_pb2.ListRequest) -> tuple[list[StoredPod], admin_pb2.ListResponse]:
        answer = await self._records.page(request)
        return [StoredPod.FromString(one.body.value) for one in answer.objects], answer

    async def pod(self, id: str) -> StoredPod:
        return await self._records.message(POD, id, StoredPod)

    async def names(self, clusters: Collection[str], deployments: Collection[str]) -> Names:
        """Of those of these ids that the inventory knows."""
        found, others = await asyncio.gather(
            self._inventory(CLUSTER, clusters, Cluster.FromString),
            self._inventory(DEPLOYMENT, deployments, Deployment.FromString),
        )
        return Names(found, others)

    async def _inventory(self, kind: str, ids: Collection[str], read: Callable[[bytes], T]) -> dict[str, T]:
        wanted = sorted(filter(None, set(ids)))
        pages = await asyncio.gather(
            *(self._some(kind, wanted[start : start + _SOME]) for start in range(0, len(wanted), _SOME))
        )
        return {one.name: read(one.body.value) for page in pages for one in page.objects}

    async def _some(self, kind: str, ids: list[str]) -> admin_pb2.ListResponse:
        filter = f"id IN ({', '.join(map(json.dumps, ids))})"
        return await self._records.page(admin_pb2.ListRequest(kind=kind, filter=filter, page_size=_SOME))

    async def export(self, query: str) -> AsyncGenerator[bytes, None]:
        """The lines of the export, many at a time, until whoever reads them leaves."""
        stub: Any = BrowseServiceStub(self.caller.clients.channel(PODS))
        answers = stub.ExportLines(ExportPodRequest(query=query), metadata=self.caller.metadata)
        try:
            async for answer in answers:
                yield answer.lines
        except grpc.RpcError as error:
            raise CallFailed(failure_of(error)) from error
        finally:
            answers.cancel()
