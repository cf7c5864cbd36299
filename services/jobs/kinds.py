"""What the jobs service stores (roundhouse/jobs/v1/jobs.proto)."""

from __future__ import annotations

from typing import Any, Final

from services.jobs import names
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.resource.definition import Definition, Strategy
from shared.storage.port import Index, Kind

JOB: Final = "job"
CONFIGURATION: Final = "configuration"
# The pods service has the kind `pod`; kinds are told apart across services.
POD: Final = "job_pod"
# A run that another one followed, below its job like all that follows.
RUN: Final = "run"
WORKFLOW: Final = "workflow"
RESOURCE_POOL: Final = "resource_pool"


# The steps of workflows; the last runs of instances that were removed, which their successors go on
# counting from. All below their job.
STEP: Final = Kind(
    "step",
    (Index("workflow", "text"),),
    lambda body: {"workflow": pb.Step.FromString(body).workflow},
)
REMOVED: Final = Kind("removed")
LEADER: Final = Kind("leader")
# By pool: changes with each job that begins there, so that a removal of the pool notices.
BEGUN: Final = Kind("begun")
KINDS: Final = (STEP, REMOVED, LEADER, BEGUN)


def _schema(message: Any, key: str, *indexed: str) -> DescriptorSchema:
    return DescriptorSchema(message.DESCRIPTOR, names={}, indexed=indexed, key=key)


JOB_SCHEMA: Final = _schema(
    pb.Job, "id", "id", "name", "owner", "owning_team", "state", "respool_id", "created_at",
    "completed_at", "started_at", "updated_at", "instance_count", "settled",
)  # fmt: skip
CONFIGURATION_SCHEMA: Final = _schema(pb.Configuration, "", "job", "version")
# Pods are written more often than everything else together: their names have no second index.
POD_SCHEMA: Final = _schema(pb.Pod, "name", "job", "instance", "status.state")
RUN_SCHEMA: Final = _schema(pb.Run, "", "pod", "run")
WORKFLOW_SCHEMA: Final = _schema(pb.Workflow, "name", "name", "job", "state", "type", "created_at")
POOL_SCHEMA: Final = _schema(pb.ResourcePool, "id", "id", "path")


def definitions(pools: Strategy[pb.ResourcePool] | None) -> list[Definition[Any]]:
    """`pools`: the rules of writing resource pools. The controller alone writes the others."""
    return [
        Definition(
            kind=JOB,
            plural="jobs",
            message=pb.Job,
            name=lambda job: job.id,
            schema=JOB_SCHEMA,
            parse_filter=Sqlish(JOB_SCHEMA).parse,
        ),
        Definition(
            kind=CONFIGURATION,
            plural="configurations",
            message=pb.Configuration,
            name=lambda found: names.configuration(found.job, found.version),
            parent=lambda found: found.job,
            schema=CONFIGURATION_SCHEMA,
            parse_filter=Sqlish(CONFIGURATION_SCHEMA).parse,
        ),
        Definition(
            kind=POD,
            plural="job_pods",
            message=pb.Pod,
            name=lambda pod: pod.name,
            parent=lambda pod: pod.job,
            schema=POD_SCHEMA,
            parse_filter=Sqlish(POD_SCHEMA).parse,
            composites=(("parent", "instance"),),
        ),
        Definition(
            kind=RUN,
            plural="runs",
            message=pb.Run,
            name=lambda run: names.run(run.pod, run.run),
            parent=lambda run: names.parse_pod_name(run.pod)[0],
            schema=RUN_SCHEMA,
            parse_filter=Sqlish(RUN_SCHEMA).parse,
        ),
        Definition(
            kind=WORKFLOW,
            plural="workflows",
            message=pb.Workflow,
            name=lambda workflow: workflow.name,
            parent=lambda workflow: workflow.job,
            schema=WORKFLOW_SCHEMA,
            parse_filter=Sqlish(WORKFLOW_SCHEMA).parse,
        ),
        Definition(
            kind=RESOURCE_POOL,
            plural="resource_pools",
            message=pb.ResourcePool,
            name=lambda pool: pool.id,
            parent=lambda pool: pool.spec.parent.value,
            schema=POOL_SCHEMA,
            parse_filter=Sqlish(POOL_SCHEMA).parse,
            strategy=pools,
        ),
    ]
