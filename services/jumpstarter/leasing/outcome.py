"""What is written once something has been decided about a lease. Pure: answers changes, makes none."""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.message import Message

from services.jumpstarter import kinds, names
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.decision import Assign, Decision, End, Keep, Wait
from services.jumpstarter.leasing.lab import Lab
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.port import Check, Expect, Put

M = TypeVar("M", bound=Message)

# What an assignment follows from, beside the lease and the exporter: nobody was here before it, and
# those who were could not have the exporter.
_DECIDING: Final = (kinds.LEASE, kinds.CLIENT, kinds.ACCESS_POLICY)


def acts(made: Decision, lease: pb.Lease) -> bool:
    """Whether there is something to write about a lease that is stored."""
    if isinstance(made, Wait):
        return rules.condition(lease, rules.PENDING) is None
    return not isinstance(made, Keep)


def of(
    lab: Lab, lease: pb.Lease, made: Decision, expect: Expect | int, now: int
) -> tuple[list[Put], list[Check]]:
    """The changes that store `lease` once what was decided about it, with the checks that make sure
    that it holds still. Changes `lease` to what is stored then."""
    changes: list[Put] = []
    checks: list[Check] = []
    match made:
        case Assign(name, priority, spot):
            rules.assign(lease, name, priority, spot, now)
            changes.append(_held(lab, name, lease.name))
            checks += (Check(kind, None, lab.revision) for kind in _DECIDING)
        case Wait(reason, message):
            rules.set_condition(lease, rules.PENDING, rules.TRUE, reason, message, now)
        case End():
            held = lab.exporter(lease.exporter) if lease.exporter else None
            if held is not None and held.lease == lease.name:
                changes.append(_held(lab, held.name, ""))
            end(lease, made, now)
    changes.append(put_lease(lease, expect))
    return changes, checks


def end(lease: pb.Lease, made: End, now: int) -> None:
    if made.reason == "Expired":
        # Clients of 0.9.0 would wait on for ever (jumpstarter contract, section 10, trap 4).
        rules.set_condition(lease, rules.PENDING, rules.FALSE, made.reason, made.message, now)
    rules.set_condition(lease, made.condition, made.status, made.reason, made.message, now)
    rules.end(lease, now)


def copied(message: M) -> M:
    found = type(message)()
    found.CopyFrom(message)
    return found


def put_lease(lease: pb.Lease, expect: Expect | int) -> Put:
    body = lease.SerializeToString(deterministic=True)
    return Put(kinds.LEASE, lease.name, body, names.parent(lease.namespace), expect)


def put_exporter(exporter: pb.Exporter, expect: int) -> Put:
    body = exporter.SerializeToString(deterministic=True)
    return Put(kinds.EXPORTER, exporter.name, body, names.parent(exporter.namespace), expect)


def _held(lab: Lab, name: str, lease: str) -> Put:
    """The exporter of that name, held by `lease`, or by none."""
    found = lab.exporter(name)
    assert found is not None, "what was decided on is what the lab shows"
    exporter = copied(found)
    exporter.lease = lease
    return put_exporter(exporter, lab.at(name))
