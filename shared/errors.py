"""What an API call may fail with: a closed set that knows no transport.

`shared.rpc.status` maps each to a gRPC code, an HTTP status and google.rpc details, in one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: the path of the field and what to do about it."""

    field: str
    description: str

    @property
    def text(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class ApiError(Exception):
    """Base of everything that a handler raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(ApiError):
    """The request is wrong whatever is stored. Names every field that is.

    `position`: characters from the start of a text field to what is wrong in it.
    """

    def __init__(
        self, message: str, violations: Sequence[Violation] = (), *, position: int | None = None
    ) -> None:
        super().__init__(message)
        self.violations = tuple(violations)
        self.position = position

    @classmethod
    def at(cls, field: str, description: str, *, position: int | None = None) -> InvalidArgument:
        found = cls.of([Violation(field, description)])
        found.position = position
        return found

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> InvalidArgument:
        return cls("; ".join(violation.text for violation in violations), violations)


class _OfResource(ApiError):
    """An error about one stored object."""

    def __init__(self, message: str, *, kind: str = "", name: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class NotFound(_OfResource):
    """No such object (or route)."""


class AlreadyExists(_OfResource):
    """The name is taken."""


class Aborted(_OfResource):
    """Someone else wrote first, or the object may not change that way now: read again and retry."""


class FailedPrecondition(_OfResource):
    """The system is not in a state in which the call can succeed."""


class PermissionDenied(ApiError):
    """The caller is known and may not do this."""

    def __init__(self, message: str, *, permission: str = "") -> None:
        super().__init__(message)
        self.permission = permission


class Unauthenticated(ApiError):
    """No token, or one that is not valid."""


class OutOfRange(ApiError):
    """A position that no longer exists."""


class ResourceExhausted(ApiError):
    """A limit or the disk is full."""


class Unavailable(ApiError):
    """Try again: nothing was changed, or (`outcome_unknown`) the answer was lost."""


class Unimplemented(ApiError):
    """No such method, or a field that is not supported."""


class DeadlineExceeded(ApiError):
    """The caller's time is up."""


class Cancelled(ApiError):
    """Somebody who may has ended the call."""
