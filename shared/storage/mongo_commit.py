"""Group commit on MongoDB: callers that wait share one ordered insert, a log document each."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.storage.errors import Conflict, StoreError, StoreFull, StoreUnavailable, TooLarge
from shared.storage.mongo_fields import LARGEST_DOCUMENT
from shared.storage.mongo_log import PAUSE, Entry, Log, LoggedChange, Op
from shared.storage.mongo_query import of_names
from shared.storage.mongo_versions import Versions, values_of
from shared.storage.mongo_view import View
from shared.storage.port import Author, Change, Check, Commit, Delete, Kind, Put
from shared.storage.rules import verify_change, verify_check

# What one insert holds: callers, and bytes unless the first alone is larger.
_CALLERS = 256
_BYTES = 16 * 2**20
# Seconds to try again while other writers are first. One of them always gets on.
_CONTENTION = 30.0
# Names looked up in one request.
_NAMES = 1_000
_HEAD_OVERHEAD = 64

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Current:
    """A record as it stands: `body` and `parent` under `revision`."""

    revision: int
    parent: str
    body: bytes


@dataclass(slots=True, eq=False)
class _Request:
    """A commit that its caller waits for. `logged` are its changes as the log would hold them."""

    changes: Sequence[Put | Delete]
    logged: list[LoggedChange]
    checks: Sequence[Check]
    by: Author
    done: asyncio.Future[Commit]

    @property
    def size(self) -> int:
        return sum(change.size for change in self.logged)

    def resolve(self, outcome: Commit | Exception) -> None:
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class Committer:
    """Takes commits one group after another while anybody waits."""

    def __init__(
        self,
        log: Log,
        versions: Versions,
        view: View,
        kinds: Mapping[str, Kind],
        *,
        clock: Callable[[], int],
        announce: Callable[[int], None],
        patience: float,
    ) -> None:
        self._log = log
        self._versions = versions
        self._view = view
        self._kinds = kinds
        self._clock = clock
        self._announce = announce
        self._patience = patience
        self._queue: deque[_Request] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def commit(self, changes: Sequence[Put | Delete], checks: Sequence[Check], by: Author) -> Commit:
        """As `Store.commit`, for validated arguments. Goes on when its caller is cancelled."""
        logged = [self._logged(change) for change in changes]
        _verify_sizes(logged)
        loop = asyncio.get_running_loop()
        request = _Request(changes, logged, checks, by, loop.create_future())
        # A caller that is gone does not fetch the error; it is not lost on anybody.
        request.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._queue.append(request)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._run(), name="mongo-commits")
        return await asyncio.shield(request.done)

    async def drain(self) -> None:
        """Wait until everything accepted is settled."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])

    def _logged(self, change: Put | Delete) -> LoggedChange:
        kind = self._kinds[change.kind]
        if isinstance(change, Delete):
            return LoggedChange(kind.name, change.name, "", 0, "delete", None, {}, kind.version)
        values = values_of(kind, change.body)
        return LoggedChange(
            kind.name, change.name, change.parent, 0, "create", change.body, values, kind.version
        )

    async def _run(self) -> None:
        while self._queue:
            group = self._take()
            try:
                async with self._view.lock:
                    await self._settle(group)
            except Exception as error:
                for request in group:
                    if not request.done.done():
                        request.resolve(error)

    def _take(self) -> list[_Request]:
        group = [self._queue.popleft()]
        room = _BYTES - group[0].size
        while self._queue and len(group) < _CALLERS and self._queue[0].size <= room:
            room -= self._queue[0].size
            group.append(self._queue.popleft())
        return group

    async def _settle(self, group: Sequence[_Request]) -> None:
        """Commit or refuse each of `group`, in order."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        waiting = list(group)
        while waiting:
            waiting = await self._attempt(waiting, started + self._patience)
            if waiting:
                if loop.time() - started >= _CONTENTION:
                    raise StoreUnavailable("other writers were first again and again")
                await self._view.catch_up()

    async def _attempt(self, requests: list[_Request], deadline: float) -> list[_Request]:
        """Settle what can be, and answer the rest: all of them when a peer was first."""
        await self._view.refresh()
        revision = self._view.applied
        plan = _Plan(revision, await self._current(requests), self._view.latest(), self._clock())
        for request in requests:
            plan.add(request)
        if not plan.entries:
            # Refusals and commits without a change hold if what they were judged by is the newest.
            if await self._log.reaches_beyond(revision):
                return requests
            return plan.settle(0, self._announce)
        landed = await self._log.append(plan.entries, patience=self._patience)
        if not landed or not await self._apply(plan.entries[:landed], deadline):
            return requests
        return plan.settle(landed, self._announce)

    async def _current(self, requests: Sequence[_Request]) -> dict[_Key, _Current]:
        """The records that `requests` name, as far as they exist at the applied revision."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for request in requests:
            for named in (*request.changes, *request.checks):
                if named.name is not None:
                    wanted[named.kind].add(named.name)
        found: dict[_Key, _Current] = {}
        for kind, all_names in wanted.items():
            names = sorted(all_names)
            for start in range(0, len(names), _NAMES):
                selection = of_names(names[start : start + _NAMES])
                for d in await self._versions.select(kind, selection, self._view.applied, complete=False):
                    found[kind, d["name"]] = _Current(d["revision"], d["parent"], d["body"])
        return found

    async def _apply(self, entries: Sequence[Entry], deadline: float) -> bool:
        """Apply what was appended. False when it landed in what compaction had swept: it is undone."""
        first = entries[0]
        while True:
            try:
                marks = await self._versions.apply(entries)
                # A peer may have applied it and compacted at once; or we were late, and fell into a hole.
                late = marks.floor >= first.revision
                if late and await self._log.owner(first.revision) != first.commit_id:
                    # Where it stays it harms nobody: it is below the floor.
                    with contextlib.suppress(StoreError):
                        await self._log.withdraw(entries)
                    return False
            except (StoreUnavailable, StoreFull) as error:
                if asyncio.get_running_loop().time() >= deadline:
                    message = f"committed, but not yet visible: {error}"
                    raise StoreUnavailable(message, outcome_unknown=True) from error
                await asyncio.sleep(PAUSE)
                continue
            self._view.advance(entries)
            return True


