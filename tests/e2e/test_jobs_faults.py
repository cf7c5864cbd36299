"""Jobs of real processes while the service, or the keeper of its pods, is killed with -9.

Each run of an instance holds a lock of the kernel until its last process is dead: so two at once tell on
each other, however short the moment. It writes numbered lines, and a last one when it is asked to end.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from services.jobs.api.pools import DEFAULT_PATH, id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2_grpc import PodServiceStub
from shared.pb.roundhouse.jobs.v1 import logs_pb2
from shared.pb.roundhouse.jobs.v1.logs_pb2_grpc import LogServiceStub
from tests.contract import keeper_yard
from tests.process import started, token

T = TypeVar("T")
Scale = Callable[[Any, Any], Any]
PATIENCE = 120.0
PAUSE = 0.05
# What a service that is not there, or is about to end, answers.
GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
RUN = r"""
i=0
trap 'echo end $i; exit 0' TERM
exec 9> "$YARD/lock-$INSTANCE_ID"
flock -n 9 || echo "$POD_ID" >> "$YARD/doubled"
echo "$POD_ID" >> "$YARD/begun"
setsid sleep 86400 &
while true; do i=$((i+1)); echo $i; sleep 1; done
"""
OVER = frozenset(
    {
        stateless.WORKFLOW_STATE_SUCCEEDED,
        stateless.WORKFLOW_STATE_FAILED,
        stateless.WORKFLOW_STATE_ABORTED,
        stateless.WORKFLOW_STATE_ROLLED_BACK,
    }
)


class Down(Exception):
    """The service does not run just now."""


class Victim:
    """A service on the folder `data` that is killed now and then, and its callers."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.kills = 0
        self._stubs: list[Any] = []
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._life: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._life = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def kill(self) -> None:
        """With signal 9, though it may not be ready yet; another one is started."""
        await self.__aexit__()
        self.kills += 1
        await self.__aenter__()

    async def _live(self) -> None:
        settings = {
            "jobs_allow_root": "true",
            "jobs_launch_rate": "1000",
            "jobs_first_backoff": "100ms",
            "jobs_longest_backoff": "1s",
        }
        # It is killed by signal 9 however the block is left.
        async with started("jobs", self.data, **settings) as process:
            self._metadata = (("authorization", f"Bearer {await token(self.data)}"),)
            async with grpc.aio.insecure_channel(process.target) as channel:
                self._stubs = [stub(channel) for stub in (JobServiceStub, PodServiceStub, LogServiceStub)]
                try:
                    await process.process.wait()
                finally:
                    self._stubs = []

    async def once(self, name: str, request: Message) -> Any:
        """Of a stream a list. Raises Down when there is no answer; then it may have been done."""
        try:
            method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))
        except StopIteration:
            if self._life.done():
                await self._life
            raise Down from None
        try:
            call = method(request, metadata=self._metadata, timeout=20)
            return await call if hasattr(call, "__await__") else [message async for message in call]
        except grpc.aio.AioRpcError as error:
            if error.code() in GONE:
                raise Down from error
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Its channel was closed.
            raise Down from None

    async def ask(self, name: str, request: Message) -> Any:
        """Until there is an answer: for what may be asked twice."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(Down):
                    return await self.once(name, request)
                await asyncio.sleep(PAUSE)

    async def until(self, read: Callable[[], Awaitable[T]], done: Callable[[T], bool]) -> T:
        deadline = time.monotonic() + PATIENCE
        while not done(found := await read()):
            assert time.monotonic() < deadline, f"it never came to that: {found}"
            await asyncio.sleep(PAUSE)
        return found


@dataclass
class Watchman:
    """Looks at all processes of the host for the runs that bear `mark`, again and again."""

    mark: str
    looks: int = 0
    most: int = 0
    twice: list[str] = field(default_factory=list)

    def alive(self) -> dict[str, list[int]]:
        """Processes by pod id; zombies are none."""
        found: dict[str, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (pod_id := self._bears(entry)):
                found.setdefault(pod_id, []).append(int(entry.name))
        return found

    def _bears(self, process: Path) -> str:
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return ""
        if f"MARK={self.mark}".encode() not in variables:
            return ""
        return next((v[7:].decode() for v in variables if v.startswith(b"POD_ID=")), "")

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(PAUSE)

    def look(self) -> None:
        found = self.alive()
        self.looks += 1
        self.most = max(self.most, len(found))
        instances = Counter(pod_id.rpartition("-")[0] for pod_id in found)
        for instance in (name for name, count in instances.items() if count > 1):
            # A look takes time: one of them may have ended before the other was seen.
            runs = {pod_id: pids for pod_id, pids in found.items() if pod_id.rpartition("-")[0] == instance}
            still = [id for id, pids in runs.items() if any(self._bears(Path(f"/proc/{p}")) for p in pids)]
            if len(still) > 1:
                self.twice.append(f"{still} were alive at once")


class Stage:
    """One job of `count` instances, told what to do while the service is killed."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        self.folder = folder
        self.count = count
        # Seconds of work within which the service is killed.
        self.span = 1.5 + count / 40
        self.random = random.Random(seed)
        self.victim = Victim(folder)
        self.watchman = Watchman(secrets.token_hex(8))
        self.id = str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    # -- what may be asked for

    def spec(self, note: str, **container: Any) -> stateless.JobSpec:
        """`note` makes it another one than before."""
        found = stateless.JobSpec(name="faults", instance_count=self.count)
        found.respool_id.value = id_of(DEFAULT_PATH)
        found.default_spec.kill_grace_period_seconds = 20
        one = found.default_spec.containers.add(name="main", **container)
        if not one.entrypoint.value:
            one.entrypoint.value = RUN
        for key, value in (("MARK", self.watchman.mark), ("YARD", str(self.folder)), ("NOTE", note)):
            one.environment.add(name=key, value=value)
        return found

    def broken(self) -> stateless.JobSpec:
        found = self.spec("broken", entrypoint={"value": "/no/such/program"})
        found.default_spec.mesos_spec.shell = False
        found.default_spec.mesos_spec.SetInParent()
        return found

    def sick(self) -> stateless.JobSpec:
        check = pod_pb2.HealthCheckSpec(
            enabled=True,
            type=pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND,
            command_check={"command": "exit 1"},
            initial_interval_secs=1,
            interval_secs=1,
            max_consecutive_failures=1,
        )
        return self.spec("sick", liveness_check=check)

    async def create(self, batch: int) -> None:
        request = pb.CreateJobRequest(spec=self.spec("1"), create_spec={"batch_size": batch})
        request.job_id.value = self.id
        try:
            await self.victim.ask("CreateJob", request)
        except grpc.aio.AioRpcError as error:
            # It was done the first time, and nobody was left to say so.
            assert error.code() is grpc.StatusCode.ALREADY_EXISTS

    async def replace(self, spec: stateless.JobSpec, batch: int) -> None:
        how = stateless.UpdateSpec(
            batch_size=batch,
            rollback_on_failure=True,
            max_instance_retries=1,
            max_tolerable_instance_failures=1,
        )
        await self.change("ReplaceJob", pb.ReplaceJobRequest(spec=spec, update_spec=how))

    async def restart(self, batch: int) -> None:
        await self.change("RestartJob", pb.RestartJobRequest(restart_spec={"batch_size": batch}))

    async def change(self, name: str, request: Any) -> None:
        """Exactly once, whoever dies meanwhile."""
        request.job_id.value = self.id
        request.version.value = before = await self.version()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.victim.once(name, request)
                    return
                except Down:
                    await asyncio.sleep(PAUSE)
                if await self.version() != before:
                    return

    async def delete(self) -> None:
        """Until nothing is left of it."""
        await self.change("DeleteJob", pb.DeleteJobRequest(force=True))

        async def exists() -> bool:
            try:
                await self.job()
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                return False
            return True

        await self.victim.until(exists, lambda found: not found)

    # -- what can be seen

    async def job(self) -> pb.GetJobResponse:
        request = pb.GetJobRequest()
        request.job_id.value = self.id
        return await self.victim.ask("GetJob", request)

    async def version(self) -> str:
        """Of what was asked for: rollouts bring about configurations of their own, and are over here."""
        return (await self.job()).job_info.status.version.value

    async def pods(self) -> dict[int, pod_pb2.PodStatus]:
        request = pb.ListPodsRequest()
        request.job_id.value = self.id
        found = await self.victim.ask("ListPods", request)
        return {
            int(one.pod_name.value.rpartition("-")[2]): one.status for batch in found for one in batch.pods
        }

    async def over(self) -> stateless.WorkflowStatus:
        """The workflow that has come to its end."""

        async def read() -> stateless.WorkflowStatus:
            return (await self.job()).workflow_info.status

        return await self.victim.until(read, lambda status: status.state in OVER)

    async def settled(self) -> dict[int, pod_pb2.PodStatus]:
        """Once every instance runs."""

        def all_run(pods: dict[int, pod_pb2.PodStatus]) -> bool:
            running = [p for p in pods.values() if p.state == pod_pb2.POD_STATE_RUNNING]
            return len(running) == self.count == len(pods)

        return await self.victim.until(self.pods, all_run)

    async def log(self, pod_id: str) -> list[str]:
        request = logs_pb2.ReadLogRequest()
        request.pod_name.value, request.pod_id.value = pod_id.rpartition("-")[0], pod_id
        chunks = await self.victim.ask("ReadLog", request)
        return b"".join(chunk.data for chunk in chunks).decode().splitlines()

    async def runs(self, instance: int) -> list[pod_pb2.PodStatus]:
        """Those that are kept, newest first."""
        request = pod_svc_pb2.GetPodRequest(status_only=True)
        request.pod_name.value = f"{self.id}-{instance}"
        found = await self.victim.ask("GetPod", request)
        return [found.current.status, *(info.status for info in found.previous)]

    def written(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    # -- what must hold

    async def check_runs(self) -> set[int]:
        """Whole logs, nothing twice, nothing too much. Answers the ends of runs before the present."""
        pods = await self.settled()
        assert {pod.pod_id.value for pod in pods.values()} == set(self.watchman.alive())
        begun = self.written("begun")
        assert [id for id, count in Counter(begun).items() if count > 1] == []
        ends: set[int] = set()
        for instance in range(self.count):
            runs = await self.runs(instance)
            numbers = [int(run.pod_id.value.rpartition("-")[2]) for run in runs]
            assert numbers == sorted(numbers, reverse=True)
            for run in runs:
                if run.pod_id.value in begun:
                    self._check_log(run, await self.log(run.pod_id.value))
            ends |= {run.state for run in runs[1:]}
        self.check_watch()
        return ends

    def _check_log(self, run: pod_pb2.PodStatus, lines: list[str]) -> None:
        """Each line once and in order; the last one of a run that was asked to end is there."""
        numbers = [line for line in lines if line.isdigit()]
        assert numbers == [str(number + 1) for number in range(len(numbers))], (run, lines)
        asked = run.state not in (pod_pb2.POD_STATE_RUNNING, pod_pb2.POD_STATE_LOST)
        assert lines[len(numbers) :] == ([f"end {len(numbers)}"] if asked else []), (run, lines)

    def check_watch(self) -> None:
        assert self.written("doubled") == []
        assert self.watchman.twice == []

    # -- how it goes

    async def perform(
        self, kills: int, ask: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[T]]
    ) -> T:
        """Ask, and see the end of it, while the service is killed so many times, at any moment."""

        async def act() -> T:
            await ask()
            return await end()

        acting = asyncio.create_task(act())
        for _ in range(kills):
            await asyncio.wait({acting}, timeout=self.random.uniform(0, self.span))
            await self.victim.kill()
        return await acting


