"""The search language in the console: what it says in words, and how a click makes it narrower."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_ui.presenters import pod_query
from services.pods.labels import SEARCH
from shared.query.dialects import search
from shared.query.evaluate import compile
from shared.query.schema import Field, Schema

ID = "aaaaaaaa-1111-4111-8111-111111111111"
SCHEMA = Schema(
    (Field("namespace", "text", lambda one: one["namespace"]), Field("name", "text", lambda one: one["name"]))
)


def test_the_labels_are_those_of_the_service():
    assert {label.name for label in pod_query.LABELS} == set(SEARCH.names)
    for label in pod_query.LABELS:
        found = SEARCH.find(label.name)
        assert found is not None and (found.kind, found.joined) == (label.kind, "deployment" in label.of)


@pytest.mark.parametrize(
    "text", [*(label.example for label in pod_query.LABELS), *dict(pod_query.EXAMPLES).values()]
)
def test_what_is_offered_is_understood(text: str):
    SEARCH.parse(text, 0)
    assert pod_query.ignored(text) == [] and pod_query.sentence(text) != "all pods"


@given(st.text(alphabet='Namespce:+", !ar/', max_size=40))
@settings(max_examples=300, deadline=None)
def test_pairs_are_split_as_the_service_splits_them(text: str):
    counted = {pair.label: [*pod_query._values(pair.values)] for pair in pod_query.pairs(text) if pair.values}
    assert counted == search.pairs(text)


@given(st.text(max_size=12), st.text(max_size=12))
@settings(max_examples=300, deadline=None)
def test_a_value_that_is_pinned_is_that_value(value: str, other: str):
    """Whatever it is made of, and whatever stands beside it."""
    query = pod_query.narrowed("Pod Name:x", pod_query.NAMESPACE, value)
    node = SEARCH.parse(query, 0).own
    finds = compile(node, SCHEMA)
    assert finds({"namespace": value, "name": "xy"}) and not finds({"namespace": value, "name": "ax"})
    if other.casefold() != value.casefold():
        assert not finds({"namespace": other, "name": "xy"})
    if '"' not in value:
        assert pod_query.pinned(query, pod_query.NAMESPACE) == value


@pytest.mark.parametrize(
    ("text", "label", "value", "narrowed"),
    [
        ("", "Cluster ID", ID, f"Cluster ID:{ID}"),
        ("Pod Name:web", "Namespace", "a+b:c", 'Namespace:"a+b:c"+Pod Name:web'),
        ('Namespace:"x"+Pod Name:web', "Namespace", "prod", 'Namespace:"prod"+Pod Name:web'),
        ('namespace:x+Namespace:"y"', "Namespace", "prod", 'Namespace:"prod"'),
        (
            f'Namespace:"x"+Cluster ID:{ID}',
            "Deployment ID",
            "",
            f'Cluster ID:{ID}+Namespace:"x"+Deployment ID:-',
        ),
        ("Colour:red+Pod Name:a,b", "Namespace", "", 'Namespace:""+Pod Name:a,b'),
        # What does not end its quote stays behind, where it hides nothing.
        ('Pod Name:"web', "Namespace", "prod", 'Namespace:"prod"+Pod Name:"web'),
    ],
)
def test_narrowing(text: str, label: str, value: str, narrowed: str):
    assert pod_query.narrowed(text, label, value) == narrowed
    assert pod_query.pinned(narrowed, label) == value


@pytest.mark.parametrize(
    "text", ["Namespace:prod", 'Namespace:"a","b"', 'Namespace:!"a"', "Namespace:*", "Pod Name:x"]
)
def test_what_pins_nothing(text: str):
    assert pod_query.pinned(text, "Namespace") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "all pods"),
        ("Colour:red", "all pods"),
        ("Namespace:prod,dev", "pods whose namespace begins with “prod” or begins with “dev”"),
        ('Pod Name:!"web"+Node:r/^n', "pods whose pod name is not “web” and node matches ^n"),
        (f"Cluster ID:{ID}", f"pods whose cluster ID is “{ID}”"),
        ("Deployment ID:-", "pods whose deployment ID is not set"),
        ("Deployment Label:app=web", "pods whose deployment label has app=web"),
        ("Namespace:a+Namespace:b", "pods whose namespace begins with “b”"),
    ],
)
def test_in_words(text: str, told: str):
    assert pod_query.sentence(text) == told


def test_what_nobody_looks_at_is_named():
    [one] = pod_query.ignored("Nmespace:prod+Pod Name:web")
    assert (one.text, one.instead) == ("Nmespace:prod", "Namespace")
    [one] = pod_query.ignored("web-1")
    assert (one.text, one.reason) == ("web-1", "it has no value")
    assert [one.text for one in pod_query.ignored("Namespace:+x:1")] == ["Namespace", "x:1"]
