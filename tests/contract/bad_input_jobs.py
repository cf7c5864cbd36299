# ruff: noqa: E501 - a table, one case a line
"""Malformed requests to jobs: what is sent, the code that answers, and the field that is named.

Data only; test_bad_input_jobs.py sends them as an operator. There is one job, `JOB`, of one instance, at
version `1-1-1`; its pool is the default one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from services.jobs.api.pools import DEFAULT_PATH, id_of
from shared.pb.mesos.v1 import mesos_pb2 as mesos
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2 as pod
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pods
from shared.pb.peloton.api.v1alpha.query import query_pb2 as query
from shared.pb.peloton.api.v1alpha.respool.svc import respool_svc_pb2 as pools
from shared.pb.peloton.api.v1alpha.volume import volume_pb2 as volume
from shared.pb.peloton.api.v1alpha.watch import watch_pb2 as watch
from shared.pb.peloton.api.v1alpha.watch.svc import watch_svc_pb2 as watches
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as logs
from tests.contract.bad_input import Rest

INVALID = StatusCode.INVALID_ARGUMENT
NOT_FOUND = StatusCode.NOT_FOUND
ABORTED = StatusCode.ABORTED
UNIMPLEMENTED = StatusCode.UNIMPLEMENTED
EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED

JOB = "11111111-2222-4333-8444-555555555555"
NOBODY = "99999999-2222-4333-8444-555555555555"
POOL = id_of(DEFAULT_PATH)
VERSION = "1-1-1"
_LONG = "x" * 300_000
_SURROGATE = b"\x0a\x05\x0a\x03\xed\xa0\x80"
_COMMAND = pod.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
_HTTP = pod.HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP
_HOST_PATH = volume.VolumeSpec.VOLUME_TYPE_HOST_PATH
_EMPTY_DIR = volume.VolumeSpec.VOLUME_TYPE_EMPTY_DIR


@dataclass(frozen=True)
class Grpc:
    """`method` of whichever service has it."""

    name: str
    method: str
    request: Message | bytes
    code: StatusCode
    field: str = ""


def of(request: Any, *, id: str = JOB, version: str = VERSION, **fields: Any) -> Any:
    found = request(**fields)
    found.job_id.value = id
    if "version" in found.DESCRIPTOR.fields_by_name:
        found.version.value = version
    return found


def about(request: Any, name: str = f"{JOB}-0", **fields: Any) -> Any:
    found = request(**fields)
    found.pod_name.value = name
    return found


def spec(
    container: dict[str, Any] | None = None,
    own: dict[str, Any] | None = None,
    *,
    count: int = 2,
    **fields: Any,
) -> stateless.JobSpec:
    """A good one, but for `fields` of the job, `own` ones of the pod and those of its `container`."""
    found = stateless.JobSpec(instance_count=count, **fields)
    found.respool_id.value = POOL
    found.default_spec.CopyFrom(pod.PodSpec(**(own or {})))
    if "containers" not in (own or {}):
        found.default_spec.containers.add(
            **({"name": "main", "entrypoint": {"value": "run"}} | (container or {}))
        )
    return found


def instance(number: int, **own: Any) -> stateless.JobSpec:
    """With a spec of its own for one instance."""
    found = spec()
    found.instance_spec[number].CopyFrom(pod.PodSpec(**own))
    return found


def create(
    given: stateless.JobSpec | None = None, *, id: str = "", pool: str | None = POOL, **fields: Any
) -> Message:
    found = pb.CreateJobRequest(spec=given or spec(), **fields)
    if id:
        found.job_id.value = id
    found.spec.ClearField("respool_id")
    if pool is not None:
        found.spec.respool_id.value = pool
    return found


def jobs(**fields: Any) -> Message:
    return pb.QueryJobsRequest(spec=stateless.QuerySpec(**fields))


def _order(*names: str) -> list[query.OrderBy]:
    return [query.OrderBy(property={"value": name}) for name in names]


def _check(**fields: Any) -> dict[str, Any]:
    return {"liveness_check": pod.HealthCheckSpec(enabled=True, **fields)}


_SPEC = "spec.default_spec"
_CONTAINER = f"{_SPEC}.containers[0]"
_NAN = float("nan")
_OUTSIDE = Timestamp(seconds=2**62)

# What is wrong with a spec, as CreateJob, ReplaceJob, PatchJob and GetReplaceJobDiff say it.
SPECS = (
    ("two containers", spec(own={"containers": [{"entrypoint": {"value": "a"}}] * 2}), UNIMPLEMENTED, f"{_SPEC}.containers"),
    ("two containers of an instance", instance(1, containers=[{}, {}]), UNIMPLEMENTED, "spec.instance_spec[1].containers"),
    ("two containers of an instance beyond the end", instance(7, containers=[{}, {}]), UNIMPLEMENTED, "spec.instance_spec[7].containers"),
    ("init containers", spec(own={"init_containers": [{"name": "a"}]}), UNIMPLEMENTED, f"{_SPEC}.init_containers"),
    ("init containers of an instance", instance(0, init_containers=[{}]), UNIMPLEMENTED, "spec.instance_spec[0].init_containers"),
    ("too many instances", spec(count=100_001), INVALID, "spec.instance_count"),
    ("as many instances as there are numbers", spec(count=2**32 - 1), INVALID, "spec.instance_count"),
    ("no container", spec(own={"containers": []}), INVALID, f"{_SPEC}.containers"),
    ("no command", spec({"entrypoint": None}), INVALID, f"{_CONTAINER}.entrypoint"),
    ("a port without a name", spec({"ports": [{"value": 80}]}), INVALID, f"{_CONTAINER}.ports[0].name"),
    ("a port without a number", spec({"ports": [{"name": "a"}]}), INVALID, f"{_CONTAINER}.ports[0].env_name"),
    ("a port that is none", spec({"ports": [{"name": "a", "value": 65536}]}), INVALID, f"{_CONTAINER}.ports[0].value"),
    ("a port twice", spec({"ports": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]}), INVALID, f"{_CONTAINER}.ports[1].name"),
    ("a controller that is not the first", instance(1, controller=True), INVALID, "spec.instance_spec[1].controller"),
    ("a controller of all", spec(own={"controller": True}), INVALID, f"{_SPEC}.controller"),
    ("killed on preemption", spec(own={"preemption_policy": {"kill_on_preempt": True}}), INVALID, f"{_SPEC}.preemption_policy.kill_on_preempt"),
    ("revocable alone", spec(sla={"revocable": True}), INVALID, "spec.sla.revocable"),
    ("another executor", spec({"executor": mesos.ExecutorInfo(executor_id={"value": "x"}, type=1)}), INVALID, f"{_CONTAINER}.executor.type"),
    ("an executor without data", spec({"executor": mesos.ExecutorInfo(executor_id={"value": "x"}, type=2)}), INVALID, f"{_CONTAINER}.executor.data"),
    ("an executor", spec({"executor": mesos.ExecutorInfo(executor_id={"value": "x"}, type=2, data=b"x")}), UNIMPLEMENTED, f"{_CONTAINER}.executor"),
    *(
        (f"{name} of {value}", spec({"resource": {name: value}}), INVALID, f"{_CONTAINER}.resource.{name}")
        for name in ("cpu_limit", "mem_limit_mb", "disk_limit_mb", "gpu_limit")
        for value in (-1, _NAN, float("inf"))
    ),
    ("a check of no type", spec(_check()), INVALID, f"{_CONTAINER}.liveness_check.type"),
    ("a check of an unknown type", spec(_check(type=9)), INVALID, f"{_CONTAINER}.liveness_check.type"),
    ("a command check without a command", spec(_check(type=_COMMAND)), INVALID, f"{_CONTAINER}.liveness_check.command_check.command"),
    ("an HTTP check without a port", spec(_check(type=_HTTP, http_check={"path": "/"})), INVALID, f"{_CONTAINER}.liveness_check.http_check.port"),
    ("an HTTP check without a path", spec(_check(type=_HTTP, http_check={"port": 1})), INVALID, f"{_CONTAINER}.liveness_check.http_check.path"),
    ("a mount of no volume", spec({"volume_mounts": [{"name": "a"}]}), INVALID, f"{_CONTAINER}.volume_mounts[0].name"),
    ("a volume twice", spec(own={"volumes": [{"name": "a", "type": _EMPTY_DIR}] * 2}), INVALID, f"{_SPEC}.volumes[1].name"),
    ("a volume without a name", spec(own={"volumes": [{"type": _EMPTY_DIR}]}), INVALID, f"{_SPEC}.volumes[0].name"),
    ("a volume of no type", spec(own={"volumes": [{"name": "a"}]}), INVALID, f"{_SPEC}.volumes[0].type"),
    ("a path of the host that is none", spec(own={"volumes": [{"name": "a", "type": _HOST_PATH}]}), INVALID, f"{_SPEC}.volumes[0].host_path.path"),
    ("a command with a NUL", spec({"entrypoint": {"value": "a\0"}}), INVALID, f"{_CONTAINER}.entrypoint"),
    ("an argument with a NUL", spec({"entrypoint": {"value": "a", "arguments": ["\0"]}}), INVALID, f"{_CONTAINER}.entrypoint"),
    ("a deprecated command with a NUL", spec({"command": mesos.CommandInfo(value="\0")}), INVALID, f"{_CONTAINER}.command"),
    ("a variable without a name", spec({"environment": [{"value": "x"}]}), INVALID, f"{_CONTAINER}.environment[0].name"),
    ("a variable with = in its name", spec({"environment": [{"name": "a=b"}]}), INVALID, f"{_CONTAINER}.environment[0].name"),
    ("a variable with a NUL", spec({"environment": [{"name": "a", "value": "\0"}]}), INVALID, f"{_CONTAINER}.environment[0].value"),
    ("a port's variable with =", spec({"ports": [{"name": "a", "env_name": "="}]}), INVALID, f"{_CONTAINER}.ports[0].env_name"),
    ("more memory than there is on earth", spec({"resource": {"mem_limit_mb": 1e300}}), INVALID, f"{_CONTAINER}.resource.mem_limit_mb"),
    ("a disk beyond numbers", spec({"resource": {"disk_limit_mb": 1.7e308}}), INVALID, f"{_CONTAINER}.resource.disk_limit_mb"),
    ("an HTTP check of no port", spec(_check(type=_HTTP, http_check={"path": "/", "port": 70_000})), INVALID, f"{_CONTAINER}.liveness_check.http_check.port"),
    ("an HTTP check of an unknown port", spec(_check(type=_HTTP, http_get={"path": "/", "port_spec": {"name": "x"}})), INVALID, f"{_CONTAINER}.liveness_check.http_get.port_spec.name"),
    ("a command check with a NUL", spec(_check(type=_COMMAND, command_check={"command": "\0"})), INVALID, f"{_CONTAINER}.liveness_check.command_check.command"),
    ("a host port without a name", spec(own={"host_ports": [{"value": 80}]}), INVALID, f"{_SPEC}.host_ports[0].name"),
    ("a host port that is none", spec(own={"host_ports": [{"name": "a", "value": 65536}]}), INVALID, f"{_SPEC}.host_ports[0].value"),
    ("the default executor", spec(own={"mesos_spec": {"executor_spec": {"type": 1}}}), INVALID, f"{_SPEC}.mesos_spec.executor_spec.type"),
    ("a custom executor without data", spec(own={"mesos_spec": {"executor_spec": {"type": 2}}}), INVALID, f"{_SPEC}.mesos_spec.executor_spec.data"),
    ("a custom executor", spec(own={"mesos_spec": {"executor_spec": {"type": 2, "data": b"x"}}}), UNIMPLEMENTED, f"{_SPEC}.mesos_spec.executor_spec.type"),
    ("a constraint of an unknown type", spec(own={"constraint": {"type": 9}}), INVALID, f"{_SPEC}.constraint.type"),
    ("a constraint without a type", spec(own={"constraint": {"label_constraint": {"kind": 1}}}), INVALID, f"{_SPEC}.constraint.type"),
    ("a constraint of nothing", spec(own={"constraint": {"type": 3}}), INVALID, f"{_SPEC}.constraint.or_constraint.constraints"),
    ("a constraint on nothing", spec(own={"constraint": {"type": 1, "label_constraint": {"condition": 2, "label": {"key": "a"}}}}), INVALID, f"{_SPEC}.constraint.label_constraint.kind"),
    ("a constraint without a condition", spec(own={"constraint": {"type": 2, "and_constraint": {"constraints": [{"type": 1, "label_constraint": {"kind": 2, "label": {"key": "a"}}}]}}}), INVALID, f"{_SPEC}.constraint.and_constraint.constraints[0].label_constraint.condition"),
    ("a constraint without a label", spec(own={"constraint": {"type": 1, "label_constraint": {"kind": 2, "condition": 2}}}), INVALID, f"{_SPEC}.constraint.label_constraint.label.key"),
    ("an image", spec({"image": "busybox"}), UNIMPLEMENTED, f"{_CONTAINER}.image"),
    ("a readiness check", spec({"readiness_check": {"enabled": True, "type": _COMMAND, "command_check": {"command": "true"}}}), UNIMPLEMENTED, f"{_CONTAINER}.readiness_check"),
    ("a persistent volume", spec(own={"volume": {"container_path": "/x", "size_mb": 1}}), UNIMPLEMENTED, f"{_SPEC}.volume"),
    ("files to fetch", spec(own={"mesos_spec": {"uris": [{"value": "x"}]}}), UNIMPLEMENTED, f"{_SPEC}.mesos_spec.uris"),
    ("a network", spec(own={"mesos_spec": {"network_spec": {"type": 2}}}), UNIMPLEMENTED, f"{_SPEC}.mesos_spec.network_spec"),
)  # fmt: skip

GRPC = (
    # -- bytes
    Grpc("bytes that are no message", "CreateJob", b"\xff\xff\xff", INVALID, "request"),
    Grpc("a truncated message", "ReplaceJob", b"\x0a\x24abc", INVALID, "request"),
    Grpc("an id of invalid UTF-8", "GetJob", b"\x0a\x04\x0a\x02\xff\xfe", INVALID, "request"),
    Grpc("an id with a lone surrogate", "StopJob", _SURROGATE, INVALID, "request"),
    Grpc("a group that does not end", "QueryJobs", b"\x0b\x0b\x0b", INVALID, "request"),
    Grpc("nested beyond the parser's limit", "QueryPods", b"\x0b" * 200 + b"\x0c" * 200, INVALID, "request"),
    Grpc("random bytes to a watch", "Watch", b"\x07garbage", INVALID, "request"),
    Grpc("random bytes to a log", "ReadLog", b"\x07garbage", INVALID, "request"),
    Grpc("random bytes to a list", "ListPods", b"\x07garbage", INVALID, "request"),
    Grpc("random bytes to a list of jobs", "ListJobs", b"\x07garbage", INVALID, "request"),
    Grpc("random bytes to a list of pools", "QueryResourcePools", b"\x07garbage", INVALID, "request"),
    Grpc("more than the largest message", "CreateJob", b"\x12" * (5 << 20), EXHAUSTED),
    Grpc("a spec of 5 MiB", "CreateJob", create(spec(description="x" * (5 << 20))), EXHAUSTED),
    # -- ids
    Grpc("nothing to create", "CreateJob", b"", INVALID, "spec.respool_id"),
    Grpc("a job's id that is none", "CreateJob", create(id="my-job"), INVALID, "job_id.value"),
    Grpc("a job's id in braces", "CreateJob", create(id="{" + JOB + "}"), INVALID, "job_id.value"),
    Grpc("a job's id without dashes", "CreateJob", create(id=JOB.replace("-", "")), INVALID, "job_id.value"),
    Grpc("a job's id with a line feed", "CreateJob", create(id=JOB + "\n"), INVALID, "job_id.value"),
    Grpc("a job's id of 300,000 characters", "CreateJob", create(id=_LONG), INVALID, "job_id.value"),
    Grpc("an id that is taken", "CreateJob", create(id=JOB.upper()), StatusCode.ALREADY_EXISTS),
    Grpc("no id to replace", "ReplaceJob", b"", INVALID, "job_id.value"),
    Grpc("no id to patch", "PatchJob", b"", INVALID, "job_id.value"),
    Grpc("no id to compare", "GetReplaceJobDiff", b"", INVALID, "job_id.value"),
    Grpc("no id to tell events of", "GetWorkflowEvents", b"", INVALID, "job_id.value"),
    Grpc("no id to list workflows of", "ListJobWorkflows", b"", INVALID, "job_id"),
    *(
        Grpc(f"no id to {name}", name, b"", NOT_FOUND)
        for name in (
            "GetJob",
            "StartJob",
            "StopJob",
            "DeleteJob",
            "RestartJob",
            "RefreshJob",
            "GetJobCache",
            "ListPods",
            "QueryPods",
            "PauseJobWorkflow",
            "ResumeJobWorkflow",
            "AbortJobWorkflow",
        )
    ),
    Grpc(
        "an unknown job to replace", "ReplaceJob", of(pb.ReplaceJobRequest, id=NOBODY, spec=spec()), NOT_FOUND
    ),
    Grpc("an unknown job to patch", "PatchJob", of(pb.PatchJobRequest, id=NOBODY), NOT_FOUND),
    Grpc("an id with a NUL", "GetJob", of(pb.GetJobRequest, id=JOB + "\0"), NOT_FOUND),
    Grpc("an id of 300,000 characters", "StopJob", of(pb.StopJobRequest, id=_LONG), NOT_FOUND),
    Grpc("no name", "GetJobIDFromJobName", pb.GetJobIDFromJobNameRequest(), NOT_FOUND),
    Grpc(
        "a name of 300,000 characters",
        "GetJobIDFromJobName",
        pb.GetJobIDFromJobNameRequest(job_name=_LONG),
        NOT_FOUND,
    ),
    # -- pools
    Grpc("no pool", "CreateJob", create(pool=None), INVALID, "spec.respool_id"),
    Grpc("an empty pool", "CreateJob", create(pool=""), INVALID, "spec.respool_id"),
    Grpc("the root", "CreateJob", create(pool="root"), INVALID, "spec.respool_id"),
    Grpc("a path for a pool", "CreateJob", create(pool="/DefaultResPool"), NOT_FOUND),
    Grpc("a pool of 300,000 characters", "CreateJob", create(pool=_LONG), NOT_FOUND),
    Grpc(
        "another pool",
        "ReplaceJob",
        of(
            pb.ReplaceJobRequest,
            spec=stateless.JobSpec(respool_id={"value": "root"}, default_spec=spec().default_spec),
        ),
        INVALID,
        "spec.respool_id",
    ),
    Grpc(
        "no pool any more",
        "GetReplaceJobDiff",
        of(pb.GetReplaceJobDiffRequest, spec=stateless.JobSpec(default_spec=spec().default_spec)),
        INVALID,
        "spec.respool_id",
    ),
    # -- secrets
    Grpc(
        "a secret",
        "CreateJob",
        create(secrets=[peloton.Secret(path="/x", value={"data": b"eA=="})]),
        INVALID,
        "secrets",
    ),
    # -- versions
    *(
        Grpc(
            f"version {text!r} to read",
            "GetJob",
            of(pb.GetJobRequest, version=text),
            INVALID,
            "version.value",
        )
        for text in (
            "",
            "1",
            "1-1",
            "1-1-1-1",
            "x-1-1",
            "1-1-",
            "+1-1-1",
            "1-1-1\n",
            "٢-1-1",
            "9" * 30 + "-1-1",
            _LONG,
        )
    ),
    Grpc("a version that never was", "GetJob", of(pb.GetJobRequest, version="2-1-1"), NOT_FOUND),
    Grpc("the version before the first", "GetJob", of(pb.GetJobRequest, version="0-0-0"), NOT_FOUND),
    Grpc("the greatest version", "GetJob", of(pb.GetJobRequest, version=f"{2**64 - 1}-1-1"), NOT_FOUND),
    Grpc("a version of 300,000 characters to stop", "StopJob", of(pb.StopJobRequest, version=_LONG), ABORTED),
    Grpc("no version to restart", "RestartJob", of(pb.RestartJobRequest, version=""), ABORTED),
    Grpc("an old version to patch", "PatchJob", of(pb.PatchJobRequest, version="1-0-1"), ABORTED),
    Grpc("a running job to delete", "DeleteJob", of(pb.DeleteJobRequest), ABORTED),
    # -- queries of jobs
    Grpc("a state that is none", "QueryJobs", jobs(job_states=[99]), INVALID, "spec.job_states"),
    Grpc("the state INVALID", "QueryJobs", jobs(job_states=[0]), INVALID, "spec.job_states"),
    Grpc(
        "a negative state",
        "QueryJobs",
        b"\x0a\x0c\x22\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        INVALID,
        "spec.job_states",
    ),
    Grpc("an unknown pool", "QueryJobs", jobs(respool={"value": "/nowhere"}), INVALID, "spec.respool"),
    Grpc("a relative pool", "QueryJobs", jobs(respool={"value": "DefaultResPool"}), INVALID, "spec.respool"),
    Grpc(
        "a pool of 300,000 slashes",
        "QueryJobs",
        jobs(respool={"value": "/" * 300_000}),
        INVALID,
        "spec.respool",
    ),
    Grpc(
        "a range without an end",
        "QueryJobs",
        jobs(creation_time_range={"min": {"seconds": 1}}),
        INVALID,
        "spec.creation_time_range.max",
    ),
    Grpc(
        "a range without a beginning",
        "QueryJobs",
        jobs(completion_time_range={"max": {"seconds": 1}}),
        INVALID,
        "spec.completion_time_range.min",
    ),
    Grpc(
        "a range backwards",
        "QueryJobs",
        jobs(creation_time_range={"min": {"seconds": 2}, "max": {"seconds": 1}}),
        INVALID,
        "spec.creation_time_range.max",
    ),
    Grpc(
        "a time beyond all calendars",
        "QueryJobs",
        jobs(creation_time_range={"min": {"seconds": 1}, "max": _OUTSIDE}),
        INVALID,
        "spec.creation_time_range",
    ),
    Grpc(
        "a time before all calendars",
        "QueryJobs",
        jobs(completion_time_range={"min": {"seconds": -(2**62)}, "max": {"seconds": 1}}),
        INVALID,
        "spec.completion_time_range",
    ),
    Grpc(
        "an unknown property",
        "QueryJobs",
        jobs(pagination={"order_by": _order("id")}),
        INVALID,
        "spec.pagination.order_by[0].property",
    ),
    Grpc(
        "an unknown property behind a known one",
        "QueryJobs",
        jobs(pagination={"order_by": _order("name", "x")}),
        INVALID,
        "spec.pagination.order_by[1].property",
    ),
    Grpc(
        "an empty property",
        "QueryJobs",
        jobs(pagination={"order_by": [{}]}),
        INVALID,
        "spec.pagination.order_by[0].property",
    ),
    Grpc(
        "a property of 300,000 characters",
        "QueryJobs",
        jobs(pagination={"order_by": _order(_LONG)}),
        INVALID,
        "spec.pagination.order_by[0].property",
    ),
    # -- queries of pods
    Grpc(
        "a pod's state that is none",
        "QueryPods",
        of(pb.QueryPodsRequest, spec={"pod_states": [77]}),
        INVALID,
        "spec.pod_states",
    ),
    Grpc(
        "an unknown property of pods",
        "QueryPods",
        of(pb.QueryPodsRequest, pagination={"order_by": _order("id")}),
        INVALID,
        "pagination.order_by[0].property",
    ),
    Grpc(
        "an unknown property in the spec",
        "QueryPods",
        of(pb.QueryPodsRequest, spec={"pagination": {"order_by": _order("id")}}),
        INVALID,
        "spec.pagination.order_by[0].property",
    ),
    # -- pods
    *(
        Grpc(
            f"{name} of {text[-10:]!r}",
            name,
            about(getattr(pods, f"{name}Request"), text),
            INVALID,
            "pod_name.value",
        )
        for name in (
            "GetPod",
            "StartPod",
            "StopPod",
            "RestartPod",
            "GetPodEvents",
            "BrowsePodSandbox",
            "RefreshPod",
            "GetPodCache",
            "DeletePodEvents",
        )
        for text in ("", JOB, f"{JOB}-x", f"{JOB}-{'1' * 40}")
    ),
    Grpc("an unknown pod", "GetPod", about(pods.GetPodRequest, f"{JOB}-1"), NOT_FOUND),
    Grpc("a pod of nobody", "StopPod", about(pods.StopPodRequest, f"{NOBODY}-0"), NOT_FOUND),
    Grpc("a pod of 300,000 characters", "StartPod", about(pods.StartPodRequest, f"{_LONG}-0"), NOT_FOUND),
    Grpc(
        "a run of another pod",
        "GetPodEvents",
        about(pods.GetPodEventsRequest, pod_id={"value": f"{NOBODY}-0-1"}),
        INVALID,
        "pod_id.value",
    ),
    Grpc(
        "run 0",
        "BrowsePodSandbox",
        about(pods.BrowsePodSandboxRequest, pod_id={"value": f"{JOB}-0-0"}),
        INVALID,
        "pod_id.value",
    ),
    Grpc(
        "a run of 30 digits",
        "GetPodEvents",
        about(pods.GetPodEventsRequest, pod_id={"value": f"{JOB}-0-{'1' * 30}"}),
        INVALID,
        "pod_id.value",
    ),
    Grpc(
        "a run that never was",
        "GetPodEvents",
        about(pods.GetPodEventsRequest, pod_id={"value": f"{JOB}-0-7"}),
        NOT_FOUND,
    ),
    Grpc(
        "no run to delete events of", "DeletePodEvents", about(pods.DeletePodEventsRequest), INVALID, "pod_id"
    ),
    # -- logs
    Grpc("a log of nothing", "ReadLog", b"", INVALID, "pod_name.value"),
    Grpc(
        "a log of another pod's run",
        "DownloadLog",
        about(logs.ReadLogRequest, pod_id={"value": "x"}),
        INVALID,
        "pod_id.value",
    ),
    Grpc("an unknown stream", "ReadLog", about(logs.ReadLogRequest, stream=5), INVALID, "stream"),
    Grpc(
        "lines and an offset",
        "DownloadLog",
        about(logs.ReadLogRequest, offset=-1, tail_lines=1),
        INVALID,
        "tail_lines",
    ),
    Grpc(
        "a log of an unknown run",
        "ReadLog",
        about(logs.ReadLogRequest, pod_id={"value": f"{JOB}-0-9"}),
        NOT_FOUND,
    ),
    # -- watches
    Grpc("a watch of nothing", "Watch", b"", INVALID, "stateless_job_filter"),
    Grpc(
        "a watch from a revision",
        "Watch",
        watches.WatchRequest(start_revision=1, pod_filter=watch.PodFilter()),
        StatusCode.OUT_OF_RANGE,
    ),
    Grpc(
        "a watch from the greatest revision",
        "Watch",
        watches.WatchRequest(start_revision=2**64 - 1),
        StatusCode.OUT_OF_RANGE,
    ),
    Grpc("no watch to cancel", "Cancel", b"", NOT_FOUND),
    Grpc("an unknown watch to cancel", "Cancel", watches.CancelRequest(watch_id=_LONG), NOT_FOUND),
    # -- pools
    Grpc("no path", "LookupResourcePoolID", b"", INVALID, "path"),
    Grpc(
        "a relative path",
        "LookupResourcePoolID",
        pools.LookupResourcePoolIDRequest(path={"value": "x"}),
        INVALID,
        "path",
    ),
    Grpc(
        "a path with a slash behind",
        "LookupResourcePoolID",
        pools.LookupResourcePoolIDRequest(path={"value": "/x/"}),
        INVALID,
        "path",
    ),
    Grpc(
        "a path of 300,000 characters",
        "LookupResourcePoolID",
        pools.LookupResourcePoolIDRequest(path={"value": f"/{_LONG}"}),
        INVALID,
        "path",
    ),
    Grpc(
        "an unknown path",
        "LookupResourcePoolID",
        pools.LookupResourcePoolIDRequest(path={"value": "/x"}),
        NOT_FOUND,
    ),
    Grpc(
        "an unknown pool to read",
        "GetResourcePool",
        pools.GetResourcePoolRequest(respool_id={"value": "x"}),
        NOT_FOUND,
    ),
    # -- specs
    *(
        Grpc(f"CreateJob: {name}", "CreateJob", create(given), code, field)
        for name, given, code, field in SPECS
    ),
    *(
        Grpc(f"ReplaceJob: {name}", "ReplaceJob", of(pb.ReplaceJobRequest, spec=given), code, field)
        for name, given, code, field in SPECS[::3]
    ),
    *(
        Grpc(
            f"GetReplaceJobDiff: {name}",
            "GetReplaceJobDiff",
            of(pb.GetReplaceJobDiffRequest, spec=given),
            code,
            field,
        )
        for name, given, code, field in SPECS[1::3]
    ),
    Grpc(
        "PatchJob: two containers",
        "PatchJob",
        of(pb.PatchJobRequest, spec=SPECS[0][1]),
        UNIMPLEMENTED,
        f"{_SPEC}.containers",
    ),
    Grpc(
        "PatchJob: revocable alone",
        "PatchJob",
        of(pb.PatchJobRequest, spec={"sla": {"revocable": True}}),
        INVALID,
        "spec.sla.revocable",
    ),
    Grpc(
        "PatchJob: too many instances",
        "PatchJob",
        of(pb.PatchJobRequest, spec={"instance_count": 100_001}),
        INVALID,
        "spec.instance_count",
    ),
    Grpc(
        "PatchJob: another pool",
        "PatchJob",
        of(pb.PatchJobRequest, spec={"respool_id": {"value": "x"}}),
        INVALID,
        "spec.respool_id",
    ),
)

_JOBS = "/v1alpha/jobs"
_GOOD = {"name": "a", "instanceCount": 1, "respoolId": {"value": POOL}}


def _create(**fields: Any) -> dict[str, Any]:
    return {"spec": {**_GOOD, "defaultSpec": {"containers": [{"entrypoint": {"value": "run"}}]}, **fields}}


REST = (
    Rest("no JSON", "POST", _JOBS, "{", INVALID, "body"),
    Rest("an array", "POST", _JOBS, "[]", INVALID, "body"),
    Rest("JSON nested beyond bounds", "POST", _JOBS, "[" * 100_000, INVALID, "body"),
    Rest("bytes that are no UTF-8", "POST", _JOBS, b'{"spec": {"name": "\xff"}}', INVALID, "body"),
    Rest("a lone surrogate", "POST", _JOBS, json.dumps(_create(name="\ud800")), INVALID, "body"),
    Rest("an unknown field", "POST", _JOBS, _create(naem="x"), INVALID, "naem"),
    Rest("a text for a number", "POST", _JOBS, _create(instanceCount="many"), INVALID, "instance"),
    Rest("a fraction of an instance", "POST", _JOBS, _create(instanceCount=1.5), INVALID, "instance"),
    Rest("a negative count", "POST", _JOBS, _create(instanceCount=-1), INVALID, "instance"),
    Rest("a count beyond 32 bits", "POST", _JOBS, _create(instanceCount=2**32), INVALID, "instance"),
    Rest("a number for a map", "POST", _JOBS, _create(instanceSpec=[]), INVALID, "nstance"),
    Rest(
        "a key of the map that is no number",
        "POST",
        _JOBS,
        _create(instanceSpec={"x": {}}),
        INVALID,
        "nstance",
    ),
    Rest("a list for a message", "POST", _JOBS, _create(sla=[]), INVALID, "sla"),
    Rest(
        "an unknown enum",
        "POST",
        f"{_JOBS}:query",
        {"spec": {"jobStates": ["JOB_STATE_NONE"]}},
        INVALID,
        "tates",
    ),
    Rest(
        "an enum's number that is none",
        "POST",
        f"{_JOBS}:query",
        {"spec": {"jobStates": [99]}},
        INVALID,
        "tates",
    ),
    Rest(
        "NaN in a limit",
        "POST",
        _JOBS,
        _create(
            defaultSpec={"containers": [{"entrypoint": {"value": "a"}, "resource": {"cpuLimit": "NaN"}}]}
        ),
        INVALID,
        "resource.cpu_limit",
    ),
    Rest("no base64", "POST", _JOBS, {**_create(), "secrets": [{"value": {"data": "?"}}]}, INVALID, "data"),
    Rest(
        "a time that is none",
        "POST",
        f"{_JOBS}:query",
        {"spec": {"creationTimeRange": {"min": "yesterday"}}},
        INVALID,
        "min",
    ),
    Rest("an unknown parameter", "GET", f"{_JOBS}:lookup?name=x", "", INVALID, "name"),
    Rest("a parameter twice", "GET", f"{_JOBS}:lookup?jobName=a&jobName=b", "", INVALID, "ame"),
    Rest(
        "a parameter that is no number",
        "GET",
        f"{_JOBS}/{JOB}/workflows?updatesLimit=x",
        "",
        INVALID,
        "pdates",
    ),
    Rest("a broken escape", "GET", f"{_JOBS}/%zz", "", INVALID, "job_id.value"),
    Rest("a path that is no UTF-8", "GET", f"{_JOBS}/%ff%fe", "", INVALID, "job_id.value"),
    Rest("an unknown job", "GET", f"{_JOBS}/{NOBODY}", "", NOT_FOUND),
    Rest("an id that is none", "GET", f"{_JOBS}/x", "", NOT_FOUND),
    Rest("an id of 5,000 characters", "GET", f"{_JOBS}/{'x' * 5000}", "", NOT_FOUND),
    Rest("an unknown verb behind the colon", "POST", f"{_JOBS}/{JOB}:explode", "{}", NOT_FOUND),
    Rest("no such path", "GET", f"{_JOBS}/{JOB}/nothing", "", NOT_FOUND),
    Rest("a wrong verb", "DELETE", _JOBS, "", UNIMPLEMENTED),
    Rest("a wrong verb for an action", "GET", f"{_JOBS}/{JOB}:restart", "", UNIMPLEMENTED),
    Rest("a stale version", "POST", f"{_JOBS}/{JOB}:stop", {"version": {"value": "7-7-7"}}, ABORTED),
    Rest("a version as text", "POST", f"{_JOBS}/{JOB}:stop", {"version": "1-1-1"}, INVALID, "version"),
    Rest("a version to read", "GET", f"{_JOBS}/{JOB}?version.value=x", "", INVALID, "version.value"),
    # -- every other route
    Rest("a parameter of a list", "GET", f"{_JOBS}?limit=5", "", INVALID, "limit"),
    Rest("a query in parameters", "GET", f"{_JOBS}:query?spec.jobStates=77", "", INVALID, "tates"),
    Rest(
        "a replacement without a pool",
        "PUT",
        f"{_JOBS}/{JOB}",
        _create(respoolId=None),
        INVALID,
        "spec.respool_id",
    ),
    Rest("a replacement of nobody", "PUT", f"{_JOBS}/x", _create(), INVALID, "job_id.value"),
    Rest(
        "a patch that is wrong",
        "PATCH",
        f"{_JOBS}/{JOB}",
        {"spec": {"sla": {"revocable": True}}},
        INVALID,
        "spec.sla.revocable",
    ),
    Rest("a deletion without a version", "DELETE", f"{_JOBS}/{JOB}", "", ABORTED),
    Rest("a deletion with a body's field", "DELETE", f"{_JOBS}/{JOB}?force=maybe", "", INVALID, "force"),
    Rest(
        "a restart of a range that is none",
        "POST",
        f"{_JOBS}/{JOB}:restart",
        {"restartSpec": {"ranges": [{"from": -1}]}},
        INVALID,
        "from",
    ),
    *(
        Rest(f"{verb} without a version", "POST", f"{_JOBS}/{JOB}:{verb}", "{}", ABORTED)
        for verb in ("pause", "resume", "abort", "start", "restart")
    ),
    Rest("a refresh of nobody", "POST", f"{_JOBS}/{NOBODY}:refresh", "", NOT_FOUND),
    Rest(
        "a difference of nothing",
        "POST",
        f"{_JOBS}/{JOB}:diff",
        {"version": {"value": VERSION}},
        INVALID,
        "spec",
    ),
    Rest("a cache of nobody", "GET", f"{_JOBS}/{NOBODY}/cache", "", NOT_FOUND),
    Rest("pods from nowhere", "GET", f"{_JOBS}/{JOB}/pods?range.from=x", "", INVALID, "from"),
    Rest("pods in no order", "GET", f"{_JOBS}/{JOB}/pods:query?limit=1", "", INVALID, "limit"),
    Rest(
        "pods by an unknown property",
        "POST",
        f"{_JOBS}/{JOB}/pods:query",
        {"pagination": {"orderBy": [{"property": {"value": "x"}}]}},
        INVALID,
        "order_by",
    ),
    Rest(
        "events of an instance that is none",
        "GET",
        f"{_JOBS}/{JOB}/workflowEvents?instanceId=-1",
        "",
        INVALID,
        "nstance",
    ),
    *(
        Rest(
            f"{verb} of a pod that is none",
            "POST",
            f"/v1alpha/pods/x:{verb}",
            "{}",
            INVALID,
            "pod_name.value",
        )
        for verb in ("start", "stop", "restart", "refresh")
    ),
    Rest(
        "events of a run that is none",
        "GET",
        f"/v1alpha/pods/{JOB}-0/events?podId.value=x",
        "",
        INVALID,
        "pod_id.value",
    ),
    Rest("a deletion of all events", "DELETE", f"/v1alpha/pods/{JOB}-0/events", "", INVALID, "pod_id"),
    Rest(
        "a sandbox of a run that is none",
        "GET",
        f"/v1alpha/pods/{JOB}-0/sandbox?podId.value=x",
        "",
        INVALID,
        "pod_id.value",
    ),
    Rest("a cache of an unknown pod", "GET", f"/v1alpha/pods/{JOB}-7/cache", "", NOT_FOUND),
    Rest("a watch from the past", "GET", "/v1alpha/watches?startRevision=x", "", INVALID, "evision"),
    Rest("a watch to cancel that there is not", "POST", "/v1alpha/watches/x:cancel", "{}", NOT_FOUND),
    Rest("a parameter of all pools", "GET", "/v1alpha/resourcePools?x=1", "", INVALID, "x"),
    Rest("a pod's name", "GET", "/v1alpha/pods/x", "", INVALID, "pod_name.value"),
    Rest("a log's stream", "GET", f"/v1alpha/pods/{JOB}-0/log?stream=STDIN", "", INVALID, "stream"),
    Rest("a log's offset", "GET", f"/v1alpha/pods/{JOB}-0/log:download?offset=x", "", INVALID, "offset"),
    Rest("a negative number of lines", "GET", f"/v1alpha/pods/{JOB}-0/log?tailLines=-1", "", INVALID, "ail"),
    Rest("a watch of nothing", "POST", "/v1alpha/watches", "{}", INVALID, "stateless_job_filter"),
    Rest("a pool's path", "GET", "/v1alpha/resourcePools:lookup?path.value=x", "", INVALID, "path"),
    Rest("a pool in a path", "GET", f"/v1alpha/resourcePools/{quote('/x', safe='')}", "", NOT_FOUND),
)
