"""Which of the pods that wait may run."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from services.jobs.engine.admission import UNLIMITED, Admission, Amount, Pool, Request
from services.jobs.runtime.port import Capacity, Ending
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import Constraint
from tests.unit.jobs_yard import Yard, spec

OTHER = "b2a7c5de-0000-4000-8000-9d2f3b1a7c11-0"
NODE = Capacity(cpu=10, memory_mb=1000, pods=100)
POOLS = {
    "a": Pool("/a", Amount(4, 1000, 0), ("a", "root")),
    "b": Pool("/b", UNLIMITED, ("b", "root")),
    "root": Pool("/", Amount(8, 1000, 0), ("root",)),
}


def admission(capacity: Capacity = NODE) -> Admission:
    return Admission(capacity, POOLS)


def wish(
    pod: str, cpu: float = 1, *, pool: str = "a", memory: float = 0, priority: int = 0, since: int = 0
) -> Request:
    return Request(pod, pool, Amount(cpu, memory), priority, since)


def admitted(found: Admission, *wishes: Request) -> list[str]:
    for one in wishes:
        found.wait(one)
    return list(found.admit())


def test_whoever_there_is_room_for_may_run() -> None:
    found = admission()
    assert admitted(found, wish("p1", 2), wish("p2", 2), wish("p3", 2)) == ["p1", "p2"]
    assert found.holds("p1") and not found.holds("p3")
    assert found.reason("p1") == ""
    assert found.reason("p3") == "Pool /a has not enough cpu left"
    assert found.used("a") == found.used("root") == Amount(4)
    assert found.leave("p1")
    assert list(found.admit()) == ["p3"]


def test_priority_goes_before_age_and_age_before_name() -> None:
    found = admission(Capacity(cpu=10, memory_mb=1000, pods=0))
    wishes = [
        wish("late", since=2),
        wish("b", since=1),
        wish("a", since=1),
        wish("urgent", since=9, priority=5),
    ]
    random.Random(3).shuffle(wishes)
    assert admitted(found, *wishes) == []
    found.capacity = NODE
    assert list(found.admit()) == ["urgent", "a", "b", "late"]


def test_a_large_pod_is_not_passed_by_small_ones() -> None:
    found = admission()
    assert admitted(found, wish("running", 2), wish("large", 3, since=1), wish("small", since=2)) == [
        "running"
    ]
    assert found.reason("small") == "Others in pool /a are before it"
    found.leave("running")
    assert list(found.admit()) == ["large", "small"]


def test_a_pod_that_can_never_run_blocks_nobody() -> None:
    found = admission()
    assert admitted(found, wish("huge", 5), wish("monstrous", 11), wish("small", since=1)) == ["small"]
    assert found.reason("huge") == "It wants more cpu than pool /a may use"
    assert found.reason("monstrous") == "It wants more cpu than the node has"


def test_pools_do_not_wait_for_each_other() -> None:
    found = admission()
    assert admitted(found, wish("a1", 4), wish("a2", 1), wish("b1", 4, pool="b")) == ["a1", "b1"]
    assert found.reason("a2") == "Pool /a has not enough cpu left"
    assert admitted(found, wish("b2", 1, pool="b")) == []
    assert found.reason("b2") == "Pool / has not enough cpu left"


def test_the_node_runs_so_many_pods_at_most() -> None:
    found = admission(Capacity(cpu=10, memory_mb=1000, pods=2))
    assert admitted(found, wish("p1"), wish("p2"), wish("p3")) == ["p1", "p2"]
    assert "2 pods" in found.reason("p3")
    assert admitted(admission(), wish("m1", memory=600, pool="b"), wish("m2", memory=600, pool="b")) == ["m1"]


def test_a_pool_that_nobody_described_has_no_limit() -> None:
    assert admitted(admission(), wish("p1", 9, pool="else")) == ["p1"]


def test_leaving_gives_up_the_room_and_the_place() -> None:
    found = admission()
    assert admitted(found, wish("p1", 3), wish("p2", 3), wish("p3", 1, since=1)) == ["p1"]
    # The one that was before it goes, and it may run.
    assert found.leave("p2")
    assert list(found.admit()) == ["p3"]
    assert not found.leave("p2")
    assert found.leave("p1") and found.leave("p3")
    assert found.used("a") == Amount() and not found.holds("p3")


def test_a_wish_may_change() -> None:
    found = admission()
    assert admitted(found, wish("p1", 4), wish("p2", 4)) == ["p1"]
    assert admitted(found, wish("p2", 0)) == ["p2"]
    assert admitted(found, wish("p2", 0)) == []


def test_other_limits_count_at_once() -> None:
    found = admission()
    assert admitted(found, wish("p1", 4), wish("huge", 6)) == ["p1"]
    found.replace({**POOLS, "a": Pool("/a", Amount(7, 1000, 0), ("a",))})
    assert found.used("a") == Amount(4) and found.used("root") == Amount()
    assert found.reason("huge") == "Pool /a has not enough cpu left"
    found.leave("p1")
    assert list(found.admit()) == ["huge"]
    found.replace(POOLS)
    # What runs goes on.
    assert found.holds("huge") and found.used("root") == Amount(6)


def test_sums_do_not_drift() -> None:
    found = admission()
    for _ in range(20_000):
        assert admitted(found, wish("p1", 0.1), wish("p2", 0.2), wish("p3", 3.7)) == ["p1", "p2", "p3"]
        for pod in ("p1", "p2", "p3"):
            found.leave(pod)
    assert found.used("a") == Amount()


def test_many_that_can_never_run_cost_little() -> None:
    found = admission()
    calls = 0
    whole = Admission.never

    def counted(self: Admission, request: Request) -> str:
        nonlocal calls
        calls += 1
        return whole(self, request)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Admission, "never", counted)
        for number in range(500):
            assert admitted(found, wish(f"p{number}", 99)) == []
    assert calls <= 1000


@settings(deadline=None)
@given(st.data())
def test_limits_hold_whatever_happens(data: st.DataObject) -> None:
    found = admission(Capacity(cpu=6, memory_mb=1000, pods=5))
    running: dict[str, Request] = {}
    wishes: dict[str, Request] = {}
    for _ in range(data.draw(st.integers(1, 30))):
        pod = f"p{data.draw(st.integers(0, 8))}"
        if pod in running and data.draw(st.booleans()):
            del running[pod]
            assert found.leave(pod)
        elif pod not in running:
            one = wish(
                pod,
                data.draw(st.sampled_from([0, 0.1, 1, 1.5, 3, 7])),
                pool=data.draw(st.sampled_from(["a", "b"])),
                since=data.draw(st.integers(0, 3)),
                priority=data.draw(st.integers(0, 1)),
            )
            found.wait(one)
            wishes[pod] = one
        for name in found.admit():
            running[name] = wishes[name]
        for pool, limit in (("a", 4.0), ("root", 8.0)):
            inside = [one for one in running.values() if pool in POOLS[one.pool].chain]
            assert sum(one.amount.cpu for one in inside) <= limit + 1e-6
            assert found.used(pool).cpu == pytest.approx(sum(one.amount.cpu for one in inside))
        assert sum(one.amount.cpu for one in running.values()) <= 6 + 1e-6 and len(running) <= 5


# -- constraints

HOST = Capacity(cpu=10, memory_mb=1000, pods=100, labels={"hostname": "here", "zone": "a"})


def label(kind: str, condition: str, requirement: int, key: str, value: str) -> str:
    return (
        f"type: CONSTRAINT_TYPE_LABEL label_constraint {{ kind: LABEL_CONSTRAINT_KIND_{kind} "
        f"condition: LABEL_CONSTRAINT_CONDITION_{condition} requirement: {requirement} "
        f'label {{ key: "{key}" value: "{value}" }} }}'
    )


def joined(how: str, *parts: str) -> str:
    inside = " ".join(f"constraints {{ {part} }}" for part in parts)
    return f"type: CONSTRAINT_TYPE_{how} {how.lower()}_constraint {{ {inside} }}"


def constrained(
    pod: str, where: str, *labels: str, pool: str = "b", since: int = 0, cpu: float = 1
) -> Request:
    found = text_format.Parse(where, Constraint()).SerializeToString(deterministic=True)
    own = frozenset((key, value) for key, _, value in (text.partition("=") for text in labels))
    return Request(pod, pool, Amount(cpu), 0, since, found, own)


IN_A = label("HOST", "EQUAL", 1, "zone", "a")
IN_B = label("HOST", "EQUAL", 1, "zone", "b")
ALONE = label("POD", "LESS_THAN", 1, "app", "web")
BESIDE = label("POD", "GREATER_THAN", 0, "app", "db")


@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ("", True),
        (IN_A, True),
        (IN_B, False),
        (label("HOST", "LESS_THAN", 1, "zone", "b"), True),
        (label("HOST", "GREATER_THAN", 0, "hostname", "here"), True),
        (label("HOST", "GREATER_THAN", 1, "zone", "a"), False),
        (joined("AND", IN_A, IN_B), False),
        (joined("OR", IN_A, IN_B), True),
        (joined("AND", IN_A, joined("OR", IN_B, ALONE)), True),
        (ALONE, True),
        (BESIDE, False),
        (label("POD", "EQUAL", 0, "app", "web"), True),
        (label("POD", "LESS_THAN", 0, "app", "web"), False),
    ],
)
def test_a_constraint_decides_on_an_empty_host(where: str, runs: bool) -> None:
    found = admission(HOST)
    assert admitted(found, constrained("p", where)) == (["p"] if runs else [])
    assert ("constraint" in found.reason("p")) is not runs


def test_what_the_host_will_never_have_says_so_and_blocks_nobody() -> None:
    found = admission(HOST)
    never = constrained("p", joined("AND", IN_B, BESIDE), since=1)
    assert admitted(found, never, wish("q", pool="b", since=2)) == ["q"]
    assert found.reason("p") == (
        "Its constraint asks for another host than the only one, which has hostname=here, zone=a"
    )
    assert found.never(never)
    # It may come true: another pod decides.
    assert not found.never(constrained("r", joined("OR", IN_B, BESIDE)))


def test_one_of_a_kind_runs_at_a_time() -> None:
    """Host-limit-1 on one node: at most one, the rest wait, whoever else there is."""
    found = admission(HOST)
    webs = [constrained(f"w{number}", ALONE, "app=web", since=number) for number in range(4)]
    assert admitted(found, *webs, wish("other", pool="b", since=9)) == ["w0", "other"]
    assert found.reason("w1") == "Its constraint is not met by the pods that are on the host now"
    assert found.leave("w0")
    assert list(found.admit()) == ["w1"]
    # After a new start, too.
    again = admission(HOST)
    again.hold(webs[1])
    assert admitted(again, *webs[2:]) == []


def test_a_pod_that_wants_company_runs_once_it_is_there() -> None:
    found = admission(HOST)
    assert admitted(found, constrained("web", BESIDE, pool="a")) == []
    assert admitted(found, constrained("db", "", "app=db", pool="b")) == ["db", "web"]
    found.leave("db")
    assert found.holds("web")


def test_constraints_do_not_change_who_is_first() -> None:
    found = admission(replace(HOST, cpu=2))
    small = [constrained(f"s{number}", IN_A, since=number) for number in (1, 3)]
    others = [wish(f"o{number}", pool="b", since=number) for number in (2, 4)]
    assert admitted(found, *others, *small) == ["s1", "o2"]
    found.leave("o2")
    assert list(found.admit()) == ["s3"]


def test_where_pods_run_may_be_the_runtimes_own_business() -> None:
    assert admitted(admission(), constrained("p", IN_B)) == ["p"]


# -- with the pods of a job


def sized(count: int, cpu: float) -> object:
    found = spec(count)
    found.default_spec.containers[0].resource.cpu_limit = cpu
    return found


@pytest.mark.parametrize("forgetful", [False, True])
def test_pods_wait_with_a_reason_and_run_when_there_is_room(forgetful: bool) -> None:
    yard = Yard(forgetful=forgetful, limit=Amount(2, 1000, 0))
    yard.create(sized(3, 1))
    yard.settle()
    assert yard.states() == {"RUNNING": 2, "PENDING": 1}
    status = yard.pod(2).status
    assert status.message == "Pool /pool has not enough cpu left" and status.reason == "PENDING_ADMISSION"
    assert yard.job_state == "RUNNING" and yard.workflow_state == "ROLLING_FORWARD"
    yard.now += 1
    yard.look(yard.ended(yard.id(0), ending=Ending.EXITED, exit_code=1))
    yard.settle()
    assert yard.states() == {"RUNNING": 2, "FAILED": 1}
    assert yard.pod(2).status.message == ""


def test_room_that_was_given_to_a_pod_which_does_not_begin_is_given_back() -> None:
    yard = Yard(limit=Amount(2, 1000, 0))
    yard.create(sized(1, 2))
    yard.settle()
    # Another job's pod waits, then one of ours is before it and goes again.
    other = Request(OTHER, "pool", Amount(2), 0, yard.now + 10)
    yard.admission.wait(other)
    yard.replace(sized(1, 1))
    yard.look()
    yard.stop()
    yard.settle()
    yard.admission.wait(other)
    assert yard.states() == {"KILLED": 1}
    assert yard.admission.holds(OTHER) or list(yard.admission.admit()) == [OTHER]
    assert yard.admission.used("pool") == Amount(2)


def test_a_pod_that_was_admitted_and_is_stopped_before_it_was_launched() -> None:
    yard = Yard(pods=1)
    yard.create(spec(2))
    yard.settle()
    assert yard.states() == {"RUNNING": 1, "PENDING": 1}
    # Another job's pass ends a pod and gives its room to ours; our job is stopped before its own pass.
    yard.admission.leave(yard.pod(0).name)
    assert list(yard.admission.admit()) == [yard.pod(1).name]
    yard.stop()
    yard.settle()
    assert yard.states() == {"KILLED": 2}
    assert not yard.admission.holds(yard.pod(1).name)


def test_a_large_pod_that_goes_lets_those_behind_it_in() -> None:
    yard = Yard(limit=Amount(4, 1000, 0))
    wanted = sized(3, 1)
    wanted.instance_spec[1].containers.add().resource.cpu_limit = 4
    yard.create(wanted, batch_size=1)
    yard.settle()
    assert yard.states() == {"RUNNING": 1, "PENDING": 1}
    yard.abort()
    behind = Request(OTHER, "pool", Amount(1), 0, yard.now + 10)
    yard.admission.wait(behind)
    assert not list(yard.admission.admit())
    yard.change(lambda draft: setattr(draft.edit_pod(1).status, "desired_state", 14))
    outcome = yard.look()
    assert yard.state(1) == "KILLED"
    assert yard.admission.holds(OTHER) and OTHER in outcome.others
