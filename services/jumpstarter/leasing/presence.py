"""Which exporters are there (jumpstarter contract, section 7).

While a controller process holds an exporter's status stream, its own heartbeat stands for the
exporter: ten thousand exporters cost one small write every ten seconds, not a thousand a second. When
a process dies, its heartbeat stops, and its exporters count as last seen then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from services.jumpstarter.kinds import CONTROLLER
from services.jumpstarter.leasing.engine import Engine
from shared.errors import NotFound, Unavailable
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.errors import Conflict, StoreError
from shared.storage.port import Author, Delete, Put, Store

log = logging.getLogger(__name__)

_SECOND: Final = 1_000_000_000
HEARTBEAT: Final = 10 * _SECOND
LOST_AFTER: Final = 60 * _SECOND
CHECK_EVERY: Final = 30 * _SECOND
# A controller that was silent for so long is not coming back under its id.
_GONE_AFTER: Final = 600 * _SECOND
_NAP: Final = 1.0
_ALIVE: Final = Author("controller", "controller:controller:heartbeat")
_LOST: Final = Author("controller", "controller:exporter:lose")
_GONE: Final = Author("controller", "controller:controller:forget")
_HELD: Final = Author("controller", "controller:exporter:attach")
_DETACHED: Final = Author("controller", "controller:exporter:detach")


class Presence:
    """Of one controller process: `id` is new at each start, `endpoint` where its router is reached."""

    def __init__(self, engine: Engine, store: Store, id: str, endpoint: str) -> None:
        self.id = id
        self.endpoint = endpoint
        self._engine = engine
        self._store = store
        # Open status streams by exporter: a new one may overlap with the one that it replaces.
        self._streams: Counter[str] = Counter()
        self._stopping = False
        self._beat_at = 0
        self._check_at = 0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Presence:
        await self._tick()
        self._task = asyncio.create_task(self._run(), name="presence")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(StoreError):
            await self._beat(self._engine.now())

    def stop(self) -> None:
        """All streams are about to end with this process: its last heartbeat says when, in one write."""
        self._stopping = True

    def wake(self) -> None:
        """Look at the clock again: for tests that set it."""
        self._woken.set()

    @asynccontextmanager
    async def stream(self, exporter: str, by: Author) -> AsyncGenerator[None, None]:
        """Its status stream is open here. Raises NotFound."""
        # Counted first: the stream that this one replaces may end while the exporter is attached.
        self._streams[exporter] += 1
        try:
            await self._engine.attach(exporter, self.id, by)
            yield
        finally:
            self._streams[exporter] -= 1
            if not self._streams[exporter]:
                del self._streams[exporter]
                if not self._stopping:
                    with contextlib.suppress(StoreError, Unavailable):
                        await self._engine.detach(exporter, self.id, _DETACHED)

    def alive(self, controller: str) -> bool:
        """Whether that process was heard of lately."""
        found = self._engine.lab.controllers.get(controller)
        return found is not None and self._engine.now() - found.heartbeat.ToNanoseconds() <= LOST_AFTER

    def last_seen(self, exporter: pb.Exporter) -> int:
        """Nanoseconds since 1970; 0 for never."""
        seen = exporter.last_seen.ToNanoseconds() if exporter.HasField("last_seen") else 0
        if exporter.controller == self.id:
            # Without a stream it was attached by one that is over, whose end could not be written.
            return self._engine.now() if exporter.name in self._streams else seen
        holder = self._engine.lab.controllers.get(exporter.controller)
        return max(seen, holder.heartbeat.ToNanoseconds()) if holder is not None else seen

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _NAP)
            self._woken.clear()
            try:
                await self._tick()
            except (StoreError, Unavailable) as error:
                log.warning("cannot tell which exporters are there", extra={"error": str(error)})

    async def _tick(self) -> None:
        now = self._engine.now()
        # The clock may be set back: nothing is put off by more than its usual time.
        if not self._beat_at - HEARTBEAT < now < self._beat_at:
            await self._beat(now)
            await self._hold()
            self._beat_at = now + HEARTBEAT
        if not self._check_at - CHECK_EVERY < now < self._check_at:
            await self._check(now)
            self._check_at = now + CHECK_EVERY

    async def _beat(self, now: int) -> None:
        alive = pb.Controller(id=self.id, endpoint=self.endpoint)
        alive.heartbeat.FromNanoseconds(now)
        body = alive.SerializeToString(deterministic=True)
        await self._store.commit([Put(CONTROLLER.name, self.id, body)], by=_ALIVE)

    async def _hold(self) -> None:
        """Exporters whose streams are open here, and which nobody has: they were taken for lost while
        this process was held up, or the newer stream elsewhere has ended first."""
        for name in list(self._streams):
            exporter = self._engine.lab.exporter(name)
            if exporter is not None and not exporter.controller:
                with contextlib.suppress(NotFound):
                    await self._engine.attach(name, self.id, _HELD)

    async def _check(self, now: int) -> None:
        def silent(exporter: pb.Exporter) -> bool:
            return exporter.online and now - self.last_seen(exporter) > LOST_AFTER

        for name in [exporter.name for exporter in self._engine.lab.exporters if silent(exporter)]:
            message = f"Connection lost: not heard of for more than {LOST_AFTER // _SECOND} s"
            await self._engine.lose(name, message, silent, _LOST)
        old = [
            Delete(CONTROLLER.name, id)
            for id, found in self._engine.lab.controllers.items()
            if id != self.id and now - found.heartbeat.ToNanoseconds() > _GONE_AFTER
        ]
        if old:
            with contextlib.suppress(Conflict):
                await self._store.commit(old, by=_GONE)
