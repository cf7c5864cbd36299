"""The rules of one lease (jumpstarter contract, sections 2.4, 2.5 and 3)."""

from __future__ import annotations

from typing import Any

import pytest

from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.lease import Times
from shared.errors import InvalidArgument
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
LAST = 253_402_300_799 * SECOND  # 9999-12-31T23:59:59Z
FIRST = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z


def lease(times: Times | None = None, **fields: Any) -> pb.Lease:
    found = pb.Lease(name="namespaces/lab/leases/a", namespace="lab", **fields)
    found.create_time.FromNanoseconds(1000 * SECOND)
    rules.set_times(found, times or Times(HOUR))
    return found


# -- section 2.5


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((HOUR, None, None), Times(HOUR)),
        ((HOUR, 5, None), Times(HOUR, 5)),
        ((None, 5, 5 + HOUR), Times(HOUR, 5, 5 + HOUR)),
        ((HOUR, None, 5 + HOUR), Times(HOUR, 5, 5 + HOUR)),
        ((HOUR, 5, 5 + HOUR), Times(HOUR, 5, 5 + HOUR)),
        ((1, None, None), Times(1)),
        ((LAST - FIRST, FIRST, LAST), Times(LAST - FIRST, FIRST, LAST)),
    ],
    ids=["duration", "begin+duration", "begin+end", "end+duration", "all three", "shortest", "longest"],
)
def test_what_follows_from_the_times_that_are_given(given: Any, found: Times) -> None:
    assert rules.times(*given) == found


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ((None, None, None), "duration", "duration is required"),
        ((None, 5, None), "duration", "duration is required"),
        ((None, None, 5), "duration", "duration is required"),
        ((0, None, None), "duration", "duration must be positive"),
        ((-1, None, None), "duration", "duration must be positive"),
        ((0, 5, None), "duration", "duration must be positive"),
        ((-1, None, 5), "duration", "duration must be positive"),
        ((HOUR, 5, 6), "duration", "duration conflicts with begin_time and end_time"),
        ((None, 5, 5), "end_time", "duration must be positive"),
        ((None, 6, 5), "end_time", "duration must be positive"),
        ((2, None, FIRST + 1), "duration", "calendar"),
        ((2 * SECOND, LAST, None), "duration", "calendar"),
    ],
)
def test_times_that_cannot_be(given: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rules.times(*given)
    (violation,) = caught.value.violations
    assert violation.field == f"lease.{field}" and said in violation.description


@pytest.mark.parametrize("times", [Times(1), Times(HOUR, -5), Times(HOUR, 0, HOUR), Times(HOUR, 5, 5 + HOUR)])
def test_times_are_stored_as_they_are(times: Times) -> None:
    stored = lease(Times(7, 8, 15))
    rules.set_times(stored, times)
    assert rules.times_of(stored) == times


# -- when it ends, and since when it waits


@pytest.mark.parametrize(
    ("times", "begun", "ends"),
    [
        (Times(HOUR), None, None),
        (Times(HOUR), 50, 50 + HOUR),
        (Times(HOUR, 10), None, 10 + HOUR),
        (Times(HOUR, 10), 50, 10 + HOUR),
        (Times(HOUR, 10, 10 + HOUR), 50, 10 + HOUR),
        (Times(HOUR, None, 70), 50, 70),
        (Times(HOUR, None, 70), None, 70),
        (Times(LAST), LAST, LAST + SECOND - 1),
    ],
    ids=["waits", "begun", "scheduled", "late", "all three", "new end", "new end, waits", "calendar"],
)
def test_when_it_ends_by_itself(times: Times, begun: int | None, ends: int | None) -> None:
    found = lease(times)
    if begun is not None:
        found.effective_begin_time.FromNanoseconds(begun)
    assert rules.expires_at(found) == ends


def test_it_waits_since_it_was_made_or_since_it_should_have_begun() -> None:
    assert rules.queued_at(lease()) == 1000 * SECOND
    assert rules.queued_at(lease(Times(HOUR, 2000 * SECOND))) == 2000 * SECOND
    assert rules.queued_at(lease(Times(HOUR, 10 * SECOND))) == 1000 * SECOND


# -- conditions


def said(found: pb.Lease) -> list[tuple[str, str, str, int]]:
    return [
        (c.type, c.status, c.reason, c.lastTransitionTime.seconds * SECOND + c.lastTransitionTime.nanos)
        for c in found.conditions
    ]


def test_conditions_stay_where_they_were_first() -> None:
    found = lease()
    rules.set_condition(found, "Pending", "True", "Offline", "a", 5)
    rules.set_condition(found, "Ready", "True", "Ready", "b", 6)
    rules.set_condition(found, "Pending", "False", "Expired", "c", 7)
    assert [c.type for c in found.conditions] == ["Pending", "Ready"]
    assert [c.message for c in found.conditions] == ["c", "b"]
    assert [c.observedGeneration for c in found.conditions] == [1, 1]


def test_the_time_of_a_condition_is_that_of_its_last_change_of_status() -> None:
    found = lease()
    rules.set_condition(found, "Ready", "True", "Ready", "", 3 * SECOND + 1)
    rules.set_condition(found, "Ready", "True", "Other", "", 5 * SECOND)
    assert said(found) == [("Ready", "True", "Other", 3 * SECOND + 1)]
    rules.set_condition(found, "Ready", "False", "Released", "", 7 * SECOND + 2)
    assert said(found) == [("Ready", "False", "Released", 7 * SECOND + 2)]


def test_an_assignment() -> None:
    found = lease()
    rules.assign(found, "namespaces/lab/exporters/e", 7, True, 5 * SECOND)
    assert (found.exporter, found.priority, found.spot) == ("namespaces/lab/exporters/e", 7, True)
    assert found.effective_begin_time.ToNanoseconds() == 5 * SECOND
    assert said(found) == [("Ready", "True", "Ready", 5 * SECOND)]
    assert "e" in found.conditions[0].message.split()


def test_an_end_hides_it_from_lists_of_active_ones() -> None:
    found = lease(labels={"board": "rpi"})
    rules.end(found, 9)
    assert found.ended and found.ended_time.ToNanoseconds() == 9
    assert dict(found.labels) == {"board": "rpi", "jumpstarter.dev/lease-ended": "true"}


def test_what_lists_filter_by() -> None:
    found = lease(selector="a=1,b in (x,y),!c,d=", tags={"team": "radio"})
    assert rules.labels(found) == {"a": "1", "d": "", "metadata.jumpstarter.dev/team": "radio"}
    found.ended = True
    assert rules.labels(found)["jumpstarter.dev/lease-ended"] == "true"


# -- the public form


def test_a_lease_that_waits_for_a_named_exporter_is_shown() -> None:
    found = lease(Times(HOUR, 5 * SECOND), exporter_name="e", client="namespaces/lab/clients/c")
    shown = rules.public(found, 9 * SECOND)
    assert (shown.selector, shown.exporter_name, shown.client) == ("<none>", "e", found.client)
    assert shown.duration.ToNanoseconds() == HOUR and shown.begin_time.ToNanoseconds() == 5 * SECOND
    absent = ("end_time", "effective_begin_time", "effective_end_time", "effective_duration", "exporter")
    assert not any(shown.HasField(field) for field in absent)


def test_elapsed_time_is_shown_once_it_has_begun() -> None:
    found = lease(selector="a=1")
    rules.assign(found, "namespaces/lab/exporters/e", 0, False, 5 * SECOND)
    shown = rules.public(found, 9 * SECOND)
    assert (shown.selector, shown.exporter) == ("a=1", "namespaces/lab/exporters/e")
    assert not shown.HasField("exporter_name")
    assert shown.effective_begin_time.ToNanoseconds() == 5 * SECOND
    assert shown.effective_duration.ToNanoseconds() == 4 * SECOND
    assert not shown.HasField("effective_end_time")
    assert rules.public(found, 4 * SECOND).effective_duration.ToNanoseconds() == 0, "never negative"
    rules.end(found, 8 * SECOND)
    shown = rules.public(found, 99 * SECOND)
    assert shown.effective_duration.ToNanoseconds() == 3 * SECOND
    assert shown.effective_end_time.ToNanoseconds() == 8 * SECOND


def test_the_end_of_a_lease_that_never_began_is_not_shown() -> None:
    found = lease(selector="a=1")
    rules.end(found, 8 * SECOND)
    shown = rules.public(found, 99 * SECOND)
    assert not (shown.HasField("effective_end_time") or shown.HasField("effective_duration"))


def test_deprecated_labels_that_its_selector_asks_for() -> None:
    found = lease(selector="!c,a=1,b in (x)")
    old = {"a": "use x", "c": "use y", "d": "use z"}
    assert dict(rules.public(found, 0, old).deprecated_labels) == {"a": "use x", "c": "use y"}
    assert not rules.public(lease(exporter_name="e"), 0, old).deprecated_labels
