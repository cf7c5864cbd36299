"""The rules that every backend applies in the same way: what a call may name, and when it conflicts.

A ValueError from here is a mistake of the program that calls the store, not a state of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.storage.errors import Compacted, Conflict, Exists, FutureRevision, Missing
from shared.storage.port import Check, Delete, Expect, Index, Kind, Put, Query


def kind_of(kinds: Mapping[str, Kind], name: str) -> Kind:
    """The declaration of a kind. ValueError when the store was not opened with it."""
    try:
        return kinds[name]
    except KeyError:
        raise ValueError(f"unknown kind {name!r}; this store has {sorted(kinds)}") from None


def index_of(kind: Kind, name: str) -> Index:
    """The declaration of an index. ValueError when the kind has none of that name."""
    for index in kind.indexes:
        if index.name == name:
            return index
    raise ValueError(f"kind {kind.name!r} has no index {name!r}; it has {[i.name for i in kind.indexes]}")


def validate_query(kinds: Mapping[str, Kind], query: Query) -> Kind:
    """The kind of `query`. ValueError when the query names what is not declared or is malformed."""
    kind = kind_of(kinds, query.kind)
    for condition in query.where:
        index = index_of(kind, condition.index)
        if condition.operator == "contains" and index.type != "text":
            raise ValueError(f"'contains' needs a text index; {index.name!r} is {index.type}")
        if (condition.operator == "in") != isinstance(condition.value, tuple):
            raise ValueError(f"a tuple of values goes with 'in' and with it only (index {index.name!r})")
    names = [order.index for order in query.order]
    for name in names:
        index_of(kind, name)
    if len(set(names)) != len(names):
        raise ValueError(f"an order names each index once, not {names}")
    if query.after is not None and len(query.after.values) != len(names):
        raise ValueError(f"a position in the order {names} has {len(names)} values")
    if query.limit is not None and query.limit < 0:
        raise ValueError(f"a limit is 0 or more, not {query.limit}")
    return kind


def validate_groups(kind: Kind, by: Sequence[str]) -> list[Index]:
    """The indexes that records are grouped by. ValueError when there are none, or one is not declared
    or named twice."""
    found = [index_of(kind, name) for name in by]
    if not found or len({index.name for index in found}) != len(found):
        raise ValueError(f"groups name one or more indexes, each once, not {list(by)}")
    return found


def validate_commit(
    kinds: Mapping[str, Kind], changes: Sequence[Put | Delete], checks: Sequence[Check]
) -> None:
    """ValueError for an unknown kind, and for a (kind, name) that stands in `changes` twice."""
    seen: set[tuple[str, str]] = set()
    for change in changes:
        kind_of(kinds, change.kind)
        if (change.kind, change.name) in seen:
            raise ValueError(f"{change.kind} {change.name!r} stands twice in one commit")
        seen.add((change.kind, change.name))
    for check in checks:
        kind_of(kinds, check.kind)


def verify_change(change: Put | Delete, actual: int) -> None:
    """Raise when the precondition does not hold of a record at revision `actual` (0: absent)."""
    expect = change.expect
    if isinstance(expect, Expect):
        if expect is Expect.ABSENT and actual:
            raise Exists(change.kind, change.name, "no record", actual)
        if expect is Expect.PRESENT and not actual:
            raise Missing(change.kind, change.name, "a record", actual)
    else:
        _same(change.kind, change.name, expect, actual)


def verify_check(check: Check, actual: int) -> None:
    """Raise when a check does not hold. `actual` is the revision of the record (0: absent), or for
    a whole kind the revision of the last change to any of its records, deletions included."""
    if check.name is not None:
        _same(check.kind, check.name, check.revision, actual)
    elif actual > check.revision:
        raise Conflict(check.kind, "", f"nothing newer than revision {check.revision}", actual)


def _same(kind: str, name: str, expected: int, actual: int) -> None:
    if actual == expected:
        return
    if not expected:
        raise Exists(kind, name, "no record", actual)
    if not actual:
        raise Missing(kind, name, f"revision {expected}", actual)
    raise Conflict(kind, name, f"revision {expected}", actual)


def verify_readable(revision: int, floor: int, head: int) -> None:
    """Raise Compacted or FutureRevision unless the store can still, or already, read `revision`."""
    if revision < floor:
        raise Compacted(revision, floor)
    if revision > head:
        raise FutureRevision(revision, head)
