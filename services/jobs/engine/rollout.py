"""One step of a workflow over the pods of its job (jobs contract, section 6).

Everything is found again from the stored records: which instances a workflow is about stands in its
ranges, which of them had their turn in its steps. `Rollout` only remembers that between two steps, so
that a step costs what it changes and not what the job has.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from services.jobs import machines, ranges, spec
from services.jobs.engine import pod, workflow
from services.jobs.engine.board import Draft
from services.jobs.machines import Step
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

_REASON: Final = pod_pb2.TerminationStatus
# Updates first of what is not available anyway.
_UNAVAILABLE, _STOPPED, _UNKNOWN, _AVAILABLE = range(4)
_HEALTHY: Final = frozenset({pod_pb2.HEALTH_STATE_DISABLED, pod_pb2.HEALTH_STATE_HEALTHY})


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the pods that there are to what a configuration wants; all ascending."""

    added: list[int]
    removed: list[int]
    updated: list[int]
    unchanged: list[int]


def difference(draft: Draft, wanted: stateless.JobSpec) -> Difference:
    """Section 4, GetReplaceJobDiff: compared with what each pod actually runs."""
    found = Difference([], [], [], [])
    existing = set(draft.instances())
    keys: dict[tuple[int, int], bytes] = {}

    def key(configuration: int, instance: int, of: stateless.JobSpec) -> bytes:
        """Instances without a spec of their own share one."""
        own = instance if instance in of.instance_spec else -1
        if (configuration, own) not in keys:
            keys[configuration, own] = spec.key(spec.effective(of, instance))
        return keys[configuration, own]

    for instance in range(wanted.instance_count):
        if instance not in existing:
            found.added.append(instance)
            continue
        current = draft.pod(instance)
        assert current is not None
        runs = draft.board.specs.get(current.configuration)
        moving = current.configuration != current.desired_configuration
        same = runs is not None and key(current.configuration, instance, runs) == key(-1, instance, wanted)
        leaving = current.status.desired_state == machines.DELETED
        (found.unchanged if same and not moving and not leaving else found.updated).append(instance)
    found.removed.extend(sorted(existing - set(range(wanted.instance_count))))
    return found


