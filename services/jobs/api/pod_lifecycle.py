"""What the API may ask of one pod, and by which rules (jobs contract, section 8).

Every change is a function of a draft, carried out under the job's lock. The job's entity version stays
what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.jobs import kinds, machines, names
from services.jobs.engine import pod, rollout
from services.jobs.engine.board import Draft
from shared.errors import Aborted, InvalidArgument, NotFound
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Expect, Put

_REASON: Final = pod_pb2.TerminationStatus
Change = Callable[[Draft], None]


def start(instance: int) -> Change:
    """A new run, of a pod that is stopped."""

    def change(draft: Draft) -> None:
        found = _startable(draft, instance)
        if found.status.desired_state != machines.RUNNING:
            _run_again(draft, instance)

    return change


def stop(instance: int) -> Change:
    """The job goes on."""

    def change(draft: Draft) -> None:
        found = _existing(draft, instance)
        if found.status.desired_state != machines.RUNNING:
            return
        found = draft.edit_pod(instance)
        found.desired_state_version = draft.job.desired_state_version
        found.killing_for = _REASON.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
        pod.want(found, draft.now, desired=machines.KILLED)

    return change


def restart(instance: int, *, check_sla: bool) -> Change:
    """A new run; of a pod that is stopped, too. Raises Aborted when that would break the job's SLA."""

    def change(draft: Draft) -> None:
        found = _startable(draft, instance)
        if found.status.desired_state != machines.RUNNING:
            _run_again(draft, instance)
            return
        if found.status.state in machines.UNBORN:
            # It has not begun: what comes is new anyway.
            return
        if check_sla:
            _check_sla(draft, instance)
        found = draft.edit_pod(instance)
        if found.status.state in machines.LIVE:
            found.killing_for = (
                _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_SLA_AWARE_RESTART
                if check_sla
                else _REASON.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
            )
        pod.want(found, draft.now, rerun=True)

    return change


def delete_events(instance: int, run: int, earlier: pb.Run | None) -> Change:
    """Of one run. `earlier`: its record, if another run followed it."""

    def change(draft: Draft) -> None:
        found = _existing(draft, instance)
        if earlier is not None:
            bare = pb.Run()
            bare.CopyFrom(earlier)
            del bare.events[:]
            name = names.run(found.name, run)
            body = bare.SerializeToString(deterministic=True)
            draft.also(Put(kinds.RUN, name, body, draft.job.id, Expect.PRESENT))
        elif found.run != run:
            raise Aborted(
                f"another run of pod {found.name} has begun; try again", kind="run", name=found.name
            )
        elif found.events:
            del draft.edit_pod(instance).events[:]

    return change


def _existing(draft: Draft, instance: int) -> pb.Pod:
    """Raises NotFound."""
    found = draft.pod(instance)
    if found is None:
        name = names.pod_name(draft.job.id, instance)
        raise NotFound(f"pod {name!r} not found", kind=kinds.POD, name=name)
    return found


def _startable(draft: Draft, instance: int) -> pb.Pod:
    """Raises NotFound, and InvalidArgument for what is being deleted."""
    found = _existing(draft, instance)
    if draft.job.desired_state == machines.J_DELETED:
        raise InvalidArgument.at("pod_name", f"job {draft.job.id} is being deleted")
    if found.status.desired_state == machines.DELETED:
        raise InvalidArgument.at("pod_name", f"pod {found.name} is being removed")
    return found


def _run_again(draft: Draft, instance: int) -> None:
    """A stopped pod is to run, and its job with it."""
    found = draft.edit_pod(instance)
    found.desired_state_version = draft.job.desired_state_version
    again = found.status.state not in machines.UNBORN
    pod.want(found, draft.now, desired=machines.RUNNING, rerun=again)
    if draft.job.desired_state != machines.J_RUNNING:
        job = draft.edit_job()
        job.desired_state = machines.J_RUNNING
        job.state = machines.J_PENDING
        job.settled = False


def _check_sla(draft: Draft, instance: int) -> None:
    most = draft.job.sla.maximum_unavailable_instances
    if not most or rollout.unavailable(draft, instance):
        # No limit, or nothing gets worse.
        return
    now = sum(rollout.unavailable(draft, i) for i in range(draft.job.instance_count))
    if now >= most:
        raise Aborted(
            f"{now} instances are unavailable, and the job's SLA allows {most}: try again later",
            kind=kinds.JOB,
            name=draft.job.id,
        )
