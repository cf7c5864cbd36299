"""Model-based checks that run on any backend: random operations against plain dicts.

A backend's test module calls `check_operations` with a function that opens an
empty store of `sample_kinds()`; see test_store_properties.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st

from shared.storage.errors import Compacted, Conflict, Exists, FutureRevision, Missing
from shared.storage.port import (
    Author,
    Change,
    Check,
    Delete,
    Expect,
    Put,
    Query,
    Record,
    Store,
)
from shared.storage.testing import body, collect

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]

NAMES = ["a", "A", "b", "é", "z/z"]
KINDS = ["item", "note"]


@dataclass(frozen=True)
class ChangeOp:
    """A put, or without a body a deletion. An integer `expect` counts back from the record's revision."""

    kind: str
    name: str
    body: bytes | None
    parent: str
    expect: Expect | int


@dataclass(frozen=True)
class CheckOp:
    """A check whose revision counts back from the true one."""

    kind: str
    name: str | None
    back: int


@dataclass(frozen=True)
class CommitOp:
    changes: tuple[ChangeOp, ...]
    checks: tuple[CheckOp, ...]


@dataclass(frozen=True)
class CompactOp:
    back: int


@dataclass(frozen=True)
class TogetherOp:
    """Commits that are in flight at once; without preconditions, so that all succeed."""

    names: tuple[str, ...]


Operation = CommitOp | CompactOp | TogetherOp

_bodies = st.builds(
    lambda title, size: body(**title, **size),
    st.sampled_from([{}, {"title": None}, {"title": "x"}]),
    st.sampled_from([{}, {"size": 1}, {"size": 2}]),
)
_expects = st.one_of(st.just(Expect.ANY), st.sampled_from(list(Expect)), st.integers(0, 1))
_changes = st.builds(
    ChangeOp,
    st.sampled_from(KINDS),
    st.sampled_from(NAMES),
    st.one_of(_bodies, _bodies, st.none()),
    st.sampled_from(["", "p"]),
    _expects,
)
_checks = st.builds(
    CheckOp, st.sampled_from(KINDS), st.sampled_from([*NAMES, None]), st.sampled_from([0, 0, 1])
)
_commits = st.builds(
    CommitOp,
    st.lists(_changes, max_size=4, unique_by=lambda c: (c.kind, c.name)).map(tuple),
    st.lists(_checks, max_size=2).map(tuple),
)
operations = st.lists(
    st.one_of(
        _commits,
        _commits,
        _commits,
        st.builds(CompactOp, st.integers(-1, 6)),
        st.builds(TogetherOp, st.lists(st.sampled_from(NAMES), min_size=2, max_size=5).map(tuple)),
    ),
    min_size=1,
    max_size=14,
)

State = dict[tuple[str, str], Record]


@dataclass
class Model:
    """What the store must say: every state there was, and every change that led to it."""

    states: list[State] = field(default_factory=lambda: [{}])
    log: list[tuple[Change, ...]] = field(default_factory=list)
    floor: int = 0
    gone_at: dict[str, int] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return len(self.log)

    def revision(self, kind: str, name: str) -> int:
        record = self.states[-1].get((kind, name))
        return record.revision if record else 0

    def last_change(self, kind: str) -> int:
        """The revision of the newest commit that touched a kind."""
        touching = [n for n, changes in enumerate(self.log, 1) if any(c.kind == kind for c in changes)]
        return max(touching, default=0)

    def concrete(self, op: CommitOp) -> tuple[list[Put | Delete], list[Check]]:
        changes: list[Put | Delete] = []
        for c in op.changes:
            expect = c.expect
            if not isinstance(expect, Expect):
                expect = max(0, self.revision(c.kind, c.name) - expect)
            if c.body is None:
                changes.append(Delete(c.kind, c.name, expect))
            else:
                changes.append(Put(c.kind, c.name, c.body, c.parent, expect))
        checks = []
        for check in op.checks:
            true = (
                self.last_change(check.kind) if check.name is None else self.revision(check.kind, check.name)
            )
            checks.append(Check(check.kind, check.name, max(0, true - check.back)))
        return changes, checks

    def failure(self, changes: list[Put | Delete], checks: list[Check]) -> type[Conflict] | None:
        for change in changes:
            actual = self.revision(change.kind, change.name)
            wanted = change.expect
            if wanted is Expect.ABSENT and actual:
                return Exists
            if wanted is Expect.PRESENT and not actual:
                return Missing
            if not isinstance(wanted, Expect) and wanted != actual:
                return Missing if not actual else Exists if not wanted else Conflict
        for check in checks:
            if check.name is None:
                if self.last_change(check.kind) > check.revision:
                    return Conflict
                continue
            actual = self.revision(check.kind, check.name)
            if actual != check.revision:
                return Missing if not actual else Exists if not check.revision else Conflict
        return None

    def apply(self, changes: list[Put | Delete]) -> tuple[Change, ...]:
        """The changes that are left; a new state if there are any."""
        state = dict(self.states[-1])
        done = []
        for change in changes:
            key = (change.kind, change.name)
            old = state.get(key)
            before, previous = (old.body, old.revision) if old else (None, 0)
            if isinstance(change, Delete):
                if old:
                    del state[key]
                    done.append(Change(*key, old.parent, before, None, previous))
            elif old is None or (old.body, old.parent) != (change.body, change.parent):
                state[key] = Record(*key, change.parent, self.head + 1, previous, change.body)
                done.append(Change(*key, change.parent, before, change.body, previous))
        if done:
            self.states.append(state)
            self.log.append(tuple(done))
        return tuple(done)

    def history(self, kind: str, name: str) -> list[tuple[int, Change]]:
        """What compaction leaves of a record, newest first."""
        entries = []
        for revision, changes in enumerate(self.log, 1):
            for c in changes:
                if (c.kind, c.name) == (kind, name):
                    entries.append((revision, c))
        kept: list[tuple[int, Change]] = []
        for number, (revision, c) in enumerate(entries):
            until = entries[number + 1][0] if number + 1 < len(entries) else None
            alive = revision > self.floor or (c.after is not None and (until is None or until > self.floor))
            # The image before is that of the version before, if that is still there.
            if alive and revision <= self.floor:
                c = replace(c, before=None)
            if alive:
                kept.append((revision, c))
        return kept[::-1]


