"""The storage port: versions of protobuf records under contiguous revisions.

A backend keeps *versions*: (kind, name, parent, revision, previous, until) with the record's bytes
and its index values. The current view is the versions whose `until` is open; the change log is the
versions in order of revision; a snapshot at R is `revision <= R < until`. `shared.storage.testing`
is the contract that every backend passes unchanged; docs/storage.md explains it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple


class _Null:
    """Present, but null. Sorts before every value and after a missing one."""

    def __repr__(self) -> str:
        return "NULL"


NULL = _Null()
# A missing value is one that `Kind.values` leaves out. Order: missing < NULL < value.
Value = str | int | _Null


@dataclass(frozen=True, slots=True)
class Index:
    """One sortable, comparable value of a record. Text orders by code point, integers are int64."""

    name: str
    type: Literal["text", "int"]


@dataclass(frozen=True)
class Kind:
    """What a store must know of one kind of record."""

    name: str
    indexes: tuple[Index, ...] = ()
    # The index values of a body; leaves out the missing ones. Must be a pure function.
    values: Callable[[bytes], Mapping[str, Value]] = lambda body: {}
    # For people who look into the database; nothing reads it back.
    document: Callable[[bytes], Mapping[str, object]] | None = None
    # Changes when `values` does: the store then reindexes at its next start.
    version: int = 1
    # Orders that lists use beside single fields: ("namespace", "created_at") makes one composite
    # index, whose last part is always the name. "parent" stands for the parent. A backend may use
    # its own indexes instead: they change costs, never answers.
    composites: tuple[tuple[str, ...], ...] = ()
    # Indexes in whose order lists are read although records of neighbouring values were stored far
    # apart. A backend may keep their bodies beside each other too; that changes costs, never answers.
    covering: tuple[str, ...] = ()


# One value for each index that records are grouped by; None is a missing one.
Group = tuple[Value | None, ...]


class Expect(Enum):
    """A precondition of a change, other than a revision."""

    ANY = "any"
    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Put:
    """Store `body` under (kind, name). `expect` may be the revision the record must be at."""

    kind: str
    name: str
    body: bytes
    parent: str = ""
    expect: Expect | int = Expect.ANY


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove (kind, name). With Expect.ANY an absent record is no change."""

    kind: str
    name: str
    expect: Expect | int = Expect.PRESENT


@dataclass(frozen=True, slots=True)
class Check:
    """(kind, name) must be at `revision`; 0 is absent. Name None: nothing of the kind is newer."""

    kind: str
    name: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Author:
    """Who commits: the subject, `source:subject:action`, and the request it came by."""

    subject: str
    action: str = ""
    request_id: str = ""


class Record(NamedTuple):
    """One version that exists. `previous` is the revision of the version before it, 0 for none: a
    record that comes back after a deletion starts anew. A tuple, for lists make very many."""

    kind: str
    name: str
    parent: str
    revision: int
    previous: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit did to one record. `before` None: created. `after` None: deleted."""

    kind: str
    name: str
    parent: str
    before: bytes | None
    after: bytes | None
    # Revision of the version before this one, 0 for none.
    previous: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision: one change set, never split. Without changes nothing was written, and
    `revision` is the newest one."""

    revision: int
    at: int  # nanoseconds since 1970, UTC
    by: Author
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of a record's history."""

    revision: int
    at: int
    by: Author
    change: Change


