"""roundhouse.lab.v1.LabService: what operators of a lab need beside Jumpstarter's own API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from services.jumpstarter import kinds, names
from services.jumpstarter.api import availability, jmp_config, lease_search
from services.jumpstarter.api.caller import DEFAULT_NAMESPACE, check_namespace, client_id
from services.jumpstarter.api.jmp_config import Endpoint
from services.jumpstarter.api.tokens import TTL, LabTokens, Subject
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.names import CLIENTS, EXPORTERS
from shared.auth.tokens import ttl_fault
from shared.errors import InvalidArgument, NotFound, PermissionDenied
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.resource.collection import Collection
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["LabService"]


class LabService:
    """The handlers, for staff; each keeps to the caller's namespaces. `endpoint` is what clients and
    exporters are to call, as of now: certificates are renewed."""

    def __init__(
        self,
        engine: Engine,
        tokens: LabTokens,
        clients: Collection[lab_pb2.Client],
        exporters: Collection[lab_pb2.Exporter],
        leases: Collection[lab_pb2.Lease],
        endpoint: Callable[[], Endpoint],
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._kept: dict[str, tuple[names.Collection, Collection[Any]]] = {
            CLIENTS.plural: (CLIENTS, clients),
            EXPORTERS.plural: (EXPORTERS, exporters),
        }
        self._leases = leases
        self._endpoint = endpoint

    async def IssueToken(self, request: pb.IssueTokenRequest, call: Call) -> pb.IssueTokenResponse:
        plural = (request.name.split("/") + [""] * 3)[2]
        if plural not in self._kept:
            forms = " or ".join(form.pattern.template for form, _ in self._kept.values())
            raise InvalidArgument.at("name", f"{request.name!r} is not of the form {forms}")
        form, collection = self._kept[plural]
        namespace, _ = form.parse(request.name)
        ttl = _ttl(request)
        check_namespace(call, namespace)
        try:
            found = await collection.get(request.name)
        except NotFound as error:
            raise NotFound(
                f"{error.message}; store it first, with a manifest that names it under {plural!r}",
                kind=error.kind,
                name=error.name,
            ) from None
        text, token = await self._tokens.issue(found, call, ttl)
        endpoint = self._endpoint()
        return pb.IssueTokenResponse(
            token=text,
            expire_time=token.expire_time,
            endpoint=endpoint.address,
            authority=endpoint.authority,
            config=jmp_config.text(Subject.of(found), text, endpoint),
        )

    async def ListQueue(self, request: pb.ListQueueRequest, call: Call) -> pb.ListQueueResponse:
        namespace = names.parse_parent(request.parent)
        check_namespace(call, namespace)
        await self._engine.current()
        exporter = self._exporter(request.exporter, namespace) if request.exporter else None
        return pb.ListQueueResponse(waiting=self._waiting(request.parent, exporter))

    async def ListBoard(self, request: pb.ListBoardRequest, call: Call) -> pb.ListBoardResponse:
        namespace = names.parse_parent(request.parent)
        check_namespace(call, namespace)
        await self._engine.current()
        if request.exporter:
            self._exporter(request.exporter, namespace)
        return availability.page(self._engine, request)

    async def ListLeases(self, request: pb.ListLeasesRequest, call: Call) -> pb.ListLeasesResponse:
        check_namespace(call, names.parse_parent(request.parent))
        return await lease_search.search(self._leases, self._engine, request)

    async def ListNamespaces(
        self, request: pb.ListNamespacesRequest, call: Call
    ) -> pb.ListNamespacesResponse:
        lab = await self._engine.current()
        allowed, known = call.identity.namespaces, {DEFAULT_NAMESPACE, *lab.namespaces}
        return pb.ListNamespacesResponse(
            namespaces=sorted(known if allowed is None else allowed), client=client_id(call.identity.subject)
        )

    def _exporter(self, name: str, namespace: str) -> lab_pb2.Exporter:
        if EXPORTERS.parse(name, "exporter")[0] != namespace:
            raise PermissionDenied(f"namespace mismatch: {name} is not in {namespace!r}")
        found = self._engine.lab.exporter(name)
        if found is None:
            raise NotFound(f"exporter {name!r} not found", kind=kinds.EXPORTER, name=name)
        return found

    def _waiting(self, parent: str, exporter: lab_pb2.Exporter | None) -> Iterator[pb.Waiting]:
        lab, now = self._engine.lab, self._engine.now()
        queue = lab.namespace(parent).queue
        for position, name in enumerate(queue, 1):
            lease = lab.lease(name)
            if lease is None or not (exporter is None or _wants(lease, exporter)):
                continue
            since = rules.queued_at(lease)
            found = pb.Waiting(lease=name, client=lease.client, position=position if since <= now else 0)
            found.since.FromNanoseconds(since)
            pending = rules.condition(self._engine.explained(lease), rules.PENDING)
            if pending is not None:
                found.pending.CopyFrom(pending)
            yield found


def _ttl(request: pb.IssueTokenRequest) -> timedelta:
    """Raises InvalidArgument, whatever the fields of the duration hold."""
    if not request.HasField("ttl"):
        return TTL
    nanoseconds = request.ttl.seconds * 10**9 + request.ttl.nanos
    if fault := ttl_fault(nanoseconds / 1e9):
        raise InvalidArgument.at("ttl", fault)
    return timedelta(microseconds=nanoseconds // 1000)


def _wants(lease: lab_pb2.Lease, exporter: lab_pb2.Exporter) -> bool:
    if lease.exporter_name and lease.exporter_name != names.id_of(exporter.name):
        return False
    return rules.selector_of(lease).matches(exporter.labels)
