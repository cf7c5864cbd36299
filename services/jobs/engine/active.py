"""A job that this process has in its hands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice

from services.jobs import machines, names
from services.jobs.engine import reconcile
from services.jobs.engine.admission import Admission
from services.jobs.engine.board import Board, Draft, Forget, Request, Start, Stop
from services.jobs.engine.boards import Boards
from services.jobs.engine.reconcile import Progress
from services.jobs.runtime.port import Observation, Phase


@dataclass
class Active:
    """`board` follows the store, unless `stale` says that this is not known."""

    board: Board
    progress: Progress = field(default_factory=Progress)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # What the runtime said and no pass has heard yet: the newest of each run, and runs that it does not
    # know although it must.
    seen: dict[str, Observation] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    # To be asked of the runtime. What is not answered is asked again.
    requests: list[Request] = field(default_factory=list)
    # Runs that the runtime still has and no record asks for.
    strays: set[str] = field(default_factory=set)
    # A draft was committed, perhaps: these are the instances and the requests that it was about.
    stale: bool = False
    drafted: set[int] = field(default_factory=set)
    doubtful: list[Request] = field(default_factory=list)
    # Its workflow has changed since its past was last looked through.
    untidy: bool = False
    gone: bool = False

    def doubt(self, draft: Draft) -> None:
        """Whether `draft` was stored is not known."""
        self.stale = True
        self.drafted |= draft.edited
        self.doubtful += draft.requests

    async def reload(self, boards: Boards, admission: Admission) -> None:
        """Let it be what is stored. When that cannot be read, nothing changes."""
        board = await boards.read(self.board.id)
        if board is None:
            self.gone = True
        else:
            await boards.load_specs(board)
        # All at once from here on: nobody else may get the room of pods that keep it.
        for instance in self.board.pods.keys() | self.drafted:
            admission.leave(names.pod_name(self.board.id, instance))
        if board is not None:
            self.board, self.progress = board, Progress()
            self.requests += [r for r in self.doubtful if isinstance(r, Forget) and not self.keeps(r.pod_id)]
            self.take_up(admission)
        self.stale = False
        self.drafted.clear()
        self.doubtful.clear()

    def take_up(self, admission: Admission) -> None:
        """Go on with what the board says: all its pods are looked at, those that have room keep it, and
        what the runtime was asked for and may not have heard is asked again."""
        job = self.board.job.message
        for instance, kept in self.board.pods.items():
            pod = kept.message
            if pod.admitted:
                admission.hold(reconcile.request(job, pod, self.board.effective(pod.configuration, instance)))
            id = names.pod_id(pod.name, pod.run)
            if pod.status.state == machines.LAUNCHED:
                self.requests.append(Start(id, instance))
            elif pod.status.state == machines.KILLING:
                self.requests.append(Stop(id, None, instance))
        self.progress.touched.update(self.board.pods)

    def some_seen(self, most: int) -> dict[str, Observation]:
        """Take so many of what was seen, for a pass to hear."""
        found = dict(islice(self.seen.items(), most))
        for pod_id in found:
            del self.seen[pod_id]
        return found

    def keeps(self, pod_id: str) -> bool:
        """Whether that run, which has ended, is one of those whose files stay."""
        _, instance, run = names.parse_run(pod_id)
        kept = self.board.pods.get(instance)
        return kept is not None and kept.message.run - reconcile.KEPT_RUNS < run <= kept.message.run

    def clear(self, seen: Observation) -> None:
        """After a pass has heard `seen`: a run that no record asks for, or no longer, is ended and then
        forgotten."""
        _, instance, run = names.parse_run(seen.pod_id)
        if seen.phase is Phase.ENDED:
            self.strays.discard(seen.pod_id)
            if not self.keeps(seen.pod_id):
                self.requests.append(Forget(seen.pod_id))
            return
        kept = self.board.pods.get(instance)
        wanted = kept is not None and kept.message.run == run and kept.message.status.state in machines.LIVE
        if not wanted:
            self.strays.add(seen.pod_id)
            self.requests.append(Stop(seen.pod_id, 0.0, instance))
