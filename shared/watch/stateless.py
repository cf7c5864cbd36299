"""Stateless watches: a snapshot, then net differences, each an exact step between two revisions.

A session is a pure function of (log, query). It holds the revision it sent last and nothing else: a
slow reader makes the next difference longer, never a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from shared.storage.errors import Compacted, FutureRevision
from shared.storage.port import Query, Record, Store
from shared.watch.resume_token import ResumeToken, decode
from shared.watch.tailer import Tailer

# What one difference takes in before the rest becomes the next: commits, and changes of the kind.
REACH = 1000
WIDTH = 10_000
# Commits that are read at once, each with all its images.
_BATCH = 32
# Changes of one commit after which others get their turn.
_BREATH = 500


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a change set. `current`: created, changed, or now matching. The last chunk of a set
    has `is_current` and the token of `revision`. After `is_hard_reset` the client holds nothing and
    a snapshot follows."""

    current: tuple[Record, ...] = ()
    removed: tuple[str, ...] = ()
    is_current: bool = False
    is_hard_reset: bool = False
    token: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Watch:
    """`matches` decides on bodies and must imply the conditions of `query`, whose order, position
    and limit are ignored. `fingerprint` names the query in tokens."""

    store: Store
    tailer: Tailer
    query: Query
    matches: Callable[[bytes], bool]
    fingerprint: str
    chunk_size: int = 100
    # Revisions outside the query after which an empty change set carries a fresh token, so that a
    # quiet watch does not fall behind the log.
    bookmark_every: int = 1000
    width: int = WIDTH

    async def run(self, resume_token: str = "", *, from_now: bool = False) -> AsyncGenerator[Chunk, None]:
        """Chunks for ever. The first change set is a snapshot that covers every write acknowledged
        before, or with a token what changed since it (at least an empty set); `from_now` starts
        with an empty set instead. Raises InvalidArgument for a token that is wrong, StoreUnavailable
        when the process stops. A token that is too old, or of another epoch, is a hard reset."""
        epoch = await self.store.epoch()
        at, reset = await self._start(resume_token, epoch, from_now)
        # What the client was told last; below `at` when only other things changed since.
        told = None
        while True:
            try:
                if at is None:
                    if reset:
                        yield Chunk(is_hard_reset=True)
                    at = told = await self.store.head()
                    async with aclosing(self._snapshot(at, epoch)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                target = await self.store.head() if told is None else await self.tailer.wait(at)
                current, removed, at = await self._difference(at, target)
            except Compacted:
                at, reset = None, True
                continue
            if told is None or current or removed or at - told >= self.bookmark_every:
                for chunk in self._chunks(current, removed, self._last(at, epoch)):
                    yield chunk
                told = at

    async def _start(self, resume_token: str, epoch: str, from_now: bool) -> tuple[int | None, bool]:
        """The revision that the client holds, None when it needs a snapshot, and whether it must
        drop something first."""
        if not resume_token:
            return (await self.store.head(), False) if from_now else (None, False)
        token = decode(resume_token, self.fingerprint)
        if token.epoch == epoch and await self._readable(token.revision):
            return token.revision, False
        return None, True

    async def _readable(self, revision: int) -> bool:
        try:
            await self.store.changes(revision, 1)
        except (Compacted, FutureRevision):
            return False
        return True

    def _last(self, revision: int, epoch: str) -> Chunk:
        token = ResumeToken(epoch, revision, self.fingerprint).encode()
        return Chunk(is_current=True, token=token, revision=revision)

    async def _snapshot(self, at: int, epoch: str) -> AsyncGenerator[Chunk, None]:
        held: list[Record] = []
        async with aclosing(self.store.scan(self.query, at=at)) as records:
            async for record in records:
                if not self.matches(record.body):
                    continue
                if len(held) == self.chunk_size:
                    yield Chunk(current=tuple(held))
                    held = []
                held.append(record)
        last = self._last(at, epoch)
        yield Chunk(tuple(held), is_current=True, token=last.token, revision=at)

    async def _difference(self, after: int, target: int) -> tuple[list[Record], list[str], int]:
        """What moves a client from the state at `after` to the state at the revision answered."""
        first: dict[str, bytes | None] = {}
        last: dict[str, Record | None] = {}
        reached = after
        while reached < target and reached - after < REACH and len(last) < self.width:
            commits = await self.tailer.changes(reached, min(_BATCH, target - reached))
            for commit in commits:
                for index, change in enumerate(commit.changes):
                    if index % _BREATH == _BREATH - 1:
                        await asyncio.sleep(0)
                    if change.kind != self.query.kind:
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
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            before = first[name]
            if record is not None and self.matches(record.body):
                # Also when it is what it was: its revision is another.
                current.append(record)
            elif before is not None and self.matches(before):
                removed.append(name)
        return current, removed, reached

    def _chunks(self, current: list[Record], removed: list[str], last: Chunk) -> list[Chunk]:
        size = self.chunk_size
        chunks = [Chunk(current=tuple(current[i : i + size])) for i in range(0, len(current), size)]
        chunks += [Chunk(removed=tuple(removed[i : i + size])) for i in range(0, len(removed), size)]
        end = chunks.pop() if chunks else Chunk()
        return [*chunks, Chunk(end.current, end.removed, True, False, last.token, last.revision)]
