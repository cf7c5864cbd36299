"""The rules of one lease: its times, conditions, labels and public form. Pure.

Times are nanoseconds since 1970, durations nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.jumpstarter.names import id_of
from shared.errors import InvalidArgument
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1.kubernetes_pb2 import Condition
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects import selector as selectors
from shared.query.dialects.selector import Selector

READY: Final = "Ready"
PENDING: Final = "Pending"
UNSATISFIABLE: Final = "Unsatisfiable"
INVALID: Final = "Invalid"
TRUE: Final = "True"
FALSE: Final = "False"

# What is shown of a lease that asked for an exporter by name alone.
NO_SELECTOR: Final = "<none>"
TAG_PREFIX: Final = "metadata.jumpstarter.dev/"
ENDED_LABEL: Final = "jumpstarter.dev/lease-ended"

_SECOND: Final = 1_000_000_000
# What a Timestamp may hold: the years 1 to 9999.
_FIRST: Final = -62_135_596_800 * _SECOND
_LAST: Final = 253_402_300_800 * _SECOND - 1


@dataclass(frozen=True, slots=True)
class Times:
    """When a lease is wanted (jumpstarter contract, section 2.5). None: not given, nor derived."""

    duration: int
    begin: int | None = None
    end: int | None = None


def times(duration: int | None, begin: int | None, end: int | None, *, field: str = "lease") -> Times:
    """What was asked for, with what follows from it. Raises InvalidArgument below `field`."""
    if begin is not None and end is not None:
        span = end - begin
        if duration is not None and duration != span:
            raise InvalidArgument.at(f"{field}.duration", "duration conflicts with begin_time and end_time")
        if span <= 0:
            raise InvalidArgument.at(
                f"{field}.end_time", "must be after begin_time: duration must be positive"
            )
        return Times(span, begin, end)
    if duration is None:
        raise InvalidArgument.at(f"{field}.duration", "duration is required")
    if duration <= 0:
        raise InvalidArgument.at(f"{field}.duration", "duration must be positive")
    if end is not None:
        begin = end - duration
        if begin < _FIRST:
            raise InvalidArgument.at(f"{field}.duration", "reaches back beyond the calendar")
    if begin is not None and begin + duration > _LAST:
        raise InvalidArgument.at(f"{field}.duration", "ends beyond the calendar")
    return Times(duration, begin, end)


def times_of(lease: pb.Lease) -> Times:
    return Times(
        lease.duration.ToNanoseconds(),
        lease.begin_time.ToNanoseconds() if lease.HasField("begin_time") else None,
        lease.end_time.ToNanoseconds() if lease.HasField("end_time") else None,
    )


def set_times(lease: pb.Lease, found: Times) -> None:
    lease.duration.FromNanoseconds(found.duration)
    for field, value in (("begin_time", found.begin), ("end_time", found.end)):
        lease.ClearField(field)
        if value is not None:
            getattr(lease, field).FromNanoseconds(value)


def queued_at(lease: pb.Lease) -> int:
    """Since when it waits: its place in the queue, before others of a later time."""
    created = lease.create_time.ToNanoseconds()
    return max(created, lease.begin_time.ToNanoseconds()) if lease.HasField("begin_time") else created


def expires_at(lease: pb.Lease) -> int | None:
    """When it ends by itself; None while that depends on when it gets an exporter."""
    if lease.HasField("end_time"):
        return lease.end_time.ToNanoseconds()
    begin = lease.begin_time if lease.HasField("begin_time") else lease.effective_begin_time
    if begin is lease.effective_begin_time and not lease.HasField("effective_begin_time"):
        return None
    return min(begin.ToNanoseconds() + lease.duration.ToNanoseconds(), _LAST)


def is_over(lease: pb.Lease, now: int) -> bool:
    """Whether it ends now, whatever else there is."""
    expires = expires_at(lease)
    return lease.released or (expires is not None and expires <= now)


def selector_of(lease: pb.Lease) -> Selector:
    """What its exporter's labels must meet."""
    return selectors.parse(lease.selector, parameter="selector")


def labels(lease: pb.Lease) -> dict[str, str]:
    """What ListLeases filters by (section 2.4)."""
    found = selector_of(lease).equalities
    found |= {f"{TAG_PREFIX}{key}": value for key, value in lease.tags.items()}
    if lease.ended:
        found[ENDED_LABEL] = "true"
    return found


# -- conditions


def condition(lease: pb.Lease, type: str) -> Condition | None:
    return next((found for found in lease.conditions if found.type == type), None)


def set_condition(lease: pb.Lease, type: str, status: str, reason: str, message: str, now: int) -> None:
    """In the order of first appearance; the time is that of the last change of status."""
    found = condition(lease, type)
    if found is None:
        found = lease.conditions.add(type=type)
    if found.status != status:
        found.lastTransitionTime.seconds, found.lastTransitionTime.nanos = divmod(now, _SECOND)
    found.status, found.reason, found.message = status, reason, message
    # Leases have one generation: what was asked for is immutable or takes effect at once.
    found.observedGeneration = 1


def assign(lease: pb.Lease, exporter: str, priority: int, spot: bool, now: int) -> None:
    lease.exporter, lease.priority, lease.spot = exporter, priority, spot
    lease.effective_begin_time.FromNanoseconds(now)
    set_condition(lease, READY, TRUE, "Ready", f"An exporter has been acquired: {id_of(exporter)}", now)


def end(lease: pb.Lease, now: int) -> None:
    """Mark it ended; its conditions say why."""
    lease.ended = True
    lease.ended_time.FromNanoseconds(now)
    lease.labels[ENDED_LABEL] = "true"


# -- the public form


def public(lease: pb.Lease, now: int, deprecated: Mapping[str, str] | None = None) -> client_pb2.Lease:
    """As ClientService shows it. `deprecated`: what to use instead, by label key."""
    found = client_pb2.Lease(
        name=lease.name,
        selector=lease.selector or NO_SELECTOR,
        duration=lease.duration,
        client=lease.client,
        exporter=lease.exporter or None,
        conditions=lease.conditions,
        tags=lease.tags,
        allow_disabled=lease.allow_disabled,
        context=lease.context,
    )
    if lease.exporter_name:
        found.exporter_name = lease.exporter_name
    for field in ("begin_time", "end_time", "effective_begin_time"):
        if lease.HasField(field):
            getattr(found, field).CopyFrom(getattr(lease, field))
    if lease.HasField("effective_begin_time"):
        until = lease.ended_time.ToNanoseconds() if lease.ended else now
        if lease.ended:
            found.effective_end_time.CopyFrom(lease.ended_time)
        found.effective_duration.FromNanoseconds(max(0, until - lease.effective_begin_time.ToNanoseconds()))
    if deprecated and lease.selector:
        found.deprecated_labels.update(
            {key: deprecated[key] for key in _keys(selector_of(lease)) if key in deprecated}
        )
    return found


def _keys(selector: Selector) -> Iterable[str]:
    return (requirement.key for requirement in selector.requirements)
