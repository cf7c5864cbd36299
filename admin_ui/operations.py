"""Writes to many objects at once: what was asked, how far it is, and a result for each object.

Kept in this process's memory, for the person who asked: a console that restarts forgets them, the
audit trail does not.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import grpc

from admin_ui.live import Signal
from shared.rpc.client import CallFailed, Failure

KEPT: Final = 200
# Objects that one operation may hold; it says so when there are more.
MAX_ITEMS: Final = 50_000
# Writes in flight at once, of one operation.
WIDTH: Final = 8

log = logging.getLogger(__name__)

ItemState = Literal["waiting", "done", "failed"]


@dataclass(slots=True)
class Item:
    """One object of an operation. `revision`: the one that the person was shown; 0 for any."""

    id: str
    label: str
    revision: int = 0
    state: ItemState = "waiting"
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    """What an operation does: "archive", "Archive", "Archived"; `inverse` undoes it, if anything does.
    `harmless`: nobody need be asked, although nothing undoes it."""

    name: str
    label: str
    done: str
    doing: str
    icon: str
    inverse: str = ""
    harmless: bool = False


ARCHIVE: Final = Verb("archive", "Archive", "Archived", "Archiving", "archive", inverse="unarchive")
UNARCHIVE: Final = Verb("unarchive", "Restore", "Restored", "Restoring", "restore", inverse="archive")
DELETE: Final = Verb("delete", "Delete", "Deleted", "Deleting", "trash")
START: Final = Verb("start", "Start", "Started", "Starting", "play", inverse="stop")
STOP: Final = Verb("stop", "Stop", "Stopped", "Stopping", "stop")
RESTART: Final = Verb("restart", "Restart", "Restarted", "Restarting", "restore")
VERBS: Final = {verb.name: verb for verb in (ARCHIVE, UNARCHIVE, DELETE, START, STOP, RESTART)}


@dataclass(eq=False)
class Operation(Signal):
    """The version grows with every result."""

    id: str
    verb: Verb
    noun: str
    subject: str
    back: str
    items: list[Item] = field(default_factory=list)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    # Why the objects could not all be listed.
    failure: Failure | None = None
    # There were more than MAX_ITEMS; the others were left alone.
    cut: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def count(self, state: ItemState) -> int:
        return sum(item.state == state for item in self.items)

    @property
    def running(self) -> bool:
        return self.ended is None

    @property
    def clean(self) -> bool:
        """It ended, and everything was done."""
        if self.running or self.failure is not None or self.cut:
            return False
        return self.count("done") == len(self.items)


class Operations:
    """Those that run and the last ones that ended."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Operation] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, id: str, subject: str) -> Operation | None:
        """Only for the person who began it."""
        found = self._known.get(id)
        return found if found is not None and found.subject == subject else None

    def start(
        self,
        verb: Verb,
        noun: str,
        *,
        subject: str,
        back: str,
        source: AsyncIterator[Item],
        act: Callable[[Item], Awaitable[object]],
    ) -> Operation:
        """Runs `act` on each item of `source`, all of which are listed first: what is acted on is
        what was there at the start. `act` raises CallFailed for an item that fails."""
        operation = Operation(secrets.token_urlsafe(9), verb, noun, subject, back)
        self._known[operation.id] = operation
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        task = asyncio.create_task(_run(operation, source, act), name=f"operation-{operation.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def finished(operation: Operation, timeout: float) -> bool:
    """Waits at most `timeout` seconds for the end."""
    try:
        async with asyncio.timeout(timeout):
            while operation.running:
                await operation.wait(operation.version)
    except TimeoutError:
        return False
    return True


async def _run(
    operation: Operation, source: AsyncIterator[Item], act: Callable[[Item], Awaitable[object]]
) -> None:
    try:
        async for item in source:
            if len(operation.items) == MAX_ITEMS:
                operation.cut = True
                break
            operation.items.append(item)
        waiting = operation.items
        while waiting:
            done = operation.count("done")
            await _pass(operation, waiting, act)
            if operation.count("done") == done:
                break
            # What others of them needed may go once those are gone.
            waiting = [item for item in waiting if _stuck(item)]
    except CallFailed as error:
        operation.failure = error.failure
    finally:
        operation.ended = datetime.now(UTC)
        operation.bump()


async def _pass(operation: Operation, items: list[Item], act: Callable[[Item], Awaitable[object]]) -> None:
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            try:
                await act(item)
                item.state, item.failure = "done", None
            except CallFailed as error:
                item.state, item.failure = "failed", error.failure
            operation.bump()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WIDTH, len(items))):
            group.create_task(worker())


def _stuck(item: Item) -> bool:
    return item.failure is not None and item.failure.code is grpc.StatusCode.FAILED_PRECONDITION
