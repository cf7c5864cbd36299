# ruff: noqa: E501 - a table, one case a line
"""Jobs whose pods are real processes, asked for over the API: how they end, and what is too much."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from services.jobs.api.pools import DEFAULT_PATH, id_of
from services.jobs.runtime.keeper_process import KeeperProcess
from services.jobs.service import SERVICE
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2_grpc import PodServiceStub
from shared.service.testing import started
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-real")]
MOST_PODS = 20
# Long enough to see how a pod ended.
SETTINGS = {
    "jobs_allow_root": "true",
    "jobs_limits": "advisory",
    "jobs_first_backoff": "1h",
    "jobs_max_pods": str(MOST_PODS),
    "jobs_host_labels": "zone=a",
    "catalogue": "",
}
FAILED = pod_pb2.POD_STATE_FAILED
RUNNING = pod_pb2.POD_STATE_RUNNING
KILLED = pod_pb2.POD_STATE_KILLED
PENDING = pod_pb2.POD_STATE_PENDING
LAUNCH = "CONTAINER_LAUNCH_FAILED"


@dataclass
class Yard:
    home: Path
    stub: Any
    pods: Any
    metadata: tuple[tuple[str, str], ...]

    async def call(self, name: str, request: Any) -> Any:
        return await getattr(self.stub, name)(request, metadata=self.metadata, timeout=PATIENCE)

    async def create(self, pod: pod_pb2.PodSpec, count: int = 1) -> pb.CreateJobResponse:
        spec = stateless.JobSpec(instance_count=count, default_spec=pod)
        spec.respool_id.value = id_of(DEFAULT_PATH)
        return await self.call("CreateJob", pb.CreateJobRequest(spec=spec))

    async def delete(self, job: pb.CreateJobResponse) -> None:
        """With all its processes."""
        status = await self.status(job)
        request = pb.DeleteJobRequest(job_id=job.job_id, version=status.version, force=True)
        await self.call("DeleteJob", request)

        async def exists() -> bool:
            try:
                await self.status(job)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                return False
            return True

        await until(exists, lambda found: not found)

    async def status(self, job: pb.CreateJobResponse) -> stateless.JobStatus:
        return (await self.call("GetJob", pb.GetJobRequest(job_id=job.job_id))).job_info.status

    async def pod(self, job: pb.CreateJobResponse) -> pod_pb2.PodStatus:
        found = await self.call("QueryPods", pb.QueryPodsRequest(job_id=job.job_id))
        return found.pods[0].status if found.pods else pod_pb2.PodStatus()

    def processes(self, job: pb.CreateJobResponse) -> set[int]:
        """Those that run in the sandboxes of its pods."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                folder = os.readlink(entry / "cwd") if entry.name.isdigit() else ""  # noqa: PTH115
            except OSError:
                continue
            if folder.startswith(f"{self.home}/{job.job_id.value}-"):
                found.add(int(entry.name))
        return found


