"""Removes what is left of a job that is deleted, and what is too old of one that is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from services.jobs import kinds
from services.jobs.engine import history
from services.jobs.engine.board import Board
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Condition, Delete, Query, Record, Store

_AT_ONCE: Final = 1000
# Below a job. Its configurations go last, with the job itself: as long as there is one it can be read.
_BELOW: Final = (
    kinds.STEP.name,
    kinds.RUN,
    kinds.REMOVED.name,
    kinds.WORKFLOW,
)


class Past:
    """`write` commits. Whatever happens in between, the same call again goes on."""

    def __init__(self, store: Store, write: Callable[[Sequence[Delete]], Awaitable[object]]) -> None:
        self._store = store
        self._write = write

    async def remove(self, board: Board) -> None:
        """All of it; the job, at the revision that the board has, last."""
        for kind in _BELOW:
            while True:
                query = Query(kind, parent=board.id, limit=_AT_ONCE)
                async with aclosing(self._store.scan(query)) as records:
                    found = [Delete(kind, row.name) async for row in records]
                if not found:
                    break
                await self._write(found)
        job = Delete(kinds.JOB, board.id, board.job.revision)
        rest = [Delete(kinds.CONFIGURATION, r.name) async for r in self._below(kinds.CONFIGURATION, board.id)]
        # By their numbers: the present one is among the last.
        while len(rest) >= _AT_ONCE:
            await self._write(rest[: _AT_ONCE - 1])
            del rest[: _AT_ONCE - 1]
        await self._write([*rest, job])

    async def tidy(self, board: Board) -> None:
        """Forget workflows that are too old, with their steps, and configurations that nothing needs."""
        workflows = [pb.Workflow.FromString(row.body) async for row in self._below(kinds.WORKFLOW, board.id)]
        old = history.outdated(workflows, board.job.message.workflow)
        gone = {workflow.name for workflow in old}
        needed = history.needed(board, (found for found in workflows if found.name not in gone))
        changes: list[Delete] = []
        for name in gone:
            query = Query(kinds.STEP.name, where=(Condition("workflow", "=", name),))
            async with aclosing(self._store.scan(query)) as steps:
                changes += [Delete(kinds.STEP.name, row.name) async for row in steps]
        async for row in self._below(kinds.CONFIGURATION, board.id):
            version = pb.Configuration.FromString(row.body).version
            if version not in needed:
                changes.append(Delete(kinds.CONFIGURATION, row.name))
                board.specs.pop(version, None)
        # The workflows last: what is left of one without its steps is found again.
        changes += [Delete(kinds.WORKFLOW, name) for name in sorted(gone)]
        for begin in range(0, len(changes), _AT_ONCE):
            await self._write(changes[begin : begin + _AT_ONCE])

    async def _below(self, kind: str, job: str) -> AsyncGenerator[Record, None]:
        async with aclosing(self._store.scan(Query(kind, parent=job))) as records:
            async for record in records:
                yield record
