"""The rules of one job: its state, and what is told of it (jobs contract, sections 4 and 5). Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from services.jobs import machines, moments
from services.jobs.engine import workflow as workflows
from services.jobs.engine.board import Draft
from services.jobs.engine.rollout import Rollout
from services.jobs.names import Version
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

_POD_STATES: Final = tuple(
    name for name, number in pod_pb2.PodState.items() if number != pod_pb2.POD_STATE_INVALID
)


def version(job: pb.Job) -> Version:
    return Version(job.configuration, job.desired_state_version, job.workflow_version)


def sum_up(draft: Draft, rollout: Rollout | None) -> None:
    """Let the job's record say what its pods and its workflow are."""
    job, counts = draft.job, draft.counts()
    fresh = pb.Job()
    fresh.CopyFrom(job)
    states: Counter[int] = Counter()
    fresh.pod_stats.clear()
    fresh.pod_stats_by_version.clear()
    for (configuration, _, state), count in counts.items():
        name = pod_pb2.PodState.Name(state)
        states[state] += count
        fresh.pod_stats[name] = states[state]
        fresh.pod_stats_by_version[str(Version(configuration))].state_stats[name] += count
    workflow = draft.workflow
    active = workflow is not None and not workflows.over(workflow)
    fresh.state = machines.job_state(
        fresh.instance_count, states, desired=job.desired_state, previous=job.state, creating=active
    )
    if not fresh.started_at and states[machines.RUNNING]:
        fresh.started_at = draft.now
    ended = fresh.state in machines.TERMINAL
    fresh.completed_at = (fresh.completed_at or draft.now) if ended else 0
    if workflow is not None:
        fresh.workflow_status.CopyFrom(progress(draft, workflow, rollout))
    live = sum(count for state, count in states.items() if state not in machines.ENDED)
    fresh.settled = not active and not live and job.desired_state == machines.J_KILLED
    if fresh != job:
        draft.edit_job().CopyFrom(fresh)


def progress(draft: Draft, workflow: pb.Workflow, rollout: Rollout | None) -> stateless.WorkflowStatus:
    """Without a roll-out of the workflow: as far as the job's record says that it is."""
    found = workflows.status(workflow, draft.job)
    if rollout is not None and rollout.is_of(workflow):
        found.num_instances_completed = rollout.done
        found.num_instances_failed = rollout.failed
        found.num_instances_remaining = rollout.total - rollout.done - rollout.failed
        found.instances_current.extend(sorted(rollout.flying))
    else:
        before = draft.job.workflow_status
        found.num_instances_completed = before.num_instances_completed
        found.num_instances_failed = before.num_instances_failed
        found.num_instances_remaining = before.num_instances_remaining
        found.instances_current.extend(before.instances_current)
    found.update_time = max(found.update_time, _came_further(draft, found))
    return found


def _came_further(draft: Draft, status: stateless.WorkflowStatus) -> str:
    """When the workflow did so the last time, beside changes of its state. Such texts can be compared."""
    before = draft.job.workflow_status
    if before.creation_time != status.creation_time:
        return ""
    return before.update_time if _numbers(before) == _numbers(status) else moments.text(draft.now)


def _numbers(status: stateless.WorkflowStatus) -> tuple[int, int, list[int]]:
    return status.num_instances_completed, status.num_instances_failed, list(status.instances_current)


# -- what is told of it


def status(job: pb.Job) -> stateless.JobStatus:
    found = stateless.JobStatus(
        state=job.state,
        creation_time=moments.text(job.created_at),
        pod_stats={**dict.fromkeys(_POD_STATES, 0), **job.pod_stats},
        desired_state=job.desired_state,
        workflow_status=job.workflow_status,
        pod_configuration_version_stats={
            name: sum(stats.state_stats.values()) for name, stats in job.pod_stats_by_version.items()
        },
        pod_stats_by_configuration_version=job.pod_stats_by_version,
    )
    found.version.value = str(version(job))
    revision = found.revision
    revision.version, revision.created_at = job.revision, job.created_at
    revision.updated_at, revision.updated_by = job.updated_at, job.updated_by
    return found


def summary(job: pb.Job) -> stateless.JobSummary:
    found = stateless.JobSummary(
        name=job.name,
        owner=job.owner,
        owning_team=job.owning_team,
        labels=job.labels,
        instance_count=job.instance_count,
        status=status(job),
        sla=job.sla,
    )
    found.job_id.value = job.id
    found.respool_id.value = job.respool_id
    return found


def info(job: pb.Job, spec: stateless.JobSpec) -> stateless.JobInfo:
    found = stateless.JobInfo(spec=spec, status=status(job))
    found.job_id.value = job.id
    return found