@pytest.fixture
def folder() -> Iterator[Path]:
    """Whatever runs there is ended."""
    with keeper_yard.yard() as home:
        yield home.parent


@asynccontextmanager
async def staged(folder: Path, count: int, seed: int = 1) -> AsyncIterator[Stage]:
    stage = Stage(folder, count, seed)
    watching = asyncio.create_task(stage.watchman.watch())
    try:
        async with stage.victim:
            yield stage
        assert not watching.done(), watching
        assert stage.watchman.looks > 10
    finally:
        watching.cancel()


@pytest.mark.parametrize("seed", [1])
async def test_a_killed_service_loses_and_doubles_nothing(folder: Path, scale: Scale, seed: int) -> None:
    count, batch = scale(40, 200), scale(10, 40)
    async with staged(folder, count, seed) as stage:
        good, bad = stage.spec("2"), stage.broken()
        created = await stage.perform(scale(1, 2), lambda: stage.create(batch), stage.over)
        assert created.state == stateless.WORKFLOW_STATE_SUCCEEDED
        updated = await stage.perform(scale(1, 2), lambda: stage.replace(good, batch), stage.over)
        assert updated.state == stateless.WORKFLOW_STATE_SUCCEEDED
        for spec in (bad, stage.sick()):
            back = await stage.perform(scale(1, 2), partial(stage.replace, spec, batch), stage.over)
            assert back.state == stateless.WORKFLOW_STATE_ROLLED_BACK
        if scale(False, True):
            await stage.perform(2, lambda: stage.restart(batch), stage.over)
        ends = await stage.check_runs()
        assert pod_pb2.POD_STATE_LOST not in ends
        assert {pod_pb2.POD_STATE_KILLED, pod_pb2.POD_STATE_FAILED} <= ends
        found = (await stage.job()).job_info
        assert found.spec.default_spec.containers[0] == good.default_spec.containers[0]
        assert found.status.pod_stats["POD_STATE_RUNNING"] == count
        assert {pod.version.value for pod in (await stage.pods()).values()} == {
            f"{found.spec.revision.version}-0-0"
        }
        await stage.delete()
        assert stage.watchman.alive() == {}
        stage.check_watch()
        assert stage.victim.kills == scale(4, 10)


async def test_a_killed_keeper_loses_its_pods_and_they_run_again(folder: Path, scale: Scale) -> None:
    count = scale(20, 200)
    async with staged(folder, count, 1) as stage:
        await stage.create(0)
        await stage.over()
        before = await stage.settled()
        await keeper_yard.kill_keeper(folder / "pods")
        # The service, which was not killed, finds another one.
        await stage.victim.until(
            stage.pods,
            lambda pods: all(pod.pod_id.value != before[i].pod_id.value for i, pod in pods.items()),
        )
        assert await stage.check_runs() == {pod_pb2.POD_STATE_LOST}
        assert {pod.pod_id.value.rpartition("-")[2] for pod in (await stage.pods()).values()} == {"2"}
        assert {pod.failure_count for pod in (await stage.pods()).values()} == {0}
        await stage.delete()
        assert stage.watchman.alive() == {}
        stage.check_watch()
