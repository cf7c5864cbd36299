"""What the owner of a lease may change (jumpstarter contract, section 2.4, UpdateLease, DeleteLease)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.jumpstarter.api import lease_times
from services.jumpstarter.leasing.lease import set_times
from services.jumpstarter.names import CLIENTS, namespace_of
from shared.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Violation
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

# Of the stored lease as it is at the moment of writing.
Change = Callable[[pb.Lease], None]
FIELDS: Final = (*lease_times.FIELDS, "client")


def update(request: client_pb2.UpdateLeaseRequest, caller: str) -> Change:
    """What `request` of the client `caller` does to its lease. Raises InvalidArgument for what is
    wrong with the request alone; the change raises PermissionDenied, FailedPrecondition and
    InvalidArgument. That the new owner exists is for the engine to see."""
    fields = _fields(request)
    given = lease_times.given(request.lease)
    times: dict[str, int | None] = {field: given[field] for field in lease_times.FIELDS if field in fields}
    heir = request.lease.client if "client" in fields else ""
    if "client" in fields:
        CLIENTS.parse(heir, "lease.client")

    def change(lease: pb.Lease) -> None:
        _check_owner(lease, caller, "update")
        if heir:
            _check_transfer(lease, heir)
        if times:
            if lease.ended:
                raise _unfit(lease, "has ended: its times cannot be changed any more")
            set_times(lease, lease_times.changed(lease, times))
        if heir:
            lease.client = heir

    return change


def release(caller: str) -> Change:
    """What DeleteLease does. Raises PermissionDenied, and FailedPrecondition the second time."""

    def change(lease: pb.Lease) -> None:
        _check_owner(lease, caller, "release")
        if lease.released:
            raise _unfit(lease, "is released already")
        lease.released = True

    return change


def _fields(request: client_pb2.UpdateLeaseRequest) -> frozenset[str]:
    """Those that the mask names, or without one those that are set."""
    paths = request.update_mask.paths
    if not paths:
        return frozenset(field for field in FIELDS if request.lease.HasField(field))
    if wrong := [path for path in paths if path not in FIELDS]:
        text = f"cannot be changed; use {', '.join(FIELDS)}"
        raise InvalidArgument.of([Violation("update_mask", f"{path[:300]!r} {text}") for path in wrong])
    return frozenset(paths)


def _check_owner(lease: pb.Lease, caller: str, verb: str) -> None:
    if lease.client != caller:
        raise PermissionDenied(
            f"permission denied: {lease.name} is of {lease.client}, who alone may {verb} it"
        )


def _check_transfer(lease: pb.Lease, heir: str) -> None:
    if namespace_of(heir) != lease.namespace:
        raise InvalidArgument.at(
            "lease.client", f"{heir!r} is of another namespace than the lease, {lease.namespace!r}"
        )
    if lease.ended:
        raise _unfit(lease, "has ended: it cannot be transferred")
    if not lease.exporter:
        raise _unfit(lease, "has no exporter yet: it cannot be transferred")


def _unfit(lease: pb.Lease, text: str) -> FailedPrecondition:
    return FailedPrecondition(f"{lease.name} {text}", kind="lease", name=lease.name)
