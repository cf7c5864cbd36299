"""The reference backend: everything in a few dicts, nothing clever. For tests and for reading."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key

from shared.storage.errors import StoreUnavailable
from shared.storage.port import (
    AuditChange,
    AuditEntry,
    Author,
    Capabilities,
    Change,
    Check,
    Commit,
    Condition,
    Delete,
    Group,
    Kind,
    Position,
    Put,
    Query,
    Record,
    Store,
    Version,
)
from shared.storage.rules import (
    index_of,
    kind_of,
    validate_commit,
    validate_groups,
    validate_query,
    verify_change,
    verify_check,
    verify_readable,
)
from shared.storage.values import Encoded, decode_group, encode

OPEN = 2**63 - 1
BATCH = 64


@dataclass(slots=True)
class _Version:
    """One state of a record, seen by snapshots at `record.revision <= R < until`."""

    record: Record
    values: dict[str, Encoded]
    until: int = OPEN


class MemoryStore(Store):
    """Holds its data as long as the object lives. One process, one event loop."""

    capabilities = Capabilities(survives_restart=False, many_processes=False)

    def __init__(self, kinds: Sequence[Kind], *, clock: Callable[[], int] = time.time_ns) -> None:
        super().__init__(kinds)
        self._clock = clock
        self._epoch = uuid.uuid4().hex
        self._versions: dict[str, dict[str, list[_Version]]] = {kind: {} for kind in self.kinds}
        self._changed: dict[str, int] = dict.fromkeys(self.kinds, 0)
        self._commits: list[Commit] = []
        self._heads: list[AuditEntry] = []
        self._head = self._floor = 0
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    async def ping(self) -> None:
        self._ensure_open()

    def _ensure_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the store is closed")

    # -- reads ---------------------------------------------------------------------------------------

    def _visible(self, kind: str, at: int | None) -> Iterator[_Version]:
        self._ensure_open()
        if at is not None:
            verify_readable(at, self._floor, self._head)
        revision = self._head if at is None else at
        for versions in self._versions[kind].values():
            for version in versions:
                if version.record.revision <= revision < version.until:
                    yield version

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None:
        return (await self.get_many(kind, [name], at=at)).get(name)

    async def get_many(self, kind: str, names: Sequence[str], *, at: int | None = None) -> dict[str, Record]:
        kind_of(self.kinds, kind)
        wanted = set(names)
        return {v.record.name: v.record for v in self._visible(kind, at) if v.record.name in wanted}

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        kind = validate_query(self.kinds, query)
        rest = query.limit
        while rest is None or rest > 0:
            size = BATCH if rest is None else min(BATCH, rest)
            page = self._page(kind, query, at)[:size]
            for version in page:
                yield version.record
            if len(page) < size:
                return
            rest = None if rest is None else rest - size
            query = replace(query, after=_position(kind, query, page[-1]))

    def _page(self, kind: Kind, query: Query, at: int | None) -> list[_Version]:
        compare = _comparison(query)
        rows = [v for v in self._visible(kind.name, at) if _matches(kind, query, v)]
        rows.sort(key=cmp_to_key(lambda a, b: compare(_key(query, a), _key(query, b))))
        if query.after is not None:
            place = _encoded(kind, query, query.after)
            least = 0 if query.after.inclusive else 1
            rows = [v for v in rows if compare(_key(query, v), place) >= least]
        return rows

    async def count(self, query: Query, *, at: int | None = None) -> int:
        kind = validate_query(self.kinds, query)
        return sum(_matches(kind, query, version) for version in self._visible(kind.name, at))

    async def tally(self, query: Query, by: Sequence[str]) -> dict[Group, int]:
        kind = validate_query(self.kinds, query)
        indexes = validate_groups(kind, by)
        matching = (v for v in self._visible(kind.name, None) if _matches(kind, query, v))
        found = Counter(tuple(version.values[index] for index in by) for version in matching)
        return {decode_group(indexes, group): count for group, count in found.items()}

    # -- writes --------------------------------------------------------------------------------------

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        validate_commit(self.kinds, changes, checks)
        encoded = [self._encode(change) for change in changes]
        self._ensure_open()
        for change in changes:
            verify_change(change, self._revision(change.kind, change.name))
        for check in checks:
            whole = check.name is None
            verify_check(
                check, self._changed[check.kind] if whole else self._revision(check.kind, str(check.name))
            )
        revision = self._head + 1
        done = [
            self._apply(change, values, revision)
            for change, values in zip(changes, encoded, strict=True)
            if self._is_change(change)
        ]
        if not done:
            return Commit(self._head, self._clock(), by, ())
        commit = Commit(revision, self._clock(), by, tuple(done))
        self._head = revision
        self._commits.append(commit)
        self._heads.append(AuditEntry(revision, commit.at, by, tuple(_audit_change(c) for c in done)))
        self._announce(revision)
        return commit

    def _encode(self, change: Put | Delete) -> dict[str, Encoded]:
        if isinstance(change, Delete):
            return {}
        kind = self.kinds[change.kind]
        values = kind.values(change.body)
        return {index.name: encode(index, values.get(index.name)) for index in kind.indexes}

    def _current(self, kind: str, name: str) -> _Version | None:
        versions = self._versions[kind].get(name)
        return versions[-1] if versions and versions[-1].until == OPEN else None

    def _revision(self, kind: str, name: str) -> int:
        current = self._current(kind, name)
        return current.record.revision if current else 0

    def _is_change(self, change: Put | Delete) -> bool:
        current = self._current(change.kind, change.name)
        if isinstance(change, Delete):
            return current is not None
        return current is None or (current.record.body, current.record.parent) != (change.body, change.parent)

    def _apply(self, change: Put | Delete, values: dict[str, Encoded], revision: int) -> Change:
        current = self._current(change.kind, change.name)
        before = current.record if current else None
        if current:
            current.until = revision
        self._changed[change.kind] = revision
        previous = before.revision if before else 0
        old = before.body if before else None
        if isinstance(change, Delete):
            parent = before.parent if before else ""
            return Change(change.kind, change.name, parent, old, None, previous)
        record = Record(change.kind, change.name, change.parent, revision, previous, change.body)
        self._versions[change.kind].setdefault(change.name, []).append(_Version(record, values))
        return Change(change.kind, change.name, change.parent, old, change.body, previous)

    # -- the log -------------------------------------------------------------------------------------

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        self._ensure_open()
        verify_readable(after, self._floor, self._head)
        return [commit for commit in self._commits if commit.revision > after][: max(0, limit)]

    async def history(
        self, kind: str, name: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Version]:
        kind_of(self.kinds, kind)
        self._ensure_open()
        # A version that is still current outlives its commit in `_commits`, so entries come from versions.
        heads = {entry.revision: entry for entry in self._heads}
        entries = []
        versions = self._versions[kind].get(name, [])
        bodies = {v.record.revision: v.record.body for v in versions}
        for version in versions:
            r = version.record
            change = Change(kind, name, r.parent, bodies.get(r.previous), r.body, r.previous)
            entries.append((r.revision, change))
            if version.until != OPEN and version.until not in bodies:
                entries.append((version.until, Change(kind, name, r.parent, r.body, None, r.revision)))
        below = OPEN if before is None else before
        newest = sorted((e for e in entries if e[0] < below), key=lambda e: -e[0])[: max(0, limit)]
        unknown = AuditEntry(0, 0, Author(""), ())
        return [
            Version(revision, heads.get(revision, unknown).at, heads.get(revision, unknown).by, change)
            for revision, change in newest
        ]

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
        self._ensure_open()
        below = OPEN if before is None else before
        return [
            entry
            for entry in reversed(self._heads)
            if entry.revision < below
            and subject in (None, entry.by.subject)
            and entry.by.action not in excluded_actions
            and any(kind in (None, c.kind) and name in (None, c.name) for c in entry.changes)
        ][: max(0, limit)]

    async def head(self) -> int:
        self._ensure_open()
        return self._head

    async def floor(self) -> int:
        self._ensure_open()
        return self._floor

    async def epoch(self) -> str:
        self._ensure_open()
        return self._epoch

    async def compact(self, to: int) -> int:
        self._ensure_open()
        self._floor = max(self._floor, min(to, self._head))
        gone = 0
        for names in self._versions.values():
            for name, versions in list(names.items()):
                kept = [version for version in versions if version.until > self._floor]
                gone += len(versions) - len(kept)
                names[name] = kept
                if not kept:
                    del names[name]
        self._commits = [commit for commit in self._commits if commit.revision > self._floor]
        return gone

    async def trim_audit(self, older_than: int) -> int:
        self._ensure_open()
        kept = [e for e in self._heads if e.revision > self._floor or e.at >= older_than]
        gone = len(self._heads) - len(kept)
        self._heads = kept
        return gone


def _audit_change(change: Change) -> AuditChange:
    if change.after is None:
        return AuditChange(change.kind, change.name, "delete")
    return AuditChange(change.kind, change.name, "create" if change.before is None else "update")


def _matches(kind: Kind, query: Query, version: _Version) -> bool:
    if query.parent is not None and version.record.parent != query.parent:
        return False
    return all(_holds(kind, condition, version.values[condition.index]) for condition in query.where)


def _holds(kind: Kind, condition: Condition, stored: Encoded) -> bool:
    index = index_of(kind, condition.index)
    if isinstance(condition.value, tuple):
        return stored in [encode(index, value) for value in condition.value]
    if condition.operator == "contains":
        text = str(stored)
        return text.startswith("2") and str(condition.value) in text[1:]
    order = _compare(stored, encode(index, condition.value))
    return {
        "=": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[condition.operator]


Key = tuple[Encoded, ...]


def _key(query: Query, version: _Version) -> Key:
    return (*(version.values[order.index] for order in query.order), version.record.name)


def _encoded(kind: Kind, query: Query, position: Position) -> Key:
    pairs = zip(query.order, position.values, strict=True)
    return (*(encode(index_of(kind, order.index), value) for order, value in pairs), position.name)


def _position(kind: Kind, query: Query, version: _Version) -> Position:
    values = kind.values(version.record.body)
    return Position(tuple(values.get(order.index) for order in query.order), version.record.name)


def _comparison(query: Query) -> Callable[[Key, Key], int]:
    """The query's total order as a comparison, walking direction included."""
    descending = [*(order.descending for order in query.order), query.name_descending]
    signs = [-1 if down != query.backward else 1 for down in descending]

    def compare(a: Key, b: Key) -> int:
        for sign, left, right in zip(signs, a, b, strict=True):
            if left != right:
                return sign * _compare(left, right)
        return 0

    return compare


def _compare(a: Encoded, b: Encoded) -> int:
    if isinstance(a, str) or isinstance(b, str):
        left, right = str(a), str(b)
        return (left > right) - (left < right)
    return (a > b) - (a < b)
