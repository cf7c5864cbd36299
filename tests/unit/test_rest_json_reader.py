"""Reading JSON into messages: proto3's rules, and every mistake under its field's name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pb.backend.api.v1beta1 import filter_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rest import json_reader
from shared.rest.json_reader import Reading, read_message
from tests.unit.rest_messages import ALL_TYPES, JSON, AllTypes, messages


def read(value: Any, kind: Any = AllTypes, unknown: Any = "refuse") -> tuple[Any, list[tuple[str, str]]]:
    message, reading = kind(), Reading(unknown)
    read_message(message, value, reading)
    return message, [(error.field, error.description) for error in reading.errors]


@pytest.mark.parametrize("kind", [AllTypes, filter_pb2.Filter, admin_pb2.ListAuditResponse])
def test_reads_what_json_format_writes(kind: Any) -> None:
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(message=messages(kind))
    def check(message: Any) -> None:
        for proto_names in (False, True):
            written = MessageToDict(message, preserving_proto_field_name=proto_names)
            found, errors = read(orjson.loads(orjson.dumps(written)), kind)
            assert errors == []
            # Compared as JSON: NaN is not equal to itself.
            assert MessageToDict(found) == MessageToDict(message)

    check()


# Of enums json_format takes booleans and fractions, which proto3 does not.
FIELDS = [f for f in ALL_TYPES.fields if f.enum_type is None]
NAMES = st.sampled_from([name for f in FIELDS for name in (f.name, f.json_name)])
ODD_TEXTS = ["1", "-1", "1e3", "", "NaN", "GOOD", "true", "aGk=", "2024-03-01T12:00:00Z", "1.5s", "a,b"]
ODD_NUMBERS = [1, -1, 0, 1.5, 1 << 31, 1 << 63, 1 << 64, 1e300, True]
ODD_REST = [None, [], {}, [None], {"a": None}, {"1": 1}, ["1"]]
ODD = st.sampled_from([*ODD_TEXTS, *ODD_NUMBERS, *ODD_REST])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(value=st.dictionaries(NAMES, ODD | JSON, max_size=3))
def test_takes_what_json_format_takes_and_means_the_same(value: dict[str, Any]) -> None:
    found, errors = read(value)
    try:
        expected = ParseDict(value, AllTypes())
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError):
        return
    # Stricter than the oracle in these, which protobuf's other languages refuse as well.
    if errors:
        assert all(strict(description) for _, description in errors), (value, errors)
    else:
        assert MessageToDict(found) == MessageToDict(expected)


def strict(description: str) -> bool:
    known = (
        "a boolean",
        "base64",
        "given twice",
        "is not a field path",
        "must name",
        "cannot be set beside",
        "number",
    )
    return any(text in description for text in (*known, "RFC 3339", "duration", "JSON array", "JSON object"))


@pytest.mark.parametrize(
    ("value", "field", "text"),
    [
        (5, "body", "must be a JSON object, not a number"),
        ([], "body", "not an array"),
        ("x", "body", "not a string"),
        (None, "body", "not null"),
        ({"string": 5}, "string", "must be a string, not a number"),
        ({"string": "\ud800"}, "string", "surrogate"),
        ({"int32": 1 << 31}, "int32", "2147483648 is not between"),
        ({"int32": 1.5}, "int32", "must be an integer"),
        ({"int32": True}, "int32", "must be an integer"),
        ({"int32": " 1"}, "int32", "must be an integer"),
        ({"uint64": "-1"}, "uint64", "-1 is not between 0"),
        ({"int64": 1e19}, "int64", "is not between"),
        ({"bool": "true"}, "bool", "must be true or false"),
        ({"double": "inf"}, "double", "must be a number"),
        ({"float": 1e39}, "float", "too large"),
        ({"bytes": "*"}, "bytes", "base64"),
        ({"bytes": "a"}, "bytes", "base64"),
        ({"enum": "WORST"}, "enum", "'WORST' is not one of KIND_UNSPECIFIED, GOOD, BAD"),
        ({"enum": 1 << 40}, "enum", "is not between"),
        ({"time": "2024-02-30T00:00:00Z"}, "time", "not a time that exists"),
        ({"time": "2024-03-01T12:00:00"}, "time", "RFC 3339"),
        ({"time": "2024-03-01T12:00:00+25:00"}, "time", "offset"),
        ({"time": "0001-01-01T00:00:00+01:00"}, "time", "between the years"),
        ({"time": "٢٠٢٤-03-01T12:00:00Z"}, "time", "RFC 3339"),
        ({"time": 5}, "time", "RFC 3339"),
        ({"span": "5"}, "span", "duration in seconds"),
        ({"span": "315576000001s"}, "span", "longer than"),
        ({"mask": "a b"}, "mask", "not a field path"),
        ({"child": 5}, "child", "must be a JSON object"),
        ({"child": {"child": {"int32": "x"}}}, "child.child.int32", "must be an integer"),
        ({"manyChild": [{}, {"int32": "x"}]}, "many_child[1].int32", "must be an integer"),
        ({"many_string": "x"}, "many_string", "must be a JSON array"),
        ({"many_string": ["x", None]}, "many_string[1]", "must not be null"),
        ({"labels": {"a": 1}}, "labels['a']", "must be a string"),
        ({"labels": {"a": None}}, "labels['a']", "must not be null"),
        ({"labels": []}, "labels", "must be a JSON object"),
        ({"counts": {"x": 1}}, "counts['x']", "must be an integer"),
        ({"flags": {"yes": {}}}, "flags['yes']", 'must be "true" or "false"'),
        ({"many_string": [], "manyString": []}, "many_string", "given twice"),
        ({"oneText": "x", "oneNumber": 1}, "one_number", "cannot be set beside one_text"),
        ({"nope": 1}, "nope", "is not a field that exists"),
        ({"child": {"nope": 1}}, "child.nope", "is not a field that exists"),
        ({"any": {"a": 1}}, "any.@type", "must name"),
        ({"any": {"@type": "x/no.Such"}}, "any.@type", "not a type that is known"),
        (
            {"any": {"@type": "t/test.rest.AllTypes", "child": {"int32": "x"}}},
            "any.child.int32",
            "must be an integer",
        ),
        ({"any": {"@type": "t/google.protobuf.Duration"}}, "any", '"value"'),
        ({"struct": []}, "struct", "must be a JSON object"),
        ({"values": {}}, "values", "must be a JSON array"),
        ({"wrapped": "x"}, "wrapped", "must be an integer"),
    ],
)
def test_a_mistake_names_its_field(value: Any, field: str, text: str) -> None:
    _, errors = read(value)
    assert [found for found, _ in errors] == [field]
    assert text in errors[0][1]


def test_all_mistakes_are_told_at_once_up_to_a_limit() -> None:
    _, errors = read({"int32": "x", "child": {"bool": 1, "string": 2}})
    assert [field for field, _ in errors] == ["int32", "child.bool", "child.string"]
    _, errors = read({"many_int32": ["x"] * 1000})
    assert len(errors) == json_reader.MAX_VIOLATIONS


def test_null_is_unset_except_where_it_is_a_value() -> None:
    found, errors = read(
        {"string": None, "child": None, "many_string": None, "value": None, "one_text": None}
    )
    assert errors == []
    assert found == AllTypes(value=struct_pb2.Value(null_value=0))
    found, errors = read({"many_value": [None, 1], "one_text": None, "one_number": 3})
    assert errors == []
    assert found.one_number == 3
    assert [value.WhichOneof("kind") for value in found.many_value] == ["null_value", "number_value"]


@pytest.mark.parametrize(
    ("unknown", "refused"),
    [("refuse", ["nope", "child.nope"]), ("ignore_top", ["child.nope"]), ("ignore", [])],
)
def test_unknown_keys_by_level(unknown: str, refused: list[str]) -> None:
    _, errors = read({"nope": 1, "child": {"nope": 2}}, unknown=unknown)
    assert [field for field, _ in errors] == refused


@pytest.mark.parametrize(
    ("key", "deep"),
    [("child", lambda inner: {"child": inner}), ("value", lambda inner: [inner])],
)
def test_depth_is_limited(key: str, deep: Any) -> None:
    fine: Any = {} if key == "child" else 1
    for _ in range(40):
        fine = deep(fine)
    assert read({key: fine})[1] == []
    bad = fine
    for _ in range(400):
        bad = deep(bad)
    _, errors = read({key: bad})
    assert len(errors) == 1
    assert "nested more than 64 levels" in errors[0][1]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{}x",
        b"NaN",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
    ],
)
def test_what_is_not_json_is_said_to_be_so(text: bytes) -> None:
    with pytest.raises(ValueError, match="is not JSON: ") as caught:
        json_reader.loads(text)
    assert "memory" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"bytes": "-_8"}, b"\xfb\xff"),
        ({"bytes": "+/8="}, b"\xfb\xff"),
        ({"bytes": "-_8="}, b"\xfb\xff"),
    ],
)
def test_base64_of_either_alphabet(value: Any, expected: bytes) -> None:
    found, errors = read(value)
    assert errors == []
    assert found.bytes == expected


def test_masks_in_either_spelling() -> None:
    assert read({"mask": "createdAt,a.bC, storage_state"})[0].mask.paths == [
        "created_at",
        "a.b_c",
        "storage_state",
    ]
    assert read({"mask": ""})[0].mask.paths == []


def test_times_with_an_offset() -> None:
    found, _ = read({"time": "2024-03-01T12:00:00.25+02:00", "span": "-1.5s"})
    assert (found.time.seconds, found.time.nanos) == (1709287200, 250_000_000)
    assert (found.span.seconds, found.span.nanos) == (-1, -500_000_000)
