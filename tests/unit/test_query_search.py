"""The search language, rule by rule (pods contract, section 3), and against a naive reading of it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pods.kinds import ROW_SCHEMA, SCHEMA, Row
from services.pods.labels import SEARCH
from shared.errors import InvalidArgument
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from shared.query.ast import EVERYTHING, And, In, Node
from shared.query.dialects.search import pairs, uuid
from shared.query.evaluate import compile
from shared.query.pushdown import narrow, pinned
from tests.unit import naive_search
from tests.unit.test_query_evaluate import below

A = "aaaaaaaa-1111-4111-8111-111111111111"
B = "bbbbbbbb-2222-4222-8222-222222222222"
C = "cccccccc-3333-4333-8333-333333333333"
NOW = int(datetime(2026, 5, 10, 12, tzinfo=UTC).timestamp()) * 10**9
DAY = 86_400 * 10**9


def pod(id: str = A, name: str = "web-1", namespace: str = "Prod", **fields: Any) -> StoredPod:
    digests, old = fields.pop("digests", ()), fields.pop("old", ())
    found = Pod(id=id, name=name, namespace=namespace, **{"cluster_id": C, **fields})
    for number, digest in enumerate(digests):
        live = found.live_instances.add(image_digest=digest, container_name=f"c{number}")
        live.instance_id.id, live.instance_id.node = f"id-{number}", f"node-{number}"
    for digest in old:
        found.terminated_instances.add().instances.add(image_digest=digest, container_name="old")
    return StoredPod(pod=found)


def own(query: str) -> Node:
    parsed = SEARCH.parse(query, NOW)
    assert parsed.joined is None
    return parsed.own


def finds(query: str, record: StoredPod) -> bool:
    return compile(own(query), SCHEMA)(record)


def refused(query: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        SEARCH.parse(query, NOW)
    assert [violation.field for violation in caught.value.violations] == ["query"]
    return caught.value.message


# -- splitting


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("Namespace:a", {"Namespace": ["a"]}),
        ("Namespace:a+Pod Name:b", {"Namespace": ["a"], "Pod Name": ["b"]}),
        ("Namespace:a,b", {"Namespace": ["a", "b"]}),
        # Nothing between quotes separates; an open quote hides all that follows.
        ('A:"x+B:y,z"+C:d', {"A": ['"x+B:y,z"'], "C": ["d"]}),
        ('A:x"+B:y', {"A": ['x"+B:y']}),
        ('A:x,"y+B:z', {"A": ["x", '"y+B:z']}),
        # The last plus before the next colon ends a pair; other pluses and colons belong to values.
        ("A:1+2+3", {"A": ["1+2+3"]}),
        ("A:1+2+B:3", {"A": ["1+2"], "B": ["3"]}),
        ("Image:docker.io:5000/x+B:y:z", {"Image": ["docker.io:5000/x"], "B": ["y:z"]}),
        ("+A:1", {"A": ["1"]}),
        ("x+A:1", {"A": ["1"]}),
        # Blanks go around labels and whole lists, not around values.
        ("  A  :  x, y  +  B : z ", {"A": ["x", " y"], "B": ["z"]}),
        # A trailing comma adds an empty value.
        ("A:x,", {"A": ["x", ""]}),
        ("A:,", {"A": ["", ""]}),
        # No colon, or nothing behind it.
        ("A", {}),
        ("A:", {}),
        ("A:  ", {}),
        ("A:+B:x", {"B": ["x"]}),
        (":x", {"": ["x"]}),
        # The last of one spelling counts; another letter case is another pair.
        ("A:x+A:y", {"A": ["y"]}),
        ("A:x+a:y", {"A": ["x"], "a": ["y"]}),
    ],
)
def test_splitting(text: str, found: dict[str, list[str]]) -> None:
    assert pairs(text) == found


@pytest.mark.parametrize(
    "query", ["", "no pair", "Namespace:", "CVE:x", "Nonsense:y+Severity:z", "+++", ":::", '"', "Label:a=b"]
)
def test_nothing_left_means_every_pod(query: str) -> None:
    assert own(query) == EVERYTHING


def test_pairs_are_joined_by_and_values_by_or() -> None:
    found = pod(name="web-1", namespace="prod")
    assert finds("Namespace:prod+Pod Name:web", found)
    assert not finds("Namespace:prod+Pod Name:db", found)
    assert finds("Namespace:dev,prod", found)
    # The same label in another letter case: both apply.
    assert not finds("Namespace:prod+namespace:dev", found)
    assert finds("Namespace:dev+Namespace:prod", found)
    assert finds("NAMESPACE:prod+Unknown:x", found)


# -- text


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("pro", True),
        ("PRO", True),
        ("rod", False),
        ('"Prod"', True),
        ('"prod"', False),
        ('"Pro"', False),
        ('""', False),
        ("r/ro", True),
        ("r/^prod$", True),
        ("r/^rod", False),
        ("r/PR.D", True),
        # Lowercased first: \S becomes \s.
        (r"r/^\S", False),
        ("!pro", False),
        ("!dev", True),
        ('!"prod"', True),
        ('!"Prod"', False),
        ("!r/rod", False),
        ("!r/x", True),
        ("!a,!b", True),
        ("*", True),
        ("-", False),
        ("P*", False),
        ("", True),
        ("dev,", True),
        # Too short for a sign: literal.
        ("!", False),
        ("!!", True),
        ("r/", False),
        ('"', False),
        # Not wildcards of SQL.
        ("P%", False),
        ("P_o", False),
    ],
)
def test_text(value: str, holds: bool) -> None:
    if value == "":
        # Alone it is no value: the pair is dropped, which finds every pod as well.
        assert own("Namespace:") == EVERYTHING
        return
    assert finds(f"Namespace:{value}", pod()) is holds


def test_signs_that_are_too_short_are_literal() -> None:
    assert finds("Namespace:!", pod(namespace="!x"))
    assert finds("Namespace:r/", pod(namespace="R/x"))
    assert finds('Namespace:"', pod(namespace='"x'))
    assert not finds("Namespace:!!", pod(namespace="!x"))


def test_digests_are_those_of_live_instances() -> None:
    found = pod(digests=["sha256:aa", "sha256:bb"], old=["sha256:cc"])
    assert finds("Container Image Digest:sha256:a", found)
    assert finds('Container Image Digest:"sha256:bb"', found)
    assert not finds("Container Image Digest:sha256:cc", found)
    # Of many values one has to differ, as in a join.
    assert finds("Container Image Digest:!sha256:a", found)
    assert not finds("Container Image Digest:!sha256:", found)
    assert finds("Container Image Digest:*", found)
    for value in ("*", "!x", "-"):
        assert not finds(f"Container Image Digest:{value}", pod())


def test_instances_are_found_live_or_terminated() -> None:
    found = pod(digests=["x", "y"], old=["z"])
    assert finds("Container Name:old", found)
    assert finds("Container Name:C1", found)
    assert finds("Container ID:id-1", found)
    assert finds("Node:r/node-[01]$", found)
    assert not finds("Node:node-2", found)


# -- ids


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (B, True),
        (B.upper(), True),
        (f'"{B}"', True),
        (A, False),
        (f"{A},{B}", True),
        (f"!{A}", True),
        (f'!"{B}"', False),
        ("r/^bbbb", True),
        ("!r/^bbbb", False),
        ("r/B{8}", True),
        ("*", True),
        ("-", False),
    ],
)
def test_ids(value: str, holds: bool) -> None:
    assert finds(f"Deployment ID:{value}", pod(deployment_id=B)) is holds


@pytest.mark.parametrize("value", [f"!{A}", "r/.*", "!r/x", "*"])
def test_an_empty_id_passes_no_test(value: str) -> None:
    assert not finds(f"Deployment ID:{value}", pod())
    assert finds("Deployment ID:-", pod())


@pytest.mark.parametrize(
    "value",
    ["abc", B[:8], "", f"{B}x", B.replace("-", ""), f"{{{B}}}", "!abc", "!*", '"*"', "b" * 36, "١" * 36],
)
def test_what_is_no_uuid_is_refused(value: str) -> None:
    query = f"Pod ID:{value}" if value else f"Pod ID:{B},"
    wanted = value.removeprefix("!").strip('"')
    assert refused(query) == f'value "{wanted}" in search query must be valid UUID'


def test_uuids_have_one_form() -> None:
    assert uuid(B.upper()) == B
    assert uuid(f"urn:uuid:{B}") is None


# -- maps and times, of deployments


def row(**fields: Any) -> Row:
    created = fields.pop("created", None)
    deployment = Deployment(id=A, name="web", **fields)
    if created is not None:
        deployment.created.FromNanoseconds(created)
    return Row(deployment, "prod")


def joins(query: str, found: Row) -> bool:
    parsed = SEARCH.parse(query, NOW)
    assert parsed.own == EVERYTHING and parsed.joined is not None
    return compile(parsed.joined, ROW_SCHEMA)(found)


LABELS = {"app": "Web", "app.tier": "front", "team": "core"}


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("app=web", True),
        ("app=We", True),
        ("AP=w", True),
        ('"app"="Web"', True),
        ('"app"="web"', False),
        ("r/^app$=r/^w", True),
        ("app=front", True),  # app.tier starts with app
        ('"app"=front', False),
        ("app=core", False),
        # Existence is of the key itself.
        ("app=", True),
        ("ap=", False),
        ('"team"=', True),
        ("r/^ap=", True),
        ("!ap=", True),
        ("!app=", False),
        # Any key; any value.
        ("=core", True),
        ("=cor", True),
        ("=none", False),
        ("=", True),
        ("app", True),
        ("ap", True),
        ("x", False),
        ('"ap"', False),
        # Another value.
        ("team=!core", False),
        ("team=!x", True),
        ("zone=!x", False),
        ("=!core", True),
        ("*", True),
        ("-", False),
        ("x=y,team=core", True),
        ('"a=b"=c', False),
    ],
)
def test_maps(value: str, holds: bool) -> None:
    assert joins(f"Deployment Label:{value}", row(labels=LABELS)) is holds


def test_maps_that_are_empty() -> None:
    for value, holds in (("=", False), ("!app=", True), ("app=!x", False), ("*", True), ("=!x", False)):
        assert joins(f"Pod Label:{value}", row()) is holds, value


@pytest.mark.parametrize("value", ["!app=web", "!app", "!=", "!=x", "!app=!web"])
def test_maps_cannot_negate_a_key_with_a_value(value: str) -> None:
    said = refused(f"Deployment Annotation:{value}")
    assert f'unsupported map query "{value}"' in said


def test_other_joined_labels() -> None:
    found = row(type="DaemonSet", service_account="bot", namespace_id=B)
    for query in (
        "Cluster:PRO",
        "Deployment:we",
        "Deployment Type:daemon",
        'Service Account:"bot"',
        f"Namespace ID:{B.upper()}",
    ):
        assert joins(query, found), query
    assert not joins(f"Namespace ID:{A}", found)
    assert not joins("Cluster:prod+Deployment:db", found)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("value", "inside", "outside"),
    [
        ("05/09/2026", ["2026-05-09 00:00", "2026-05-09 23:59"], ["2026-05-08 23:59", "2026-05-10 00:00"]),
        ("=05/09/2026", ["2026-05-09 12:00"], ["2026-05-10 00:00"]),
        ("==5/9/2026", ["2026-05-09 12:00"], ["2026-05-10 00:00"]),
        ("05/09/2026 6:00 AM", ["2026-05-09 06:00", "2026-05-10 05:59"], ["2026-05-09 05:59"]),
        ("05/09/2026 12:30:00 AM +0100", ["2026-05-08 23:30"], ["2026-05-08 23:29"]),
        ("05/09/2026 13:00 UTC", ["2026-05-09 13:00"], ["2026-05-09 12:59"]),
        ("<05/09/2026", ["2026-05-08 23:59"], ["2026-05-09 00:00"]),
        ("<=05/09/2026", ["2026-05-09 00:00"], ["2026-05-09 00:01"]),
        (">05/09/2026", ["2026-05-09 00:01"], ["2026-05-09 00:00"]),
        (">=05/09/2026", ["2026-05-09 00:00"], ["2026-05-08 23:59"]),
        # Days ago, from noon of the 10th: more days are earlier.
        (">3d", ["2026-05-07 11:59"], ["2026-05-07 12:00"]),
        (">=3d", ["2026-05-07 12:00"], ["2026-05-07 12:01"]),
        ("<3d", ["2026-05-07 12:01"], ["2026-05-07 12:00"]),
        ("3d", ["2026-05-07 12:00", "2026-05-08 11:59"], ["2026-05-08 12:00", "2026-05-07 11:59"]),
        ("1d-3d", ["2026-05-07 12:00", "2026-05-09 11:59"], ["2026-05-09 12:00", "2026-05-07 11:59"]),
        ("3d-1d", ["2026-05-08 12:00"], ["2026-05-09 12:00"]),
        ("tr/1778328000000-1778331600000", ["2026-05-09 12:00"], ["2026-05-09 13:00"]),
        ("*", ["2026-05-09 12:00"], []),
    ],
)
def test_times(value: str, inside: list[str], outside: list[str]) -> None:
    for text in inside:
        assert joins(f"Created:{value}", row(created=at(text))), text
    for text in outside:
        assert not joins(f"Created:{value}", row(created=at(text))), text
    assert not joins(f"Created:{value}", row())


def test_no_time_is_found_as_such() -> None:
    assert joins("Created:-", row())
    assert not joins("Created:-", row(created=NOW))


@pytest.mark.parametrize(
    "value",
    ["x", "13/01/2026", "02/30/2026", "!3d", "r/3d", '"3d"', "3", "d", "00/00/0000", "01/01/2026 25:00", ""],
)
def test_what_is_no_time_is_refused(value: str) -> None:
    query = f"Created:{value}" if value else "Created:3d,"
    assert "must be a time" in refused(query)


# -- values that are wrong


@pytest.mark.parametrize(
    "expression", ["(", "[a", "a{2", "a**", "(?=x)", "(?<!x)", r"\1", "a{1001}", "(?p<x>a"]
)
def test_expressions_must_be_valid(expression: str) -> None:
    if expression == "a{2":
        # Literal in RE2, as in upstream's checker.
        assert finds("Namespace:r/a{2", pod(namespace="a{2"))
        return
    assert "invalid regexp" in refused(f"Namespace:r/{expression}")


def test_expressions_are_bounded() -> None:
    assert "1000 characters" in refused(f"Namespace:r/{'a' * 1001}")
    assert "32 regular expressions" in refused("Namespace:" + ",".join(["r/a"] * 33))
    assert "65536 characters" in refused("Namespace:" + "a" * 65_536)
    assert "r/" not in refused("Namespace:r/((a{100}){100}){100}")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("Pod ID:x", "x"),
        (f"Pod ID: {A}, x", " x"),
        ('Pod Name:"a+b:c" + Namespace : a,r/(,b', "r/("),
        ("Colour:red+Deployment Label:a=b,!a=b", "!a=b"),
        ("Created:3d,soon", "soon"),
        ("Namespace:a,!!b", "!!b"),
    ],
)
def test_what_is_wrong_has_a_position(query: str, wrong: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SEARCH.parse(query, NOW)
    assert caught.value.position is not None and query[caught.value.position :].startswith(wrong)


@pytest.mark.parametrize("value", ["!!x", "!!!", "!!r/x"])
def test_two_marks_are_reserved(value: str) -> None:
    assert "reserved" in refused(f"Namespace:{value}")


# -- against the naive reading

FIELDS: naive_search.Fields = {
    "Pod ID": ("id", lambda stored: [stored.pod.id]),
    "Deployment ID": ("id", lambda stored: [stored.pod.deployment_id]),
    "Cluster ID": ("id", lambda stored: [stored.pod.cluster_id]),
    "Pod Name": ("text", lambda stored: [stored.pod.name]),
    "Namespace": ("text", lambda stored: [stored.pod.namespace]),
    "Container Image Digest": ("text", lambda stored: [i.image_digest for i in stored.pod.live_instances]),
    "Container Name": ("text", lambda stored: [i.container_name for i in _instances(stored)]),
    "Container ID": ("text", lambda stored: [i.instance_id.id for i in _instances(stored)]),
    "Node": ("text", lambda stored: [i.instance_id.node for i in _instances(stored)]),
}


def _instances(stored: StoredPod) -> list[Any]:
    buckets = [stored.pod.live_instances, *(b.instances for b in stored.pod.terminated_instances)]
    return [instance for bucket in buckets for instance in bucket]


TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "a+b",
    "a:b",
    'a"b',
    "!a",
    "r/a",
    "%",
    "a,b",
    " a",
    "é",
    "ÄB",
    "x*",
    "*",
    "-",
    "r/",
]
PODS = [
    pod(id=id, name=name, namespace=namespace, deployment_id=deployment, digests=digests, old=digests[1:])
    for (id, deployment), (name, namespace, digests) in zip(
        [*product((A, B, C), ("", A, B)), *product((A, B), ("", C))] * 2,
        [
            (TEXTS[n], TEXTS[(n * 7 + 3) % len(TEXTS)], TEXTS[n % 5 : n % 5 + n % 3])
            for n in range(len(TEXTS))
        ],
        strict=False,
    )
]

_values = st.one_of(
    st.sampled_from(
        [
            *(*TEXTS, A, B, A.upper(), f'"{A}"', f"!{B}"),
            *("r/^[ab]+$", "r/a|b", "!r/b", "r/^$", "r/(", "!!a"),
            *("c0", "C", "old", '"old"', "!old", "node-1", "!node-", "r/^id"),
        ]
    ),
    st.text('ab+:," !*-/A%é', max_size=5),
)
_labels = st.sampled_from([*FIELDS, "namespace", "POD NAME", "Unknown", "", " Namespace "])
_pairs = st.builds(
    lambda label, values: f"{label}:{','.join(values)}", _labels, st.lists(_values, max_size=3)
)
_queries = st.one_of(
    st.builds("+".join, st.lists(_pairs, max_size=3)),
    st.text('Namesp:b+," !', max_size=20),
    st.text(max_size=20),
)


@given(_queries)
@settings(max_examples=300, deadline=None)
def test_a_query_means_what_it_says(query: str) -> None:
    try:
        wanted: Any = [naive_search.matches(query, stored, FIELDS) for stored in PODS]
    except naive_search.Wrong:
        wanted = "refused"
    try:
        parsed = SEARCH.parse(query, NOW)
    except InvalidArgument:
        assert wanted == "refused"
        return
    assert parsed.joined is None
    test = compile(parsed.own, SCHEMA)
    assert [test(stored) for stored in PODS] == wanted


@given(_queries)
@settings(max_examples=150, deadline=None)
def test_a_store_is_never_asked_for_too_little(query: str) -> None:
    try:
        node = SEARCH.parse(query, NOW).own
    except InvalidArgument:
        return
    test, narrowed = compile(node, SCHEMA), narrow(node, SCHEMA)
    names = pinned(node, SCHEMA)
    for stored in PODS:
        values = SCHEMA.values(stored)
        asked = all(_holds(condition, values.get(condition.index)) for condition in narrowed.conditions)
        assert asked or not test(stored)
        assert not narrowed.exact or asked == test(stored)
        assert names is None or stored.pod.id in names or not test(stored)


_entries = st.dictionaries(
    st.sampled_from(["a", "A", "ab", "b", "!a", ""]), st.sampled_from(TEXTS), max_size=3
)
_sides = st.one_of(
    st.sampled_from(
        ["", "a", "A", "ab", '"a"', '"ab"', "!a", '!"A"', "r/^a", "!r/b$", "!", "!!a", "%", " a"]
    ),
    st.text('ab!="r/', max_size=4),
)
_map_values = st.one_of(
    st.builds("{}={}".format, _sides, _sides),
    _sides,
    st.sampled_from(["*", "-", "=", "!=", "==", '"a=b"=c']),
)


@given(_map_values, st.lists(_entries, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_a_map_means_what_it_says(value: str, found: list[dict[str, str]]) -> None:
    value = value.strip() or "*"
    try:
        wanted: Any = [naive_search.matches_map(value, entries) for entries in found]
    except naive_search.Wrong:
        wanted = "refused"
    try:
        parsed = SEARCH.parse(f"Deployment Label:{value}", NOW)
    except InvalidArgument:
        assert wanted == "refused"
        return
    assert parsed.joined is not None
    test = compile(parsed.joined, ROW_SCHEMA)
    assert [test(row(labels=entries)) for entries in found] == wanted


def _holds(condition: Any, value: Any) -> bool:
    wanted = condition.value
    match condition.operator:
        case "=":
            return value == wanted
        case "!=":
            return value != wanted
        case "in":
            return value in wanted
        case "<":
            return below(value, wanted)
        case ">=":
            return not below(value, wanted)
    raise AssertionError(condition)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_parsing_never_fails_in_another_way(text: str) -> None:
    for query in (
        text,
        f"Created:{text}",
        f"Deployment Label:{text}",
        f"Pod ID:{text}",
        f"Namespace:r/{text}",
    ):
        try:
            SEARCH.parse(query, NOW)
        except InvalidArgument as error:
            assert error.violations[0].field == "query"


# -- what a store is asked


@pytest.mark.parametrize(
    ("query", "conditions", "exact"),
    [
        ("Namespace:Pro", ["namespace_folded >= pro", "namespace_folded < prp"], True),
        ('Namespace:"Prod"', ["namespace = Prod"], True),
        ('Namespace:"a","b"', ["namespace in ('a', 'b')"], True),
        ('Pod Name:"Web"', ["name_folded = web"], False),
        ("Namespace:*", [], True),
        ("Namespace:!a", [], False),
        ("Namespace:a,b", [], False),
        (f"Deployment ID:{B}", [f"deployment_id = {B}"], True),
        (f"Deployment ID:!{B}", ["deployment_id != ", f"deployment_id != {B}"], True),
        (
            f"Cluster ID:{B}+Namespace:x",
            [f"cluster_id = {B}", "namespace_folded >= x", "namespace_folded < y"],
            True,
        ),
        ("Container Image Digest:x", [], False),
    ],
)
def test_what_narrows(query: str, conditions: list[str], exact: bool) -> None:
    found = narrow(own(query), SCHEMA)
    assert [f"{c.index} {c.operator} {c.value}" for c in found.conditions] == conditions
    assert found.exact is exact


def test_the_end_of_a_prefix() -> None:
    for prefix, end in (("a", "b"), ("a\ud7ff", "a\ue000"), ("a\U0010ffff", "b")):
        found = narrow(own(f"Namespace:{prefix}"), SCHEMA).conditions
        assert [condition.value for condition in found] == [prefix, end]
    (only,) = narrow(own("Namespace:\U0010ffff"), SCHEMA).conditions
    assert only.operator == ">="


def test_pods_that_are_named_are_read_by_name() -> None:
    assert pinned(own(f"Pod ID:{A},{B.upper()}+Namespace:x"), SCHEMA) == (A, B)
    assert own(f"Pod ID:{A},{A}") == In("id", (A,))
    assert pinned(own(f"Pod ID:!{A}"), SCHEMA) is None
    assert isinstance(own(f"Pod ID:!{A}"), And)
