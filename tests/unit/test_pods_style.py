"""Errors as the export writes them over HTTP: each code of the table of the pods contract, section 6."""

from __future__ import annotations

import grpc
import pytest

from services.pods.style import error_body, stream_error
from shared.rest.errors import http_status
from shared.rpc.status import Status

CODES = [
    (1, 499, "Client Closed Request"),
    (2, 500, "Internal Server Error"),
    (3, 400, "Bad Request"),
    (4, 504, "Gateway Timeout"),
    (5, 404, "Not Found"),
    (6, 409, "Conflict"),
    (7, 403, "Forbidden"),
    (8, 429, "Too Many Requests"),
    (9, 400, "Bad Request"),
    (10, 409, "Conflict"),
    (11, 400, "Bad Request"),
    (12, 501, "Not Implemented"),
    (13, 500, "Internal Server Error"),
    (14, 503, "Service Unavailable"),
    (15, 500, "Internal Server Error"),
    (16, 401, "Unauthorized"),
]


@pytest.mark.parametrize(("number", "http", "text"), CODES)
def test_codes(number: int, http: int, text: str) -> None:
    code = next(code for code in grpc.StatusCode if code.value[0] == number)
    status = Status(code, "why")
    assert http_status(status) == http
    assert error_body(status) == {"error": "why", "code": number, "message": "why", "details": []}
    assert stream_error(status) == {
        "grpcCode": number,
        "httpCode": http,
        "message": "why",
        "httpStatus": text,
        "details": [],
        "code": number,
    }


def test_the_table_is_whole() -> None:
    assert [number for number, _, _ in CODES] == list(range(1, 17))
