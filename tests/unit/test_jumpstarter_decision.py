"""What becomes of a lease: every row of the contract's table, the order of its steps, and any lab
beside the naive model (jumpstarter contract, section 3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.decision import Assign, Decision, End, Keep, Wait, decide
from services.jumpstarter.leasing.lab import Namespace
from services.jumpstarter.leasing.lease import Times
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from tests.contract.jumpstarter_model import NAMESPACE, SCHEDULED, SECOND, Model, Verdict, name

NOW = 1000 * SECOND
ANN = name("clients", "ann")
OFFLINE = {"online": False}
LEASED = {"lease": name("leases", "other"), "status": common.EXPORTER_STATUS_LEASE_READY}
CLEANING = {"status": common.EXPORTER_STATUS_AFTER_LEASE_HOOK}
DISABLED = {"enabled": False}


def exporter(id: str, labels: str = "board=rpi", **fields: Any) -> pb.Exporter:
    usual = {"registered": True, "online": True, "status": common.EXPORTER_STATUS_AVAILABLE}
    pairs = dict(pair.split("=") for pair in labels.split(",") if pair)
    return pb.Exporter(name=name("exporters", id), labels=pairs, **{**usual, **fields})


def policy(id: str, *rules: dict[str, Any], only: str = "", team: str | None = None) -> pb.AccessPolicy:
    """For the exporters with the label `only`, for clients of `team`, or all."""
    found = pb.AccessPolicy(name=name("accessPolicies", id))
    if only:
        key, _, value = only.partition("=")
        found.exporter_selector.match_labels[key] = value
    for fields in rules or ({},):
        longest = fields.pop("longest", None)
        rule = found.policies.add(**fields)
        client = getattr(rule, "from").add()
        if team is not None:
            client.client_selector.match_labels["team"] = team
        if longest is not None:
            rule.maximum_duration.seconds = longest
    return found


def lab(*found: pb.Exporter | pb.AccessPolicy, team: str = "a") -> Namespace:
    space = Namespace()
    space.put_client(ANN, pb.Client(name=ANN, labels={"team": team}))
    for one in found:
        if isinstance(one, pb.Exporter):
            space.board.put(one.name, one)
        else:
            space.put_policy(one.name, one)
    return space


def lease(
    selector: str = "board=rpi", exporter: str = "", *, times: Times | None = None, **fields: Any
) -> pb.Lease:
    made = pb.Lease(
        name=name("leases", "mine"),
        namespace=NAMESPACE,
        selector=selector,
        exporter_name=exporter,
        client=ANN,
        **fields,
    )
    made.create_time.FromNanoseconds(NOW - SECOND)
    rules.set_times(made, times or Times(60 * SECOND))
    return made


def reason(made: Decision) -> str:
    """Condition, status and reason, as the table writes them."""
    if isinstance(made, Wait):
        return f"Pending=True {made.reason}"
    assert isinstance(made, End), made
    return f"{made.condition}={made.status} {made.reason}"


def given_to(made: Decision) -> tuple[str, int, bool]:
    assert isinstance(made, Assign), made
    return made.exporter.rpartition("/")[2], made.priority, made.spot


# -- the table


@pytest.mark.parametrize(
    ("wanted", "found", "expected", "words"),
    [
        (
            lease(),
            [exporter("e", **OFFLINE)],
            "Pending=True Offline",
            ["1 exporter matches", "1 offline", "(for example e)"],
        ),
        (lease(), [exporter("e", registered=False)], "Pending=True Offline", ["1 offline"]),
        (lease(), [exporter("e", **OFFLINE, **LEASED)], "Pending=True Offline", ["1 offline"]),
        (lease(), [exporter("e", **LEASED)], "Pending=True NotAvailable", ["1 leased", "(for example e)"]),
        (
            lease(),
            [exporter("e1", **OFFLINE), exporter("e2", **LEASED), exporter("e3", **LEASED)],
            "Pending=True NotAvailable",
            ["3 exporters match", "2 leased", "1 offline", "(for example e2)"],
        ),
        (
            lease(),
            [exporter("e", **CLEANING)],
            "Pending=True NotReady",
            ["1 not ready yet", "(for example e)"],
        ),
        (
            lease(),
            [exporter("e1", **LEASED), exporter("e2", **CLEANING)],
            "Pending=True NotReady",
            ["1 leased", "1 not ready yet", "(for example e2)"],
        ),
        (lease("", "ghost"), [exporter("e")], "Unsatisfiable=True ExporterNotFound", ["ghost"]),
        (
            lease("board=jet", "e"),
            [exporter("e")],
            "Unsatisfiable=True SelectorMismatch",
            ["Exporter e ", "board=jet"],
        ),
        (
            lease("", "e"),
            [exporter("e", **DISABLED)],
            "Unsatisfiable=True ExporterDisabled",
            ["Exporter e ", "allow_disabled"],
        ),
        (
            lease(),
            [exporter("e1", **DISABLED), exporter("e2", **DISABLED), exporter("e3", "board=jet")],
            "Unsatisfiable=True AllDisabled",
            ["All 2 matching"],
        ),
        (
            lease(allow_disabled=True),
            [exporter("e", **DISABLED)],
            "Unsatisfiable=True AllDisabled",
            ["All 1 matching"],
        ),
        (lease("board=none"), [exporter("e")], "Unsatisfiable=True NoAccess", ["board=none"]),
        (lease(), [], "Unsatisfiable=True NoAccess", ["board=rpi"]),
        (
            lease(),
            [exporter("e"), policy("p", {"description": "for the radio team"}, team="radio")],
            "Unsatisfiable=True NoAccess",
            ["for the radio team", "lets ann lease e "],
        ),
        (
            lease(),
            [exporter("e"), policy("p", {"description": "short", "longest": 59})],
            "Unsatisfiable=True NoAccess",
            ["short (at most 0:00:59)"],
        ),
        (
            lease("", "e"),
            [exporter("e"), policy("p", only="board=jet")],
            "Unsatisfiable=True NoAccess",
            ["lets ann lease e "],
        ),
        (
            lease(),
            [exporter("e"), policy("p", {"spot_access": True})],
            "Unsatisfiable=True SpotAccess",
            ["spot"],
        ),
        (lease(""), [exporter("e")], "Invalid=True InvalidSelector", ["selector"]),
        (lease(released=True), [exporter("e")], "Ready=False Released", ["released"]),
        (lease(times=Times(1, 5)), [exporter("e")], "Ready=False Expired", ["before an exporter was free"]),
    ],
)  # fmt: skip
def test_the_table(wanted: pb.Lease, found: list[Any], expected: str, words: list[str]) -> None:
    made = decide(wanted, lab(*found), NOW)
    assert reason(made) == expected
    assert isinstance(made, Wait | End)
    assert all(word in made.message for word in words), made.message


# -- the order of the steps


def test_a_release_comes_before_everything() -> None:
    ended = decide(lease(released=True, times=Times(1, 5)), lab(), NOW)
    assert reason(ended) == "Ready=False Released"
    scheduled = lease("", released=True, times=Times(SECOND, NOW + SECOND))
    assert reason(decide(scheduled, lab(), NOW)) == "Ready=False Released"


def test_the_end_comes_before_an_exporter() -> None:
    assert reason(decide(lease(times=Times(SECOND, NOW - SECOND)), lab(exporter("e")), NOW)) == (
        "Ready=False Expired"
    )
    assert given_to(decide(lease(times=Times(SECOND + 1, NOW - SECOND)), lab(exporter("e")), NOW))


def test_the_end_of_a_lease_with_an_exporter() -> None:
    held = lease()
    rules.assign(held, name("exporters", "e"), 0, False, NOW)
    assert decide(held, lab(exporter("e", **LEASED)), NOW) == Keep(NOW + 60 * SECOND)
    assert decide(held, lab(exporter("e", **OFFLINE)), NOW + 60 * SECOND - 1) == Keep(NOW + 60 * SECOND)
    assert reason(decide(held, lab(), NOW + 60 * SECOND)) == "Ready=False Expired"


@pytest.mark.parametrize(
    "found",
    [
        exporter("e", **OFFLINE),
        exporter("e", **DISABLED),
        exporter("e", **CLEANING),
        exporter("e", registered=False),
        exporter("e", "board=jet"),
    ],
)
def test_what_becomes_of_its_exporter_changes_nothing_on_a_lease_that_has_it(found: pb.Exporter) -> None:
    found.lease = name("leases", "mine")
    space = lab(found, policy("for others", team="b"))
    for wanted in (lease(), lease("", "e")):
        rules.assign(wanted, found.name, 0, False, NOW)
        assert decide(wanted, space, NOW) == Keep(NOW + 60 * SECOND)


@pytest.mark.parametrize("selector", ["board=rpi", "", "board=none"])
def test_nothing_is_decided_before_it_begins(selector: str) -> None:
    later = lease(selector, times=Times(60 * SECOND, NOW + 1))
    assert decide(later, lab(exporter("e")), NOW) == Keep(NOW + 1)


def test_until_when_it_waits() -> None:
    space = lab(exporter("e", **LEASED))
    made = [decide(lease(times=times), space, NOW) for times in (Times(SECOND), Times(SECOND, NOW))]
    assert [one.until for one in made if isinstance(one, Wait)] == [None, NOW + SECOND]


def test_a_named_exporter_is_found_matched_and_enabled_in_this_order() -> None:
    space = lab(exporter("e", **DISABLED))
    assert reason(decide(lease("board=jet", "ghost"), space, NOW)).endswith("ExporterNotFound")
    assert reason(decide(lease("board=jet", "e"), space, NOW)).endswith("SelectorMismatch")
    assert reason(decide(lease("board=rpi", "e"), space, NOW)).endswith("ExporterDisabled")


def test_a_disabled_exporter_can_be_had_by_name_by_who_allows_it() -> None:
    space = lab(exporter("e", **DISABLED))
    assert given_to(decide(lease("", "e", allow_disabled=True), space, NOW)) == ("e", 0, False)
    space = lab(exporter("e", **DISABLED, **CLEANING))
    assert reason(decide(lease("", "e", allow_disabled=True), space, NOW)) == "Pending=True NotReady"


def test_a_disabled_exporter_is_no_candidate_beside_others() -> None:
    space = lab(exporter("e1", **DISABLED), exporter("e2", **LEASED))
    made = decide(lease(allow_disabled=True), space, NOW)
    assert reason(made) == "Pending=True NotAvailable"
    assert isinstance(made, Wait) and made.message.startswith("1 exporter matches")


def test_access_comes_before_being_online() -> None:
    space = lab(exporter("e", **OFFLINE), policy("p", team="radio"))
    assert reason(decide(lease(), space, NOW)).endswith("NoAccess")


def test_only_approved_exporters_count() -> None:
    """One is free, but not for this client."""
    space = lab(exporter("e1", "board=rpi,n=1", **LEASED), exporter("e2"), policy("p", only="n=1"))
    made = decide(lease(), space, NOW)
    assert reason(made) == "Pending=True NotAvailable"
    assert isinstance(made, Wait) and "1 free for others" in made.message


def test_the_first_by_name() -> None:
    space = lab(exporter("e3"), exporter("e2"), exporter("e1", **CLEANING), exporter("e0", **LEASED))
    assert given_to(decide(lease(), space, NOW)) == ("e2", 0, False)
    space = lab(exporter("e9", status=common.EXPORTER_STATUS_UNSPECIFIED))
    assert given_to(decide(lease(), space, NOW)) == ("e9", 0, False)


def test_the_greatest_priority_comes_before_the_name() -> None:
    space = lab(
        exporter("e1", "board=rpi,n=1"),
        exporter("e2", "board=rpi,n=2"),
        policy("p", {"priority": 1}, only="n=1"),
        policy("q", {"priority": 5}, {"priority": 3}, only="n=2"),
    )
    assert given_to(decide(lease(), space, NOW)) == ("e2", 5, False)


def test_what_is_not_leased_comes_before_priority() -> None:
    space = lab(
        exporter("e1", "board=rpi,n=1", **LEASED),
        exporter("e2"),
        policy("p", {"priority": 9}, only="n=1"),
        policy("q"),
    )
    assert given_to(decide(lease(), space, NOW)) == ("e2", 0, False)


def test_spot_access_is_the_last_choice() -> None:
    space = lab(
        exporter("e1", "board=rpi,n=1"),
        exporter("e2"),
        policy("p", {"priority": 9, "spot_access": True}),
        policy("q", only="board=rpi"),
    )
    assert given_to(decide(lease(), space, NOW)) == ("e1", 0, False)


def test_a_free_exporter_under_spot_access_comes_before_a_leased_one() -> None:
    """So the lease is refused, though it might have waited."""
    space = lab(
        exporter("e1", "board=rpi,n=1"),
        exporter("e2", "board=rpi,n=2", **LEASED),
        policy("p", {"spot_access": True}, only="n=1"),
        policy("q", only="n=2"),
    )
    assert reason(decide(lease(), space, NOW)).endswith("SpotAccess")


def test_spot_access_is_given_where_the_better_choice_is_not_ready() -> None:
    space = lab(
        exporter("e1", "board=rpi,n=1"),
        exporter("e2", "board=rpi,n=2", **CLEANING),
        policy("p", {"spot_access": True, "priority": 2}, only="n=1"),
        policy("q", only="n=2"),
    )
    assert given_to(decide(lease(), space, NOW)) == ("e1", 2, True)


def test_why_there_is_no_access_names_what_would_have_matched() -> None:
    space = lab(
        exporter("e"),
        policy("a", {"description": "night runs"}, team="night"),
        policy("b", {"description": "other boards"}, only="board=jet", team="a"),
        policy("c", {"description": "quick looks", "longest": 5}),
    )
    made = decide(lease(), space, NOW)
    assert isinstance(made, End)
    assert made.message == (
        "No access policy lets ann lease e for that long: night runs; quick looks (at most 0:00:05)"
    )


def test_a_client_that_is_not_known_has_no_labels() -> None:
    space = lab(exporter("e"), policy("p", team="a"))
    assert given_to(decide(lease(), space, NOW)) == ("e", 0, False)
    space.put_client(ANN, None)
    assert reason(decide(lease(), space, NOW)).endswith("NoAccess")


def test_what_a_client_may_have_is_known_anew_after_each_change() -> None:
    space = lab(exporter("e"), policy("p", team="b"))
    assert reason(decide(lease(), space, NOW)).endswith("NoAccess")
    space.put_client(ANN, pb.Client(name=ANN, labels={"team": "b"}))
    assert given_to(decide(lease(), space, NOW)) == ("e", 0, False)
    space.put_policy(name("accessPolicies", "p"), policy("p", {"longest": 59}))
    assert reason(decide(lease(), space, NOW)).endswith("NoAccess")
    assert given_to(decide(lease(times=Times(59 * SECOND)), space, NOW))
    space.put_policy(name("accessPolicies", "p"), None)
    assert given_to(decide(lease(), space, NOW))


# -- any lab

LABELS = [{}, {"board": "rpi"}, {"board": "rpi", "n": "1"}, {"board": "jet", "n": "1"}, {"n": "1"}]
labels = st.sampled_from(LABELS)
exporters = st.builds(
    pb.Exporter,
    labels=labels,
    registered=st.sampled_from([True, True, False]),
    online=st.sampled_from([True, True, False]),
    enabled=st.sampled_from([None, True, False]),
    status=st.sampled_from(sorted(common.ExporterStatus.values())),
    lease=st.sampled_from(["", "", name("leases", "other")]),
)
leases = st.builds(
    lease,
    st.sampled_from(["", "board", "board=rpi", "board in (jet,rpi)", "!n", "n=1", "board=none"]),
    st.sampled_from(["", "", "e0", "e1", "ghost"]),
    times=st.sampled_from(
        [Times(60 * SECOND), Times(SECOND, NOW - SECOND), Times(60 * SECOND, NOW), Times(SECOND, NOW + 1)]
    ),
    allow_disabled=st.booleans(),
    released=st.sampled_from([False, False, False, True]),
)


@st.composite
def policies(draw: st.DrawFn) -> pb.AccessPolicy:
    found = pb.AccessPolicy()
    found.exporter_selector.match_labels.update(draw(labels))
    for _ in range(draw(st.integers(0, 2))):
        rule = found.policies.add(priority=draw(st.integers(0, 2)), spot_access=draw(st.booleans()))
        for chosen in draw(st.lists(st.sampled_from([{}, {"team": "a"}, {"team": "b"}]), max_size=2)):
            getattr(rule, "from").add().client_selector.match_labels.update(chosen)
        if draw(st.booleans()):
            rule.maximum_duration.seconds = draw(st.sampled_from([1, 60]))
    return found


@settings(max_examples=500)
@given(st.lists(exporters, max_size=4), st.lists(policies(), max_size=3), leases)
def test_any_lab(found: list[pb.Exporter], rulebook: list[pb.AccessPolicy], wanted: pb.Lease) -> None:
    model = Model(clients={ANN: pb.Client(name=ANN, labels={"team": "a"})})
    for number, one in enumerate(found):
        one.name = name("exporters", f"e{number}")
        model.exporters[one.name] = one
    for number, one_policy in enumerate(rulebook):
        one_policy.name = name("accessPolicies", f"p{number}")
        model.policies[one_policy.name] = one_policy
    space = lab(*found, *rulebook)
    for _ in range(2):  # the second time from views that are there
        made = decide(wanted, space, NOW)
        assert _verdict(made) == model.verdict(wanted, NOW)


def _verdict(made: Decision) -> Verdict:
    match made:
        case Keep():
            return SCHEDULED
        case Assign(chosen, priority, spot):
            return Verdict("Assign", "", chosen, priority, spot)
        case Wait():
            return Verdict("Pending", made.reason)
        case End():
            return Verdict(made.condition, made.reason)
