"""The error table covers the closed sets, and shows nothing of what is not in it."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode

from shared import errors
from shared.pb.backend.api.v1beta1.error_pb2 import Error
from shared.rpc import status
from shared.storage import errors as storage


def concrete(module: object, base: type[Exception]) -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, base) and found is not base and not found.__name__.startswith("_")
    ]


@pytest.mark.parametrize(
    "error",
    [*concrete(errors, errors.ApiError), *concrete(storage, storage.StoreError)],
    ids=lambda error: error.__name__,
)
def test_every_error_of_the_closed_sets_has_a_code(error: type[Exception]) -> None:
    code, reason = status.CODES[error]
    assert code not in (StatusCode.OK, StatusCode.INTERNAL, StatusCode.UNKNOWN)
    assert reason.isupper()


def test_every_code_has_an_http_status() -> None:
    assert set(status.HTTP) == set(StatusCode)


def test_violations_become_a_bad_request_that_names_each_field() -> None:
    found = status.of(
        errors.InvalidArgument.of([errors.Violation("a.b", "must be x"), errors.Violation("c", "no")])
    )
    assert found.code is StatusCode.INVALID_ARGUMENT
    assert found.message == "a.b: must be x; c: no"
    bad = next(d for d in found.details if isinstance(d, details.BadRequest))
    assert [(v.field, v.description) for v in bad.field_violations] == [("a.b", "must be x"), ("c", "no")]


def test_a_missing_resource_is_named() -> None:
    found = status.of(errors.NotFound("no such thing", kind="thing", name="t1"))
    info = next(d for d in found.details if isinstance(d, details.ResourceInfo))
    assert (info.resource_type, info.resource_name) == ("thing", "t1")


def test_an_unknown_outcome_is_said() -> None:
    found = status.of(storage.StoreUnavailable("lost", outcome_unknown=True))
    info = next(d for d in found.details if isinstance(d, details.ErrorInfo))
    assert found.code is StatusCode.UNAVAILABLE
    assert (info.reason, info.metadata["outcome"]) == ("STORE_UNAVAILABLE", "unknown")


def test_what_is_not_in_the_table_is_internal_and_shows_nothing() -> None:
    found = status.of(RuntimeError("password=hunter2"))
    assert found.code is StatusCode.INTERNAL
    assert "hunter2" not in found.message and found.details == ()


def test_the_proto_carries_an_apis_own_details_first() -> None:
    own = details.Help()
    proto = status.of(errors.PermissionDenied("no", permission="x.y")).proto(own)
    assert isinstance(proto, status_pb2.Status)
    assert proto.code == 7
    assert [d.type_url.rpartition(".")[2] for d in proto.details] == ["Help", "ErrorInfo"]
    info = details.ErrorInfo()
    assert proto.details[1].Unpack(info)
    assert info.metadata["permission"] == "x.y"


LONG = {"ascii": "x" * 5_000, "wide": "\U0001f682" * 2_000}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
@pytest.mark.parametrize(
    "make",
    [
        lambda text: errors.InvalidArgument.at(text, text),
        lambda text: errors.InvalidArgument.of([errors.Violation(f"a[{i}]", text) for i in range(900)]),
        lambda text: errors.InvalidArgument.of([errors.Violation(f"a[{i}]", text[:9]) for i in range(900)]),
        lambda text: errors.NotFound(text, kind="thing", name=text),
        lambda text: errors.Unavailable(text),
    ],
    ids=["field", "many fields", "very many fields", "resource", "plain"],
)
def test_an_error_fits_into_the_metadata_that_clients_accept(
    make: Callable[[str], Exception], text: str
) -> None:
    found = status.of(make(text))
    own = Error(error_message=found.message, error_details=found.message)
    trailers = quote(found.message), base64.b64encode(found.proto(own).SerializeToString())
    # 8,192 with the status, the request id and what HTTP/2 counts for each.
    assert sum(map(len, trailers)) < 7_800
    assert found.message and (found.message.endswith("…") or " more" in found.message)


def test_of_many_violations_the_first_are_told_and_the_rest_counted() -> None:
    found = status.of(
        errors.InvalidArgument.of([errors.Violation(f"a[{i}]", "must be x") for i in range(900)])
    )
    assert found.message.startswith("a[0]: must be x; a[1]: must be x; ")
    told = found.message.count("must be x")
    assert found.message.endswith(f"; and {900 - told} more")
    bad = next(d for d in found.details if isinstance(d, details.BadRequest))
    assert len(bad.field_violations) >= told > 10


def test_a_description_that_is_cut_is_cut_alike_in_the_message() -> None:
    found = status.of(errors.InvalidArgument.at("a", "x" * 400))
    bad = next(d for d in found.details if isinstance(d, details.BadRequest))
    assert bad.field_violations[0].description == "x" * 297 + "…"
    assert found.message == "a: " + bad.field_violations[0].description


def test_text_that_has_no_bytes_is_still_told() -> None:
    found = status.of(errors.InvalidArgument.at("\ud800", "is no field: '\ud800'"))
    assert found.message == r"\ud800: is no field: '\ud800'"
    assert found.proto().SerializeToString()
