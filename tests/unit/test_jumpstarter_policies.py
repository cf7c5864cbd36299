"""Access policies: which exporters a client may have, how it stands, and why not."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from services.jumpstarter import selectors
from services.jumpstarter.leasing import policies
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

HOUR = 3_600 * 10**9


def policy(name: str, *rules: dict[str, Any], **labels: str) -> pb.AccessPolicy:
    """For exporters with `labels`."""
    found = {
        "name": f"namespaces/lab/accessPolicies/{name}",
        "exporter_selector": {"match_labels": labels},
        "policies": rules,
    }
    return json_format.ParseDict(found, pb.AccessPolicy())


def clients(**labels: str) -> dict[str, Any]:
    return {"client_selector": {"match_labels": labels}}


def granted(found: list[pb.AccessPolicy], client: dict[str, str], duration: int = HOUR) -> list[Any]:
    return [(str(g.exporters), g.priority, g.spot) for g in policies.grants(found, client, duration)]


def test_without_policies_everyone_may_have_everything() -> None:
    assert granted([], {}) == [("", 0, False)]


def test_a_policy_without_rules_lets_nobody_in_yet_counts_as_one() -> None:
    assert granted([policy("empty")], {}) == []


def test_the_clients_of_a_rule() -> None:
    rule = {"from": [clients(team="a", site="x"), clients(team="b")], "priority": 3}
    found = [policy("p", rule, board="rpi")]
    assert granted(found, {"team": "b"}) == [("board=rpi", 3, False)]
    assert granted(found, {"team": "a", "site": "x", "more": "1"}) == [("board=rpi", 3, False)]
    assert granted(found, {"team": "a"}) == []
    assert granted([policy("p", {"from": [clients()]})], {}) == [("", 0, False)], "empty: every client"
    assert granted([policy("p", {"priority": 1})], {}) == [], "none: nobody"


def test_a_rule_for_short_leases_only() -> None:
    found = [policy("p", {"from": [clients()], "maximum_duration": "3600s"})]
    assert granted(found, {}, HOUR) == [("", 0, False)]
    assert granted(found, {}, HOUR + 1) == []


def test_best_first_and_once_for_the_same_exporters() -> None:
    found = [
        policy("b", {"from": [clients()], "priority": 9, "spot_access": True}, board="rpi"),
        policy("a", {"from": [clients()], "priority": 1}, {"from": [clients()], "priority": 5}, board="rpi"),
        policy("c", {"from": [clients()], "priority": 7}, board="jetson"),
        policy("d", {"from": [clients()], "priority": 8, "spot_access": True}),
    ]
    assert granted(found, {}) == [("board=jetson", 7, False), ("board=rpi", 5, False), ("", 8, True)]
    assert [grant.policy.rpartition("/")[2] for grant in policies.grants(found, {}, HOUR)] == ["c", "a", "d"]


def test_expressions_select_too() -> None:
    item = policy("p", {"from": [{"client_selector": {"match_expressions": [
        {"key": "team", "operator": "In", "values": ["a", "b"]}]}}]})  # fmt: skip
    item.exporter_selector.match_expressions.add(key="broken", operator="DoesNotExist")
    assert granted([item], {"team": "b"}) == [("!broken", 0, False)]
    assert granted([item], {"team": "c"}) == []


def test_why_not() -> None:
    found = [
        policy("z", {"description": "for team a", "from": [clients(team="a")]}, board="rpi"),
        policy("y", {"from": [clients(team="b")]}, board="rpi"),
        policy("x", {"description": "other boards", "from": [clients(team="a")]}, board="jetson"),
        policy("w", {"description": "short", "from": [clients()], "maximum_duration": "5400s"}),
        policy("v", {"description": "for team a", "from": [clients(team="a")]}),
    ]
    assert policies.refusals(found, {}, 2 * HOUR, {"board": "rpi"}) == [
        "for team a",
        "short (at most 1:30:00)",
        "y",
    ]
    assert policies.refusals(found, {"team": "a"}, HOUR, {"board": "rpi"}) == ["y"]


# -- against the contract's sentence, pair by pair

labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]))
chosen = st.one_of(
    labels.map(lambda found: {"match_labels": found}),
    st.sampled_from(["a", "b"]).map(lambda key: {"match_expressions": [{"key": key, "operator": "Exists"}]}),
)
rules = st.fixed_dictionaries(
    {"from": st.lists(chosen.map(lambda found: {"client_selector": found}), max_size=2)},
    optional={
        "priority": st.integers(-2, 2),
        "spot_access": st.booleans(),
        "maximum_duration": st.sampled_from(["1s", "2s"]),
    },
)
rulebooks = st.lists(st.tuples(chosen, st.lists(rules, max_size=3)), max_size=3)


@given(rulebooks, labels, labels, st.sampled_from([1, 2, 3]))
def test_the_best_pair(book: Any, client: dict[str, str], exporter: dict[str, str], seconds: int) -> None:
    stored = [
        json_format.ParseDict({"name": f"p{n}", "exporter_selector": e, "policies": r}, pb.AccessPolicy())
        for n, (e, r) in enumerate(book)
    ]
    pairs = []
    for item in stored:
        if not selectors.of(item.exporter_selector).matches(exporter):
            continue
        for rule in item.policies:
            if rule.HasField("maximum_duration") and seconds > rule.maximum_duration.seconds:
                continue
            if any(selectors.of(found.client_selector).matches(client) for found in getattr(rule, "from")):
                pairs.append((rule.spot_access, -rule.priority))
    if not stored:
        pairs = [(False, 0)]
    found = policies.grants(stored, client, seconds * 10**9)
    matching = [(g.spot, -g.priority) for g in found if g.exporters.matches(exporter)]
    assert matching[:1] == sorted(pairs)[:1]
    assert matching == sorted(matching)
    assert bool(policies.refusals(stored, client, seconds * 10**9, exporter)) >= (
        not pairs and any(selectors.of(i.exporter_selector).matches(exporter) and i.policies for i in stored)
    )
