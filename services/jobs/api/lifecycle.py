"""What the API may ask of a job, and by which rules (jobs contract, sections 3 and 4).

Every change is a function of a draft, carried out under the job's lock: it raises before it has
changed anything, or changes all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.jobs import machines, ranges
from services.jobs import spec as specs
from services.jobs.api import patch
from services.jobs.engine import job as jobs
from services.jobs.engine import rollout, workflow
from services.jobs.engine.board import Draft
from services.jobs.machines import Step
from services.jobs.names import Version
from shared.errors import Aborted, InvalidArgument, NotFound
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

UNEXPECTED: Final = "unexpected entity version"
_UPDATE: Final = stateless.WORKFLOW_TYPE_UPDATE
_RESTART: Final = stateless.WORKFLOW_TYPE_RESTART

Change = Callable[[Draft], Version]


@dataclass(frozen=True)
class New:
    """The records that a job begins with."""

    job: pb.Job
    configuration: pb.Configuration
    workflow: pb.Workflow


def create(
    id: str, spec: stateless.JobSpec, how: stateless.CreateSpec, opaque: OpaqueData, by: str, now: int
) -> New:
    """Of a validated spec."""
    job = pb.Job(
        id=id,
        configuration=1,
        desired_state_version=1,
        workflow_version=1,
        highest_configuration=1,
        state=machines.J_PENDING,
        desired_state=machines.J_RUNNING,
        created_at=now,
        updated_at=now,
        updated_by=by,
        revision=1,
    )
    kept = _kept(spec, 1, by, now)
    rollout.adopt(job, kept)
    job.pod_stats["POD_STATE_INITIALIZED"] = spec.instance_count
    first = workflow.new(job, 1, _UPDATE, 1, now, paused=how.start_paused)
    first.creation = True
    first.prev_configuration = 0
    first.update_spec.CopyFrom(
        stateless.UpdateSpec(
            batch_size=how.batch_size,
            max_instance_retries=how.max_instance_retries,
            max_tolerable_instance_failures=how.max_tolerable_instance_failures,
            start_paused=how.start_paused,
        )
    )
    if opaque.data:
        first.opaque_data.CopyFrom(opaque)
    job.workflow = first.name
    job.workflow_status.CopyFrom(workflow.status(first, job))
    job.workflow_status.num_instances_remaining = spec.instance_count
    return New(job, pb.Configuration(job=id, version=1, created_at=now, created_by=by, spec=kept), first)


def check_version(draft: Draft, version: str) -> None:
    """Raises Aborted unless it is the present one."""
    current = str(jobs.version(draft.job))
    if version != current:
        raise Aborted(
            f"{UNEXPECTED}: the job is at {current}, the request at {version[:100]!r}; read it again",
            kind="job",
            name=draft.job.id,
        )


def check_pool(draft: Draft, spec: stateless.JobSpec) -> None:
    if spec.respool_id.value != draft.job.respool_id:
        raise InvalidArgument.at(
            "spec.respool_id", f"cannot be changed; the job is in {draft.job.respool_id!r}"
        )


def replace(
    version: str, spec: stateless.JobSpec, how: stateless.UpdateSpec, opaque: OpaqueData | None, by: str
) -> Change:
    """Of a validated spec."""

    def change(draft: Draft) -> Version:
        check_pool(draft, spec)
        check_version(draft, version)
        _check_alive(draft)
        job = draft.job
        if how.start_pods and job.state == machines.J_KILLING:
            raise Aborted(
                "the job is being stopped; start_pods cannot be asked for now", kind="job", name=job.id
            )
        current = _active(draft)
        if current is not None and _same_update(draft, current, spec, how):
            return _again(draft, current, opaque)
        if current is not None and current.type == _RESTART:
            raise InvalidArgument(f"job {job.id} is being restarted; abort that or wait for its end")
        made = _begin(draft, _UPDATE, spec, by, opaque, paused=how.start_paused)
        made.update_spec.CopyFrom(how)
        if how.start_pods and job.desired_state != machines.J_RUNNING:
            edited = draft.edit_job()
            edited.desired_state = machines.J_RUNNING
            edited.state = machines.J_PENDING
        return _told(draft)

    return change


def patched(
    version: str,
    spec: stateless.JobSpec,
    how: stateless.UpdateSpec,
    opaque: OpaqueData | None,
    by: str,
    check: Callable[[stateless.JobSpec], None],
) -> Change:
    """`check` validates what the merge comes to, and raises."""

    def change(draft: Draft) -> Version:
        current = draft.spec(draft.job.configuration)
        wanted = patch.merged(current, spec)
        check(wanted)
        check_version(draft, version)
        if _bare(wanted) == _bare(current):
            return jobs.version(draft.job)
        return replace(version, wanted, how, opaque, by)(draft)

    return change


def restart(version: str, how: stateless.RestartSpec, opaque: OpaqueData | None, by: str) -> Change:
    def change(draft: Draft) -> Version:
        check_version(draft, version)
        _check_alive(draft)
        job, current = draft.job, _active(draft)
        if current is not None:
            before = current.restart_spec
            same = (before.batch_size, before.in_place) == (how.batch_size, how.in_place)
            if current.type == _RESTART and same and current.state in machines.ROLLING:
                return _again(draft, current, opaque)
            raise InvalidArgument(f"job {job.id} has a workflow that goes on; abort it or wait for its end")
        spec = draft.spec(job.configuration)
        made = _begin(draft, _RESTART, spec, by, opaque, paused=False)
        made.restart_spec.CopyFrom(how)
        del made.restart_spec.ranges[:]
        chosen = ranges.within(how.ranges, spec.instance_count)
        made.restart_spec.ranges.extend(ranges.compressed(chosen))
        edited = draft.edit_job()
        if edited.desired_state != machines.J_RUNNING:
            edited.desired_state = machines.J_RUNNING
            edited.state = machines.J_PENDING
        return _told(draft)

    return change


def pause(version: str, opaque: OpaqueData | None) -> Change:
    return _stepped(version, Step.PAUSE, opaque)


def resume(version: str, opaque: OpaqueData | None) -> Change:
    return _stepped(version, Step.RESUME, opaque)


def abort(version: str, opaque: OpaqueData | None) -> Change:
    return _stepped(version, Step.ABORT, opaque)


def start(version: str) -> Change:
    def change(draft: Draft) -> Version:
        check_version(draft, version)
        _check_alive(draft)
        job = draft.edit_job()
        job.desired_state_version += 1
        if job.desired_state != machines.J_RUNNING or job.state in machines.TERMINAL:
            job.state = machines.J_PENDING
        job.desired_state = machines.J_RUNNING
        job.settled = False
        return _told(draft)

    return change


def stop(version: str) -> Change:
    def change(draft: Draft) -> Version:
        check_version(draft, version)
        _check_alive(draft)
        current = _active(draft)
        if current is not None and current.update_spec.start_pods:
            raise Aborted("an update that starts the pods goes on; abort it or wait for its end", kind="job")
        job = draft.edit_job()
        job.desired_state_version += 1
        if job.desired_state != machines.J_KILLED and job.state not in machines.TERMINAL:
            job.state = machines.J_KILLING
        job.desired_state = machines.J_KILLED
        job.settled = False
        return _told(draft)

    return change


def delete(version: str, *, force: bool) -> Change:
    def change(draft: Draft) -> Version:
        check_version(draft, version)
        if not force and draft.job.state != machines.J_KILLED:
            state = stateless.JobState.Name(draft.job.state)
            raise Aborted(
                f"job is not stopped: its state is {state}; stop it first, or delete it with force",
                kind="job",
                name=draft.job.id,
            )
        job = draft.edit_job()
        job.desired_state_version += 1
        job.desired_state = machines.J_DELETED
        job.settled = False
        return _told(draft)

    return change


# -- shared rules


def _told(draft: Draft) -> Version:
    """The job's record says at once how its workflow stands now."""
    current = draft.workflow
    if current is not None and draft.changed:
        draft.edit_job().workflow_status.CopyFrom(jobs.progress(draft, current, None))
    return jobs.version(draft.job)


