"""Stateless watches: a snapshot, then net differences, each an exact step between two revisions.

A session is a pure function of (log, query). It holds the revision it sent last and nothing else: a
slow reader makes the next difference longer, never a queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from shared.storage.errors import Compacted, FutureRevision, StoreUnavailable
from shared.storage.port import Query, Record, Store
from shared.storage.times import revision_at
from shared.watch.alarm import Alarm
from shared.watch.memo import Memo
from shared.watch.resume_token import ResumeToken, decode
from shared.watch.tailer import Tailer

# What one difference takes in before the rest becomes the next: commits, and changes of the kind.
REACH = 1000
WIDTH = 10_000
# Resources of a snapshot that is worked out for all watches that begin together.
_LITTLE = 500
# Commits that are read at once, each with all its images.
_BATCH = 32
# Changes of one commit after which others get their turn.
_BREATH = 500
# A snapshot that broke off is sent again so often, each time a little later.
_TRIES = 5
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a change set. `current`: created, changed, or now matching. The last chunk of a set
    has `is_current` and the token of `revision`. After `is_hard_reset` the client holds nothing and
    a snapshot follows; after `is_soft_reset` it drops the chunks since the last `is_current`, which
    are sent anew. `size` is set in a heartbeat only: how many resources the client must hold.
    `shared`: other watches are given the same object, so what is made of it can be kept for them."""

    current: tuple[Record, ...] = ()
    removed: tuple[str, ...] = ()
    is_current: bool = False
    is_hard_reset: bool = False
    is_soft_reset: bool = False
    token: str = ""
    revision: int = 0
    size: int | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What takes a client to revision `reached`, where it holds `growth` more than before. Of
    `chunks` the last is current. `found`: something changed."""

    chunks: tuple[Chunk, ...]
    reached: int
    growth: int
    found: bool


@dataclass(frozen=True)
class Start:
    """Where a session begins: with a snapshot, after a token, at a time (nanoseconds since 1970), or
    now."""

    resume_token: str = ""
    time: int | None = None
    now: bool = False


@dataclass(frozen=True)
class Watch:
    """`matches` decides on bodies and must imply the conditions of `query`, whose order, position
    and limit are ignored. `shown` is what of a body the client sees: a difference in nothing else is
    not sent; without it every write is. `fingerprint` names the query in tokens.

    Watches with one `steps` work out once what each of those with equal fingerprints is told; their
    queries, `matches` and `shown` must then be equal too."""

    store: Store
    tailer: Tailer
    query: Query
    matches: Callable[[bytes], bool]
    fingerprint: str
    chunk_size: int = 100
    shown: Callable[[bytes], bytes] | None = None
    # An empty change set carries a fresh token once so many revisions outside the query have passed
    # and so many seconds since the last token: a quiet watch must not fall behind the log.
    bookmark_revisions: int = 1000
    bookmark_seconds: float = 0.0
    # Seconds of silence after which a heartbeat is sent; 0 sends none.
    heartbeat: float = 0.0
    width: int = WIDTH
    steps: Memo[Step] | None = None

    def run(self, start: Start = Start()) -> AsyncGenerator[Chunk, None]:
        """Chunks for ever. The first change set is a snapshot that covers every write acknowledged
        before; with a token it is what changed since (at least an empty set); with a time, or now,
        it is empty, and what changed since that time follows.

        Raises InvalidArgument for a token that is wrong, StoreUnavailable when the process stops. A
        token or a time that the log does not reach, or another epoch, is a hard reset.
        """
        return _Session(self).run(start)


class _Session:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._store = watch.store
        self._epoch = ""
        # The revision whose state the client holds, apart from changes that do not concern it.
        self._at = 0
        # How many resources it holds.
        self._size = 0
        # What it was told last, and when.
        self._told = 0
        self._told_at = 0.0
        # When it was last sent anything.
        self._spoke_at = 0.0
        self._heartbeat = Alarm() if watch.heartbeat else None

    async def run(self, start: Start) -> AsyncGenerator[Chunk, None]:
        self._epoch = await self._store.epoch()
        position, reset = await self._position(start)
        owed = False
        try:
            while True:
                try:
                    if position is None:
                        if reset:
                            yield Chunk(is_hard_reset=True)
                        async with aclosing(self._snapshot()) as chunks:
                            async for chunk in chunks:
                                yield chunk
                    else:
                        self._at = self._told = position
                        self._size = await self._count(position)
                        if start.resume_token:
                            owed = True
                        else:
                            yield self._current()
                    while True:
                        # Told by many watches at once: each generator in between would cost all of them.
                        for chunk in await self._next(owed):
                            yield chunk
                        owed = False
                except Compacted:
                    position, reset, owed = None, True, False
        finally:
            if self._heartbeat is not None:
                self._heartbeat.cancel()

    async def _position(self, start: Start) -> tuple[int | None, bool]:
        """The revision that the client holds or asks for, None when it needs a snapshot; and whether
        that takes a hard reset."""
        if start.resume_token:
            token = decode(start.resume_token, self._watch.fingerprint)
            readable = token.epoch == self._epoch and await self._readable(token.revision)
            return (token.revision, False) if readable else (None, True)
        if start.time is not None:
            found = await revision_at(self._store, start.time)
            return found, found is None
        return (await self._store.head(), False) if start.now else (None, False)

    async def _readable(self, revision: int) -> bool:
        try:
            await self._store.changes(revision, 1)
        except (Compacted, FutureRevision):
            return False
        return True

    async def _next(self, owed: bool) -> tuple[Chunk, ...]:
        """What happens next after `self._at`, if the client is to be told; `owed`: answer at once, with
        an empty set if need be."""
        chunks: tuple[Chunk, ...] = ()
        target = await self._store.head() if owed else await self._wait()
        if target is not None:
            step = await self._step(target)
            self._at = step.reached
            self._size += step.growth
            if owed or step.found or self._bookmark_due():
                self._tell()
                chunks = step.chunks
        if not chunks and self._silence_left() == 0:
            return (self._tick(),)
        return chunks

    async def _wait(self) -> int | None:
        """A newer revision, or None when a heartbeat is due."""
        if self._heartbeat is not None:
            self._heartbeat.put_off(self._spoke_at + self._watch.heartbeat)
        newest = await self._watch.tailer.wait(self._at, self._heartbeat)
        return newest if newest > self._at else None

    def _silence_left(self) -> float | None:
        """Seconds until a heartbeat is due; None when there are none."""
        if not self._watch.heartbeat:
            return None
        return max(0.0, self._spoke_at + self._watch.heartbeat - time.monotonic())

    def _tick(self) -> Chunk:
        """After some silence: a fresh token when one is due, else a heartbeat."""
        self._spoke_at = time.monotonic()
        if self._at > self._told and time.monotonic() - self._told_at >= self._watch.bookmark_seconds:
            return self._current()
        return Chunk(size=self._size)

    def _bookmark_due(self) -> bool:
        watch = self._watch
        return (
            self._at - self._told >= watch.bookmark_revisions
            and time.monotonic() - self._told_at >= watch.bookmark_seconds
        )

    def _current(self, chunk: Chunk = Chunk()) -> Chunk:
        """`chunk` as the last of a change set that leads to `self._at`, which the client is told now."""
        self._tell()
        return self._ended(chunk, self._at)

    def _tell(self) -> None:
        self._told, self._told_at = self._at, time.monotonic()
        self._spoke_at = self._told_at

    def _ended(self, chunk: Chunk, revision: int) -> Chunk:
        token = ResumeToken(self._epoch, revision, self._watch.fingerprint).encode()
        return replace(chunk, is_current=True, token=token, revision=revision)

    async def _snapshot(self) -> AsyncGenerator[Chunk, None]:
        """All there is, again from the start when the store fails in the midst of it."""
        for failures in range(1, _TRIES + 1):
            sent = False
            try:
                async with aclosing(self._snapshot_at(await self._store.head())) as chunks:
                    async for chunk in chunks:
                        yield chunk
                        sent = True
                return
            except Compacted:
                if sent:
                    yield Chunk(is_soft_reset=True)
            except StoreUnavailable:
                if failures == _TRIES:
                    raise
                if sent:
                    yield Chunk(is_soft_reset=True)
                await asyncio.sleep(_PAUSE * failures)
        raise StoreUnavailable("the log is compacted faster than a snapshot can be read; try again")

    async def _snapshot_at(self, at: int) -> AsyncGenerator[Chunk, None]:
        """All there is at revision `at`. Where it is little, watches that begin together share it."""
        watch = self._watch
        if watch.steps is not None:
            key = (self._epoch, watch.fingerprint, watch.chunk_size, at)
            step = watch.steps.get(key) or await watch.steps.share(key, lambda: self._little(at), _bytes)
            if step.found:
                self._at, self._size = at, step.growth
                self._tell()
                for chunk in step.chunks:
                    yield chunk
                return
        held: list[Record] = []
        size = 0
        async with aclosing(self._store.scan(watch.query, at=at)) as records:
            async for record in records:
                if not watch.matches(record.body):
                    continue
                if len(held) == watch.chunk_size:
                    yield Chunk(current=tuple(held))
                    held = []
                held.append(record)
                size += 1
        self._at, self._size = at, size
        yield self._current(Chunk(current=tuple(held)))

    async def _little(self, at: int) -> Step:
        """A snapshot from nothing to revision `at`; not `found` when there is too much to be shared."""
        held: list[Record] = []
        async with aclosing(self._matching(at)) as records:
            async for record in records:
                if len(held) == _LITTLE:
                    return Step((), at, 0, False)
                held.append(record)
        return Step(self._chunks(held, [], at), at, len(held), True)

    async def _matching(self, at: int) -> AsyncGenerator[Record, None]:
        async with aclosing(self._store.scan(self._watch.query, at=at)) as records:
            async for record in records:
                if self._watch.matches(record.body):
                    yield record

    async def _count(self, at: int) -> int:
        """How many resources a client holds that stands at `at`: for heartbeats only."""
        count = 0
        if self._watch.heartbeat:
            async with aclosing(self._matching(at)) as records:
                async for _ in records:
                    count += 1
        return count

    async def _step(self, target: int) -> Step:
        """What moves the client on from `self._at`, at most to `target`: as others were moved that
        stood there too, if any."""
        watch = self._watch
        if watch.steps is None:
            return await self._difference(target)
        key = (self._epoch, watch.fingerprint, watch.chunk_size, watch.width, self._at, target)
        known = watch.steps.get(key)
        return known or await watch.steps.share(key, lambda: self._difference(target), _bytes)

    async def _difference(self, target: int) -> Step:
        watch, reached, growth = self._watch, self._at, 0
        first: dict[str, bytes | None] = {}
        last: dict[str, Record | None] = {}
        while reached < target and reached - self._at < REACH and len(last) < watch.width:
            for commit in await watch.tailer.changes(reached, min(_BATCH, target - reached)):
                for index, change in enumerate(commit.changes):
                    await _breathe(index)
                    if change.kind != watch.query.kind or watch.query.parent not in (None, change.parent):
                        continue
                    first.setdefault(change.name, change.before)
                    last[change.name] = (
                        None
                        if change.after is None
                        else Record(
                            change.kind,
                            change.name,
                            change.parent,
                            commit.revision,
                            change.previous,
                            change.after,
                        )
                    )
                reached = commit.revision
        current, removed = [], []
        for index, (name, record) in enumerate(last.items()):
            await _breathe(index)
            before = first[name]
            held = before is not None and watch.matches(before)
            if record is not None and watch.matches(record.body):
                if not held or before is None or _differ(watch, before, record.body):
                    current.append(record)
                growth += not held
            elif held:
                removed.append(name)
                growth -= 1
        chunks = self._chunks(current, removed, reached)
        return Step(chunks, reached, growth, bool(current or removed))

    def _chunks(self, current: list[Record], removed: list[str], reached: int) -> tuple[Chunk, ...]:
        size, shared = self._watch.chunk_size, self._watch.steps is not None
        chunks = [
            Chunk(current=tuple(current[i : i + size]), shared=shared) for i in range(0, len(current), size)
        ]
        chunks += [
            Chunk(removed=tuple(removed[i : i + size]), shared=shared) for i in range(0, len(removed), size)
        ]
        end = chunks.pop() if chunks else Chunk(shared=shared)
        return (*chunks, self._ended(end, reached))


async def _breathe(index: int) -> None:
    """A large commit lets others run now and then."""
    if index % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _differ(watch: Watch, before: bytes, after: bytes) -> bool:
    return watch.shown is None or watch.shown(before) != watch.shown(after)


def _bytes(step: Step) -> int:
    """About what it takes of memory."""
    return sum(
        500 + sum(200 + len(r.body) for r in chunk.current) + sum(100 + len(n) for n in chunk.removed)
        for chunk in step.chunks
    )
