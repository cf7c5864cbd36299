"""The read side of Peloton's ResourcePoolService (jobs contract, section 8). Manifests write pools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from services.jobs.api.pools import RESOURCES, ROOT, Pools, missing, path_fault
from services.jobs.engine.admission import Admission
from shared.errors import InvalidArgument, NotFound
from shared.pb.peloton.api.v1alpha.respool import respool_pb2
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2 as pb
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ResourcePoolService"]


class PoolService:
    """`admission` counts what pools use; None in a process that does not write, which cannot tell."""

    def __init__(self, pools: Pools, admission: Callable[[], Admission | None]) -> None:
        self._pools = pools
        self._admission = admission

    async def GetResourcePool(
        self, request: pb.GetResourcePoolRequest, call: Call
    ) -> pb.GetResourcePoolResponse:
        """Without an id the root."""
        id = request.respool_id.value or ROOT
        found = await self._pools.all()
        if id not in found:
            raise missing(id)
        infos = self._infos(found.values())
        answer = pb.GetResourcePoolResponse(respool=infos[id])
        if request.include_child_pools:
            answer.child_respools.extend(infos[child.value] for child in infos[id].children)
        return answer

    async def LookupResourcePoolID(
        self, request: pb.LookupResourcePoolIDRequest, call: Call
    ) -> pb.LookupResourcePoolIDResponse:
        path = request.path.value
        if fault := path_fault(path):
            raise InvalidArgument.at("path", fault)
        id = await self._pools.at(path)
        if id is None:
            raise NotFound(f"there is no resource pool {path[:100]}", kind="resource_pool", name=path[:100])
        answer = pb.LookupResourcePoolIDResponse()
        answer.respool_id.value = id
        return answer

    async def QueryResourcePools(
        self, request: pb.QueryResourcePoolsRequest, call: Call
    ) -> pb.QueryResourcePoolsResponse:
        found = await self._pools.all()
        return pb.QueryResourcePoolsResponse(respools=self._infos(found.values()).values())

    def _infos(self, pools: Iterable[stored.ResourcePool]) -> dict[str, respool_pb2.ResourcePoolInfo]:
        """By id, in the order of the pools, which have parents before children."""
        found: dict[str, respool_pb2.ResourcePoolInfo] = {}
        admission = self._admission()
        for pool in pools:
            info = found[pool.id] = respool_pb2.ResourcePoolInfo(spec=pool.spec)
            info.respool_id.value = pool.id
            info.path.value = pool.path
            if pool.spec.HasField("parent"):
                info.parent.CopyFrom(pool.spec.parent)
                found[info.parent.value].children.add(value=pool.id)
            if admission is not None:
                used = admission.used(pool.id)
                for kind, field in RESOURCES.items():
                    info.usages.add(kind=kind, allocation=getattr(used, field))
        return found
