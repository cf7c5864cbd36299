"""Filters (docs/apis/pipelines.md, "Filters"): every operation, type and spelling, on every backend."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from grpc import StatusCode

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from tests.contract.pipelines_yard import V1, V2, Yard, opened, predicates, where

# id, name, created_at (seconds), description, state
ROWS = [
    ("id-1", "alpha", 100, "first", "AVAILABLE"),
    ("id-2", "Beta", 200, "", "ARCHIVED"),
    ("id-3", "beta+1", 200, "50% off", "AVAILABLE"),
    ("id-4", "gamma_x", 300, "a_b", "ARCHIVED"),
    ("id-5", "gammaXx", 400, "a-b", "AVAILABLE"),
    ("id-6", "100%25", 2_000_000_000, "first", "AVAILABLE"),
]
ALL = [row[1] for row in ROWS]


def timestamp(seconds: int, fraction: str = "") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


MANIFEST = json.dumps(
    {
        "experiments": [
            {
                "experiment_id": identifier,
                "display_name": name,
                "created_at": timestamp(seconds),
                "description": description,
                "storage_state": state,
            }
            for identifier, name, seconds, description, state in ROWS
        ]
    }
)


@pytest.fixture
async def full(tmp_path: Path, backend: str) -> AsyncIterator[Yard]:
    """A service that holds ROWS."""
    async with opened(tmp_path, backend) as yard:
        assert (await yard.rest("POST", "/admin/v1/apply", {"manifest": MANIFEST})).status == 200
        yield yard


def both(filter: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The filter as each version spells it."""
    renamed = [
        {("operation" if key == "op" else key): value for key, value in predicate.items()}
        for predicate in filter["predicates"]
    ]
    return [(V1, filter), (V2, predicates(*renamed))]


