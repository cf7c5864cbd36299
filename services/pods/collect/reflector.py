"""Follows one resource of a cluster: a list, then all that changes, without a gap."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final, Protocol

from services.pods.collect.backoff import Backoff
from services.pods.collect.kubernetes import Busy, Event, Expired, KubernetesApi
from services.pods.collect.mapping import Object
from services.pods.collect.state import State
from shared.errors import ApiError

log = logging.getLogger(__name__)
# Seconds: a watch that ends sooner and brought nothing is no good sign.
_SHORT: Final = 1.0
_LARGEST_PAGE: Final = 16_000
_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})


class Sink(Protocol):
    """Who is told."""

    async def replace(self, objects: AsyncIterator[Object]) -> None:
        """These are all there are. What the iterator raises is to be raised, and nothing changed."""

    async def changed(self, event: Event) -> None:
        """ADDED, MODIFIED or DELETED, in order."""


class Reflector:
    """Runs until it is cancelled, or its sink raises something other than ApiError. Whatever is wrong
    with the cluster's API is logged and tried again."""

    def __init__(self, api: KubernetesApi, path: str, sink: Sink, backoff: Backoff, state: State) -> None:
        self._api = api
        self._path = path
        self._sink = sink
        self._backoff = backoff
        self._state = state
        self._about = {"cluster": state.name, "path": path}
        self._version = ""
        self._page = 0
        self.listed = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                await self._list()
                await self._watch()
            except Expired as error:
                log.info("listing anew", extra={**self._about, "why": error.message})
                await self._backoff.wait()
            except ApiError as error:
                await self._wait(error, "cannot list; trying again")

    async def _list(self) -> None:
        try:
            async with aclosing(self._objects()) as objects:
                await self._sink.replace(objects)
        except Expired:
            # The moment that was listed was forgotten meanwhile: fewer requests take less time.
            self._page = min(2 * (self._page or self._api.page), _LARGEST_PAGE)
            raise
        self._page = 0
        self.listed.set()

    async def _objects(self) -> AsyncGenerator[Object, None]:
        async with aclosing(self._api.pages(self._path, size=self._page)) as pages:
            async for page in pages:
                self._version = page.version
                self._heard()
                for item in page.items:
                    yield item

    async def _watch(self) -> None:
        """One watch after the other, each from where the last one ended. Raises Expired."""
        while True:
            began, seen = time.monotonic(), self._version
            try:
                watch = self._api.watch(self._path, self._version, opened=self._heard)
                async with aclosing(watch) as events:
                    async for event in events:
                        await self._take(event)
            except Expired:
                raise
            except ApiError as error:
                await self._wait(error, "the watch broke; going on")
            else:
                if self._version == seen and time.monotonic() - began < _SHORT:
                    await self._backoff.wait()

    def _heard(self) -> None:
        self._state.hears(self._path)

    async def _take(self, event: Event) -> None:
        self._heard()
        if event.type in _CHANGES:
            await self._sink.changed(event)
        self._version = event.version or self._version
        self._backoff.reset()

    async def _wait(self, error: ApiError, what: str) -> None:
        log.warning(what, extra={**self._about, "error": error.message})
        self._state.fails(self._path, error.message)
        await self._backoff.wait(error.seconds if isinstance(error, Busy) else 0.0)
