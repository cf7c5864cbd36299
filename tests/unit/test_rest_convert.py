"""Compiled JSON writing, against protobuf's own json_format as the oracle."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from google.rpc.context import attribute_context_pb2
from hypothesis import given, settings

from shared.pb.backend.api.v1beta1 import experiment_pb2, filter_pb2
from shared.pb.roundhouse.admin.v1 import access_pb2, admin_pb2
from shared.rest.convert import converter
from tests.unit.rest_messages import ALL_TYPES, AllTypes, messages

TYPES = [
    experiment_pb2.ListExperimentsResponse,
    filter_pb2.Filter,
    admin_pb2.WatchResponse,
    admin_pb2.ListAuditResponse,
    access_pb2.CreateTokenRequest,
    struct_pb2.Struct,
    # Nested messages, maps of strings, Struct, Timestamp and Duration, Any.
    attribute_context_pb2.AttributeContext,
    AllTypes,
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.DESCRIPTOR.name)
def test_says_what_json_format_says(kind: type) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(message=messages(kind))
    def check(message: Any) -> None:
        for names in ("json", "proto"):
            expected = MessageToDict(message, preserving_proto_field_name=names == "proto")
            written = converter(names)(message)
            assert written == expected
            assert orjson.loads(orjson.dumps(written)) == expected

    check()


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=80, deadline=None, derandomize=True)
@given(message=messages(AllTypes))
def test_defaults_are_json_formats_defaults_plus_nulls(message: Any) -> None:
    expected = MessageToDict(message, always_print_fields_with_no_presence=True)
    assert without_nulls(converter("json", emit_defaults=True)(message)) == without_nulls(expected)


def test_every_field_is_written_with_null_for_unset_messages() -> None:
    written = converter("json", emit_defaults=True)(experiment_pb2.Experiment(id="1"))
    assert written == {
        "id": "1",
        "name": "",
        "description": "",
        "createdAt": None,
        "resourceReferences": [],
        "storageState": "STORAGESTATE_UNSPECIFIED",
    }


def test_unset_members_of_a_oneof_stay_out_and_unset_optionals_are_null() -> None:
    written = converter("proto", emit_defaults=True)(AllTypes(one_text="x"))
    assert written["one_text"] == "x"
    assert "one_number" not in written
    assert written["maybe"] is None
    assert written["counts"] == {}


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1709294400, 0, "2024-03-01T12:00:00Z"),
        (1709294400, 120_000_000, "2024-03-01T12:00:00.120Z"),
        (1709294400, 1_000, "2024-03-01T12:00:00.000001Z"),
        (1709294400, 1, "2024-03-01T12:00:00.000000001Z"),
        (-1, 500_000_000, "1969-12-31T23:59:59.500Z"),
        (-62135596800, 0, "0001-01-01T00:00:00Z"),
        (253402300799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        (253402300800, 0, None),
        (-62135596801, 0, None),
        (0, -1, None),
        (0, 1_000_000_000, None),
        (1 << 62, 0, None),
    ],
)
def test_timestamps(seconds: int, nanos: int, text: str | None) -> None:
    message = experiment_pb2.Experiment()
    message.created_at.seconds, message.created_at.nanos = seconds, nanos
    assert converter("proto")(message) == {"created_at": text}


def test_numbers_that_json_lacks_are_strings() -> None:
    written = converter("proto")(
        AllTypes(double=math.nan, float=-math.inf, int64=1 << 60, enum=99, wrapped=wrappers_pb2.Int64Value())
    )
    assert written == {
        "double": "NaN",
        "float": "-Infinity",
        "int64": str(1 << 60),
        "enum": 99,
        "wrapped": "0",
    }
    assert converter("proto")(AllTypes(float=0.1)) == {"float": 0.1}
    assert converter("proto")(AllTypes(float=3.4028234663852886e38)) == {"float": 3.4028235e38}


def test_an_any_shows_its_message() -> None:
    status = status_pb2.Status(code=3, message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="R"))
    status.details.add().Pack(wrappers_pb2.StringValue(value="text"))
    assert converter("json")(status) == MessageToDict(status)


def test_an_any_that_cannot_be_read_is_shown_in_base64() -> None:
    url = "type.googleapis.com/"
    unknown = any_pb2.Any(type_url=url + "no.such.Type", value=b"\xff")
    assert converter("json")(unknown) == {"@type": url + "no.such.Type", "value": "/w=="}
    broken = any_pb2.Any(type_url=url + "google.rpc.Status", value=b"\xff")
    assert converter("json")(broken) == {"@type": url + "google.rpc.Status", "value": "/w=="}


def test_an_any_in_an_any_without_end_is_cut_off() -> None:
    message = any_pb2.Any()
    for _ in range(500):
        outer = any_pb2.Any()
        outer.Pack(message)
        message = outer
    written, depth = converter("json")(message), 0
    while isinstance(written["value"], dict):
        written, depth = written["value"], depth + 1
    assert depth == 16
    assert isinstance(written["value"], str)


def test_field_names_that_are_python_words() -> None:
    field = ALL_TYPES.fields_by_name["from"]
    message = AllTypes()
    setattr(message, field.name, "x")
    assert converter("proto")(message) == {"from": "x"}