@dataclass(slots=True)
class _Plan:
    """What a group would do to the state at `revision`, one request after the other."""

    revision: int
    current: dict[_Key, _Current]
    latest: dict[str, int]
    at: int
    entries: list[Entry] = field(default_factory=list)
    outcomes: list[tuple[_Request, Commit | Exception, int]] = field(default_factory=list)

    def add(self, request: _Request) -> None:
        try:
            for change in request.changes:
                verify_change(change, self._revision(change.kind, change.name))
            for check in request.checks:
                verify_check(check, self._actual(check))
        except Conflict as conflict:
            self.outcomes.append((request, conflict, len(self.entries)))
            return
        done = [change for change in request.logged if self._is_change(change)]
        if not done:
            unchanged = Commit(self.revision, self.at, request.by, ())
            self.outcomes.append((request, unchanged, len(self.entries)))
            return
        self.revision += 1
        images, logged = zip(*(self._make(change) for change in done), strict=True)
        self.entries.append(Entry(self.revision, uuid.uuid4().hex, self.at, request.by, logged))
        commit = Commit(self.revision, self.at, request.by, images)
        self.outcomes.append((request, commit, len(self.entries)))

    def settle(self, landed: int, announce: Callable[[int], None]) -> list[_Request]:
        """Tell the callers, as far as the first `landed` entries decide. Answers the rest."""
        left: list[_Request] = []
        for request, outcome, entries in self.outcomes:
            if left or entries > landed:
                left.append(request)
                continue
            if isinstance(outcome, Commit) and outcome.changes:
                announce(outcome.revision)
            request.resolve(outcome)
        return left

    def _revision(self, kind: str, name: str) -> int:
        record = self.current.get((kind, name))
        return record.revision if record else 0

    def _actual(self, check: Check) -> int:
        if check.name is None:
            return self.latest.get(check.kind, 0)
        return self._revision(check.kind, check.name)

    def _is_change(self, change: LoggedChange) -> bool:
        record = self.current.get((change.kind, change.name))
        if change.body is None or record is None:
            return (change.body is None) == (record is not None)
        return (record.body, record.parent) != (change.body, change.parent)

    def _make(self, change: LoggedChange) -> tuple[Change, LoggedChange]:
        """Carry a change out; answers it with its images, and as the log holds it."""
        key = (change.kind, change.name)
        record = self.current.pop(key, None)
        self.latest[change.kind] = self.revision
        previous = record.revision if record else 0
        before = record.body if record else None
        if change.body is None:
            logged = replace(change, parent=record.parent if record else "", previous=previous)
        else:
            op: Op = "update" if record else "create"
            logged = replace(change, previous=previous, op=op)
            self.current[key] = _Current(self.revision, change.parent, change.body)
        image = Change(change.kind, change.name, logged.parent, before, change.body, previous)
        return image, logged


def _verify_sizes(changes: Sequence[LoggedChange]) -> None:
    """TooLarge for a change that no document holds, and for more names than an audit entry holds."""
    for change in changes:
        if change.size > LARGEST_DOCUMENT:
            raise TooLarge(
                f"{change.kind} {change.name[:80]!r} takes {change.size} bytes, over {LARGEST_DOCUMENT}"
            )
    names = sum(len(c.kind) + len(c.name.encode()) + _HEAD_OVERHEAD for c in changes)
    if names > LARGEST_DOCUMENT:
        raise TooLarge(f"{len(changes)} changes in one commit name {names} bytes, over {LARGEST_DOCUMENT}")
