"""Copies what the jobs service has of one kind, change set by change set, and knows how far it came.

What is stored and the token that says so are of one commit: whenever this process or the other one ends,
following goes on where the copy stands. A set that is too large for one commit takes the token away with
its first part; if it breaks off, all is compared anew. Several processes may follow: whoever is first
writes, and the others see that it is done.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

import grpc

from services.pods.jobs_client import Jobs
from shared.errors import ApiError, Unavailable
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.rpc.client import CallFailed
from shared.storage.errors import Conflict, StoreError
from shared.storage.port import Author, Delete, Expect, Kind, Put, Store

log = logging.getLogger(__name__)
FOLLOWED: Final = Kind("followed")
# Objects that are read before they are written, and changes of one commit.
PART: Final = 500
COMMIT: Final = 1000
# Seconds: until a failure is tried again, at first and at most.
FIRST: Final = 0.05
LONGEST: Final = 1.0
# Seconds without another part after which a set that somebody else writes counts as broken off.
LAPSE: Final = 5.0
_LOOK: Final = 0.1
# Seconds after which a token is stored though nothing else has changed.
_REST: Final = 30.0
# Seconds that the jobs service may be away before somebody hears of it: each start of the suite is one.
PATIENCE: Final = 10.0
_BY: Final = Author("pods-service", "pods-service:jobs:follow")
# Messages that wait while others are written.
_AHEAD: Final = 16
Change = Put | Delete
_Answer = admin_pb2.WatchResponse


@dataclass
class Batch:
    """What is there, by name, and what is not any more; and the revision of the jobs service at which
    something of it was last written."""

    current: dict[str, bytes] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    revision: int = 0

    @property
    def size(self) -> int:
        return len(self.current) + len(self.removed)


@dataclass
class Plan:
    """`changes` make the copy what a batch says; `kept` are the records that the batch stands for,
    changed or not."""

    changes: list[Change] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


class Copy(Protocol):
    """What becomes of the objects of a kind here."""

    def begin(self) -> None:
        """Nothing that was planned since the last commit counts."""

    async def plan(self, batch: Batch) -> Plan:
        """Reads what is stored now."""

    def others(self, kept: Collection[str], cluster_id: str) -> AsyncGenerator[Delete, None]:
        """Removals of all that is stored and not `kept`. `cluster_id`: what the copy was made for."""

    def sealed(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What is committed for `changes`."""

    def committed(self) -> None:
        """The changes that were sealed last are stored."""


class _Overtaken(Exception):
    """Something was written that this process did not know of."""


@dataclass(frozen=True)
class _Known:
    """The record of how far the copy is, and its revision; 0: there is none."""

    revision: int
    state: pb.Followed


@dataclass
class _Set:
    """Change sets on their way. `snapshot`: what they do not name is gone; `written`: some of it is."""

    snapshot: bool = False
    batch: Batch = field(default_factory=Batch)
    kept: set[str] = field(default_factory=set)
    written: bool = False

    def add(self, changes: Sequence[admin_pb2.WatchChange]) -> None:
        for change in changes:
            if change.WhichOneof("change") == "current":
                self.batch.removed.discard(change.current.name)
                self.batch.current[change.current.name] = change.current.body.value
                self.batch.revision = max(self.batch.revision, change.current.revision)
            else:
                self.batch.current.pop(change.removed, None)
                self.batch.removed.add(change.removed)


