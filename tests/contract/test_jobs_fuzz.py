"""Whatever is asked of jobs and pods, in whatever order, the answer is one of the contract's codes; what
is told stays consistent; and in the end everything can be deleted and nothing runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.jobs.api.pools import DEFAULT_PATH, id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pods
from shared.pb.peloton.api.v1alpha.query import query_pb2 as query
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as logs
from shared.storage.port import Query
from tests.contract.jobs_yard import SCRIPTS, Job, Yard, job_spec, opened

ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
IDS = [f"{number:08}-0000-4000-8000-000000000000" for number in range(3)]
PRESENT = "the present version"
Strategy = st.SearchStrategy[Any]


def mostly(good: list[Any], odd: Strategy) -> Strategy:
    """Few requests would get far if each of their fields were odd."""
    return st.integers(0, 19).flatmap(lambda number: odd if number == 0 else st.sampled_from(good))


def of(request: Any, **fields: Strategy) -> Strategy:
    """Requests about a job."""

    def build(id: str, version: str, **fields: Any) -> Any:
        found = request(**{key: value for key, value in fields.items() if value is not None})
        found.job_id.value = id
        if "version" in found.DESCRIPTOR.fields_by_name and version:
            found.version.value = version
        return found

    return st.builds(build, ids, versions, **fields)


def about(request: Any, **fields: Strategy) -> Strategy:
    """Requests about a pod."""

    def build(name: str, **fields: Any) -> Any:
        found = request(**{key: value for key, value in fields.items() if value is not None})
        found.pod_name.value = name
        return found

    return st.builds(build, names, **fields)


def _spec(command: str, count: int, own: int, fields: dict[str, Any]) -> stateless.JobSpec:
    found = job_spec(command, count, pool=id_of(DEFAULT_PATH), **fields)
    if own % 3 == 0:
        found.instance_spec[own].containers.add().resource.cpu_limit = 0.5
    if own in (1, 7):
        # One of those at a time, of whatever job.
        found.default_spec.labels.add(key="alone", value="yes")
        found.default_spec.constraint.type = pod_pb2.Constraint.CONSTRAINT_TYPE_LABEL
        label = found.default_spec.constraint.label_constraint
        label.kind = pod_pb2.LabelConstraint.LABEL_CONSTRAINT_KIND_POD
        label.condition = pod_pb2.LabelConstraint.LABEL_CONSTRAINT_CONDITION_LESS_THAN
        label.label.key, label.label.value, label.requirement = "alone", "yes", 1
    return found


ids = mostly(IDS, st.sampled_from(["", "x", "99999999-0000-4000-8000-000000000000"]))
versions = mostly([PRESENT] * 5, st.sampled_from(["", "1-1-1", "x"]))
names = st.builds("{}-{}".format, ids, mostly([0, 1, 2, 3], st.sampled_from(["", "x", 99])))
runs = st.none() | st.builds(lambda name, run: {"value": f"{name}-{run}"}, names, st.integers(0, 3))
odd_fields = st.sampled_from(
    [
        {"sla": stateless.SlaSpec(revocable=True)},
        {"resource": {"cpu_limit": -1.0}},
        {"resource": {"cpu_limit": 1e9}},
    ]
)
specs = st.builds(
    _spec,
    mostly(["run", "run2", "slow start", "slow end"], st.sampled_from(sorted(SCRIPTS))),
    st.integers(0, 4),
    st.integers(0, 7),
    mostly(
        [
            {},
            {},
            {"checked": True},
            {"resource": {"gpu_limit": 1.0}},
            {"sla": stateless.SlaSpec(maximum_unavailable_instances=1)},
        ],
        odd_fields,
    ),
)
small = st.integers(0, 3)
rarely = mostly([False], st.just(True))
updates = st.builds(
    stateless.UpdateSpec,
    batch_size=small,
    rollback_on_failure=st.booleans(),
    max_instance_retries=small,
    max_tolerable_instance_failures=small,
    start_paused=rarely,
    start_pods=rarely,
)
ranges = st.lists(
    st.builds(lambda low, high: pod_pb2.InstanceIDRange(**{"from": low, "to": high}), small, small),
    max_size=2,
)
opaque = st.none() | st.builds(OpaqueData, data=st.sampled_from(["", "a", "b"]))
pages = st.builds(
    query.PaginationSpec,
    offset=small,
    limit=small,
    max_limit=small,
    order_by=st.lists(
        st.builds(
            lambda name: query.OrderBy(property={"value": name}),
            mostly(["name", "state"], st.sampled_from(["", "x", "host"])),
        ),
        max_size=2,
    ),
)
bare = st.builds(stateless.JobSpec, owner=st.sampled_from(["", "a"]), instance_count=small)
writes = st.one_of(
    of(
        pb.CreateJobRequest,
        spec=specs,
        create_spec=st.builds(
            stateless.CreateSpec, batch_size=small, start_paused=mostly([False], st.just(True))
        ),
        opaque_data=opaque,
    ),
    of(pb.ReplaceJobRequest, spec=specs, update_spec=updates, opaque_data=opaque),
    of(pb.PatchJobRequest, spec=bare, update_spec=updates, opaque_data=opaque),
    of(
        pb.RestartJobRequest,
        restart_spec=st.builds(stateless.RestartSpec, batch_size=small, ranges=ranges),
        opaque_data=opaque,
    ),
    of(pb.PauseJobWorkflowRequest, opaque_data=opaque),
    of(pb.ResumeJobWorkflowRequest, opaque_data=opaque),
    of(pb.AbortJobWorkflowRequest, opaque_data=opaque),
    of(pb.StartJobRequest),
    of(pb.StopJobRequest),
    of(pb.DeleteJobRequest, force=st.booleans()),
    of(pb.RefreshJobRequest),
    about(pods.StartPodRequest),
    about(pods.StopPodRequest),
    about(pods.RestartPodRequest, check_sla=st.booleans()),
    about(pods.RefreshPodRequest),
    about(pods.DeletePodEventsRequest, pod_id=runs),
)
reads = st.one_of(
    of(pb.GetJobRequest, summary_only=st.booleans()),
    of(pb.GetReplaceJobDiffRequest, spec=specs),
    of(pb.ListPodsRequest, range=st.none() | ranges.map(lambda found: found[0] if found else None)),
    of(pb.QueryPodsRequest, pagination=pages, summary_only=st.booleans()),
    of(pb.ListJobWorkflowsRequest, updates_limit=small, instance_events=st.booleans()),
    of(pb.GetWorkflowEventsRequest, instance_id=small, limit=small),
    st.builds(pb.QueryJobsRequest, spec=st.builds(stateless.QuerySpec, pagination=pages)),
    about(pods.GetPodRequest, limit=small, status_only=st.booleans()),
    about(pods.GetPodEventsRequest, pod_id=runs),
    about(pods.BrowsePodSandboxRequest, pod_id=runs),
    about(logs.ReadLogRequest, pod_id=runs, tail_lines=small, offset=mostly([0], st.integers(-9, 9))),
)
passing = st.sampled_from([0.0, 0.0, 1.0, 5.0, 30.0])


async def test_codes_and_consistency(
    tmp_path: Path, scale: Callable[[int, int], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Steps are drawn in a thread, so that one server and one loop serve all of them."""
    caplog.set_level(logging.ERROR)
    loop = asyncio.get_running_loop()
    seen: Counter[tuple[str, grpc.StatusCode]] = Counter()
    most = [0]
    async with opened(tmp_path) as yard:

        @settings(max_examples=scale(1000, 10_000), deadline=None, derandomize=True)
        @given(request=writes | reads, seconds=passing)
        def check(request: Any, seconds: float) -> None:
            asked = asyncio.run_coroutine_threadsafe(step(yard, request, seconds), loop)
            code, alone = asked.result(timeout=20)
            seen[type(request).__name__, code] += 1
            assert code in ALLOWED, request
            assert len(alone) <= 1, alone
            most.append(len(alone))

        await asyncio.to_thread(check)
        await everything_goes(yard)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    # Without these the requests are not what they are meant to be.
    assert {code for _, code in seen} == ALLOWED and max(most) == 1
    for name in ("CreateJob", "ReplaceJob", "RestartJob", "StopJob", "StartPod", "RestartPod", "DeleteJob"):
        assert seen[f"{name}Request", grpc.StatusCode.OK], seen