@dataclass
class Rollout:
    """What is left of the workflow called `name`, in the phase it is in."""

    name: str = ""
    backward: bool = False
    flying: set[int] = field(default_factory=set)
    done: int = 0
    failed: int = 0
    total: int = 0
    # Not yet begun: additions and removals ascending, updates by availability.
    _added: deque[int] = field(default_factory=deque)
    _updated: list[tuple[int, int]] = field(default_factory=list)
    _removed: deque[int] = field(default_factory=deque)
    # Where in the line an update that waits stands; other entries of it no longer count.
    _ranks: dict[int, int] = field(default_factory=dict)
    # Pods that only change their version.
    _unchanged: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self._added) + len(self._ranks) + len(self._removed)

    @property
    def moved(self) -> bool:
        """Every pod that need not be touched carries the new version."""
        return not self._unchanged

    def advance(self, draft: Draft, touched: Iterable[int], budget: int) -> set[int]:
        """Take the workflow, which is rolling or paused in between, as far as it goes now, with about
        `budget` pods at most. `touched` are the pods that changed since the last time. Answers those
        that were changed here."""
        current = draft.workflow
        assert current is not None
        self._classify(draft, current, touched)
        if current.state == machines.PAUSED:
            return set()
        limit = current.update_spec.max_tolerable_instance_failures
        if limit and self.failed >= limit:
            give_up(draft)
            return set()
        changed = self._move(draft, budget)
        changed |= self._take(draft, budget)
        if not self.left and not self.flying and not self._unchanged:
            workflow.take(draft.edit_workflow(), Step.COMPLETE, draft.now)
        return changed

    # -- knowing where it stands

    @classmethod
    def of(cls, draft: Draft) -> Self:
        """Of the draft's workflow, which has started."""
        current = draft.workflow
        assert current is not None
        new = cls(current.name, backward=bool(current.rolled_back_at))
        taken: set[int] = set()
        for step in draft.steps():
            if step.workflow != current.name or step.backward != new.backward:
                continue
            taken.add(step.instance)
            new.done += step.result == pb.Step.DONE
            new.failed += step.result == pb.Step.FAILED
            if step.result == pb.Step.RESULT_UNSPECIFIED:
                new.flying.add(step.instance)
        added, updated, removed = (
            list(ranges.instances(found)) for found in (current.added, current.updated, current.removed)
        )
        new.total = len(added) + len(updated) + len(removed)
        new._added.extend(i for i in added if i not in taken)
        new._removed.extend(i for i in removed if i not in taken)
        new._ranks = {i: _availability(draft, i) for i in updated if i not in taken}
        new._updated = [(rank, i) for i, rank in new._ranks.items()]
        heapq.heapify(new._updated)
        about = {*added, *updated, *removed}
        for instance in draft.instances():
            found = draft.pod(instance)
            assert found is not None
            if instance not in about and found.desired_configuration != current.configuration:
                new._unchanged.append(instance)
        return new

    def is_of(self, current: pb.Workflow) -> bool:
        """Whether it is still about that workflow, in that phase."""
        return (self.name, self.backward) == (current.name, bool(current.rolled_back_at))

    # -- what is in flight

    def _classify(self, draft: Draft, current: pb.Workflow, touched: Iterable[int]) -> None:
        retries = current.update_spec.max_instance_retries
        for instance in touched:
            if instance in self.flying:
                self._land(draft, current, instance, retries)
            elif instance in self._ranks:
                self._line_up(draft, instance)

    def _line_up(self, draft: Draft, instance: int) -> bool:
        """Of an update that waits; False: it has its place already."""
        rank = _availability(draft, instance)
        if rank == self._ranks[instance]:
            return False
        self._ranks[instance] = rank
        heapq.heappush(self._updated, (rank, instance))
        return True

    def _land(self, draft: Draft, current: pb.Workflow, instance: int, retries: int) -> None:
        found = draft.pod(instance)
        done = found is None or _done(found, current.configuration)
        failed = not done and found is not None and bool(retries) and found.status.failure_count >= retries
        if not done and not failed:
            return
        workflow.finish(draft.edit_step(instance), current, draft.now, failed=failed)
        self.flying.discard(instance)
        self.done += done
        self.failed += failed

    # -- what comes next

    def _move(self, draft: Draft, budget: int) -> set[int]:
        """Let pods that need not be touched carry the new version."""
        current = draft.workflow
        assert current is not None
        changed: set[int] = set()
        while self._unchanged and len(changed) < budget:
            instance = self._unchanged.pop()
            if draft.pod(instance) is None:
                continue
            found = draft.edit_pod(instance)
            rerun = pod.stale(found) and found.configuration == found.desired_configuration
            starts = current.update_spec.start_pods
            desired = machines.RUNNING if starts else None
            found.configuration = current.configuration
            if not rerun:
                found.desired_run = found.run
            pod.want(found, draft.now, configuration=current.configuration, desired=desired)
            changed.add(instance)
        return changed

    def _take(self, draft: Draft, budget: int) -> set[int]:
        """As many as the batch has room for."""
        current = draft.workflow
        assert current is not None
        size = _batch(current)
        room = min(budget, size - len(self.flying) if size else budget)
        changed: set[int] = set()
        while len(changed) < room and (instance := self._next(draft)) is not None:
            self._begin(draft, current, instance)
            changed.add(instance)
        return changed

    def _next(self, draft: Draft) -> int | None:
        if self._added:
            return self._added.popleft()
        while self._updated:
            rank, instance = heapq.heappop(self._updated)
            if self._ranks.get(instance) == rank and not self._line_up(draft, instance):
                del self._ranks[instance]
                return instance
        return self._removed.popleft() if self._removed else None

    def _begin(self, draft: Draft, current: pb.Workflow, instance: int) -> None:
        before = draft.step(instance)
        step = pb.Step(workflow=current.name, instance=instance, backward=self.backward)
        if before is not None:
            # Of the way forward: that is told as well.
            step.events.extend(before.events)
        workflow.event(step.events, current, current.state, draft.now)
        draft.put_step(step)
        self.flying.add(instance)
        now, job = draft.now, draft.job
        found = draft.pod(instance)
        leaves = instance >= draft.spec(current.configuration).instance_count
        if found is None and leaves:
            # An earlier workflow had begun to remove it.
            return
        if found is None:
            stopped = job.desired_state in machines.TERMINAL
            desired = machines.KILLED if stopped else machines.RUNNING
            fresh = pod.new(
                job.id,
                instance,
                current.configuration,
                after_run=draft.last_run(instance),
                desired=desired,
                now=now,
                container=draft.effective(current.configuration, instance).containers[0],
            )
            fresh.desired_state_version = job.desired_state_version
            draft.add_pod(fresh)
            return
        found = draft.edit_pod(instance)
        if leaves:
            pod.want(found, now, desired=machines.DELETED)
            found.killing_for = _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE
            return
        restart = current.type == stateless.WORKFLOW_TYPE_RESTART
        leaving = found.status.desired_state == machines.DELETED
        desired_state = None
        if (restart or current.update_spec.start_pods) and job.desired_state == machines.J_RUNNING:
            desired_state = machines.RUNNING
        elif leaving:
            desired_state = machines.KILLED if job.desired_state in machines.TERMINAL else machines.RUNNING
        again = restart or leaving
        pod.want(found, now, configuration=current.configuration, desired=desired_state, rerun=again)
        if not restart:
            found.status.failure_count = 0
            found.status.reason = ""
        if found.status.state in machines.LIVE:
            found.killing_for = (
                _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
                if restart
                else _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE
            )