async def run_operations(store: Store, ops: list[Operation]) -> None:
    """Run `ops` on the store and the model; compare after each, and everything in the end."""
    model = Model()
    by = Author("model", "test:model:run", "r")
    for op in ops:
        if isinstance(op, CompactOp):
            await store.compact(model.head - op.back)
            model.floor = max(model.floor, min(model.head, model.head - op.back))
        elif isinstance(op, TogetherOp):
            await _commit_together(store, model, op)
        else:
            changes, checks = model.concrete(op)
            failure = model.failure(changes, checks)
            if failure is None:
                commit = await store.commit(changes, checks=checks, by=by)
                assert commit.changes == model.apply(changes)
                assert commit.revision == model.head
            else:
                with pytest.raises(failure) as raised:
                    await store.commit(changes, checks=checks, by=by)
                assert type(raised.value) is failure
        assert (await store.head(), await store.floor()) == (model.head, model.floor)
        await compare_state(store, model.states[-1], None)
    await compare_everything(store, model)


async def _commit_together(store: Store, model: Model, op: TogetherOp) -> None:
    """The order is the store's to choose; the model follows it."""
    bodies = [body(title="together", size=number) for number in range(len(op.names))]
    commits = await asyncio.gather(
        *(
            store.commit([Put("item", name, data)], by=Author("together"))
            for name, data in zip(op.names, bodies, strict=True)
        )
    )
    order = sorted(zip(commits, op.names, bodies, strict=True), key=lambda made: made[0].revision)
    for commit, name, data in order:
        assert commit.changes == model.apply([Put("item", name, data)])
        assert commit.revision == model.head


async def compare_state(store: Store, state: State, at: int | None) -> None:
    for kind in KINDS:
        expected = {name: record for (k, name), record in state.items() if k == kind}
        assert await store.get_many(kind, NAMES, at=at) == expected
        in_order = [expected[name] for name in sorted(expected)]
        assert await collect(store.scan(Query(kind), at=at)) == in_order
        assert await store.count(Query(kind), at=at) == len(expected)
        children = [record for record in in_order if record.parent == "p"]
        assert await collect(store.scan(Query(kind, parent="p"), at=at)) == children


async def compare_everything(store: Store, model: Model) -> None:
    for revision in range(model.floor, model.head + 1):
        await compare_state(store, model.states[revision], revision)
    with pytest.raises(FutureRevision):
        await store.get("item", "a", at=model.head + 1)
    if model.floor:
        with pytest.raises(Compacted):
            await store.get("item", "a", at=model.floor - 1)
        with pytest.raises(Compacted):
            await store.changes(model.floor - 1, 1)
    log = await store.changes(model.floor, 1000)
    assert [commit.revision for commit in log] == list(range(model.floor + 1, model.head + 1))
    assert [commit.changes for commit in log] == model.log[model.floor :]
    for kind in KINDS:
        for name in NAMES:
            history = [(v.revision, v.change) for v in await store.history(kind, name)]
            assert history == model.history(kind, name)
            middle = model.head // 2 + 1
            of_name = [entry.revision for entry in await store.audit(kind=kind, name=name, limit=1000)]
            assert of_name == [
                revision
                for revision in range(model.head, 0, -1)
                if any((c.kind, c.name) == (kind, name) for c in model.log[revision - 1])
            ]
            below = [(v.revision, v.change) for v in await store.history(kind, name, before=middle, limit=2)]
            assert below == [entry for entry in model.history(kind, name) if entry[0] < middle][:2]
    heads = [
        [
            (c.kind, c.name, "delete" if c.after is None else "update" if c.previous else "create")
            for c in changes
        ]
        for changes in reversed(model.log)
    ]
    audit = await store.audit(limit=1000)
    assert [[(c.kind, c.name, c.op) for c in entry.changes] for entry in audit] == heads


def check_operations(open_store: OpenStore, ops: list[Operation]) -> None:
    async def run() -> None:
        async with open_store() as store:
            await run_operations(store, ops)

    asyncio.run(run())
