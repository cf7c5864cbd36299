"""What a new lease may ask for (jumpstarter contract, section 2.4, CreateLease)."""

from __future__ import annotations

from collections.abc import Iterable

from services.jumpstarter.api import lease_times
from services.jumpstarter.leasing.lease import set_times
from services.jumpstarter.names import LEASES, id_fault
from shared.errors import InvalidArgument, Violation
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects import selector
from shared.query.labels import name_fault, value_fault

MAX_CONTEXT = 8
MAX_CONTEXT_KEY = 32
MAX_CONTEXT_VALUE = 64


def check(request: client_pb2.CreateLeaseRequest, max_tags: int) -> None:
    """What is looked at before anyone asks who calls: target, tags, context. Raises InvalidArgument."""
    lease = request.lease
    if not request.HasField("lease"):
        raise InvalidArgument.at("lease", "must be given: one of selector or exporter_name is required")
    if not lease.selector and not lease.exporter_name:
        raise InvalidArgument.at("lease.selector", "one of selector or exporter_name is required")
    if wrong := [*_tag_faults(lease, max_tags), *_context_faults(lease)]:
        raise InvalidArgument.of(wrong)


def made(request: client_pb2.CreateLeaseRequest, namespace: str, client: str, new_id: str) -> pb.Lease:
    """The lease to store for the client of that name; `new_id` is its id unless the request has one.
    Raises InvalidArgument."""
    wanted = request.lease
    for field, id in (("lease_id", request.lease_id), ("lease.exporter_name", wanted.exporter_name)):
        if id and (fault := id_fault(id)):
            raise InvalidArgument.at(field, fault)
    found = pb.Lease(
        name=LEASES.name(namespace, request.lease_id or new_id),
        namespace=namespace,
        selector=str(selector.wanted(wanted.selector)),
        exporter_name=wanted.exporter_name,
        tags=wanted.tags,
        allow_disabled=wanted.allow_disabled,
        context=wanted.context,
        client=client,
    )
    set_times(found, lease_times.asked(wanted))
    return found


def _tag_faults(lease: client_pb2.Lease, most: int) -> Iterable[Violation]:
    if len(lease.tags) > most:
        yield Violation("lease.tags", f"has {len(lease.tags)} entries; at most {most} are allowed")
        return
    for key, value in lease.tags.items():
        # A name has no "/", so no prefix either.
        for fault in filter(None, (name_fault(key), value_fault(value))):
            yield Violation(f"lease.tags[{key[:64]!r}]", fault)


def _context_faults(lease: client_pb2.Lease) -> Iterable[Violation]:
    if len(lease.context) > MAX_CONTEXT:
        text = f"has {len(lease.context)} entries; at most {MAX_CONTEXT} are allowed"
        yield Violation("lease.context", text)
        return
    for key, value in lease.context.items():
        path = f"lease.context[{key[:64]!r}]"
        if not 0 < len(key) <= MAX_CONTEXT_KEY:
            yield Violation(path, f"has a key of {len(key)} characters; 1 to {MAX_CONTEXT_KEY} are allowed")
        if len(value) > MAX_CONTEXT_VALUE:
            yield Violation(
                path, f"has a value of {len(value)} characters; at most {MAX_CONTEXT_VALUE} are allowed"
            )
