"""One pass over one job: from what is stored and what was seen to what is stored next.

Pure but for admission, whose count it keeps. A pass is bounded: what is left over is touched again in
the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.jobs import machines, names
from services.jobs.engine import job as jobs
from services.jobs.engine import pod, rollout, workflow
from services.jobs.engine.admission import Admission, Amount, Request
from services.jobs.engine.board import Draft, Forget, Start, Stop
from services.jobs.engine.pod import Pauses
from services.jobs.engine.rollout import Rollout
from services.jobs.machines import Action, Step
from services.jobs.runtime.port import GRACE, Observation
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

# Pods that one pass changes at most, and observations that it hears.
BUDGET: Final = 200
# Runs of an instance that are kept, with their files; the present one among them.
KEPT_RUNS: Final = 5
_REASON: Final = pod_pb2.TerminationStatus
_OVER: Final = machines.ENDED | {machines.KILLING}
_DESIRED: Final = {
    machines.J_RUNNING: machines.RUNNING,
    machines.J_KILLED: machines.KILLED,
    machines.J_DELETED: machines.DELETED,
}


@dataclass
class Progress:
    """What is known of a job between two passes; all of it can be found again from the store.
    `swept`: the desired state version that all pods have heard of."""

    rollout: Rollout | None = None
    swept: int = 0
    # Instances to look at.
    touched: set[int] = field(default_factory=set)


@dataclass
class Outcome:
    """`due`: when which instance is to be looked at again. `others`: pods of other jobs that may run
    now. `more`: there is something left to do at once."""

    due: dict[int, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    more: bool = False


class Pass:
    """Fills `draft` and `outcome`. `seen`: the newest observations by pod id."""

    def __init__(self, draft: Draft, progress: Progress, admission: Admission, pauses: Pauses) -> None:
        self._draft = draft
        self._progress = progress
        self._admission = admission
        self._pauses = pauses
        self.outcome = Outcome()
        # Instances whose records changed in this pass.
        self._changed: set[int] = set()

    def run(self, seen: Mapping[str, Observation], lost: Iterable[str] = ()) -> None:
        """`lost`: pod ids of runs that the runtime does not know, though it must."""
        draft, progress = self._draft, self._progress
        for pod_id in lost:
            self._lose(pod_id)
        for observation in seen.values():
            self._observe(observation)
        touched = self._some_of(progress.touched)
        self._sweep()
        self._begin_or_abort()
        self._act(touched | self._changed)
        self._roll(touched | self._changed)
        jobs.sum_up(draft, progress.rollout)
        self.outcome.more |= bool(progress.touched)

    def _some_of(self, touched: set[int]) -> set[int]:
        if len(touched) <= BUDGET:
            found = set(touched)
            touched.clear()
            return found
        return {touched.pop() for _ in range(BUDGET)}

    # -- what comes from outside

    def _current(self, pod_id: str) -> pb.Pod | None:
        """The pod whose run that is now; None when another one followed, or it was removed."""
        _, instance, run = names.parse_run(pod_id)
        found = self._draft.pod(instance)
        return found if found is not None and found.run == run else None

    def _lose(self, pod_id: str) -> None:
        found = self._current(pod_id)
        if found is not None and found.status.state in machines.LIVE:
            pod.lose(self._draft.edit_pod(found.instance), self._draft.now)
            self._ended(found.instance)

    def _observe(self, seen: Observation) -> None:
        found = self._current(seen.pod_id)
        if found is None or found.status.state not in machines.LIVE:
            return
        edited = self._draft.edit_pod(found.instance)
        if pod.observe(edited, seen, self._draft.now):
            self._changed.add(found.instance)
            if edited.status.state in machines.ENDED:
                self._ended(found.instance)

    def _ended(self, instance: int) -> None:
        self._changed.add(instance)
        self._leave(instance)

    def _leave(self, instance: int) -> None:
        """It gives up its room, or its place in the line."""
        if self._admission.leave(names.pod_name(self._draft.job.id, instance)):
            self._admit(instance)

    def _sweep(self) -> None:
        """A start, stop or deletion of the job reaches its pods."""
        draft, progress = self._draft, self._progress
        version = draft.job.desired_state_version
        if progress.swept >= version:
            return
        desired = _DESIRED[draft.job.desired_state]
        left = BUDGET
        for instance in list(draft.instances()):
            found = draft.pod(instance)
            assert found is not None
            if found.desired_state_version >= version:
                continue
            if not left:
                self.outcome.more = True
                return
            left -= 1
            found = draft.edit_pod(instance)
            found.desired_state_version = version
            # What an update has removed stays removed.
            if found.status.desired_state != machines.DELETED or desired == machines.DELETED:
                # What a start finds ended or ending waits for no pause.
                rerun = desired == machines.RUNNING and found.status.state in _OVER
                pod.want(found, draft.now, desired=desired, rerun=rerun)
                if desired != machines.RUNNING:
                    found.killing_for = _REASON.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
                elif found.status.state != machines.KILLING:
                    # A stop that was taken back in time.
                    found.killing_for = _REASON.TERMINATION_STATUS_REASON_INVALID
            self._changed.add(instance)
        progress.swept = version

    def _begin_or_abort(self) -> None:
        draft = self._draft
        current = draft.workflow
        if current is None or workflow.over(current):
            return
        if draft.job.desired_state == machines.J_DELETED:
            workflow.take(draft.edit_workflow(), Step.ABORT, draft.now)
        elif current.state == machines.W_INITIALIZED:
            rollout.start(draft)

    # -- the workflow

    def _roll(self, touched: set[int]) -> None:
        """As far as it goes in one pass."""
        draft, progress = self._draft, self._progress
        for _ in range(8):
            current = draft.workflow
            waiting = (
                current is None
                or workflow.over(current)
                or (current.state == machines.PAUSED and current.prev_state == machines.W_INITIALIZED)
            )
            if waiting or current is None:
                return
            if progress.rollout is None or not progress.rollout.is_of(current):
                progress.rollout = Rollout.of(draft)
                # Among those in flight are some that are gone by now.
                touched = {*draft.instances(), *progress.rollout.flying}
            left = max(BUDGET - draft.size, 0)
            if not left:
                self.outcome.more = True
                progress.touched |= touched
                return
            changed = progress.rollout.advance(draft, touched, left)
            turned = draft.workflow is not None and not progress.rollout.is_of(draft.workflow)
            if not changed and not turned:
                return
            self._changed.clear()
            self._act(changed)
            touched = changed | self._changed
        self.outcome.more = True
        progress.touched |= touched

    # -- pods

    def _act(self, instances: Iterable[int]) -> None:
        for instance in sorted(instances):
            if self._draft.pod(instance) is not None:
                while self._step(instance):
                    pass

    def _step(self, instance: int) -> bool:
        """One action of a pod; True when there may be another at once."""
        draft = self._draft
        found = draft.pod(instance)
        if found is None:
            return False
        match pod.action(found):
            case Action.NONE:
                return False
            case Action.SUBMIT:
                pod.become(draft.edit_pod(instance), machines.PENDING, draft.now)
                self._changed.add(instance)
                return True
            case Action.ADMIT:
                return self._launch_or_wait(instance, found)
            case Action.STOP:
                self._stop(instance)
                return False
            case Action.PRESS | Action.TIME_OUT:
                return self._insist(instance, found)
            case Action.RERUN:
                at = pod.due(found, self._pauses)
                if at is not None and at > draft.now:
                    self.outcome.due[instance] = at
                    if found.status.message != pod.THROTTLED:
                        pod.say(draft.edit_pod(instance), pod.THROTTLED, draft.now)
                    return False
                self._renew(instance)
                return True
            case Action.RENEW:
                self._renew(instance)
                return True
            case Action.CANCEL:
                self._leave(instance)
                reason = _REASON.Reason.Name(_REASON.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST)
                short = reason.removeprefix("TERMINATION_STATUS_REASON_")
                pod.become(draft.edit_pod(instance), machines.KILLED, draft.now, reason=short)
                self._changed.add(instance)
                return True
            case Action.STAMP:
                pod.restamp(draft.edit_pod(instance), draft.now)
                self._changed.add(instance)
                return False
            case Action.REMOVE:
                self._leave(instance)
                for run in range(max(1, found.run - KEPT_RUNS), found.run + 1):
                    self._forget(found, run)
                draft.drop_pod(instance)
                self._changed.add(instance)
                return False
        raise AssertionError(found.status.state)

    def _launch_or_wait(self, instance: int, found: pb.Pod) -> bool:
        draft = self._draft
        if not self._admission.holds(found.name):
            request = self._request(found)
            if not self._admission.take(request):
                self._admission.wait(request)
                self._admit(instance)
        if not self._admission.holds(found.name):
            reason = self._admission.reason(found.name)
            if found.status.message != reason:
                pod.say(draft.edit_pod(instance), reason, draft.now, reason="PENDING_ADMISSION")
            return False
        edited = draft.edit_pod(instance)
        edited.admitted = True
        pod.become(edited, machines.LAUNCHED, draft.now)
        draft.requests.append(Start(names.pod_id(found.name, found.run), instance))
        self.outcome.due[instance] = draft.now + self._pauses.launch
        self._changed.add(instance)
        return False

    def _admit(self, at_hand: int) -> None:
        """Whoever may run now is looked at again, unless it is the one at hand."""
        for name in self._admission.admit():
            job, instance = names.parse_pod_name(name)
            if job != self._draft.job.id:
                self.outcome.others.append(name)
            elif instance != at_hand:
                self._progress.touched.add(instance)

    def _stop(self, instance: int) -> None:
        draft = self._draft
        edited = draft.edit_pod(instance)
        why = edited.killing_for or _why(edited)
        pod.stop(edited, why, draft.now)
        draft.requests.append(Stop(names.pod_id(edited.name, edited.run), None, instance))
        self.outcome.due[instance] = draft.now + self._grace(edited) + self._pauses.kill
        self._changed.add(instance)

    def _insist(self, instance: int, found: pb.Pod) -> bool:
        """What takes too long is ended the hard way."""
        draft = self._draft
        at = pod.due(found, self._pauses)
        assert at is not None
        if found.status.state == machines.KILLING:
            at += self._grace(found)
        if at > draft.now:
            self.outcome.due[instance] = at
            return False
        edited = draft.edit_pod(instance)
        if edited.status.state != machines.KILLING:
            pod.stop(edited, _REASON.TERMINATION_STATUS_REASON_DEADLINE_TIMEOUT_EXCEEDED, draft.now)
        else:
            edited.changed_at = draft.now
        draft.requests.append(Stop(names.pod_id(edited.name, edited.run), 0.0, instance))
        self.outcome.due[instance] = draft.now + self._grace(edited) + self._pauses.kill
        return False

    def _renew(self, instance: int) -> None:
        draft = self._draft
        edited = draft.edit_pod(instance)
        self._leave(instance)
        container = self._effective(edited.desired_configuration, instance).containers[0]
        draft.keep_run(pod.renew(edited, draft.now, container))
        if edited.run > KEPT_RUNS:
            self._forget(edited, edited.run - KEPT_RUNS)
        self._changed.add(instance)

    def _forget(self, found: pb.Pod, run: int) -> None:
        """The record of a run and its files."""
        self._draft.requests.append(Forget(names.pod_id(found.name, run)))
        self._draft.drop_run(names.run(found.name, run))

    def _request(self, found: pb.Pod) -> Request:
        return request(self._draft.job, found, self._effective(found.configuration, found.instance))

    def _grace(self, found: pb.Pod) -> int:
        return int(grace(self._effective(found.configuration, found.instance)) * 1_000_000_000)

    def _effective(self, configuration: int, instance: int) -> pod_pb2.PodSpec:
        return self._draft.effective(configuration, instance)


def request(job: pb.Job, found: pb.Pod, effective: pod_pb2.PodSpec) -> Request:
    """What a pod that waits asks for."""
    where = effective.constraint
    return Request(
        found.name,
        job.respool_id,
        amount_of(effective),
        job.sla.priority,
        found.changed_at,
        where.SerializeToString(deterministic=True) if where.type else b"",
        frozenset((label.key, label.value) for label in effective.labels),
    )


def amount_of(effective: pod_pb2.PodSpec) -> Amount:
    resource = effective.containers[0].resource
    return Amount(resource.cpu_limit, resource.mem_limit_mb, resource.gpu_limit)


def grace(effective: pod_pb2.PodSpec) -> float:
    """Seconds."""
    return effective.kill_grace_period_seconds or GRACE


def _why(found: pb.Pod) -> pod.Reason:
    if machines.GOALS[found.status.desired_state] != machines.RUN:
        return _REASON.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    if found.configuration == found.desired_configuration:
        return _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
    return _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_UPDATE
