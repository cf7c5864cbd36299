"""Which process writes jobs: one at a time, whatever happens to it.

Among the processes of one data folder a file lock decides, which the death of its holder frees at once.
Among folders a record does: who waits asks now and then, the holder answers, and one that does not answer
for a while is followed. Nobody writes anything where nobody waits. Every commit of the writer checks that
record, so one that was thought dead and comes back writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import IO, Final, Generic, TypeVar

from services.jobs import kinds
from services.jobs.runtime.port import RuntimeUnavailable
from shared.errors import ApiError, Unavailable
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.service.service import Clock
from shared.storage.errors import Conflict, StoreError
from shared.storage.port import Author, Check, Delete, Expect, Put, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

FILE: Final = "jobs.lock"
# Names of records: who writes, that somebody asks whether they still do, and that they do.
TERM: Final = "term"
QUESTION: Final = "question"
ANSWER: Final = "answer"
# Looks at those in the time after which silence counts.
_LOOKS: Final = 4
_BY: Final = Author("controller", "controller:leader:answer")


class FolderLock:
    """One holder a data folder. `id` is the folder's own, made when it is first used."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._file: IO[str] | None = None
        self.id = ""

    def take(self) -> bool:
        """False: another process, or another part of this one, has it."""
        if self._file is not None:
            return True
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        file.seek(0)
        self.id = file.read().strip()
        if not self.id:
            self.id = str(uuid.uuid4())
            file.write(self.id)
            file.flush()
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Leader(Generic[T]):
    """Has what `lead` opens while this process is the one that writes. `lead` is given what each
    commit must check. `lapse`: seconds of silence after which another one takes over."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        clock: Clock,
        lead: Callable[[Check], AbstractAsyncContextManager[T]],
        *,
        lapse: float,
    ) -> None:
        self._store = store
        self._lock = FolderLock(folder)
        self._clock = clock
        self._lead = lead
        self._lapse = lapse
        self._stack = AsyncExitStack()
        self._led: T | None = None
        self._fence: Check | None = None
        # The question that was answered last.
        self._answered = 0
        # The question that was asked last, of which term, and when by this process's own clock.
        self._asked = (0, 0)
        self._asked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Leader[T]:
        """Leads already, unless another process does or something that it takes is missing. Raises
        InvalidArgument for settings that forbid it."""
        try:
            await self._attempt()
        except BaseException:
            await self._give_way()
            raise
        self._task = asyncio.create_task(self._run(), name="leader")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._give_way()

    async def _give_way(self) -> None:
        fence = self._fence
        await self._step_down()
        if fence is not None:
            # Whoever waits need not wait for silence.
            with contextlib.suppress(StoreError):
                await self._store.commit([Delete(kinds.LEADER.name, TERM, fence.revision)], by=_BY)
        self._lock.release()

    @property
    def leads(self) -> bool:
        return self._led is not None

    def writer(self) -> T:
        """What `lead` opened. Raises Unavailable in a process that does not write."""
        if self._led is None:
            raise Unavailable("this process does not write jobs now: another one does, or it is starting")
        return self._led

    async def _run(self) -> None:
        pause = self._lapse / _LOOKS
        while True:
            await asyncio.sleep(pause)
            if self._led is not None:
                await self._answer()
                continue
            try:
                await self._attempt()
            except ApiError as error:
                log.error("cannot write jobs", extra={"error": error.message})
                await self._step_down()

    async def _attempt(self) -> None:
        try:
            if self._lock.take():
                self._fence = await self._begin_term()
            if self._fence is None:
                return
            self._led = await self._stack.enter_async_context(self._lead(self._fence))
            log.info("this process writes jobs")
        except (StoreError, Unavailable, RuntimeUnavailable) as error:
            log.warning("cannot write jobs yet; trying again", extra={"error": str(error)})
            await self._step_down()

    async def _begin_term(self) -> Check | None:
        """None: another folder's process writes, or was first."""
        found = await self._store.get(kinds.LEADER.name, TERM)
        if found is not None:
            holder = pb.Leader.FromString(found.body)
            # One of this very folder is dead: its lock was free.
            if holder.id != self._lock.id and not await self._silent(found.revision):
                return None
        body = pb.Leader(id=self._lock.id, heartbeat=self._clock()).SerializeToString()
        expect: Expect | int = Expect.ABSENT if found is None else found.revision
        try:
            commit = await self._store.commit([Put(kinds.LEADER.name, TERM, body, expect=expect)], by=_BY)
        except Conflict:
            return None
        return Check(kinds.LEADER.name, TERM, commit.revision)

    async def _silent(self, term: int) -> bool:
        """Whether the holder of that term was asked and has not answered for too long."""
        answer = await self._store.get(kinds.LEADER.name, ANSWER)
        of, question = self._asked
        answered = answer is not None and answer.revision > question
        waited = time.monotonic() - self._asked_at > self._lapse
        if of != term or (answered and waited):
            self._asked = (term, await self._write(QUESTION))
            self._asked_at = time.monotonic()
            return False
        return waited and not answered

    async def _answer(self) -> None:
        """Go on writing, unless somebody else does by now; and say so to whoever asks."""
        assert self._fence is not None
        try:
            term = await self._store.get(kinds.LEADER.name, TERM)
            question = await self._store.get(kinds.LEADER.name, QUESTION)
            if term is None or term.revision != self._fence.revision:
                log.warning("another process writes jobs now")
                await self._step_down()
            elif question is not None and question.revision > self._answered:
                await self._write(ANSWER, self._fence)
                self._answered = question.revision
        except StoreError as error:
            # Nobody else can write either, or they take over: the next look finds out.
            log.warning("cannot tell that this process writes jobs", extra={"error": str(error)})

    async def _write(self, record: str, *checks: Check) -> int:
        """Answers the revision."""
        body = pb.Leader(id=self._lock.id, heartbeat=self._clock()).SerializeToString()
        commit = await self._store.commit([Put(kinds.LEADER.name, record, body)], checks=checks, by=_BY)
        return commit.revision

    async def _step_down(self) -> None:
        self._led, self._fence = None, None
        await self._stack.aclose()
