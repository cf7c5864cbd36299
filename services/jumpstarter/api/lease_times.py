"""The time fields of requests as nanoseconds, and what a change of some does to the others
(jumpstarter contract, sections 2.4 and 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.lease import Times
from shared.errors import FailedPrecondition, InvalidArgument
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

FIELDS: Final = ("duration", "begin_time", "end_time")
_NANO: Final = 1_000_000_000
_LONGEST: Final = 315_576_000_000
_EARLIEST: Final = -62_135_596_800
_LATEST: Final = 253_402_300_799


def given(lease: client_pb2.Lease) -> dict[str, int | None]:
    """The value of each field, None where it is not set. Raises InvalidArgument for one that is no
    Duration or Timestamp."""
    return {field: _value(lease, field) for field in FIELDS}


def asked(lease: client_pb2.Lease) -> Times:
    """Of a new lease. Raises InvalidArgument."""
    found = given(lease)
    return rules.times(found["duration"], found["begin_time"], found["end_time"])


def changed(lease: pb.Lease, changes: Mapping[str, int | None]) -> Times:
    """The times of a stored lease once `changes` (of FIELDS; None: unset it) are made. What is not
    among them gives way: a duration is the total from the begin and moves the end, and of begin and
    end each leaves the other where it is.

    Raises InvalidArgument, and FailedPrecondition when a lease that has its exporter would begin at
    another time.
    """
    stored = rules.times_of(lease)
    if not lease.HasField("effective_begin_time"):
        return _merged(stored, changes)
    begin = stored.begin
    if begin is None:
        begin = lease.effective_begin_time.ToNanoseconds()
        changes = {field: value for field, value in changes.items() if (field, value) != ("begin_time", None)}
    found = _merged(Times(stored.duration, begin, stored.end), changes)
    if found.begin != begin:
        raise FailedPrecondition(
            "cannot update BeginTime: lease has already started", kind="lease", name=lease.name
        )
    return replace(found, begin=stored.begin)


def _merged(stored: Times, changes: Mapping[str, int | None]) -> Times:
    duration = changes.get("duration", stored.duration)
    begin = changes.get("begin_time", stored.begin)
    end = changes.get("end_time", stored.end)
    if begin is not None and end is not None:
        if "duration" not in changes:
            duration = None
        elif duration is not None and "end_time" not in changes:
            found = rules.times(duration, begin, None)
            return replace(found, end=begin + found.duration)
        elif duration is not None and "begin_time" not in changes:
            begin = None
    return rules.times(duration, begin, end)


def _value(lease: client_pb2.Lease, field: str) -> int | None:
    if not lease.HasField(field):
        return None
    value: Duration | Timestamp = getattr(lease, field)
    seconds, nanos = value.seconds, value.nanos
    if isinstance(value, Duration):
        wrong = abs(seconds) > _LONGEST or abs(nanos) >= _NANO or seconds * nanos < 0
    else:
        wrong = not _EARLIEST <= seconds <= _LATEST or not 0 <= nanos < _NANO
    if wrong:
        kind = type(value).DESCRIPTOR.name
        raise InvalidArgument.at(f"lease.{field}", f"{seconds} s and {nanos} ns are no {kind}")
    return seconds * _NANO + nanos
