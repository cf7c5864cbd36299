"""The one error table: exception -> gRPC code, google.rpc details; code -> HTTP status."""

from __future__ import annotations

from collections.abc import Sequence
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
# UTF-8 bytes of what an error says. gRPC sends errors as metadata, a message up to five times over
# and partly in hexadecimal, and clients drop a call whose metadata exceeds 8 KiB.
_MESSAGE: Final = 512
_DESCRIPTION: Final = 300
_NAME: Final = 128
_VIOLATIONS: Final = 1536


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
    errors.Cancelled: (StatusCode.CANCELLED, "CANCELLED"),
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
    violations = getattr(error, "violations", ())
    shown = _fitting(violations)
    message = str(error)
    if violations and (len(message) > _MESSAGE or shown != list(violations)):
        message = _summary(shown, len(violations))
    message = shortened(message, _MESSAGE)
    return Status(code, message, _details(error, reason, message, shown))


def shortened(text: str, most: int) -> str:
    """`text`, cut to at most `most` bytes of UTF-8, an ellipsis included."""
    # Text that came in escaped, as in JSON, may hold what UTF-8 has no bytes for.
    data = text.encode(errors="backslashreplace")
    if len(data) <= most:
        return data.decode()
    return data[: most - 3].decode(errors="ignore") + "…"


def _fitting(violations: Sequence[errors.Violation]) -> list[errors.Violation]:
    """As many of the first violations as there is room for, at least one."""
    found: list[errors.Violation] = []
    room = _VIOLATIONS
    for violation in violations:
        short = errors.Violation(
            shortened(violation.field, _NAME), shortened(violation.description, _DESCRIPTION)
        )
        room -= len(short.field.encode()) + len(short.description.encode())
        if room < 0:
            break
        found.append(short)
    return found


def _summary(shown: Sequence[errors.Violation], count: int) -> str:
    """The text of as many violations as a message has room for, and how many more there are."""
    rest = "; and {} more"
    text = ""
    for index, violation in enumerate(shown):
        longer = f"{text}; {violation.text}" if text else violation.text
        if index and len(longer.encode()) + len(rest) + 8 > _MESSAGE:
            return text + rest.format(count - index)
        text = longer
    return text + rest.format(count - len(shown)) if count > len(shown) else text


def _details(
    error: BaseException, reason: str, message: str, violations: Sequence[errors.Violation]
) -> tuple[Message, ...]:
    info = details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    found: list[Message] = []
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
                resource_type=getattr(error, "kind", ""),
                resource_name=shortened(name, _NAME),
                description=message,
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
