"""What this process has of a MongoDB store: how far the log is applied, and reads at that revision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from shared.storage.errors import FormatError, StoreUnavailable
from shared.storage.mongo_fields import escaped
from shared.storage.mongo_log import Entry, Log
from shared.storage.mongo_state import Marks, State
from shared.storage.mongo_versions import Versions
from shared.storage.port import Kind
from shared.storage.rules import verify_readable

T = TypeVar("T")

# Entries applied at a time; each holds up to `mongo_log.LARGEST_ENTRY`.
_BATCH = 64
# `kinds` mark of a kind whose versions are being reindexed.
REINDEXING = 0


class View:
    """The newest revision known to be applied, and the last change of each kind up to it.

    Whoever calls `catch_up` or `advance` holds `lock`; reads need not.
    """

    def __init__(self, log: Log, versions: Versions, state: State, kinds: Mapping[str, Kind]) -> None:
        self._log = log
        self._versions = versions
        self._state = state
        self._kinds = kinds
        self.lock = asyncio.Lock()
        self.applied = 0
        self._latest: dict[str, int] = {}

    def latest(self) -> dict[str, int]:
        """The last revision up to `applied` that changed a kind, by its name; leaves out kinds that
        never were."""
        return {name: self._latest[escaped(name)] for name in self._kinds if escaped(name) in self._latest}

    async def refresh(self) -> Marks:
        """Read the marks, and go on to what peers have applied. FormatError when a peer reindexed a
        kind for a version of it that this process does not have."""
        marks = await self._state.read()
        for kind in self._kinds.values():
            version = marks.kinds.get(escaped(kind.name), kind.version)
            if version == REINDEXING:
                raise StoreUnavailable(f"a peer is reindexing {kind.name!r}")
            if version != kind.version:
                ours = f"this process has {kind.version}"
                raise FormatError(f"{kind.name!r} was reindexed for version {version} of it; {ours}")
        self._raise(marks.applied, marks.latest)
        return marks

    def advance(self, entries: Sequence[Entry]) -> None:
        """`entries`, the next ones, are applied."""
        changed = {escaped(change.kind): entry.revision for entry in entries for change in entry.changes}
        self._raise(entries[-1].revision, changed)

    def _raise(self, applied: int, latest: Mapping[str, int]) -> None:
        if applied > self.applied:
            self.applied = applied
            self._latest |= latest

    async def catch_up(self) -> None:
        """Apply what stands in the log."""
        gaps = 0
        while await self._log.reaches_beyond(self.applied):
            await self.refresh()
            position = self.applied
            entries = await self._log.read(position, _BATCH)
            if entries == []:
                return
            if entries is None or entries[0].revision != position + 1:
                # Compaction went past between two reads: the marks are further by now.
                gaps += 1
                if gaps > _BATCH:
                    raise FormatError(f"the log has no entry {position + 1}")
                continue
            contiguous = [e for number, e in enumerate(entries) if e.revision == position + 1 + number]
            try:
                marks = await self._versions.apply(contiguous)
            except StoreUnavailable as error:
                # Applying may be half done, which decides nothing: whoever comes next does it again.
                raise StoreUnavailable(str(error)) from error
            if marks.floor < contiguous[0].revision:
                self.advance(contiguous)

    async def newest(self) -> int:
        """The newest revision, applied."""
        if await self._log.reaches_beyond(self.applied):
            async with self.lock:
                await self.catch_up()
        return self.applied

    async def read(self, at: int | None, run: Callable[[int, bool], Awaitable[T]]) -> T:
        """The answer of `run(revision, complete)` at revision `at`, or at one that shows every commit
        acknowledged before this call. `complete` is as in `Versions.select`.

        Raises Compacted and FutureRevision. Nothing that is read was being swept: the marks are read
        after it.
        """
        if at is not None:
            return await self._read_at(at, run)
        revision = self.applied
        answer = await run(revision, False)
        marks = await self.refresh()
        if marks.begun == revision:
            return answer
        while True:
            revision = self.applied
            answer = await run(revision, True)
            if (await self.refresh()).floor <= revision:
                return answer

    async def _read_at(self, at: int, run: Callable[[int, bool], Awaitable[T]]) -> T:
        head = self.applied if at <= self.applied else await self.newest()
        verify_readable(at, 0, head)
        answer = await run(at, True)
        verify_readable(at, (await self.refresh()).floor, self.applied)
        return answer
