"""A client of stateless jobs that has grpcio, protobuf and the stubs on its path, and nothing of ours.

    python jobs_driver.py TARGET TOKEN

Runs a job through its life and writes a line of JSON for each thing that it was told. Run by
test_jobs_stubs.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
from peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as svc
from peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2_grpc as svc_grpc
from peloton.api.v1alpha.pod import pod_pb2
from peloton.api.v1alpha.pod.svc import pod_svc_pb2, pod_svc_pb2_grpc
from peloton.api.v1alpha.respool.svc import respool_svc_pb2, respool_svc_pb2_grpc
from peloton.api.v1alpha.watch.svc import watch_svc_pb2, watch_svc_pb2_grpc

PATIENCE = 60.0
NAME = "interop"


def said(**values: Any) -> None:
    print(json.dumps(values), flush=True)


class Client:
    """As Peloton's own clients call it."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.jobs = svc_grpc.JobServiceStub(channel)
        self.pods = pod_svc_pb2_grpc.PodServiceStub(channel)
        self.pools = respool_svc_pb2_grpc.ResourcePoolServiceStub(channel)
        self.watches = watch_svc_pb2_grpc.WatchServiceStub(channel)
        self.metadata = (
            ("authorization", f"Bearer {token}"),
            ("rpc-caller", NAME),
            ("rpc-service", "peloton-jobmgr"),
            ("rpc-encoding", "proto"),
        )

    def call(self, stub: Any, name: str, request: Any) -> Any:
        return getattr(stub, name)(request, metadata=self.metadata, timeout=PATIENCE)

    def code(self, name: str, request: Any) -> list[str]:
        """How it fails."""
        try:
            self.call(self.jobs, name, request)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]
        return []

    def status(self, job: Any) -> Any:
        return self.call(self.jobs, "GetJob", svc.GetJobRequest(job_id=job)).job_info.status


def until(read: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + PATIENCE
    while not done(found := read()):
        assert time.monotonic() < end, found
    return found


def spec_of(client: Client) -> stateless.JobSpec:
    request = respool_svc_pb2.LookupResourcePoolIDRequest()
    request.path.value = "/DefaultResPool"
    pool = client.call(client.pools, "LookupResourcePoolID", request).respool_id
    found = stateless.JobSpec(name=NAME, instance_count=2, respool_id=pool)
    found.labels.add(key="made-by", value=NAME)
    container = found.default_spec.containers.add(name="main")
    container.entrypoint.value = 'echo "$GREETING from $INSTANCE_ID"; exec sleep 3600'
    container.environment.add(name="GREETING", value="hello")
    found.default_spec.kill_grace_period_seconds = 1
    return found


def creates(client: Client, spec: stateless.JobSpec) -> Any:
    """And watches it come up."""
    request = watch_svc_pb2.WatchRequest()
    request.stateless_job_filter.labels.add(key="made-by", value=NAME)
    watch = client.watches.Watch(request, metadata=client.metadata, timeout=PATIENCE)
    first = next(watch)
    said(watch=first.watch_id.partition("_")[0], jobs=len(first.stateless_jobs))
    created = client.call(client.jobs, "CreateJob", svc.CreateJobRequest(spec=spec))
    said(created=created.version.value)
    states = []
    for message in watch:
        [seen] = message.stateless_jobs
        assert seen.job_id == created.job_id
        states.append(stateless.JobState.Name(seen.status.state))
        if states[-1] == "JOB_STATE_RUNNING":
            break
    said(states=list(dict.fromkeys(states)))
    client.call(client.watches, "Cancel", watch_svc_pb2.CancelRequest(watch_id=first.watch_id))
    try:
        for _ in watch:
            pass
    except grpc.RpcError as error:
        said(watch=error.code().name)
    return created.job_id


def updates(client: Client, job: Any, spec: stateless.JobSpec) -> None:
    stale = svc.ReplaceJobRequest(job_id=job, spec=spec)
    stale.version.value = "7-7-7"
    said(stale=client.code("ReplaceJob", stale))
    spec.instance_count = 3
    spec.default_spec.containers[0].environment[0].value = "good day"
    until(lambda: client.status(job), lambda found: found.workflow_status.state == 4)
    version = client.status(job).version
    diff = client.call(
        client.jobs, "GetReplaceJobDiff", svc.GetReplaceJobDiffRequest(job_id=job, version=version, spec=spec)
    )
    said(added=ranges(diff.instances_added), updated=ranges(diff.instances_updated))
    update = stateless.UpdateSpec(batch_size=1, rollback_on_failure=True, max_instance_retries=3)
    request = svc.ReplaceJobRequest(job_id=job, version=version, spec=spec, update_spec=update)
    request.opaque_data.data = NAME
    said(replaced=client.call(client.jobs, "ReplaceJob", request).version.value)
    until(lambda: client.status(job), lambda found: found.workflow_status.state == 4)
    listed = client.call(client.jobs, "ListJobWorkflows", svc.ListJobWorkflowsRequest(job_id=job))
    said(workflows=[[info.opaque_data.data, ranges(info.instances_added)] for info in listed.workflow_infos])


def ranges(found: Any) -> list[list[int]]:
    return [[getattr(one, "from"), one.to] for one in found]


def looks(client: Client, job: Any) -> None:
    wanted = stateless.QuerySpec(job_states=[stateless.JOB_STATE_RUNNING])
    wanted.labels.add(key="made-by", value=NAME)
    found = client.call(client.jobs, "QueryJobs", svc.QueryJobsRequest(spec=wanted))
    said(query=[record.name for record in found.records], total=found.pagination.total)
    listed = client.jobs.ListPods(
        svc.ListPodsRequest(job_id=job, range=pod_pb2.InstanceIDRange(**{"from": 1, "to": 9})),
        metadata=client.metadata,
        timeout=PATIENCE,
    )
    names = [pod.pod_name.value for message in listed for pod in message.pods]
    said(pods=[name.removeprefix(job.value) for name in names])
    about = {"pod_name": {"value": names[0]}}
    events = client.call(client.pods, "GetPodEvents", pod_svc_pb2.GetPodEventsRequest(**about))
    said(newest=events.events[0].actual_state, oldest=events.events[-1].actual_state)
    files = client.call(client.pods, "BrowsePodSandbox", pod_svc_pb2.BrowsePodSandboxRequest(**about))
    said(files=list(files.paths))


def ends(client: Client, job: Any) -> None:
    version = client.status(job).version
    stopped = client.call(client.jobs, "StopJob", svc.StopJobRequest(job_id=job, version=version))
    said(stopped=stopped.version.value)
    until(lambda: client.status(job), lambda found: found.state == stateless.JOB_STATE_KILLED)
    client.call(client.jobs, "DeleteJob", svc.DeleteJobRequest(job_id=job, version=stopped.version))
    until(lambda: client.code("GetJob", svc.GetJobRequest(job_id=job)), bool)
    said(gone=client.code("GetJob", svc.GetJobRequest(job_id=job))[0])


def main(target: str, token: str) -> None:
    with grpc.insecure_channel(target) as channel:
        client = Client(channel, token)
        spec = spec_of(client)
        job = creates(client, spec)
        updates(client, job, spec)
        looks(client, job)
        ends(client, job)
    packages = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    said(packages=sorted(package for package in packages if not package.startswith("_")))


if __name__ == "__main__":
    main(*sys.argv[1:])
