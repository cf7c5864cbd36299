"""Live pages: one upstream watch per (service, kind), however many people look. Of kinds that people
see different parts of, there is one for each part (`scope`).

A page's stream does not carry changes, it carries the page: a change upstream wakes the stream,
which renders its list again as its own reader and sends what differs (`admin_ui.sse`). So filters,
order and permissions stay the service's business, a slow reader skips states instead of queueing
them, and nothing here grows with the number of changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import grpc

from admin_ui.clients import Caller, Clients
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import CallFailed

# Seconds before the first and at most before any further attempt to watch again.
FIRST_RETRY: Final = 0.2
LAST_RETRY: Final = 2.0

log = logging.getLogger(__name__)


class Signal:
    """A version that grows, and those who wait for it."""

    def __init__(self) -> None:
        self.version = 0
        self._moved = asyncio.Event()

    def bump(self) -> None:
        self.version += 1
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self, after: int) -> int:
        """Until the version is above `after`; answers it."""
        while self.version <= after:
            await self._moved.wait()
        return self.version


@dataclass(eq=False, slots=True)
class Reader:
    """One open page. The feed watches with the tokens of those who read it, and no other."""

    token: str
    refused: bool = False


class Feed(Signal):
    """The changes of one kind. The version grows with every change set and every change of `live`."""

    def __init__(self, clients: Clients, service: str, kind: str) -> None:
        super().__init__()
        self._clients = clients
        self.service = service
        self.kind = kind
        self.live = False
        self.since = datetime.now(UTC)
        self._readers: list[Reader] = []
        self._came = asyncio.Event()
        self._resume_token = ""
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def read(self, token: str) -> Iterator[Reader]:
        """Keeps the feed watching while the block runs."""
        reader = Reader(token)
        self._readers.append(reader)
        self._came.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"feed-{self.service}-{self.kind}")
        try:
            yield reader
        finally:
            self._readers.remove(reader)
            if not self._readers:
                self._stop()

    async def close(self) -> None:
        task = self._stop()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _stop(self) -> asyncio.Task[None] | None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        # Nobody looked: whoever comes next renders the present and needs no past.
        self._resume_token = ""
        self._set_live(False)
        return task

    def _set_live(self, live: bool) -> None:
        if live != self.live:
            self.live = live
            self.since = datetime.now(UTC)
        self.bump()

    async def _reader(self) -> Reader:
        """Someone whose token was not refused."""
        while True:
            for reader in self._readers:
                if not reader.refused:
                    return reader
            self._came.clear()
            await self._came.wait()

    async def _run(self) -> None:
        retry = FIRST_RETRY
        while True:
            reader = await self._reader()
            try:
                await self._follow(self._clients.caller(reader.token))
                retry = FIRST_RETRY
            except CallFailed as error:
                code = error.failure.code
                if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    reader.refused = True
                    self.bump()
                    continue
                if code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT):
                    # Compacted, or another store: start from now; readers render the present anyway.
                    self._resume_token = ""
                log.info(
                    "the watch ended; watching again",
                    extra={"peer": self.service, "kind": self.kind, "error": str(error)},
                )
                if self.live:
                    retry = FIRST_RETRY
            if self.live:
                self._set_live(False)
            await asyncio.sleep(retry)
            retry = min(retry * 2, LAST_RETRY)

    async def _follow(self, caller: Caller) -> None:
        request = admin_pb2.WatchRequest(
            kind=self.kind, resume_token=self._resume_token, from_now=not self._resume_token
        )
        async for answer in caller.watch(self.service, request):
            if answer.resume_token:
                self._resume_token = answer.resume_token
            if not self.live:
                self._set_live(True)
            elif answer.is_current and answer.changes:
                self.bump()


class Hub:
    """The feeds, each made when a page first asks for it."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._feeds: dict[tuple[str, str, str], Feed] = {}
        self.closing = asyncio.Event()

    def feed(self, service: str, kind: str, scope: str = "") -> Feed:
        key = (service, kind, scope)
        if key not in self._feeds:
            self._feeds[key] = Feed(self._clients, service, kind)
        return self._feeds[key]

    async def close(self) -> None:
        self.closing.set()
        for feed in self._feeds.values():
            await feed.close()