async def step(yard: Yard, drawn: Any, seconds: float) -> tuple[grpc.StatusCode, list[str]]:
    """The code of one request after some time, and the pods that want to be alone and run then."""
    code = await answered(yard, drawn, seconds)
    return code, [pod for pod in yard.engine.alive() if alone_of(yard, pod)]


async def answered(yard: Yard, drawn: Any, seconds: float) -> grpc.StatusCode:
    if seconds:
        await yard.advance(seconds)
    method = type(drawn).__name__.removesuffix("Request")
    request = type(drawn).FromString(drawn.SerializeToString())
    try:
        if "version" in request.DESCRIPTOR.fields_by_name and request.version.value == PRESENT:
            request.ClearField("version")
            job = Job(yard, request.job_id.value, "")
            if not isinstance(request, pb.GetJobRequest):
                request.version.value = (await job.status()).version.value
        answer = await yard.call(method, request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    if isinstance(answer, pb.GetJobResponse):
        consistent(answer)
    return grpc.StatusCode.OK


def alone_of(yard: Yard, pod: str) -> bool:
    return any(label.key == "alone" for label in yard.engine.known(pod).attempt.spec.labels)


def consistent(found: pb.GetJobResponse) -> None:
    status = found.job_info.status if found.HasField("job_info") else found.summary.status
    by_version: Counter[str] = Counter()
    for stats in status.pod_stats_by_configuration_version.values():
        by_version.update(stats.state_stats)
    assert by_version == Counter({name: count for name, count in status.pod_stats.items() if count})
    flow = status.workflow_status
    assert flow.num_instances_completed + flow.num_instances_failed + len(flow.instances_current) <= (
        flow.num_instances_completed + flow.num_instances_failed + flow.num_instances_remaining
    )
    assert status.version.value.split("-")[0] == flow.version.value.split("-")[0]


async def everything_goes(yard: Yard) -> None:
    for batch in await yard.call("ListJobs", pb.ListJobsRequest()):
        for summary in batch.jobs:
            job = Job(yard, summary.job_id.value, summary.status.version.value)
            # Some are on their way already.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await job.delete(wait=False)
            await job.until_gone(passing=10)
    assert yard.engine.all() == []
    for kind in ("job", "configuration", "job_pod", "run", "workflow", "step", "removed"):
        assert [record.name async for record in yard.store.scan(Query(kind))] == []
