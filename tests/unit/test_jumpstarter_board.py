"""Views of exporters, the queue of leases and the agenda, beside what they stand for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.jumpstarter.leasing import board as boards
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.agenda import Agenda
from services.jumpstarter.leasing.board import Board, View
from services.jumpstarter.leasing.exporter import State, state
from services.jumpstarter.leasing.queue import Queue
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects import selector as dialect

NAMES = [f"namespaces/lab/exporters/e{number}" for number in range(5)]
SELECTORS = [
    dialect.parse(text)
    for text in ("", "a", "!a", "a=1", "a=1,b=1", "a in (1,2)", "a notin (1)", "b=2", "a>1")
]

names = st.sampled_from(NAMES)
values = st.sampled_from(["1", "2"])
labels = st.dictionaries(st.sampled_from(["a", "b"]), values)
exporters = st.builds(
    pb.Exporter,
    labels=labels,
    registered=st.booleans(),
    online=st.booleans(),
    enabled=st.none() | st.booleans(),
    status=st.sampled_from(sorted(common.ExporterStatus.values())),
    lease=st.sampled_from(["", "namespaces/lab/leases/l"]),
)


# -- what an exporter is


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, State.FREE),
        ({"status": common.EXPORTER_STATUS_UNSPECIFIED}, State.FREE),
        ({"enabled": True}, State.FREE),
        ({"enabled": False}, State.DISABLED),
        ({"enabled": False, "online": False}, State.DISABLED),
        ({"online": False}, State.OFFLINE),
        ({"registered": False}, State.OFFLINE),
        ({"registered": False, "lease": "l"}, State.OFFLINE),
        ({"lease": "l"}, State.LEASED),
        ({"lease": "l", "status": common.EXPORTER_STATUS_LEASE_READY}, State.LEASED),
        ({"status": common.EXPORTER_STATUS_LEASE_READY}, State.NOT_READY),
        ({"status": common.EXPORTER_STATUS_AFTER_LEASE_HOOK}, State.NOT_READY),
        ({"status": common.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED}, State.NOT_READY),
        ({"status": common.EXPORTER_STATUS_OFFLINE}, State.NOT_READY),
    ],
)
def test_what_keeps_an_exporter_from_being_given_away(fields: dict[str, Any], found: State) -> None:
    usual = {"registered": True, "online": True, "status": common.EXPORTER_STATUS_AVAILABLE}
    exporter = pb.Exporter(**{**usual, **fields})
    assert state(exporter) is found
    if found is State.DISABLED:
        assert state(exporter, allow_disabled=True) is not State.DISABLED


# -- the board

changes = st.tuples(names, st.none() | exporters)
looks = st.lists(st.sampled_from(SELECTORS), max_size=2)


def shown(view: View) -> list[Any]:
    """Everything that it answers."""
    return [
        dict(view.states()),
        len(view),
        [view.count(one) for one in State],
        [view.first(one) for one in State],
        view.first(*State),
    ]


@given(st.lists(changes | looks, max_size=30), looks)
def test_views_are_what_is_there(steps: list[Any], last: Any) -> None:
    board, stored = Board(), dict[str, pb.Exporter]()
    for step in [*steps, last]:
        if isinstance(step, tuple):
            name, exporter = step
            stored.pop(name, None)
            if exporter is not None:
                stored[name] = exporter
            board.put(name, exporter)
            continue
        naive = View()
        for name, exporter in stored.items():
            if all(selector.matches(exporter.labels) for selector in step):
                naive.put(name, state(exporter))
        assert shown(board.view(*step)) == shown(naive)
    assert board.exporters == stored


@pytest.mark.parametrize(("limit", "value"), [("_VIEWS", 2), ("_ENTRIES", 5)])
def test_views_that_nobody_asked_for_lately_are_dropped(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, limit, value)
    board = Board()
    for name_ in NAMES[:2]:
        board.put(name_, pb.Exporter(labels={"a": "1"}))
    a, b, c = (dialect.parse(text) for text in ("a", "a=1", "a in (1,2)"))
    first, second = board.view(a), board.view(b)
    assert board.view(a) is first
    board.view(c)
    assert board.view(a) is first
    assert board.view(b) is not second


def test_the_same_view_however_it_is_asked_for() -> None:
    board = Board()
    a, b = dialect.parse("a"), dialect.parse("b")
    assert board.view(a, b) is board.view(b, a) is board.view(b, dialect.parse(""), a, a)


# -- the queue

ids = st.sampled_from("abcdef")
waits = st.tuples(ids, st.integers(0, 3), st.sampled_from(["", "a", "a=1", "b"]), st.sampled_from(["", "e0"]))


def _lease(id: str, since: int, selector: str, exporter: str) -> pb.Lease:
    lease = pb.Lease(name=id, selector=selector, exporter_name=exporter)
    lease.create_time.FromNanoseconds(since)
    return lease


@given(st.lists(waits | ids, max_size=30), labels, st.integers(0, 3))
def test_the_queue_is_in_order(steps: list[Any], found: dict[str, str], now: int) -> None:
    queue, stored = Queue(), dict[str, pb.Lease]()
    for step in steps:
        if isinstance(step, tuple):
            lease = _lease(*step)
            stored[lease.name] = lease
            queue.put(lease, NAMES[0] if lease.exporter_name else "")
        else:
            stored.pop(step, None)
            queue.remove(step)
    places = sorted((rules.queued_at(lease), lease.name) for lease in stored.values())
    assert list(queue) == [name for _, name in places]
    assert len(queue) == len(places)
    assert [queue.position(name) for _, name in places] == list(range(1, len(places) + 1))
    assert queue.position("nobody") == 0 and "nobody" not in queue
    due = [place for place in places if place[0] <= now]
    assert queue.due(now) == due
    for exporter in NAMES[:2]:
        wanting = [
            place
            for place in due
            if rules.selector_of(stored[place[1]]).matches(found)
            and (not stored[place[1]].exporter_name or exporter == NAMES[0])
        ]
        assert list(queue.wanting(pb.Exporter(name=exporter, labels=found), now)) == wanting


def test_who_leaves_the_queue_is_not_asked_any_more() -> None:
    queue = Queue()
    for id in "abc":
        queue.put(_lease(id, 0, "", ""), "")
    wanting = queue.wanting(pb.Exporter(), 0)
    assert next(wanting) == (0, "a")
    queue.remove("b")
    queue.put(_lease("z", 0, "", ""), "")
    assert list(wanting) == [(0, "c")]


# -- the agenda


def drained(agenda: Agenda, free: set[str]) -> list[str]:
    found = []
    while (name := agenda.next(free.__contains__)) is not None:
        found.append(name)
        agenda.done()
    return found


def test_whoever_has_waited_longest_is_next() -> None:
    agenda = Agenda()
    agenda.waiting((3, "c"))
    agenda.free("e", [(1, "a"), (4, "d")])
    agenda.waiting((2, "b"))
    assert drained(agenda, {"e"}) == ["a", "b", "c", "d"]


def test_those_that_come_first_stay_until_they_are_dismissed() -> None:
    agenda = Agenda()
    for lease in "bab":
        agenda.put_first(lease)
    assert agenda.first == agenda.first == ["b", "a"]
    agenda.dismiss("b")
    assert agenda.first == ["a"] and agenda.next(lambda _: True) is None


def test_an_exporter_is_offered_for_as_long_as_it_is_free() -> None:
    agenda = Agenda()
    agenda.free("e", [(1, "a"), (2, "b"), (4, "d")])
    agenda.free("f", [(3, "c"), (5, "x")])
    free = {"e", "f"}
    assert agenda.next(free.__contains__) == "a"
    agenda.done()
    free.remove("e")
    assert drained(agenda, free) == ["c", "x"]


def test_what_is_not_done_stays() -> None:
    agenda = Agenda()
    agenda.waiting((1, "a"))
    assert [agenda.next(lambda _: False) for _ in range(3)] == ["a"] * 3


@given(st.lists(st.tuples(ids, st.integers(0, 20)), max_size=60), st.lists(st.integers(0, 25)))
def test_a_lease_is_due_once_at_the_time_that_was_said_last(steps: list[Any], moments: list[int]) -> None:
    agenda, said = Agenda(), dict[str, int]()
    for lease, at in steps:
        agenda.later(lease, at)
        said[lease] = at
    for now in sorted(moments):
        assert (agenda.next_due or 0) <= min(said.values(), default=1 << 60)
        due = sorted((at, lease) for lease, at in said.items() if at <= now)
        assert list(agenda.due(now)) == [lease for _, lease in due]
        for _, lease in due:
            del said[lease]


def test_leases_that_end_early_leave_nothing_behind() -> None:
    agenda = Agenda()
    for number in range(10_000):
        agenda.later(str(number), 1000 + number)
        agenda.forget(str(number))
    assert len(agenda._due) < 2100
    agenda.later("last", 5)
    assert agenda.next_due is not None and agenda.next_due <= 5
    assert list(agenda.due(1 << 60)) == ["last"]


def test_places_never_get_out_of_order() -> None:
    """Each from several causes, added at any time, as the controller adds them."""
    agenda = Agenda()
    asked: list[Any] = []
    for start in range(0, 9, 3):
        agenda.free(f"e{start}", [(start + number, f"l{number}") for number in range(5)])
        agenda.waiting((start, "own"))
    while agenda.next(lambda _: True) is not None:
        asked.append(agenda._waiting[0][0])
        agenda.done()
    assert len(asked) == 18 and all(a <= b for a, b in pairwise(asked))
