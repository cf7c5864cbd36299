"""Reads all of a job from the store."""

from __future__ import annotations

from contextlib import aclosing

from services.jobs import kinds, names
from services.jobs.engine import workflow
from services.jobs.engine.board import Board, Kept
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Condition, Query, Store


class Boards:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, id: str) -> Board | None:
        """All of a job but its specs, as of one revision. None: there is no such job."""
        at = await self._store.head()
        record = await self._store.get(kinds.JOB, id, at=at)
        if record is None:
            return None
        job = Kept(pb.Job.FromString(record.body), record.revision)
        board = Board(job)
        if job.message.workflow:
            found = await self._store.get(kinds.WORKFLOW, job.message.workflow, at=at)
            if found is not None:
                board.workflow = Kept(pb.Workflow.FromString(found.body), found.revision)
                steps = Query(kinds.STEP.name, where=(Condition("workflow", "=", found.name),))
                async with aclosing(self._store.scan(steps, at=at)) as records:
                    async for row in records:
                        step = pb.Step.FromString(row.body)
                        board.steps[step.instance] = Kept(step, row.revision)
        for kind, place in ((kinds.POD, board.pods), (kinds.REMOVED.name, board.removed)):
            async with aclosing(self._store.scan(Query(kind, parent=id), at=at)) as records:
                async for row in records:
                    pod = pb.Pod.FromString(row.body)
                    place[pod.instance] = Kept(pod, row.revision)
        board.recount()
        return board

    async def load_specs(self, board: Board, also: set[int] | None = None) -> None:
        """The specs that a pass may need, and no others: of what pods run and are to run, and of the
        workflow."""
        wanted = {c for counted in board.counts for c in counted[:2]} | (also or set())
        wanted.add(board.job.message.configuration)
        if board.workflow is not None and not workflow.over(board.workflow.message):
            current = board.workflow.message
            wanted |= {current.configuration, current.prev_configuration}
        missing = {
            names.configuration(board.id, version): version
            for version in wanted - board.specs.keys()
            if version
        }
        if missing:
            found = await self._store.get_many(kinds.CONFIGURATION, list(missing))
            for name, record in found.items():
                board.specs[missing[name]] = pb.Configuration.FromString(record.body).spec
        board.specs.keep(wanted)