def give_up(draft: Draft) -> None:
    """Too many have failed: back to what there was before, or no further."""
    current = draft.edit_workflow()
    back = current.update_spec.rollback_on_failure and not current.creation and not current.rolled_back_at
    if back:
        turn_back(draft)
    else:
        workflow.take(current, Step.FAIL, draft.now)


def turn_back(draft: Draft) -> None:
    """The previous configuration comes back as a new one."""
    job, current = draft.edit_job(), draft.edit_workflow()
    job.highest_configuration += 1
    wanted = stateless.JobSpec()
    wanted.CopyFrom(draft.spec(current.prev_configuration))
    wanted.revision.version = job.highest_configuration
    wanted.revision.created_at = wanted.revision.updated_at = draft.now
    draft.add_configuration(
        pb.Configuration(
            job=job.id,
            version=job.highest_configuration,
            created_at=draft.now,
            created_by=job.updated_by,
            spec=wanted,
        )
    )
    current.failed_configuration = current.configuration
    current.configuration = job.configuration = job.highest_configuration
    adopt(job, wanted)
    workflow.take(current, Step.TURN_BACK, draft.now)
    current.rolled_back_at = draft.now
    _set(current, difference(draft, wanted))


def adopt(job: pb.Job, wanted: stateless.JobSpec) -> None:
    """What queries look for in the job's record, of the spec that it has now."""
    job.name, job.owner, job.owning_team = wanted.name, wanted.owner, wanted.owning_team
    job.description, job.instance_count = wanted.description, wanted.instance_count
    job.respool_id = wanted.respool_id.value
    del job.labels[:]
    job.labels.extend(wanted.labels)
    job.sla.CopyFrom(wanted.sla)


def start(draft: Draft) -> None:
    """What the workflow is about is decided now, not when it was asked for."""
    current = draft.edit_workflow()
    wanted = draft.spec(current.configuration)
    found = difference(draft, wanted)
    if current.type == stateless.WORKFLOW_TYPE_RESTART:
        chosen = set(ranges.within(current.restart_spec.ranges, wanted.instance_count))
        existing = {*found.updated, *found.unchanged}
        found = Difference([], [], sorted(chosen & existing), sorted(existing - chosen))
    workflow.take(current, Step.START, draft.now)
    _set(current, found)


def _set(current: pb.Workflow, found: Difference) -> None:
    for name, instances in (("added", found.added), ("removed", found.removed), ("updated", found.updated)):
        current.ClearField(name)
        getattr(current, name).extend(ranges.compressed(instances))


def _batch(current: pb.Workflow) -> int:
    """0: everything at once."""
    restart = current.type == stateless.WORKFLOW_TYPE_RESTART
    return current.restart_spec.batch_size if restart else current.update_spec.batch_size


def _done(found: pb.Pod, configuration: int) -> bool:
    status = found.status
    if pod.stale(found) or found.desired_configuration != configuration:
        return False
    if status.desired_state == machines.DELETED:
        return False
    if status.state == machines.RUNNING and status.desired_state == machines.RUNNING:
        return status.containers_status[0].healthy.state in _HEALTHY
    return status.desired_state == machines.KILLED and status.state in machines.ENDED


def unavailable(draft: Draft, instance: int) -> bool:
    """Whether it should run and does not, or is being replaced by one that will."""
    return _availability(draft, instance) in (_UNAVAILABLE, _UNKNOWN)


def _availability(draft: Draft, instance: int) -> int:
    found = draft.pod(instance)
    return _UNKNOWN if found is None else _rank(found)


def _rank(found: pb.Pod) -> int:
    status = found.status
    if status.desired_state == machines.KILLED:
        return _STOPPED
    running = status.state == machines.RUNNING and not pod.stale(found)
    return _AVAILABLE if running and status.containers_status[0].healthy.state in _HEALTHY else _UNAVAILABLE
