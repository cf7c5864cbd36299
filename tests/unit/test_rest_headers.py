"""Request headers as call metadata."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from shared.rest.headers import Headers


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(CIMultiDictProxy(CIMultiDict(pairs)))


def test_names_are_lower_case_and_the_first_value_counts() -> None:
    found = headers(("Accept", "a"), ("ACCEPT", "b"), ("X-Request-Id", "id-1"))
    assert dict(found) == {"accept": "a", "x-request-id": "id-1"}
    assert len(found) == 2
    assert "accept" in found
    assert found.repeated == {"accept"}
    with pytest.raises(KeyError):
        found["nope"]
    assert (found.get("nope"), found.get("nope", "")) == (None, "")


@pytest.mark.parametrize("given", [[], [("X-Request-Id", "")], [("X-Request-Id", "a b")]])
def test_a_request_id_is_always_there(given: list[tuple[str, str]]) -> None:
    found = headers(*given)
    assert len(found["x-request-id"]) == 32
    assert found["x-request-id"] == found.get("x-request-id")
    assert found["x-request-id"] != headers(*given)["x-request-id"]
    assert list(found) == ["x-request-id"]


def test_values_are_valid_unicode_whatever_the_bytes() -> None:
    raw = b"\xff\xc3\xa4".decode("utf-8", "surrogateescape")
    assert headers(("Authorization", raw))["authorization"] == "\ufffdä"
