"""jumpstarter.v1.ControllerService: what exporters call, and clients to reach them (jumpstarter
contract, sections 5 and 7)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NoReturn

from services.jumpstarter import kinds, selectors
from services.jumpstarter.api import lease_creation
from services.jumpstarter.api.caller import Caller, Callers
from services.jumpstarter.api.dialing import Dialing
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.presence import Presence
from services.jumpstarter.names import LEASES, id_fault, id_of, parent
from shared.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unimplemented,
    Violation,
)
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.jumpstarter.v1.kubernetes_pb2 import LabelSelector
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.rpc.method import Call
from shared.service import ids
from shared.service.service import NewId
from shared.storage.port import Condition, Query, Store

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ControllerService"]

# Seconds that a Dial waits for an exporter that is about to serve its lease.
DIAL_PATIENCE: Final = 30.0
# Characters that are kept of what an exporter says of itself.
MESSAGE_LENGTH: Final = 4096

# In these states an exporter takes connections, or is about to.
_DIALLED: Final = frozenset(
    {
        common.EXPORTER_STATUS_UNSPECIFIED,
        common.EXPORTER_STATUS_BEFORE_LEASE_HOOK,
        common.EXPORTER_STATUS_LEASE_READY,
        common.EXPORTER_STATUS_AFTER_LEASE_HOOK,
    }
)
# matchExpressions of the selector's operators.
_OPERATORS: Final = {"in": "In", "notin": "NotIn", "exists": "Exists", "!exists": "DoesNotExist"}


class ControllerService:
    """The handlers of admitted calls (`caller.admitted`)."""

    def __init__(
        self,
        engine: Engine,
        callers: Callers,
        presence: Presence,
        dialing: Dialing,
        store: Store,
        new_id: NewId,
    ) -> None:
        self._engine = engine
        self._callers = callers
        self._presence = presence
        self._dialing = dialing
        self._store = store
        self._new_id = new_id

    # -- exporters: who they are and how they are

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        caller = await self._callers.exporter(call)
        labels = {k: v for k, v in request.labels.items() if k.startswith(kinds.OWN_PREFIX)}
        if wrong := list(kinds.label_faults(labels, "labels")):
            raise InvalidArgument.of(wrong)
        by = call.author("exporter:register")
        return pb.RegisterResponse(uuid=await self._engine.register(caller.name, labels, request.reports, by))

    async def Unregister(self, request: pb.UnregisterRequest, call: Call) -> pb.UnregisterResponse:
        caller = await self._callers.exporter(call)
        reason = request.reason[:MESSAGE_LENGTH]
        await self._engine.unregister(caller.name, reason, call.author("exporter:unregister"))
        return pb.UnregisterResponse()

    async def ReportStatus(self, request: pb.ReportStatusRequest, call: Call) -> pb.ReportStatusResponse:
        caller = await self._callers.exporter(call)
        if request.status not in common.ExporterStatus.values():
            raise InvalidArgument.at("status", f"{request.status} is no status of an exporter")
        await self._engine.report_status(
            caller.name,
            request.status,
            request.message[:MESSAGE_LENGTH],
            request.release_lease,
            call.author("exporter:report_status"),
        )
        return pb.ReportStatusResponse()

    async def Status(self, request: pb.StatusRequest, call: Call) -> AsyncIterator[pb.StatusResponse]:
        """The state at once, then each change of it, for ever."""
        caller = await self._callers.exporter(call)
        async with self._presence.stream(caller.name, call.author("exporter:attach")):
            sent: pb.StatusResponse | None = None
            while True:
                watched, state = self._state(caller)
                if sent is not None and sent.leased and state.leased and sent.lease_name != state.lease_name:
                    # Real exporters tear one lease down before they serve another.
                    sent = pb.StatusResponse()
                    yield sent
                elif state != sent:
                    sent = state
                    yield state
                else:
                    await self._engine.lab.change(watched, self._engine.lab.revision)

    def _state(self, caller: Caller) -> tuple[str, pb.StatusResponse]:
        """What to wait for, and what an exporter is told now. One that is leased changes together with
        its lease, and not otherwise."""
        lab = self._engine.lab
        exporter = lab.exporter(caller.name)
        if exporter is None or exporter.uid != caller.exporter.uid:
            raise PermissionDenied(f"{caller.name} was removed")
        lease = lab.lease(exporter.lease) if exporter.lease else None
        if lease is None:
            return caller.name, pb.StatusResponse()
        state = pb.StatusResponse(
            leased=True,
            lease_name=id_of(lease.name),
            client_name=id_of(lease.client),
            context=lease.context,
        )
        return lease.name, state

    async def AuditStream(self, request: AsyncIterator[pb.AuditStreamRequest], call: Call) -> NoReturn:
        raise Unimplemented("audit streams are not implemented, here as upstream")

    async def GetServiceEndpoints(
        self, request: pb.GetServiceEndpointsRequest, call: Call
    ) -> pb.GetServiceEndpointsResponse:
        await self._callers.exporter(call)
        return pb.GetServiceEndpointsResponse()

    # -- connections

    async def Listen(self, request: pb.ListenRequest, call: Call) -> AsyncIterator[pb.ListenResponse]:
        caller = await self._callers.exporter(call)
        name = _lease_name(caller, request.lease_name, "lease_name")
        try:
            lease = await self._engine.get(name)
        except NotFound:
            lease = lab_pb2.Lease()
        if lease.ended or lease.exporter != caller.name:
            raise PermissionDenied(f"permission denied: {name} is not assigned to {caller.name}")
        async with contextlib.aclosing(self._dialing.listen(name, call.author("lease:listen"))) as dials:
            async for dial in dials:
                yield dial

    async def Dial(self, request: pb.DialRequest, call: Call) -> pb.DialResponse:
        caller = await self._callers.client(call, None)
        name = _lease_name(caller, request.lease_name, "lease_name")
        await self._ready(name, caller)
        return await self._dialing.dial(name, call.author("lease:dial"))

    async def _ready(self, name: str, caller: Caller) -> None:
        """Until the exporter of the caller's lease takes connections. Raises NotFound,
        PermissionDenied, and FailedPrecondition when it cannot or does not in time."""
        lab = self._engine.lab
        ends = asyncio.get_running_loop().time() + DIAL_PATIENCE
        while True:
            # Whatever the lease and the exporter become after that is looked at again.
            seen = lab.revision
            lease = await self._own(name, caller, "dial")
            if not lease.exporter or lease.ended:
                raise FailedPrecondition(f"lease not active: {name}", kind=kinds.LEASE, name=name)
            exporter = lab.exporter(lease.exporter)
            status = exporter.status if exporter is not None else common.EXPORTER_STATUS_OFFLINE
            if status in _DIALLED:
                return
            try:
                if status != common.EXPORTER_STATUS_AVAILABLE:
                    raise TimeoutError
                async with asyncio.timeout_at(ends):
                    await lab.change(lease.exporter, seen)
            except TimeoutError:
                raise FailedPrecondition(
                    f"exporter is not ready (status: {_spoken(status)})",
                    kind=kinds.EXPORTER,
                    name=lease.exporter,
                ) from None

    # -- leases, as clients before ClientService knew them

    async def GetLease(self, request: pb.GetLeaseRequest, call: Call) -> pb.GetLeaseResponse:
        caller = await self._callers.client(call, None)
        lease = await self._own(_lease_name(caller, request.name, "name"), caller, "read")
        found = pb.GetLeaseResponse(
            duration=lease.duration, selector=_message(lease), conditions=lease.conditions
        )
        if lease.HasField("effective_begin_time"):
            found.begin_time.CopyFrom(lease.effective_begin_time)
            if lease.ended:
                found.end_time.CopyFrom(lease.ended_time)
        exporter = self._engine.lab.exporter(lease.exporter) if lease.exporter else None
        if exporter is not None:
            found.exporter_uuid = exporter.uid
        return found

    async def RequestLease(self, request: pb.RequestLeaseRequest, call: Call) -> pb.RequestLeaseResponse:
        selector = selectors.of(request.selector, "selector")
        wanted = client_pb2.CreateLeaseRequest(lease=client_pb2.Lease(selector=str(selector)))
        if request.HasField("duration"):
            wanted.lease.duration.CopyFrom(request.duration)
        caller = await self._callers.client(call, None)
        new_id = ids.timed(self._new_id(), self._engine.now())
        try:
            lease_creation.check(wanted, 0)
            lease = lease_creation.made(wanted, caller.namespace, caller.name, new_id)
        except InvalidArgument as error:
            # The fields have other places in this request.
            own = [Violation(v.field.removeprefix("lease."), v.description) for v in error.violations]
            raise InvalidArgument.of(own) from None
        stored = await self._engine.create(lease, call.author("lease:create"))
        return pb.RequestLeaseResponse(name=id_of(stored.name))

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, call: Call) -> pb.ReleaseLeaseResponse:
        """Of an own lease, or by the exporter that it holds; again is no error."""
        caller = await self._callers.either(call)
        name = _lease_name(caller, request.name, "name")
        if caller.exporter.name:
            lease = await self._engine.get(name)
            if lease.exporter != caller.name:
                raise FailedPrecondition(f"{name} does not hold {caller.name}", kind=kinds.LEASE, name=name)
        else:
            lease = await self._own(name, caller, "release")
        if not (lease.ended or lease.released):
            with contextlib.suppress(FailedPrecondition):  # someone else was first
                await self._engine.release(name, call.author("lease:release"))
        return pb.ReleaseLeaseResponse()

    async def ListLeases(self, request: pb.ListLeasesRequest, call: Call) -> pb.ListLeasesResponse:
        caller = await self._callers.client(call, None)
        own = (Condition("client", "=", caller.name), Condition("ended", "=", 0))
        query = Query(kinds.LEASE, parent=parent(caller.namespace), where=own)
        names = [id_of(record.name) async for record in self._store.scan(query)]
        return pb.ListLeasesResponse(names=names)

    async def _own(self, name: str, caller: Caller, action: str) -> lab_pb2.Lease:
        """The lease of the caller. Raises NotFound and PermissionDenied."""
        lease = await self._engine.get(name)
        if lease.client != caller.name:
            raise PermissionDenied(f"permission denied: only {lease.client} may {action} {name}")
        return lease


def _lease_name(caller: Caller, id: str, parameter: str) -> str:
    """The full name of a lease in the caller's namespace. Raises InvalidArgument."""
    fault = id_fault(id) if id else "is required"
    if fault:
        raise InvalidArgument.at(parameter, fault)
    return LEASES.name(caller.namespace, id)


def _message(lease: lab_pb2.Lease) -> LabelSelector:
    """What a lease asks for, as a message."""
    found = LabelSelector()
    for requirement in rules.selector_of(lease).requirements:
        if requirement.operator == "=":
            found.match_labels[requirement.key] = requirement.values[0]
        else:
            found.match_expressions.add(
                key=requirement.key, operator=_OPERATORS[requirement.operator], values=requirement.values
            )
    return found


def _spoken(status: common.ExporterStatus) -> str:
    """`LeaseReady` of EXPORTER_STATUS_LEASE_READY."""
    name = common.ExporterStatus.Name(status).removeprefix("EXPORTER_STATUS_")
    return "".join(word.capitalize() for word in name.split("_"))
