"""What a change of one time field does to the others."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.jumpstarter.api import lease_times
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.lease import Times
from shared.errors import ApiError, FailedPrecondition, InvalidArgument
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

numbers = st.integers(-5, 20)
optional = st.none() | numbers


def consistent(found: Times) -> bool:
    """Section 2.5, of what is stored."""
    if found.duration <= 0:
        return False
    return found.begin is None or found.end is None or found.end - found.begin == found.duration


@given(optional, optional, optional)
def test_times_of_a_new_lease(duration: int | None, begin: int | None, end: int | None) -> None:
    try:
        found = rules.times(duration, begin, end)
    except InvalidArgument:
        enough = (duration or 0) > 0 and (begin is None or end is None)
        assert not enough and not (begin is not None and end is not None and duration == end - begin > 0)
        return
    assert consistent(found)
    assert duration in (None, found.duration) and begin in (None, found.begin) and end in (None, found.end)
    assert (found.end is None) == (end is None)
    assert found.begin is not None or end is None


@st.composite
def leases(draw: st.DrawFn) -> pb.Lease:
    """Stored ones, waiting or with an exporter."""
    found = pb.Lease(name="namespaces/lab/leases/a")
    begin = draw(optional)
    duration = draw(st.integers(1, 20))
    end = begin + duration if begin is not None and draw(st.booleans()) else None
    rules.set_times(found, Times(duration, begin, end))
    if draw(st.booleans()):
        found.effective_begin_time.FromNanoseconds(draw(numbers))
    return found


changes = st.dictionaries(st.sampled_from(lease_times.FIELDS), numbers)


@given(leases(), changes)
def test_a_change_says_what_it_says_and_keeps_the_times_consistent(
    lease: pb.Lease, given_: dict[str, int]
) -> None:
    before = rules.times_of(lease)
    held = lease.HasField("effective_begin_time")
    try:
        found = lease_times.changed(lease, given_)
    except FailedPrecondition:
        assert held and ("begin_time" in given_ or given_.keys() == {"duration", "end_time"})
        return
    except InvalidArgument:
        assert given_
        return
    assert consistent(found)
    assert found.duration == given_.get("duration", found.duration)
    assert found.end == given_.get("end_time", found.end)
    if held:
        assert found.begin == before.begin
    else:
        assert found.begin == given_.get("begin_time", found.begin)
    if not given_:
        assert found == before
    if given_.keys() == {"duration"}:
        assert found.begin == before.begin, "a duration moves the end"
    if given_.keys() == {"begin_time"}:
        assert found.end == before.end
    rules.set_times(lease, found)
    assert rules.times_of(lease) == found


@given(leases(), st.dictionaries(st.sampled_from(lease_times.FIELDS), optional))
def test_unset_fields_never_crash(lease: pb.Lease, given_: dict[str, int | None]) -> None:
    try:
        assert consistent(lease_times.changed(lease, given_))
    except ApiError as error:
        assert error.message


def test_no_end_goes_beyond_the_calendar() -> None:
    lease = pb.Lease()
    late = 253_402_300_000 * 10**9
    rules.set_times(lease, Times(100, late, late + 100))
    with pytest.raises(InvalidArgument, match="beyond the calendar"):
        lease_times.changed(lease, {"duration": 10**18})
    with pytest.raises(InvalidArgument, match="beyond the calendar"):
        rules.times(315_576_000_000 * 10**9, None, late)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration", Duration(seconds=315_576_000_001)),
        ("duration", Duration(seconds=1, nanos=-1)),
        ("duration", Duration(nanos=1_000_000_000)),
        ("begin_time", Timestamp(seconds=-62_135_596_801)),
        ("end_time", Timestamp(seconds=253_402_300_800)),
        ("end_time", Timestamp(nanos=-1)),
        ("begin_time", Timestamp(nanos=1_000_000_000)),
    ],
)
def test_values_that_are_none(field: str, value: Any) -> None:
    lease = client_pb2.Lease()
    getattr(lease, field).CopyFrom(value)
    with pytest.raises(InvalidArgument) as caught:
        lease_times.given(lease)
    assert caught.value.violations[0].field == f"lease.{field}"
    assert caught.value.message.endswith(f"are no {type(value).DESCRIPTOR.name}")