# filter -> the names that match, in order of creation.
MATCHES: list[tuple[dict[str, Any], list[str]]] = [
    # Text, exactly.
    (where("name", "EQUALS", string_value="Beta"), ["Beta"]),
    (where("name", "EQUALS", string_value="beta"), []),
    (where("name", "EQUALS", string_value="beta+1"), ["beta+1"]),
    (where("name", "EQUALS", string_value="100%25"), ["100%25"]),
    (where("name", "EQUALS", string_value="100%"), []),
    (where("name", "NOT_EQUALS", string_value="Beta"), ALL[:1] + ALL[2:]),
    (where("name", "IN", string_values={"values": ["alpha", "Beta", "none"]}), ["alpha", "Beta"]),
    (where("name", "IN", string_values={"values": []}), []),
    (where("name", "GREATER_THAN", string_value="beta+1"), ["gamma_x", "gammaXx"]),
    (where("name", "GREATER_THAN_EQUALS", string_value="beta+1"), ["beta+1", "gamma_x", "gammaXx"]),
    (where("name", "LESS_THAN", string_value="Beta"), ["100%25"]),
    (where("name", "LESS_THAN_EQUALS", string_value="Beta"), ["Beta", "100%25"]),
    (where("description", "EQUALS", string_value=""), ["Beta"]),
    (where("description", "EQUALS", string_value="first"), ["alpha", "100%25"]),
    (where("id", "EQUALS", string_value="id-4"), ["gamma_x"]),
    (where("id", "IN", string_values={"values": ["id-1", "id-5"]}), ["alpha", "gammaXx"]),
    (where("id", "GREATER_THAN", string_value="id-4"), ["gammaXx", "100%25"]),
    (where("namespace", "EQUALS", string_value=""), ALL),
    (where("namespace", "NOT_EQUALS", string_value=""), []),
    # Parts of text, in any letter case, with nothing in them special.
    (where("name", "IS_SUBSTRING", string_value="BETA"), ["Beta", "beta+1"]),
    (where("name", "IS_SUBSTRING", string_value="+"), ["beta+1"]),
    (where("name", "IS_SUBSTRING", string_value="%"), ["100%25"]),
    (where("name", "IS_SUBSTRING", string_value="_"), ["gamma_x"]),
    (where("name", "IS_SUBSTRING", string_value="a_X"), ["gamma_x"]),
    (where("name", "IS_SUBSTRING", string_value=".*"), []),
    (where("name", "IS_SUBSTRING", string_value=""), ALL),
    (where("description", "IS_SUBSTRING", string_value="% O"), ["beta+1"]),
    (where("description", "IS_SUBSTRING", string_value="A_B"), ["gamma_x"]),
    (where("id", "IS_SUBSTRING", string_value="D-2"), ["Beta"]),
    # Times: RFC 3339 in whole seconds, or Unix seconds.
    (where("created_at", "EQUALS", timestamp_value=timestamp(200)), ["Beta", "beta+1"]),
    (where("created_at", "EQUALS", timestamp_value=timestamp(200, ".999")), ["Beta", "beta+1"]),
    (where("created_at", "EQUALS", timestamp_value="1970-01-01T02:03:20+02:00"), ["Beta", "beta+1"]),
    (where("created_at", "EQUALS", int_value=200), ["Beta", "beta+1"]),
    (where("created_at", "EQUALS", long_value=200), ["Beta", "beta+1"]),
    (where("created_at", "EQUALS", long_value="200"), ["Beta", "beta+1"]),
    (where("created_at", "NOT_EQUALS", int_value=200), ["alpha", "gamma_x", "gammaXx", "100%25"]),
    (where("created_at", "GREATER_THAN", int_value=200), ["gamma_x", "gammaXx", "100%25"]),
    (where("created_at", "GREATER_THAN_EQUALS", int_value=200), ALL[1:]),
    (where("created_at", "LESS_THAN", timestamp_value=timestamp(200, ".5")), ["alpha"]),
    (where("created_at", "LESS_THAN_EQUALS", long_value=200), ALL[:3]),
    (where("created_at", "LESS_THAN", long_value="9223372036854775807"), ALL),
    (where("created_at", "GREATER_THAN", long_value="-9223372036854775808"), ALL),
    (where("created_at", "IN", int_values={"values": [100, 300]}), ["alpha", "gamma_x"]),
    (where("created_at", "IN", long_values={"values": ["2000000000", 100]}), ["alpha", "100%25"]),
    (where("last_run_created_at", "EQUALS", int_value=0), ALL),
    (where("last_run_created_at", "GREATER_THAN", timestamp_value=timestamp(1)), []),
    # The state, in the spelling of either version.
    *(
        (where("storage_state", "EQUALS", string_value=state), ["Beta", "gamma_x"])
        for state in ("ARCHIVED", "STORAGESTATE_ARCHIVED")
    ),
    *(
        (where("storage_state", "NOT_EQUALS", string_value=state), ["alpha", "beta+1", "gammaXx", "100%25"])
        for state in ("ARCHIVED", "STORAGESTATE_ARCHIVED")
    ),
    (
        where("storage_state", "IN", string_values={"values": ["AVAILABLE", "STORAGESTATE_ARCHIVED"]}),
        ALL,
    ),
    (where("storage_state", "IS_SUBSTRING", string_value="arch"), ["Beta", "gamma_x"]),
    (where("storage_state", "IS_SUBSTRING", string_value="STORAGESTATE_ARCHIVED"), ["Beta", "gamma_x"]),
    # Keys of both versions mean the same.
    (where("display_name", "EQUALS", string_value="alpha"), ["alpha"]),
    (where("experiment_id", "EQUALS", string_value="id-1"), ["alpha"]),
    # Operations by number; keys of values in camelCase, as both SDKs send them.
    (where("name", 1, stringValue="alpha"), ["alpha"]),
    (where("name", 2, string_value="alpha"), ALL[1:]),
    (where("created_at", 3, intValue=300), ["gammaXx", "100%25"]),
    (where("created_at", 5, longValue=300), ["gamma_x", "gammaXx", "100%25"]),
    (where("created_at", 6, timestampValue=timestamp(200)), ["alpha"]),
    (where("created_at", 7, intValue=100), ["alpha"]),
    (where("created_at", 8, intValues={"values": [400]}), ["gammaXx"]),
    (where("created_at", 8, longValues={"values": [400]}), ["gammaXx"]),
    (where("name", 8, stringValues={"values": ["alpha"]}), ["alpha"]),
    (where("name", 9, stringValue="ALPH"), ["alpha"]),
    # Predicates are AND-ed.
    (
        predicates(
            {"op": "IS_SUBSTRING", "key": "name", "string_value": "gamma"},
            {"op": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"},
        ),
        ["gammaXx"],
    ),
    (
        predicates(
            {"op": "GREATER_THAN_EQUALS", "key": "created_at", "int_value": 200},
            {"op": "LESS_THAN", "key": "created_at", "int_value": 400},
            {"op": "NOT_EQUALS", "key": "description", "string_value": ""},
        ),
        ["beta+1", "gamma_x"],
    ),
    (
        predicates(
            {"op": "EQUALS", "key": "name", "string_value": "alpha"},
            {"op": "EQUALS", "key": "name", "string_value": "Beta"},
        ),
        [],
    ),
    (predicates(), ALL),
]


async def test_what_each_filter_matches(full: Yard) -> None:
    for filter, expected in MATCHES:
        for path, spelled in both(filter):
            found = await full.list(path, filter=spelled)
            names = [item.get("name") or item["display_name"] for item in found.get("experiments", [])]
            assert names == expected, spelled
            assert found.get("total_size", 0) == len(expected), spelled


@pytest.mark.parametrize("text", ["", "{}", '{"predicates": []}', '{"predicates": null}', " { } "])
async def test_filters_of_nothing_match_everything(full: Yard, text: str) -> None:
    for path in (V1, V2):
        assert await full.names(path, filter=text) == ALL


async def test_filters_over_grpc(full: Yard) -> None:
    for filter, expected in MATCHES:
        (_, first), (_, second) = both(filter)
        one = await full.call(full.v1.ListExperimentsV1, v1.ListExperimentsRequest(filter=json.dumps(first)))
        two = await full.call(full.v2.ListExperiments, v2.ListExperimentsRequest(filter=json.dumps(second)))
        assert [item.name for item in one.experiments] == expected
        assert [item.display_name for item in two.experiments] == expected
        assert one.total_size == two.total_size == len(expected)


async def test_names_with_plus_and_percent_are_found_however_they_are_encoded(yard: Yard) -> None:
    """Encoded once (the SDKs) or twice (the web UI), with `+` or `%20` for a blank."""
    names = [
        "a+b",
        "a b",
        "100%",
        "100%25",
        "50%+",
        "%2B",
        'say "hi"',
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "&=#",
    ]
    for name in names:
        await yard.create(name)
    for name in names:
        text = json.dumps(where("name", "EQUALS", string_value=name))
        for encoded in (quote(text, safe=""), quote_plus(text), quote(quote(text, safe=""), safe="")):
            found = (await yard.rest("GET", f"{V1}?filter={encoded}")).ok
            assert [item["name"] for item in found["experiments"]] == [name], encoded


async def test_case_is_folded_beyond_ascii(any_yard: Yard) -> None:
    for name in (
        "STRASSE",
        "stra\N{LATIN SMALL LETTER SHARP S}e",
        "\N{GREEK CAPITAL LETTER SIGMA}IGMA",
        "plain",
    ):
        await any_yard.create(name)
    found = await any_yard.names(filter=where("name", "IS_SUBSTRING", string_value="rasse"))
    assert set(found) == {"STRASSE", "stra\N{LATIN SMALL LETTER SHARP S}e"}
    sigma = "\N{GREEK SMALL LETTER FINAL SIGMA}igma"
    found = await any_yard.names(filter=where("name", "IS_SUBSTRING", string_value=sigma))
    assert found == ["\N{GREEK CAPITAL LETTER SIGMA}IGMA"]


# filter text -> the field that is named, and a word of the message.
REFUSED: list[tuple[Any, str, str]] = [
    ("{", "filter", ""),
    ("nonsense", "filter", ""),
    ("[]", "filter", "object"),
    ('"x"', "filter", "object"),
    ("5", "filter", "object"),
    ("null", "filter", "object"),
    ({"predicate": []}, "filter", "predicate"),
    ({"predicates": {}}, "filter", "predicates"),
    ({"predicates": [5]}, "filter", ""),
    (where("", "EQUALS", string_value="x"), "filter.predicates[0].key", ""),
    (where("size", "EQUALS", string_value="x"), "filter.predicates[0].key", "'size'"),
    (predicates({"op": "EQUALS", "string_value": "x"}), "filter.predicates[0].key", ""),
    (where("name", "UNKNOWN", string_value="x"), "filter.predicates[0].op", "UNKNOWN"),
    (predicates({"key": "name", "string_value": "x"}), "filter.predicates[0].op", "UNKNOWN"),
    (where("name", 4, string_value="x"), "filter.predicates[0].op", "4"),
    (where("name", 99, string_value="x"), "filter.predicates[0].op", "99"),
    (where("name", "LIKE", string_value="x"), "filter", "LIKE"),
    (where("name", "EQUALS"), "filter.predicates[0]", "value"),
    (where("name", "EQUALS", string_value=None), "filter.predicates[0]", "value"),
    (where("name", "EQUALS", string_value=5), "filter", ""),
    (where("name", "EQUALS", string_value="x", int_value=5), "filter", ""),
    (where("name", "EQUALS", text="x"), "filter", "text"),
    (where("name", "EQUALS", string_values={"values": ["x"]}), "filter.predicates[0].string_values", "array"),
    (
        where("created_at", "LESS_THAN", int_values={"values": [1]}),
        "filter.predicates[0].int_values",
        "array",
    ),
    (where("name", "IN", string_value="x"), "filter.predicates[0].string_value", "array"),
    (
        where("created_at", "IN", timestamp_value=timestamp(1)),
        "filter.predicates[0].timestamp_value",
        "array",
    ),
    (where("created_at", "IS_SUBSTRING", string_value="1"), "filter.predicates[0].string_value", "text"),
    (where("name", "IS_SUBSTRING", int_value=1), "filter.predicates[0].int_value", "string_value"),
    (
        where("name", "IS_SUBSTRING", string_values={"values": ["x"]}),
        "filter.predicates[0].string_values",
        "",
    ),
    (where("name", "EQUALS", int_value=1), "filter.predicates[0].int_value", "string_value"),
    (where("name", "IN", long_values={"values": [1]}), "filter.predicates[0].long_values", "string_value"),
    (where("created_at", "EQUALS", string_value="x"), "filter.predicates[0].string_value", "timestamp_value"),
    (where("created_at", "EQUALS", timestamp_value="yesterday"), "filter", "yesterday"),
    (where("created_at", "EQUALS", timestamp_value=5), "filter", ""),
    (where("created_at", "EQUALS", int_value=2**31), "filter", ""),
    (where("created_at", "EQUALS", long_value=str(2**63)), "filter", ""),
    (where("created_at", "EQUALS", int_value=1.5), "filter", ""),
    (where("created_at", "EQUALS", int_value="x"), "filter", "x"),
    (predicates({"op": "EQUALS", "key": "name", "string_value": "x"}, {}), "filter.predicates[1].key", ""),
]


@pytest.mark.parametrize(("filter", "field", "word"), REFUSED)
async def test_filters_that_are_refused(yard: Yard, filter: Any, field: str, word: str) -> None:
    text = filter if isinstance(filter, str) else json.dumps(filter)
    request = v1.ListExperimentsRequest(filter=text)
    failure = await yard.fails(yard.v1.ListExperiment, request, StatusCode.INVALID_ARGUMENT)
    assert failure.fields == (field,)
    assert word in failure.short
    (await yard.listed(filter=text)).is_error(400, 3, field, word)


async def test_each_version_knows_its_own_spelling_of_the_operation_only(yard: Yard) -> None:
    for path, (_, filter) in zip((V2, V1), both(where("name", "EQUALS", string_value="x")), strict=True):
        (await yard.listed(path, filter=filter)).is_error(400, 3, "filter")
    failure = await yard.fails(
        yard.v2.ListExperiments,
        v2.ListExperimentsRequest(filter='{"predicates": [{"operation": "NOPE", "key": "name"}]}'),
        StatusCode.INVALID_ARGUMENT,
    )
    assert failure.fields == ("filter",)


async def test_limits_of_a_filter(yard: Yard) -> None:
    one = {"op": "NOT_EQUALS", "key": "name", "string_value": "x"}
    assert (await yard.listed(filter=predicates(*[one] * 100))).ok == {}
    (await yard.listed(filter=predicates(*[one] * 101))).is_error(400, 3, "filter.predicates")
    request = v1.ListExperimentsRequest(filter=" " * 65_537)
    failure = await yard.fails(yard.v1.ListExperiment, request, StatusCode.INVALID_ARGUMENT)
    assert failure.fields == ("filter",)