def _check_alive(draft: Draft) -> None:
    if draft.job.desired_state == machines.J_DELETED:
        raise InvalidArgument(f"job {draft.job.id} is being deleted")


def _active(draft: Draft) -> pb.Workflow | None:
    current = draft.workflow
    return current if current is not None and not workflow.over(current) else None


def _stepped(version: str, step: Step, opaque: OpaqueData | None) -> Change:
    def change(draft: Draft) -> Version:
        if draft.workflow is None:
            raise NotFound(f"job {draft.job.id} has no workflow", kind="job", name=draft.job.id)
        check_version(draft, version)
        job = draft.edit_job()
        job.workflow_version += 1
        current = draft.edit_workflow()
        if workflow.take(current, step, draft.now) and opaque is not None:
            current.opaque_data.CopyFrom(opaque)
        return _told(draft)

    return change


def _same_update(
    draft: Draft, current: pb.Workflow, spec: stateless.JobSpec, how: stateless.UpdateSpec
) -> bool:
    return (
        current.state in machines.ROLLING
        and current.type == _UPDATE
        and current.update_spec == how
        and _bare(spec) == _bare(draft.spec(draft.job.configuration))
    )


def _again(draft: Draft, current: pb.Workflow, opaque: OpaqueData | None) -> Version:
    """The same was asked for before; only other opaque data makes a difference."""
    if opaque is not None and opaque != current.opaque_data:
        draft.edit_workflow().opaque_data.CopyFrom(opaque)
        draft.edit_job().workflow_version += 1
    return _told(draft)


def _begin(
    draft: Draft,
    type: stateless.WorkflowType,
    spec: stateless.JobSpec,
    by: str,
    opaque: OpaqueData | None,
    *,
    paused: bool,
) -> pb.Workflow:
    """A new workflow towards a new configuration. One that goes on is overwritten."""
    before = _active(draft)
    if before is not None:
        workflow.take(draft.edit_workflow(), Step.ABORT, draft.now)
    job = draft.edit_job()
    job.highest_configuration += 1
    job.workflow_version += 1
    kept = _kept(spec, job.highest_configuration, by, draft.now)
    draft.add_configuration(
        pb.Configuration(
            job=job.id, version=job.highest_configuration, created_at=draft.now, created_by=by, spec=kept
        )
    )
    made = workflow.new(job, job.workflow_version, type, job.highest_configuration, draft.now, paused=paused)
    if opaque is not None and opaque.data:
        made.opaque_data.CopyFrom(opaque)
    draft.new_workflow(made)
    job.configuration = job.highest_configuration
    job.workflow = made.name
    # Nothing of it is done yet.
    job.workflow_status.Clear()
    job.updated_by = by
    job.settled = False
    rollout.adopt(job, kept)
    return made


def _kept(spec: stateless.JobSpec, version: int, by: str, now: int) -> stateless.JobSpec:
    """As submitted, within its bounds, with the server's revision."""
    found = stateless.JobSpec()
    found.CopyFrom(spec)
    specs.clamp(found)
    found.revision.version = version
    found.revision.created_at = found.revision.updated_at = now
    found.revision.updated_by = by
    return found


def _bare(spec: stateless.JobSpec) -> bytes:
    """Without what the server sets."""
    found = specs.shown(spec)
    specs.clamp(found)
    found.ClearField("revision")
    return found.SerializeToString(deterministic=True)
