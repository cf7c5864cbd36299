"""One job without a store or a runtime: its records in a dict, and passes over its board.

What pods do follows from their command: `run` runs, `broken` cannot be launched, `exit` runs and ends with
status 1, `sick` runs and fails its health check, `well` passes it, `silent` is not heard of again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from services.jobs import kinds, machines, names
from services.jobs.api import lifecycle
from services.jobs.engine import job as jobs
from services.jobs.engine.admission import UNLIMITED, Admission, Amount, Pool
from services.jobs.engine.admission import Request as Admitted
from services.jobs.engine.board import Board, Draft, Forget, Kept, Request, Start, Stop
from services.jobs.engine.pod import Pauses
from services.jobs.engine.reconcile import Outcome, Pass, Progress, amount_of
from services.jobs.names import Version
from services.jobs.runtime.port import Capacity, Ending, Health, Observation, Phase
from services.jobs.spec import effective
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Delete, Expect, Put

T = TypeVar("T")

ID: Final = "0d9c3c7a-5c0b-4b7e-9a58-9d2f3b1a7c11"
SECOND: Final = 1_000_000_000
BEGIN: Final = 1_800_000_000 * SECOND
HOST: Final = "node-1"


def spec(count: int, command: str = "run", *, checked: bool = False, **fields: Any) -> stateless.JobSpec:
    """Of `count` instances, in the pool `pool`."""
    found = stateless.JobSpec(name="job", instance_count=count, **fields)
    found.respool_id.value = "pool"
    container = found.default_spec.containers.add(name="main")
    container.entrypoint.value = command
    if checked:
        container.liveness_check.enabled = True
    return found


class Yard:
    """`forgetful`: everything is read anew before each pass, as by another process after a crash."""

    def __init__(
        self,
        *,
        forgetful: bool = False,
        pods: int = 10**6,
        limit: Amount = UNLIMITED,
        pauses: Pauses | None = None,
    ) -> None:
        self.now = BEGIN
        self.forgetful = forgetful
        self.pauses = pauses or Pauses()
        self.pools = {"pool": Pool("/pool", limit, ("pool",))}
        self.capacity = Capacity(cpu=1e6, memory_mb=1e9, pods=pods)
        self.records: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.revision = 0
        self.board: Board
        self.progress = Progress()
        self.admission = Admission(self.capacity, self.pools)
        # Everything that the runtime was asked for, and how much of it was served.
        self.asked: list[Request] = []
        self.served = 0
        self.alive: dict[str, Phase] = {}
        # Instances that are the runtime's business at once, at most.
        self.most_alive = 0
        self.most_flying = 0
        self.due: dict[int, int] = {}

    # -- what the API does

    def create(self, wanted: stateless.JobSpec, opaque: str = "", **how: Any) -> Version:
        new = lifecycle.create(
            ID, wanted, stateless.CreateSpec(**how), OpaqueData(data=opaque), "me", self.now
        )
        self.revision += 1
        for kind, name, message in (
            (kinds.JOB, ID, new.job),
            (kinds.CONFIGURATION, names.configuration(ID, 1), new.configuration),
            (kinds.WORKFLOW, new.workflow.name, new.workflow),
        ):
            self.records[kind, name] = message.SerializeToString(), self.revision
        self.reload()
        return jobs.version(self.job)

    def change(self, change: Callable[[Draft], T]) -> T:
        draft = Draft(self.board, self.now)
        answer = change(draft)
        if draft.changed:
            self._store(draft)
        self.progress.touched |= draft.edited
        return answer

    def replace(self, wanted: stateless.JobSpec, opaque: str | None = None, **how: Any) -> Version:
        given = None if opaque is None else OpaqueData(data=opaque)
        return self.change(lifecycle.replace(self.version, wanted, stateless.UpdateSpec(**how), given, "me"))

    def restart(self, *ranges: tuple[int, int], **how: Any) -> Version:
        wanted = stateless.RestartSpec(**how)
        for begin, end in ranges:
            wanted.ranges.append(pod_pb2.InstanceIDRange(**{"from": begin, "to": end}))
        return self.change(lifecycle.restart(self.version, wanted, None, "me"))

    def start(self) -> Version:
        return self.change(lifecycle.start(self.version))

    def stop(self) -> Version:
        return self.change(lifecycle.stop(self.version))

    def delete(self, *, force: bool = True) -> Version:
        return self.change(lifecycle.delete(self.version, force=force))

    def pause(self) -> Version:
        return self.change(lifecycle.pause(self.version, None))

    def resume(self) -> Version:
        return self.change(lifecycle.resume(self.version, None))

    def abort(self) -> Version:
        return self.change(lifecycle.abort(self.version, None))

    # -- what the controller does

    def look(self, *seen: Observation, lost: Iterable[str] = ()) -> Outcome:
        """Passes until nothing more is to be done at once."""
        for _ in range(1000):
            if self.forgetful:
                self.reload()
            draft = Draft(self.board, self.now)
            this = Pass(draft, self.progress, self.admission, self.pauses)
            this.run({one.pod_id: one for one in seen}, lost)
            outcome = this.outcome
            seen, lost = (), ()
            changed = draft.changed
            if changed:
                self._store(draft)
            self.asked += draft.requests
            self.due |= outcome.due
            self._check()
            if not outcome.more or (self.forgetful and not changed):
                return outcome
        raise AssertionError("it never comes to rest")

    def settle(self) -> None:
        """Let the runtime do what it is asked for until nothing more happens; time stands still."""
        self.look()
        for _ in range(1000):
            requests = self.asked[self.served :]
            self.served = len(self.asked)
            seen = [one for request in requests for one in self._serve(request)]
            if not seen:
                return
            for phase in (Phase.RUNNING, Phase.ENDED):
                now = [one for one in seen if one.phase is phase]
                if now:
                    self.look(*now)
        raise AssertionError("it never comes to rest")

    def pass_time(self, seconds: float) -> None:
        """Every pod is looked at when its time has come."""
        end = self.now + int(seconds * SECOND)
        while due := [(at, instance) for instance, at in self.due.items() if at <= end]:
            at, instance = min(due)
            del self.due[instance]
            self.now = max(self.now, at)
            self.progress.touched.add(instance)
            self.settle()
        self.now = end

    def reload(self) -> None:
        """As after a crash."""
        self.board = self._read()
        self.progress = Progress(touched=set(self.board.pods))
        self.admission = Admission(self.capacity, self.pools)
        for instance, kept in self.board.pods.items():
            found = kept.message
            if found.admitted:
                amount = amount_of(effective(self.board.specs[found.configuration], instance))
                self.admission.hold(Admitted(found.name, "pool", amount, 0, found.changed_at))

    # -- what there is

    @property
    def job(self) -> pb.Job:
        return self.board.job.message

    @property
    def workflow(self) -> pb.Workflow:
        assert self.board.workflow is not None
        return self.board.workflow.message

    @property
    def workflow_state(self) -> str:
        return short(stateless.WorkflowState.Name(self.workflow.state))

    @property
    def job_state(self) -> str:
        return short(stateless.JobState.Name(self.job.state))

    @property
    def version(self) -> str:
        return str(jobs.version(self.job))

    def pod(self, instance: int) -> pb.Pod:
        return self.board.pods[instance].message

    def state(self, instance: int) -> str:
        return short(pod_pb2.PodState.Name(self.pod(instance).status.state))

    def states(self) -> dict[str, int]:
        """How many pods are in which state."""
        found: dict[str, int] = {}
        for instance in self.board.pods:
            found[self.state(instance)] = found.get(self.state(instance), 0) + 1
        return found

    def configurations(self) -> dict[int, int]:
        """Which configuration each instance runs."""
        return {i: self.pod(i).configuration for i in sorted(self.board.pods)}

    def runs(self) -> dict[int, int]:
        return {i: self.pod(i).run for i in sorted(self.board.pods)}

    def taken(self) -> list[int]:
        """Instances in the order in which the runtime was asked to start or stop them."""
        return [r.instance for r in self.asked if isinstance(r, Start | Stop)]

    def steps(self) -> dict[int, str]:
        return {i: pb.Step.Result.Name(kept.message.result) for i, kept in sorted(self.board.steps.items())}

    # -- the runtime's part

    def _serve(self, request: Request) -> list[Observation]:
        if isinstance(request, Forget):
            assert request.pod_id not in self.alive
            return []
        if isinstance(request, Stop):
            if self.alive.pop(request.pod_id, None) is None:
                return []
            return [self.ended(request.pod_id, ending=Ending.STOPPED)]
        instance = request.instance
        run = self.pod(instance)
        command = effective(self.board.specs[run.configuration], instance).containers[0].entrypoint.value
        if command == "broken":
            return [self.ended(request.pod_id, ending=Ending.LAUNCH_FAILED, message="no such file")]
        self.alive[request.pod_id] = Phase.RUNNING
        self.most_alive = max(self.most_alive, len(self.alive))
        if command == "silent":
            return []
        health = {"sick": Health.UNKNOWN, "well": Health.HEALTHY}.get(command, Health.DISABLED)
        seen = [self.running(request.pod_id, health=health)]
        if command in ("exit", "sick"):
            del self.alive[request.pod_id]
            sick = command == "sick"
            seen.append(
                self.ended(
                    request.pod_id,
                    ending=Ending.UNHEALTHY if sick else Ending.EXITED,
                    exit_code=0 if sick else 1,
                    health=Health.UNHEALTHY if sick else Health.DISABLED,
                )
            )
        return seen

    def running(self, pod_id: str, **fields: Any) -> Observation:
        return Observation(pod_id, Phase.RUNNING, host=HOST, started_at=self.now, **fields)

    def ended(self, pod_id: str, **fields: Any) -> Observation:
        self.alive.pop(pod_id, None)
        return Observation(pod_id, Phase.ENDED, host=HOST, ended_at=self.now, **fields)

    def id(self, instance: int) -> str:
        """Of the run that there is."""
        return names.pod_id(names.pod_name(ID, instance), self.pod(instance).run)

    # -- the store's part

    def _store(self, draft: Draft) -> None:
        self.revision += 1
        for change in draft.changes():
            place = change.kind, change.name
            revision = self.records[place][1] if place in self.records else 0
            if change.expect is Expect.ABSENT:
                assert not revision, change
            elif isinstance(change.expect, int):
                assert revision == change.expect, change
            if isinstance(change, Delete):
                # Without one to delete it is no change.
                assert change.expect is Expect.ANY or revision, change
                self.records.pop(place, None)
            else:
                assert isinstance(change, Put)
                self.records[place] = change.body, self.revision
        draft.stored(self.revision)

    def _read(self) -> Board:
        def kept(kind: str, message: Any) -> Iterable[Kept[Any]]:
            for (of, _), (body, revision) in self.records.items():
                if of == kind:
                    yield Kept(message.FromString(body), revision)

        job = next(iter(kept(kinds.JOB, pb.Job)))
        board = Board(job)
        for found in kept(kinds.WORKFLOW, pb.Workflow):
            if found.message.name == job.message.workflow:
                board.workflow = found
        for found in kept(kinds.STEP.name, pb.Step):
            if found.message.workflow == job.message.workflow:
                board.steps[found.message.instance] = found
        board.pods = {found.message.instance: found for found in kept(kinds.POD, pb.Pod)}
        board.removed = {found.message.instance: found for found in kept(kinds.REMOVED.name, pb.Pod)}
        for found in kept(kinds.CONFIGURATION, pb.Configuration):
            board.specs[found.message.version] = found.message.spec
        board.recount()
        return board

    def _check(self) -> None:
        """What holds after every pass."""
        current = self.workflow
        restart = current.type == stateless.WORKFLOW_TYPE_RESTART
        batch = current.restart_spec.batch_size if restart else current.update_spec.batch_size
        flying = sum(
            kept.message.result == pb.Step.RESULT_UNSPECIFIED
            and kept.message.backward == bool(current.rolled_back_at)
            for kept in self.board.steps.values()
        )
        self.most_flying = max(self.most_flying, flying)
        assert not batch or flying <= batch
        assert sum(self.job.pod_stats.values()) == len(self.board.pods)
        by_version = [sum(one.state_stats.values()) for one in self.job.pod_stats_by_version.values()]
        assert sum(by_version) == len(self.board.pods)
        for kept in self.board.pods.values():
            assert kept.message.admitted == (kept.message.status.state in machines.LIVE)


def short(name: str) -> str:
    """Of an enum's name: what comes after its prefix."""
    return name.split("_STATE_")[-1]
