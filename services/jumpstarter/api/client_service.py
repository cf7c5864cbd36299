"""jumpstarter.client.v1.ClientService: what people who lease hardware call (jumpstarter contract,
section 2)."""

from __future__ import annotations

from typing import Final

from google.protobuf.empty_pb2 import Empty

from services.jumpstarter import names
from services.jumpstarter.api import lease_creation, lease_update, listing
from services.jumpstarter.api.caller import Callers
from services.jumpstarter.api.tokens import LabTokens
from services.jumpstarter.leasing import exporter, lease
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.exporter import LabelPolicy
from services.jumpstarter.names import EXPORTERS, LEASES
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.ast import And, Compare
from shared.query.dialects import selector
from shared.resource.collection import Collection
from shared.rpc.method import Call
from shared.service import ids
from shared.service.service import NewId

SERVICE: Final = client_pb2.DESCRIPTOR.services_by_name["ClientService"]
_NOT_ENDED: Final = Compare("ended", "=", 0)


class ClientService:
    def __init__(
        self,
        engine: Engine,
        exporters: Collection[pb.Exporter],
        leases: Collection[pb.Lease],
        callers: Callers,
        tokens: LabTokens,
        new_id: NewId,
        labels: LabelPolicy,
        *,
        max_tags: int,
    ) -> None:
        self._engine = engine
        self._exporters = exporters
        self._leases = leases
        self._callers = callers
        self._tokens = tokens
        self._new_id = new_id
        self._labels = labels
        self._max_tags = max_tags

    # -- exporters

    async def GetExporter(self, request: client_pb2.GetExporterRequest, call: Call) -> client_pb2.Exporter:
        namespace, _ = EXPORTERS.parse(request.name)
        await self._callers.client(call, namespace)
        found = await self._exporters.get(request.name)
        return exporter.public(found, self._labels, show_hidden=request.show_hidden_labels)

    async def ListExporters(
        self, request: client_pb2.ListExportersRequest, call: Call
    ) -> client_pb2.ListExportersResponse:
        await self._callers.client(call, names.parse_parent(request.parent))
        wanted = selector.parse(request.filter)
        records, token = await listing.page(self._exporters, request, wanted.node("labels"), str(wanted))
        found = (pb.Exporter.FromString(record.body) for record in records)
        return client_pb2.ListExportersResponse(
            exporters=[
                exporter.public(one, self._labels, show_hidden=request.show_hidden_labels) for one in found
            ],
            next_page_token=token,
        )

    # -- leases

    async def GetLease(self, request: client_pb2.GetLeaseRequest, call: Call) -> client_pb2.Lease:
        namespace, _ = LEASES.parse(request.name)
        await self._callers.client(call, namespace)
        return self._public(await self._engine.get(request.name))

    async def ListLeases(
        self, request: client_pb2.ListLeasesRequest, call: Call
    ) -> client_pb2.ListLeasesResponse:
        await self._callers.client(call, names.parse_parent(request.parent))
        wanted = selector.parse(request.filter)
        tagged = selector.parse(request.tag_filter, parameter="tag_filter")
        tagged = tagged.prefixed(lease.TAG_PREFIX, parameter="tag_filter")
        active = request.only_active or not request.HasField("only_active")
        tree = And((*([_NOT_ENDED] if active else []), wanted.node("labels"), tagged.node("labels")))
        records, token = await listing.page(
            self._leases, request, tree, str(wanted), str(tagged), str(active)
        )
        found = (self._engine.explained(pb.Lease.FromString(record.body)) for record in records)
        return client_pb2.ListLeasesResponse(leases=map(self._public, found), next_page_token=token)

    async def CreateLease(self, request: client_pb2.CreateLeaseRequest, call: Call) -> client_pb2.Lease:
        lease_creation.check(request, self._max_tags)
        namespace = names.parse_parent(request.parent)
        caller = await self._callers.client(call, namespace)
        new_id = ids.timed(self._new_id(), self._engine.now())
        wanted = lease_creation.made(request, namespace, caller.name, new_id)
        return self._public(await self._engine.create(wanted, call.author("lease:create")))

    async def UpdateLease(self, request: client_pb2.UpdateLeaseRequest, call: Call) -> client_pb2.Lease:
        name = request.lease.name
        namespace, _ = LEASES.parse(name, "lease.name")
        caller = await self._callers.client(call, namespace)
        change = lease_update.update(request, caller.name)
        return self._public(await self._engine.update(name, change, call.author("lease:update")))

    async def DeleteLease(self, request: client_pb2.DeleteLeaseRequest, call: Call) -> Empty:
        namespace, _ = LEASES.parse(request.name)
        caller = await self._callers.client(call, namespace)
        change = lease_update.release(caller.name)
        await self._engine.update(request.name, change, call.author("lease:release"))
        return Empty()

    # -- tokens

    async def RotateToken(
        self, request: client_pb2.RotateTokenRequest, call: Call
    ) -> client_pb2.RotateTokenResponse:
        caller = await self._callers.client(call, names.parse_parent(request.parent))
        text, token = await self._tokens.issue(caller.client, call)
        return client_pb2.RotateTokenResponse(token=text, expiry=token.expire_time)

    def _public(self, found: pb.Lease) -> client_pb2.Lease:
        return lease.public(found, self._engine.now(), self._labels.deprecated)
