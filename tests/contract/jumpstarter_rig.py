"""Controllers of one lab that share a store, as processes would: each hears of its own writes only,
gives way to the others at every call, and can be made to die at any of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from services.jumpstarter import kinds
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.presence import Presence
from shared.resource.collection import Collection
from shared.resource.definition import CLAIM
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Check, Commit, Delete, Kind, Put, Query, Record, Store
from shared.watch.tailer import Tailer
from tests.contract.jumpstarter_model import SECOND
from tests.patience import PATIENCE

BY = Author("test", "test:lab:write")
START = 1_800_000_000 * SECOND
NEVER = 1 << 62


class Crash(BaseException):
    """The process has died."""


class Clock:
    """Nanoseconds since 1970 that move when a test says so."""

    def __init__(self) -> None:
        self.now = START
        # What passes at each look.
        self.step = 0

    def __call__(self) -> int:
        self.now += self.step
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def stored(clock: Callable[[], int]) -> list[Kind]:
    """What a store of the lab keeps."""
    definitions = kinds.definitions(clock, lambda: "")
    internal = (CLAIM, kinds.CONTROLLER, kinds.LISTENER, kinds.DIAL)
    return [*(definition.storage() for definition in definitions), *internal]


async def memory(clock: Callable[[], int]) -> Store:
    store = MemoryStore(stored(clock), clock=clock)
    await store.open()
    return store


class Line:
    """A store as one process reaches it. `fuse`: how many more calls it survives; a commit that it
    dies in may have been made."""

    def __init__(self, store: Store, draw: random.Random) -> None:
        self.store = store
        self.kinds = store.kinds
        self.fuse = NEVER
        self.calls = 0
        # Happen once, before the next commit, and before the next record is got.
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.looking: Callable[[], Awaitable[object]] | None = None
        self._draw = draw
        self._listeners: list[Callable[[int], None]] = []

    @property
    def dead(self) -> bool:
        return self.fuse <= 0

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def _pass(self) -> None:
        """Others may get on, and this process may end."""
        self.calls += 1
        for _ in range(self._draw.randrange(3)):
            await asyncio.sleep(0)
        self.fuse -= 1
        if self.dead:
            raise Crash

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        await self._pass()
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            await act()
        made = await self.store.commit(changes, checks=checks, by=by)
        await self._pass()
        for callback in tuple(self._listeners):
            callback(made.revision)
        return made

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None:
        await self._pass()
        act, self.looking = self.looking, None
        if act is not None:
            await act()
        return await self.store.get(kind, name, at=at)

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        await self._pass()
        async for record in self.store.scan(query, at=at):
            yield record

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        await self._pass()
        return await self.store.changes(after, limit)

    async def head(self) -> int:
        await self._pass()
        return await self.store.head()


class Process:
    """One controller, with what the admin API of its process would write through."""

    def __init__(
        self, store: Store, clock: Clock, draw: random.Random, id: str, *, retention: int = NEVER
    ) -> None:
        self.id = id
        self.line = Line(store, draw)
        self.clock = clock
        # What a test does not ask for happens when it does: no peer is heard of by the way.
        self.tailer = Tailer(cast(Store, self.line), poll=3600)
        self.engine = Engine(cast(Store, self.line), self.tailer, clock, retention=retention)
        self.presence = Presence(self.engine, cast(Store, self.line), id, f"{id}:8722")
        ids = iter(f"{id}-{number}" for number in range(1 << 30))
        self.collections: dict[str, Collection[Any]] = {
            definition.kind: Collection(cast(Store, self.line), definition)
            for definition in kinds.definitions(clock, lambda: next(ids))
        }
        self.lab = self.engine.lab
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def start(self, *, present: bool = False) -> None:
        """With `present` it tells which exporters are there. Raises Crash when the fuse is too short."""
        others = asyncio.all_tasks()
        try:
            await self._stack.enter_async_context(self.tailer)
            await self._stack.enter_async_context(self.engine)
            if present:
                await self._stack.enter_async_context(self.presence)
        finally:
            self._tasks = asyncio.all_tasks() - others

    async def idle(self) -> None:
        """Until it has nothing to do by itself."""
        before, quiet = -1, 0
        while quiet < 20:
            quiet = quiet + 1 if self.line.calls == before else 0
            before = self.line.calls
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """As by SIGTERM; nothing once it was killed."""
        if not self.line.dead:
            await self._stack.aclose()

    async def kill(self) -> None:
        """As by SIGKILL: nothing more is written or said."""
        self.line.fuse = 0
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def started(
    count: int = 1, *, present: bool = False, retention: int = NEVER
) -> AsyncIterator[tuple[Store, Clock, list[Process]]]:
    """That many controllers over an empty store in memory."""
    clock = Clock()
    store = await memory(clock)
    draw = random.Random(0)
    processes = [Process(store, clock, draw, f"c{number}", retention=retention) for number in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for process in processes:
            await process.start(present=present)
            stack.push_async_callback(process.stop)
        yield store, clock, processes
    await store.close()


async def settle(processes: Sequence[Process], store: Store) -> None:
    """Every controller knows everything and has done what follows from it by now."""
    async with asyncio.timeout(PATIENCE):
        while True:
            head = await store.head()
            for process in processes:
                await process.engine.settle()
            if await store.head() == head:
                return
