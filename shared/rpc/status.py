"""The one error table: exception -> gRPC code, google.rpc details; code -> HTTP status."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2
from grpc import StatusCode

from shared import errors
from shared.storage import errors as storage

DOMAIN: Final = "roundhouse"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """How a call failed. `details` are google.rpc messages, for programs."""

    code: StatusCode
    message: str
    details: tuple[Message, ...] = field(default=())

    @property
    def number(self) -> int:
        return self.code.value[0]

    def proto(self, *extra: Message) -> status_pb2.Status:
        """google.rpc.Status, `extra` details first."""
        found = status_pb2.Status(code=self.number, message=self.message)
        for detail in (*extra, *self.details):
            packed = any_pb2.Any()
            packed.Pack(detail)
            found.details.append(packed)
        return found


class StatusError(Exception):
    """Carries a Status across a transport's boundary."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


HTTP: Final[dict[StatusCode, int]] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}

# Exact type -> code and the reason that ErrorInfo carries.
CODES: Final[dict[type[Exception], tuple[StatusCode, str]]] = {
    errors.InvalidArgument: (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    errors.NotFound: (StatusCode.NOT_FOUND, "NOT_FOUND"),
    errors.AlreadyExists: (StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
    errors.Aborted: (StatusCode.ABORTED, "CONFLICT"),
    errors.FailedPrecondition: (StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION"),
    errors.PermissionDenied: (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    errors.Unauthenticated: (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.OutOfRange: (StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE"),
    errors.ResourceExhausted: (StatusCode.RESOURCE_EXHAUSTED, "LIMIT"),
    errors.Unavailable: (StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    errors.Unimplemented: (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"),
    errors.DeadlineExceeded: (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    storage.Conflict: (StatusCode.ABORTED, "CONFLICT"),
    storage.Exists: (StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
    storage.Missing: (StatusCode.NOT_FOUND, "NOT_FOUND"),
    storage.Compacted: (StatusCode.OUT_OF_RANGE, "COMPACTED"),
    storage.FutureRevision: (StatusCode.OUT_OF_RANGE, "FUTURE_REVISION"),
    storage.StoreUnavailable: (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    storage.StoreFull: (StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
    storage.TooLarge: (StatusCode.INVALID_ARGUMENT, "TOO_LARGE"),
    storage.FormatError: (StatusCode.FAILED_PRECONDITION, "STORE_FORMAT"),
}


def of(error: BaseException) -> Status:
    """The status of whatever a handler raised. What is not in the table is a bug: INTERNAL, with
    nothing of it shown to the caller."""
    if isinstance(error, StatusError):
        return error.status
    known = CODES.get(type(error))  # type: ignore[arg-type]
    if known is None:
        return Status(StatusCode.INTERNAL, "internal error; the log has it under this request id")
    code, reason = known
    return Status(code, str(error), _details(error, reason))


def _details(error: BaseException, reason: str) -> tuple[Message, ...]:
    info = details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    found: list[Message] = []
    violations = getattr(error, "violations", ())
    if violations:
        found.append(
            details_pb2.BadRequest(
                field_violations=[
                    details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in violations
                ]
            )
        )
    name = getattr(error, "name", "")
    if name:
        found.append(
            details_pb2.ResourceInfo(
                resource_type=getattr(error, "kind", ""), resource_name=name, description=str(error)
            )
        )
    permission = getattr(error, "permission", "")
    if permission:
        info.metadata["permission"] = permission
    position = getattr(error, "position", None)
    if position is not None:
        info.metadata["position"] = str(position)
    if getattr(error, "outcome_unknown", False):
        info.metadata["outcome"] = "unknown"
    found.append(info)
    return tuple(found)
