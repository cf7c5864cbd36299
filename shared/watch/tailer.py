"""One reader of a store's log that wakes everyone who follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from types import TracebackType

from shared.storage.errors import StoreUnavailable
from shared.storage.port import Commit, Store

log = logging.getLogger(__name__)
# What is kept of the log's end, so that many followers cost one read.
_KEPT_COMMITS = 1024
_KEPT_BYTES = 8 << 20


class Tailer:
    """Knows the newest revision: at once after a local commit, within `poll` seconds for peers'.

    Followers read the log from where they stand, so a slow one holds no queue and never blocks a
    writer. One Tailer serves any number of followers.
    """

    def __init__(self, store: Store, *, poll: float = 0.1, batch: int = 256) -> None:
        self._store = store
        self._poll = poll
        self._batch = batch
        self._head = 0
        self._moved = asyncio.Event()
        self._stop_listening = lambda: None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._recent: deque[Commit] = deque()
        self._recent_bytes = 0
        self._reading = asyncio.Lock()

    async def __aenter__(self) -> Tailer:
        self._advance(await self._store.head())
        self._stop_listening = self._store.listen(self._advance)
        self._task = asyncio.create_task(self._run(), name="tailer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_listening()
        self._wake()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def head(self) -> int:
        """The newest revision this process knows of."""
        return self._head

    async def wait(self, after: int) -> int:
        """Until there is a revision above `after`; answers it. Raises StoreUnavailable once the
        tailer is closed."""
        while self._head <= after:
            if self._closed:
                raise StoreUnavailable("the process is stopping")
            await self._moved.wait()
        return self._head

    async def commits(self, after: int, limit: int) -> Sequence[Commit]:
        """`Store.changes`, from memory where others read the same a moment ago."""
        found = self._remembered(after, limit)
        if found is not None:
            return found
        if self._recent and after < self._recent[0].revision - 1:
            return await self._store.changes(after, limit)  # far behind: on its own
        async with self._reading:
            found = self._remembered(after, limit)
            if found is None:
                found = await self._store.changes(after, limit)
                self._remember(found)
            return found

    async def follow(self, after: int) -> AsyncGenerator[Commit, None]:
        """Every commit after revision `after`, for ever. Raises Compacted when some are gone."""
        while True:
            await self.wait(after)
            for commit in await self.commits(after, self._batch):
                yield commit
                after = commit.revision

    def _remembered(self, after: int, limit: int) -> Sequence[Commit] | None:
        recent = self._recent
        if not recent or not recent[0].revision - 1 <= after < recent[-1].revision:
            return None
        start = after + 1 - recent[0].revision
        return list(islice(recent, start, start + limit))

    def _remember(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        if self._recent and commits[0].revision != self._recent[-1].revision + 1:
            self._recent.clear()
            self._recent_bytes = 0
        for commit in commits:
            self._recent.append(commit)
            self._recent_bytes += _size(commit)
        while len(self._recent) > _KEPT_COMMITS or (
            self._recent_bytes > _KEPT_BYTES and len(self._recent) > 1
        ):
            self._recent_bytes -= _size(self._recent.popleft())

    def _advance(self, revision: int) -> None:
        if revision > self._head:
            self._head = revision
            self._wake()

    def _wake(self) -> None:
        self._moved.set()
        if not self._closed:
            self._moved = asyncio.Event()

    async def _run(self) -> None:
        reported = False
        while True:
            await asyncio.sleep(self._poll)
            try:
                self._advance(await self._store.head())
                reported = False
            except StoreUnavailable as error:
                if not reported:
                    log.warning("cannot read the log; trying on", extra={"error": str(error)})
                reported = True


def _size(commit: Commit) -> int:
    return sum(len(change.before or b"") + len(change.after or b"") for change in commit.changes)