class Follower:
    def __init__(
        self, kind: str, jobs: Jobs, store: Store, copy: Copy, *, rules: str, cluster_id: str
    ) -> None:
        """`rules`: by which `copy` works; others begin anew."""
        self._kind = kind
        self._jobs = jobs
        self._store = store
        self._copy = copy
        self._rules = rules
        self._cluster_id = cluster_id
        self._writer = str(uuid.uuid4())
        self._known = _Known(0, pb.Followed())
        self._set = _Set()
        # The revision of the jobs service that this watch has come to.
        self._at = 0
        self._written_at = 0.0
        # Nothing that is stored counts.
        self._anew = False
        self._behind_since: float | None = time.monotonic()
        self._pause = FIRST
        self._failing = False

    @property
    def lag(self) -> float:
        """Seconds since it last stood where the jobs service stands; 0 while it does."""
        return 0.0 if self._behind_since is None else time.monotonic() - self._behind_since

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._follow()
            except (_Overtaken, Conflict):
                self._pause = FIRST
            except (CallFailed, StoreError, ApiError) as error:
                self._failed(error)
            except Exception as error:
                # Whatever it is, the next change may be another one.
                self._failed(error, unforeseen=True)
                self._pause = LONGEST
            self._behind()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST)

    def _failed(self, error: Exception, *, unforeseen: bool = False) -> None:
        """Says so, once until it follows again."""
        code = error.failure.code if isinstance(error, CallFailed) else None
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            self._anew = True
        if code is grpc.StatusCode.UNAVAILABLE and self.lag < PATIENCE:
            return
        if not self._failing:
            log.log(
                logging.ERROR if unforeseen else logging.WARNING,
                "cannot follow the jobs service; trying on",
                extra={"kind": self._kind, "error": str(error)},
                exc_info=error if unforeseen else None,
            )
        self._failing = True

    def _behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def _level(self, revision: int) -> None:
        """The copy is what the jobs service had at `revision`."""
        self._at = revision
        self._set = _Set()
        self._behind_since = None
        self._pause = FIRST
        self._anew = False
        if self._failing:
            log.info("follows the jobs service again", extra={"kind": self._kind})
        self._failing = False

    async def _follow(self) -> None:
        self._known = await self._free()
        self._copy.begin()
        state = self._known.state
        token = state.resume_token if state.rules == self._rules and not self._anew else ""
        self._at, self._written_at = state.revision, time.monotonic()
        self._set = _Set(snapshot=not token)
        queue: asyncio.Queue[_Answer | Exception] = asyncio.Queue(_AHEAD)
        reader = asyncio.create_task(self._listen(token, queue))
        try:
            while True:
                answer = await queue.get()
                if isinstance(answer, Exception):
                    raise answer
                await self._take(answer, more=not queue.empty())
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _listen(self, token: str, queue: asyncio.Queue[_Answer | Exception]) -> None:
        """While one thing is written the next ones come, and are written together then."""
        try:
            async with aclosing(self._jobs.watch(self._kind, token)) as answers:
                async for answer in answers:
                    await queue.put(answer)
            await queue.put(Unavailable("the watch ended"))
        except Exception as error:
            await queue.put(error)

    async def _take(self, answer: _Answer, *, more: bool) -> None:
        """`more` waits already: sets that follow on each other make one."""
        self._behind()
        if answer.is_hard_reset:
            if self._late:
                # The snapshot may be older than what another process has written.
                raise _Overtaken
            self._set = _Set(snapshot=True, written=self._set.written)
        self._set.add(answer.changes)
        full = self._set.batch.size >= PART
        if answer.is_current and (full or not more):
            await self._finish(answer)
        elif full and not answer.is_current:
            await self._take_part()

    async def _read(self) -> _Known:
        record = await self._store.get(FOLLOWED.name, self._kind)
        if record is None:
            return _Known(0, pb.Followed())
        return _Known(record.revision, pb.Followed.FromString(record.body))

    async def _free(self) -> _Known:
        """The record, once nobody else is amid a set."""
        seen, since = -1, 0.0
        while True:
            known = await self._read()
            if known.state.writer in ("", self._writer):
                return known
            if known.revision != seen:
                seen, since = known.revision, time.monotonic()
            elif time.monotonic() - since > LAPSE:
                return known
            await asyncio.sleep(_LOOK)

    # -- writing

    async def _planned(self) -> list[Change]:
        """For what has come of the set."""
        batch, self._set.batch = self._set.batch, Batch()
        if not batch.size:
            return []
        plan = await self._copy.plan(batch)
        if self._set.snapshot:
            self._set.kept |= plan.kept
        return plan.changes

    @property
    def _late(self) -> bool:
        """Another process is ahead: what it wrote must not be undone by what leads there."""
        return self._known.state.revision > self._at and not self._set.snapshot

    async def _take_part(self) -> None:
        """More of the set will come."""
        if self._late:
            raise _Overtaken
        await self._write_parts(await self._planned())

    async def _finish(self, answer: _Answer) -> None:
        """The set is whole."""
        if self._late:
            if answer.revision > self._known.state.revision:
                # It leads on, but not from where the copy is.
                raise _Overtaken
            self._level(answer.revision)
            return
        changes = await self._planned()
        if self._set.snapshot:
            others = self._copy.others(self._set.kept, self._known.state.cluster_id)
            async with aclosing(others) as removals:
                # Some of them are planned already.
                planned = {(change.kind, change.name) for change in changes}
                changes += [r async for r in removals if (r.kind, r.name) not in planned]
        while len(changes) > COMMIT:
            await self._write_parts(changes[:COMMIT])
            del changes[:COMMIT]
        try:
            await self._write_end(changes, answer)
        except Conflict:
            if self._set.snapshot or self._set.written:
                raise
            await self._adopt(answer.revision)
        self._level(answer.revision)

    async def _write_parts(self, changes: Sequence[Change]) -> None:
        for start in range(0, len(changes), COMMIT):
            state = pb.Followed(
                rules=self._rules, cluster_id=self._known.state.cluster_id, writer=self._writer
            )
            await self._commit(changes[start : start + COMMIT], state)
            self._set.written = True

    async def _write_end(self, changes: Sequence[Change], answer: _Answer) -> None:
        """Raises Conflict when another process was faster."""
        quiet = not changes and not self._set.written and not self._set.snapshot
        if quiet and time.monotonic() - self._written_at < _REST:
            if (await self._read()).revision != self._known.revision:
                raise Conflict(FOLLOWED.name, self._kind, str(self._known.revision), 0)
            return
        state = pb.Followed(
            resume_token=answer.resume_token,
            revision=answer.revision,
            rules=self._rules,
            cluster_id=self._cluster_id,
        )
        await self._commit(changes, state)
        self._written_at = time.monotonic()

    async def _commit(self, changes: Sequence[Change], state: pb.Followed) -> None:
        state.writes = self._known.state.writes + 1
        expect: Expect | int = self._known.revision or Expect.ABSENT
        body = state.SerializeToString(deterministic=True)
        record = Put(FOLLOWED.name, self._kind, body, expect=expect)
        commit = await self._store.commit([*self._copy.sealed(changes), record], by=_BY)
        self._known = _Known(commit.revision, state)
        self._copy.committed()

    async def _adopt(self, revision: int) -> None:
        """Another process has written this set, and perhaps more."""
        known = await self._read()
        if known.state.writer or known.state.rules != self._rules or known.state.revision < revision:
            raise _Overtaken
        self._known = known
        self._copy.begin()