@dataclass(frozen=True, slots=True)
class AuditChange:
    kind: str
    name: str
    op: Literal["create", "update", "delete"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """The head of a commit, without images. Outlives compaction."""

    revision: int
    at: int
    by: Author
    changes: tuple[AuditChange, ...]


Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one index value; exact on every backend.

    `value` is a Value, a tuple of them for "in", and a str for "contains" (part of a text). A
    missing or NULL value differs from every value ("!=" holds), equals itself only, orders below
    every value, and contains nothing. None stands for a missing value.
    """

    index: str
    operator: Operator
    value: Value | tuple[Value | None, ...] | None


@dataclass(frozen=True, slots=True)
class Order:
    index: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an order: the values of its indexes (None: missing) and the name."""

    values: tuple[Value | None, ...]
    name: str
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Records of a kind, in a total order: by `order`, then by name in `name_descending`.

    `after` starts behind that position in this order. `backward` walks from the end (or from
    `after`) towards the start, yielding in that reversed order. `parent` None is every parent.
    `limit` None is all.
    """

    kind: str
    parent: str | None = None
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    name_descending: bool = False
    after: Position | None = None
    backward: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a backend can be asked for; the contract suite skips nothing else."""

    survives_restart: bool
    many_processes: bool


class Store(ABC):
    """All methods raise `shared.storage.errors` only. A cancelled caller leaves it consistent."""

    capabilities: Capabilities

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds: dict[str, Kind] = {kind.name: kind for kind in kinds}
        self._listeners: list[Callable[[int], None]] = []

    @abstractmethod
    async def open(self) -> None:
        """Create or open the data, reindexing kinds whose version changed."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was accepted, then let go of everything. Idempotent."""

    @abstractmethod
    async def ping(self) -> None:
        """Raise StoreUnavailable when a read would now fail."""

    @abstractmethod
    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None: ...

    @abstractmethod
    async def get_many(
        self, kind: str, names: Sequence[str], *, at: int | None = None
    ) -> dict[str, Record]: ...

    @abstractmethod
    def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        """In order, read in short batches: nothing is held while the caller works. Without `at`
        each batch reads the state of its moment; with it all read one snapshot."""

    @abstractmethod
    async def count(self, query: Query, *, at: int | None = None) -> int:
        """How many records match; order, after and limit are ignored."""

    @abstractmethod
    async def tally(self, query: Query, by: Sequence[str]) -> dict[Group, int]:
        """How many records match now, by their values of the indexes `by`. Groups without records
        are not there; order, after and limit are ignored."""

    @abstractmethod
    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        """All or nothing, durable when it returns. A Put of the stored body is dropped; if nothing
        is left, no revision is made. Raises Conflict (Exists, Missing) for the first precondition
        or check that fails. A (kind, name) may stand once in `changes`."""

    @abstractmethod
    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        """The commits after revision `after`, at most `limit`, with images. Raises Compacted when
        some of them are gone and FutureRevision when `after` is beyond the newest."""

    @abstractmethod
    async def history(
        self, kind: str, name: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Version]:
        """The versions of a record that compaction left, newest first, below revision `before`."""

    @abstractmethod
    async def audit(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        kind: str | None = None,
        name: str | None = None,
        subject: str | None = None,
        excluded_actions: Sequence[str] = (),
    ) -> Sequence[AuditEntry]:
        """The heads of commits, newest first, below revision `before`, without those whose author's
        action is in `excluded_actions`. Fewer than `limit` only when there are no more."""

    @abstractmethod
    async def head(self) -> int:
        """The newest revision; 0 in an empty store."""

    @abstractmethod
    async def floor(self) -> int:
        """The oldest revision that `at` and `changes` may name; 0 before any compaction."""

    @abstractmethod
    async def epoch(self) -> str:
        """Random text of this store's birth: tokens of another epoch are refused."""

    @abstractmethod
    async def compact(self, to: int) -> int:
        """Forget versions closed at or below revision `to`, and raise the floor to it. Answers how
        many went. What is current stays, and so does the audit trail. Never beyond the head."""

    @abstractmethod
    async def trim_audit(self, older_than: int) -> int:
        """Forget commit heads at or below the floor that are older than `older_than` (nanoseconds
        since 1970)."""

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback(revision)` on the event loop after each commit made through this object,
        before that commit's caller resumes. Answers a function that ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _announce(self, revision: int) -> None:
        for callback in tuple(self._listeners):
            try:
                callback(revision)
            except Exception as error:
                # The commit stands, whatever a listener makes of it.
                context = {"message": "a commit listener failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
