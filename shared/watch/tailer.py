"""One reader of a store's log that wakes everyone who follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType

from shared.storage.errors import StoreError, StoreUnavailable
from shared.storage.port import Commit, Store
from shared.watch.alarm import Alarm

log = logging.getLogger(__name__)
# Commits behind the newest that are read once for all followers, and the bytes that are kept of them.
_CLOSE = 64
_KEPT_BYTES = 16 << 20


class Tailer:
    """Knows the newest revision: at once after a local commit, within `poll` seconds for peers'.

    Followers ask for the log from where they stand, so a slow one holds no queue and never blocks a
    writer. Those close to the newest revision share what one of them read: a large commit would cost
    each the same again, one after the other. One Tailer serves any number of followers.
    """

    def __init__(self, store: Store, *, poll: float = 0.1, batch: int = 256) -> None:
        self._store = store
        self._poll = poll
        self._batch = batch
        self._head = 0
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._stop_listening = lambda: None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._reading = asyncio.Lock()
        self._recent: dict[int, Commit] = {}
        self._bytes = 0

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

    async def wait(self, after: int, alarm: Alarm | None = None) -> int:
        """Until there is a revision above `after`, or `alarm` rings; answers the newest. Raises
        StoreUnavailable once the tailer is closed."""
        loop = asyncio.get_running_loop()
        while self._head <= after:
            if self._closed:
                raise StoreUnavailable("the process is stopping")
            if alarm is not None and alarm.rung:
                break
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters[waiter] = None
            if alarm is not None:
                alarm.wakes(waiter)
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)
        return self._head

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        """Commits after revision `after`, in order, at most `limit` and at least one unless there is
        none. Raises Compacted when some are gone, as the store does."""
        if after < self._head - _CLOSE:
            return await self._store.changes(after, limit)
        async with self._reading:
            found: list[Commit] = []
            while len(found) < limit and after + len(found) + 1 in self._recent:
                found.append(self._recent[after + len(found) + 1])
            if found:
                return found
            read = await self._store.changes(after, limit)
            self._keep(read)
            return read

    def _keep(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if commit.revision not in self._recent:
                self._recent[commit.revision] = commit
                self._bytes += _size(commit)
        while len(self._recent) > _CLOSE or (self._bytes > _KEPT_BYTES and len(self._recent) > 1):
            self._bytes -= _size(self._recent.pop(next(iter(self._recent))))

    async def follow(self, after: int) -> AsyncGenerator[Commit, None]:
        """Every commit after revision `after`, for ever. Raises Compacted when some are gone."""
        while True:
            await self.wait(after)
            for commit in await self.changes(after, self._batch):
                yield commit
                after = commit.revision

    def _advance(self, revision: int) -> None:
        if revision > self._head:
            self._head = revision
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _run(self) -> None:
        reported = False
        while True:
            await asyncio.sleep(self._poll)
            try:
                self._advance(await self._store.head())
                reported = False
            except StoreError as error:
                # Whatever it is, it may pass: a file that is being restored, a peer of a newer version.
                if not reported:
                    log.warning("cannot read the log; trying on", extra={"error": str(error)})
                reported = True


def _size(commit: Commit) -> int:
    """About what it takes of memory."""
    return sum(200 + len(change.before or b"") + len(change.after or b"") for change in commit.changes)
