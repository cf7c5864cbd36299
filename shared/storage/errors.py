"""What a store may raise: a closed set. No driver's exception leaves a backend."""

from __future__ import annotations


class StoreError(Exception):
    """Base of the set."""


class Conflict(StoreError):
    """A precondition or a check does not hold; nothing was written. Read again and decide anew."""

    def __init__(self, kind: str, name: str, expected: str, actual: int) -> None:
        super().__init__(f"{kind} {name!r}: expected {expected}, found revision {actual or 'none'}")
        self.kind = kind
        self.name = name
        self.expected = expected
        self.actual = actual


class Exists(Conflict):
    """The record was to be new and is not."""


class Missing(Conflict):
    """The record was to be there and is not."""


class Compacted(StoreError):
    """The revision asked for is below the floor: take a new snapshot."""

    def __init__(self, asked: int, floor: int) -> None:
        super().__init__(f"revision {asked} is compacted; the oldest that can be read is {floor}")
        self.asked = asked
        self.floor = floor


class FutureRevision(StoreError):
    """The revision asked for does not exist yet."""

    def __init__(self, asked: int, head: int) -> None:
        super().__init__(f"revision {asked} does not exist; the newest is {head}")
        self.asked = asked
        self.head = head


class StoreUnavailable(StoreError):
    """Locked, disconnected or closed. The store works again by itself once the cause is gone.

    `outcome_unknown`: the commit may or may not have happened; otherwise nothing was written.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class StoreFull(StoreError):
    """No space: nothing was written. Reads go on, and writes do once there is space."""


class TooLarge(StoreError):
    """One change or commit exceeds what the backend can hold; nothing was written."""


class FormatError(StoreError):
    """The store was written by a newer version, or is damaged. It is never opened half way."""
