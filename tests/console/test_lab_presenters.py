"""What lab pages say, from what the service says: without either."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admin_ui.presenters import gantt, lab, lab_forms, lab_people, moments
from admin_ui.presenters.devices import tree
from shared.pb.jumpstarter.v1 import jumpstarter_pb2, kubernetes_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def lease(id: str = "one", **fields: Any) -> lab_pb2.Lease:
    """Times as hours from NOW; it lasts two hours unless it says otherwise."""
    found = lab_pb2.Lease(name=f"namespaces/lab/leases/{id}", client="namespaces/lab/clients/ann")
    found.duration.FromTimedelta(fields.pop("duration", 2 * HOUR))
    for field in ("begin_time", "end_time", "effective_begin_time", "ended_time", "create_time"):
        if field in fields:
            getattr(found, field).FromDatetime(NOW + fields.pop(field) * HOUR)
    found.MergeFrom(lab_pb2.Lease(**fields))
    return found


def condition(type: str, status: str, reason: str, message: str = "") -> kubernetes_pb2.Condition:
    return kubernetes_pb2.Condition(type=type, status=status, reason=reason, message=message)


HELD: dict[str, Any] = {"exporter": "namespaces/lab/exporters/bench", "effective_begin_time": -1}


@pytest.mark.parametrize(
    "fields,hours",
    [
        ({}, None),
        ({"effective_begin_time": -1}, 1),
        # Late acquisition does not extend.
        ({"begin_time": -1.5, "effective_begin_time": -1}, 0.5),
        ({"begin_time": 3}, 5),
        ({"begin_time": 3, "end_time": 4, "duration": HOUR}, 4),
    ],
)
def test_when_a_lease_ends(fields: dict[str, Any], hours: float | None):
    assert lab.until(lease(**fields)) == (None if hours is None else NOW + hours * HOUR)


@pytest.mark.parametrize(
    "fields,label",
    [
        (HELD, "Active"),
        ({}, "Waiting"),
        ({"begin_time": 1}, "Scheduled"),
        ({"begin_time": -1}, "Waiting"),
        ({**HELD, "ended": True, "conditions": [condition("Ready", "False", "Released")]}, "Released"),
        ({**HELD, "ended": True, "conditions": [condition("Ready", "False", "Expired")]}, "Expired"),
        ({"ended": True, "conditions": [condition("Unsatisfiable", "True", "NoAccess")]}, "Impossible"),
        ({"ended": True, "conditions": [condition("Invalid", "True", "InvalidSelector")]}, "Invalid"),
    ],
)
def test_the_state_of_a_lease(fields: dict[str, Any], label: str):
    assert lab.lease(lease(**fields), NOW).state.label == label


def test_why_a_lease_has_none():
    pending = condition("Pending", "True", "Offline", "all offline")
    nothing = condition("Unsatisfiable", "True", "NoAccess", "nobody lets you")
    assert lab.lease(lease(conditions=[pending]), NOW).why == "all offline"
    assert lab.lease(lease(conditions=[pending, nothing], ended=True), NOW).why == "nobody lets you"
    assert lab.lease(lease(conditions=[pending], **HELD), NOW).why == ""


def test_a_duration_beyond_the_calendar_has_an_end():
    found = lease(effective_begin_time=0)
    found.duration.seconds = 315_576_000_000
    assert lab.lease(found, NOW).until == datetime.max.replace(tzinfo=UTC)


def test_the_bar_holds_every_exporter():
    found = lab.counts(
        [pb.Count(state=pb.LEASED, count=1), pb.Count(state=pb.FREE, count=3), pb.Count(state=99, count=7)]
    )
    assert [(one.word, one.start, one.width) for one in found if one.count] == [
        ("free", 0, 75), ("leased", 75, 25),
    ]  # fmt: skip
    assert all(one.width == 0 for one in lab.counts([]))


def test_a_state_from_a_newer_service_is_shown_as_such():
    slot = pb.Slot(exporter=lab_pb2.Exporter(name="namespaces/lab/exporters/x", status=77), state=99)
    found = lab.slot(slot, NOW)
    assert (found.state.label, found.exporter.status) == ("Unknown", "status 77")


def report(uuid: str, parent: str = "", name: str = "") -> jumpstarter_pb2.DriverInstanceReport:
    labels = {"jumpstarter.dev/name": name} if name else {}
    return jumpstarter_pb2.DriverInstanceReport(uuid=uuid, parent_uuid=parent, labels=labels)


def test_devices_are_a_tree_whatever_is_reported():
    told = [report("b", "a", "serial"), report("c", "b", "tty"), report("a"), report("d", "a", "power")]
    assert [(one.name, one.depth) for one in tree(told)] == [
        ("exporter", 0), ("power", 1), ("serial", 1), ("tty", 2),
    ]  # fmt: skip
    # A parent that is not there, and two that are each other's.
    odd = [report("a", "gone", "a"), report("b", "c", "b"), report("c", "b", "c")]
    assert sorted(one.name for one in tree(odd)) == ["a", "b", "c"]


# --- the timeline -------------------------------------------------------------------------------


def picture(*leases: lab_pb2.Lease, span: timedelta = 10 * HOUR) -> gantt.Picture:
    return gantt.picture([lab.lease(one, NOW) for one in leases], NOW, span)


def test_bars_stand_where_their_time_is():
    past = lease("past", effective_begin_time=-6, ended_time=-4, ended=True, exporter=HELD["exporter"])
    held = lease("held", **HELD)
    before = lease("before", effective_begin_time=-30, ended_time=-20, ended=True, exporter="x")
    never = lease("never")
    found = picture(held, never, past, before)
    # From 10 hours ago to 2 hours ahead: the least that it looks ahead.
    assert (found.begin, found.end) == (NOW - 10 * HOUR, NOW + 2 * HOUR)
    assert found.now == pytest.approx(100 * 10 / 12, abs=0.01)
    assert [(bar.lease.id, bar.open) for bar in found.bars] == [("past", False), ("held", True)]
    assert found.bars[0].start == pytest.approx(100 * 4 / 12, abs=0.01)
    assert found.bars[0].width == pytest.approx(100 * 2 / 12, abs=0.01)


def test_a_picture_ends_and_its_bars_stay_inside():
    long = lease("long", **{**HELD, "duration": 10_000 * HOUR})
    short = lease("short", effective_begin_time=0, ended_time=0, ended=True, exporter="x")
    found = picture(long, short)
    assert found.end == NOW + 10 * HOUR
    for bar in found.bars:
        assert bar.width > 0 and bar.start >= 0 and bar.start + bar.width <= 100.001
    empty = picture()
    assert empty.bars == () and 3 <= len(empty.marks) <= 7
    assert all(mark.at.minute == 0 for mark in empty.marks)


# --- what people type ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,seconds",
    [
        ("45m", 2700), ("45 min", 2700), ("1h30m", 5400), ("1 h 30 min", 5400), ("2 days", 172_800),
        ("1.5h", 5400), ("30s", 30), ("1D", 86_400), (" 2 hours ", 7200),
    ],
)  # fmt: skip
def test_spans_as_people_write_them(text: str, seconds: int):
    assert lab_forms.span_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "10", "-5m", "1h x", "0s", "999999d", "9" * 400 + "h"])
def test_what_is_no_span(text: str):
    with pytest.raises(ValueError):
        lab_forms.span_of(text)


def test_pairs_by_line_and_comma():
    assert lab_forms.pairs_of("a=1, b = 2\n\nc=") == {"a": "1", "b": "2", "c": ""}
    for wrong in ("a", "=1", "a=1\na=2"):
        with pytest.raises(ValueError):
            lab_forms.pairs_of(wrong)


@pytest.mark.parametrize(
    "seconds,text", [(0, "0 s"), (45, "45 s"), (5400, "1 h 30 min"), (90_061, "1 d 1 h"), (86_400, "1 d")]
)
def test_brief_spans(seconds: int, text: str):
    assert lab_forms.brief(timedelta(seconds=seconds)) == text


def test_moments_of_a_persons_own_day():
    assert lab_forms.moment_of("2026-07-01T09:00", "Europe/Berlin") == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert lab_forms.moment_of("2026-07-01T09:00Z", "Europe/Berlin") == datetime(2026, 7, 1, 9, tzinfo=UTC)
    for wrong in ("", "tomorrow", "0001-01-01T00:00", "9999-12-31T23:59-12:00"):
        with pytest.raises(ValueError):
            lab_forms.moment_of(wrong, "Asia/Tokyo")


@pytest.mark.parametrize(
    "seconds,text",
    [(-1, "no time"), (5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_what_is_left(seconds: int, text: str):
    assert moments.left(NOW + timedelta(seconds=seconds), now=NOW) == text


def test_selectors_of_policies_in_the_language_of_the_filter():
    found = kubernetes_pb2.LabelSelector(match_labels={"b": "2", "a": "1"})
    for operator, values in (("In", ["x", "y"]), ("NotIn", ["z"]), ("Exists", []), ("DoesNotExist", [])):
        found.match_expressions.add(key="k", operator=operator, values=values)
    assert lab_people.selector(found) == "a=1,b=2,k in (x,y),k notin (z),k,!k"
    assert lab_people.selector(kubernetes_pb2.LabelSelector()) == ""