async def until(read: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
    found: Any = None
    try:
        async with asyncio.timeout(PATIENCE):
            while not done(found := await read()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came to that: {found}") from None
    return found


@asynccontextmanager
async def opened(data: Path, **settings: str) -> AsyncIterator[Yard]:
    """A service, and a stop of it."""
    async with (
        started(SERVICE, data, store="sqlite", **SETTINGS, **settings) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        metadata = (("authorization", f"Bearer {service.tokens['operator']}"),)
        yield Yard(data / "pods", JobServiceStub(channel), PodServiceStub(channel), metadata)


@asynccontextmanager
async def cleared(data: Path) -> AsyncIterator[Path]:
    """Nothing of it runs afterwards."""
    try:
        yield data
    finally:
        keeper = KeeperProcess.of(data / "pods")
        if keeper is not None:
            with keeper:
                keeper.end()
                keeper.end()
                async with asyncio.timeout(PATIENCE):
                    await keeper.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with cleared(tmp_path_factory.mktemp("jobs")) as data, opened(data) as found:
        yield found


def pod(command: str = "", **fields: Any) -> pod_pb2.PodSpec:
    """`fields` are the container's, but for those of the pod itself."""
    own = {name: fields.pop(name) for name in ("mesos_spec", "kill_grace_period_seconds") if name in fields}
    entrypoint = fields.pop("entrypoint", {"value": command})
    return pod_pb2.PodSpec(containers=[{"name": "main", "entrypoint": entrypoint, **fields}], **own)


def without_shell(*arguments: str) -> pod_pb2.PodSpec:
    return pod(entrypoint={"arguments": arguments}, mesos_spec={"shell": False})


_MEMORY = f"exec {shlex.quote(sys.executable)} -S -c 'bytearray(1 << 31)'"


@pytest.mark.parametrize(
    ("wanted", "reason", "said", "code", "signal"),
    [
        pytest.param(pod("exit 3"), "", "Command exited with status 3", 3, "", id="an exit code"),
        pytest.param(pod("kill -SEGV $$"), "", "signal SIGSEGV", 0, "SIGSEGV", id="a signal"),
        pytest.param(pod("no-such-program"), "", "status 127", 127, "", id="unknown to the shell"),
        pytest.param(without_shell("/no/such/file"), LAUNCH, "No such file", 0, "", id="no such file"),
        pytest.param(without_shell("/etc"), LAUNCH, "denied", 0, "", id="a folder"),
        pytest.param(without_shell(""), LAUNCH, "", 0, "", id="an empty name"),
        pytest.param(without_shell("/bin/true", "x" * 3_000_000), LAUNCH, "too long", 0, "", id="arguments too long"),
        pytest.param(
            pod("true", environment=[{"name": "BIG", "value": "x" * 3_000_000}]), LAUNCH, "too long", 0, "",
            id="environment too long",
        ),
        pytest.param(
            pod(_MEMORY, resource={"mem_limit_mb": 500}), "", "status 1", 1, "", id="more memory than it may"
        ),
        pytest.param(
            pod("true", resource={"mem_limit_mb": 0.001}), "", "", 0, "SIGSEGV", id="memory for nothing"
        ),
        pytest.param(
            pod("exec sleep 60", liveness_check={
                "enabled": True, "type": "HEALTH_CHECK_TYPE_COMMAND", "initial_interval_secs": 1,
                "interval_secs": 1, "max_consecutive_failures": 1, "command_check": {"command": "echo ill; exit 7"},
            }),
            "HEALTH_CHECK_FAILED", "ill", 0, "SIGTERM", id="a check that fails",
        ),
    ],
)  # fmt: skip
async def test_how_a_run_fails(
    yard: Yard, wanted: pod_pb2.PodSpec, reason: str, said: str, code: int, signal: str
) -> None:
    job = await yard.create(wanted)
    found = await until(lambda: yard.pod(job), lambda status: status.state == FAILED)
    ended = found.containers_status[0].terminationStatus
    assert (found.reason, ended.exit_code, ended.signal, found.failure_count) == (reason, code, signal, 1)
    request = pod_svc_pb2.GetPodEventsRequest(pod_name={"value": f"{job.job_id.value}-0"})
    newest = (await yard.pods.GetPodEvents(request, metadata=yard.metadata)).events[0]
    assert newest.actual_state == "POD_STATE_FAILED"
    assert newest.message and said in newest.message
    assert (await yard.status(job)).state == stateless.JOB_STATE_FAILED
    await yard.delete(job)


async def test_a_pod_that_ignores_its_stop_dies_after_its_grace(yard: Yard) -> None:
    stubborn = "trap '' TERM; echo > ready; while true; do sleep 0.05; done"
    job = await yard.create(pod(stubborn, kill_grace_period_seconds=1))
    ready = yard.home / f"{job.job_id.value}-0-1" / "ready"
    await until(lambda: asyncio.to_thread(ready.exists), bool)
    await yard.call("StopJob", pb.StopJobRequest(job_id=job.job_id, version=job.version))
    killing = await until(lambda: yard.pod(job), lambda status: status.state != RUNNING)
    assert killing.state == pod_pb2.POD_STATE_KILLING and yard.processes(job)
    found = await until(lambda: yard.pod(job), lambda status: status.state == KILLED)
    ended = found.containers_status[0].terminationStatus
    assert ended.reason == pod_pb2.TerminationStatus.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    assert ended.signal == "SIGKILL" and not yard.processes(job)
    assert (await yard.status(job)).state == stateless.JOB_STATE_KILLED
    await yard.delete(job)


async def test_a_job_of_many_does_not_bomb_the_host(yard: Yard) -> None:
    count = 300
    job = await yard.create(pod("exec sleep 9401"), count)

    async def stats() -> dict[str, int]:
        status = await yard.status(job)
        return {state: number for state, number in status.pod_stats.items() if number}

    expected = {"POD_STATE_RUNNING": MOST_PODS, "POD_STATE_PENDING": count - MOST_PODS}
    await until(stats, lambda found: found == expected)
    assert len(yard.processes(job)) == MOST_PODS
    spec = pod_pb2.QuerySpec(pod_states=[PENDING])
    waiting = await yard.call("QueryPods", pb.QueryPodsRequest(job_id=job.job_id, spec=spec))
    assert waiting.pagination.total == count - MOST_PODS
    assert {found.status.message for found in waiting.pods} == {
        f"The node runs {MOST_PODS} pods, which is all that it may (ROUNDHOUSE_JOBS_MAX_PODS)"
    }
    await yard.delete(job)
    assert not yard.processes(job)


async def test_a_stop_of_the_service_ends_pods_only_if_told_to(tmp_path: Path) -> None:
    async with cleared(tmp_path) as data:
        async with opened(data) as yard:
            command = "trap 'echo bye; exit' TERM; echo > ready; while true; do sleep 0.05; done"
            job = await yard.create(pod(command))
            first = yard.home / f"{job.job_id.value}-0-1"
            await until(lambda: asyncio.to_thread((first / "ready").exists), bool)
            before = yard.processes(job)
        assert before & yard.processes(job)
        async with opened(data, jobs_end_pods="true") as yard:
            found = await until(lambda: yard.pod(job), lambda status: status.state == RUNNING)
            assert found.pod_id.value.endswith("-0-1")
        assert not yard.processes(job) and KeeperProcess.of(data / "pods") is None
        assert (first / "stdout").read_text() == "bye\n"
        async with opened(data) as yard:
            found = await until(lambda: yard.pod(job), lambda status: status.state == RUNNING)
            assert found.pod_id.value.endswith("-0-2") and not found.failure_count
            await yard.delete(job)


def _constraint(kind: str, condition: str, requirement: int, key: str, value: str) -> pod_pb2.Constraint:
    return pod_pb2.Constraint(
        type=pod_pb2.Constraint.CONSTRAINT_TYPE_LABEL,
        label_constraint=pod_pb2.LabelConstraint(
            kind=f"LABEL_CONSTRAINT_KIND_{kind}",
            condition=f"LABEL_CONSTRAINT_CONDITION_{condition}",
            label={"key": key, "value": value},
            requirement=requirement,
        ),
    )


async def test_where_a_pod_may_run(yard: Yard) -> None:
    """Another host than this one, and one of a kind at a time."""
    wanted = pod("exec sleep 9402")
    wanted.constraint.CopyFrom(_constraint("HOST", "EQUAL", 1, "zone", "b"))
    job = await yard.create(wanted)
    found = await until(lambda: yard.pod(job), lambda status: status.state == PENDING and status.message)
    assert "another host" in found.message and "zone=a" in found.message
    assert (await yard.status(job)).state == stateless.JOB_STATE_PENDING
    spec = stateless.JobSpec(default_spec=pod("exec sleep 9403"), instance_count=2)
    spec.respool_id.value = id_of(DEFAULT_PATH)
    spec.default_spec.labels.add(key="app", value="web")
    spec.default_spec.constraint.CopyFrom(_constraint("POD", "LESS_THAN", 1, "app", "web"))
    # The update goes on from there, and waits in its turn.
    await yard.call("ReplaceJob", pb.ReplaceJobRequest(job_id=job.job_id, version=job.version, spec=spec))
    status = await until(lambda: yard.status(job), lambda found: found.pod_stats["POD_STATE_RUNNING"] == 1)
    assert status.workflow_status.state == stateless.WORKFLOW_STATE_ROLLING_FORWARD
    assert len(yard.processes(job)) == 1
    await yard.delete(job)
