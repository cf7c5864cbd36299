"""A jobs service over real sockets, as its tests see it. Pods run in a scripted fake, and time passes
when a test says so.

One service serves many tests: each has jobs of its own (`Yard.job()`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import grpc
import grpc.aio
import pytest
import yarl
from google.protobuf.message import Message
from mongomock_motor import AsyncMongoMockClient

from services.jobs.api.pools import DEFAULT_PATH, id_of
from services.jobs.engine.controller import Controller
from services.jobs.runtime.fake import FakeEngine, FakeRuntime
from services.jobs.runtime.script import Script
from services.jobs.service import SERVICE, assemble
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2_grpc import PodServiceStub
from shared.pb.peloton.api.v1alpha.respool.svc.respool_svc_pb2_grpc import ResourcePoolServiceStub
from shared.pb.peloton.api.v1alpha.watch.svc.watch_svc_pb2_grpc import WatchServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.jobs.v1.logs_pb2_grpc import LogServiceStub
from shared.rpc.client import Failure, failure_of
from shared.service.config import Config
from shared.service.testing import TestService, started
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Kind
from tests.mongo_server import drop_database, new_database, server_url
from tests.patience import PATIENCE

WIRE = pytest.param("wire", marks=pytest.mark.mongo_server)
BACKENDS = ("memory", "sqlite", "mongomock", WIRE)
_BY = Author("test", "test:jobs:arrange")

# What pods do, by their command.
SCRIPTS: Mapping[str, Script] = {
    "run": Script(output=b"hello\n"),
    "run2": Script(output=b"hello again\n"),
    "slow start": Script(starts_after=30),
    "done": Script(lasts=10),
    "crash": Script(lasts=10, exit_code=3),
    "crash at once": Script(lasts=0, exit_code=3),
    "killed": Script(lasts=10, signal="SIGSEGV"),
    "no such file": Script(launch_error="no such file"),
    "stubborn": Script(ends_after=None),
    "slow end": Script(ends_after=5),
    "sick": Script(unhealthy_after=60),
    "lost": Script(lost_after=10),
}

JOB_RUNNING = stateless.JOB_STATE_RUNNING
RUNNING = pod_pb2.POD_STATE_RUNNING
STARTING = pod_pb2.POD_STATE_STARTING
KILLING = pod_pb2.POD_STATE_KILLING


@dataclass(frozen=True)
class Answer:
    """Of REST: the status and the JSON."""

    status: int
    body: Any
    headers: Any = field(repr=False)

    @property
    def ok(self) -> Any:
        assert self.status == 200, self.body
        return self.body

    def is_error(self, status: int, code: grpc.StatusCode, *words: str) -> None:
        """In the form of Google's APIs, saying `words`."""
        assert (self.status, self.body["code"]) == (status, code.value[0]), self.body
        assert [word for word in words if word not in self.body["message"]] == [], self.body


class Yard:
    """A running service and ways to call it, by default as an operator."""

    def __init__(
        self,
        service: TestService,
        engine: FakeEngine,
        http: aiohttp.ClientSession,
        channel: grpc.aio.Channel,
    ) -> None:
        self.service = service
        self.engine = engine
        self.http = http
        self.channel = channel
        self.pool = id_of(DEFAULT_PATH)
        self._stubs = [
            stub(channel)
            for stub in (
                JobServiceStub,
                PodServiceStub,
                WatchServiceStub,
                ResourcePoolServiceStub,
                LogServiceStub,
                AdminServiceStub,
            )
        ]
        self._numbers = itertools.count(1)

    @property
    def store(self) -> Any:
        return self.service.running.environment.store

    @property
    def controller(self) -> Controller:
        handler: Any = self.service.running.apis[0].methods[0].handler
        return handler.__self__._writer()

    def who(self, role: str = "operator") -> dict[str, str]:
        return {"authorization": f"Bearer {self.service.tokens[role]}"}

    def method(self, name: str) -> Any:
        """Of whichever service has it."""
        return next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))

    async def call(self, name: str, request: Message, *, role: str = "operator") -> Any:
        """The answer; of a stream all of its messages."""
        call = self.method(name)(request, metadata=tuple(self.who(role).items()), timeout=PATIENCE)
        if hasattr(call, "__aiter__") and not hasattr(call, "__await__"):
            return [message async for message in call]
        return await call

    async def fails(
        self, code: grpc.StatusCode, name: str, request: Message, *said: str, role: str = "operator"
    ) -> Failure:
        """How the call fails: with `code`, naming or saying each of `said`."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, request, role=role)
        failure = failure_of(caught.value)
        assert failure.code is code, failure
        fields = {violation.field for violation in failure.violations}
        assert [text for text in said if text not in fields and text not in failure.message] == [], failure
        return failure

    async def rest(
        self, verb: str, path: str, body: Any = None, *, role: str = "operator", **query: Any
    ) -> Answer:
        """`path` goes out as it stands, `query` is encoded behind it. Of a stream a list of its lines."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = "?" + urlencode(query, doseq=True, quote_via=quote) if query else ""
        url = yarl.URL(self.service.url + path + asked, encoded=True)
        async with self.http.request(verb, url, data=data, headers=self.who(role)) as got:
            text = await got.read()
            if not got.headers["Content-Type"].startswith("application/json"):
                return Answer(got.status, text, got.headers)
            if got.headers.get("Transfer-Encoding") == "chunked":
                return Answer(got.status, [json.loads(line) for line in text.splitlines()], got.headers)
            return Answer(got.status, json.loads(text), got.headers)

    async def apply(self, *, prune: bool = False, **lists: list[dict[str, Any]]) -> int:
        """A manifest; answers the revision."""
        request = admin_pb2.ApplyRequest(manifest=json.dumps(lists), prune=prune)
        return (await self.call("Apply", request)).revision

    async def advance(self, seconds: float) -> None:
        """Time passes, and everybody looks at the clock."""
        self.engine.advance(seconds)
        self.controller.wake()

    # -- jobs

    def spec(self, command: str = "run", count: int = 2, **fields: Any) -> stateless.JobSpec:
        """See `job_spec`."""
        return job_spec(command, count, pool=fields.pop("pool", self.pool), **fields)

    async def job(self, command: str = "run", count: int = 2, *, settle: bool = True, **fields: Any) -> Job:
        """A new job; with `settle` once its creation is over. `create_spec` and `opaque` go with the
        request, further `fields` into the spec."""
        request = pb.CreateJobRequest(create_spec=fields.pop("create_spec", None))
        if "opaque" in fields:
            request.opaque_data.data = fields.pop("opaque")
        fields.setdefault("name", f"job-{next(self._numbers)}")
        request.spec.CopyFrom(self.spec(command, count, **fields))
        answer = await self.call("CreateJob", request)
        found = Job(self, answer.job_id.value, answer.version.value)
        if settle:
            await found.until_over()
        return found


def job_spec(
    command: str = "run", count: int = 2, *, pool: str, checked: bool = False, **fields: Any
) -> stateless.JobSpec:
    """`resource` and `environment` go into the container, `labels` (a mapping) to the job, `checked` adds
    a liveness check; the other `fields` are those of JobSpec."""
    resource, environment = fields.pop("resource", None), fields.pop("environment", {})
    labels = fields.pop("labels", {})
    spec = stateless.JobSpec(instance_count=count, **fields)
    spec.respool_id.value = pool
    container = spec.default_spec.containers.add(name="main")
    container.entrypoint.value = command
    if resource is not None:
        container.resource.CopyFrom(pod_pb2.ResourceSpec(**resource))
    for key, value in environment.items():
        container.environment.add(name=key, value=value)
    for key, value in labels.items():
        spec.labels.add(key=key, value=value)
    if checked:
        check = container.liveness_check
        check.enabled = True
        check.type = pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
        check.command_check.command = "true"
    return spec


@dataclass
class Job:
    """One job, and the entity version that its tests believe it to be at."""

    yard: Yard
    id: str
    version: str

    # -- asking

    def ask(self, request: Any, *, version: str | None = None, **fields: Any) -> Any:
        """A request about it: with its id, its version and `fields`."""
        found = request(**fields)
        found.job_id.value = self.id
        if "version" in found.DESCRIPTOR.fields_by_name and version != "":
            found.version.value = self.version if version is None else version
        return found

    async def _change(self, name: str, request: Any, version: str | None, **fields: Any) -> str:
        answer = await self.yard.call(name, self.ask(request, version=version, **fields))
        self.version = answer.version.value
        return self.version

    async def replace(self, spec: stateless.JobSpec, *, version: str | None = None, **how: Any) -> str:
        opaque = _opaque(how)
        update = stateless.UpdateSpec(**how)
        return await self._change(
            "ReplaceJob", pb.ReplaceJobRequest, version, spec=spec, update_spec=update, **opaque
        )

    async def patch(self, spec: stateless.JobSpec, *, version: str | None = None, **how: Any) -> str:
        update = stateless.UpdateSpec(**how)
        return await self._change("PatchJob", pb.PatchJobRequest, version, spec=spec, update_spec=update)

    async def restart(self, *spans: tuple[int, int], version: str | None = None, **how: Any) -> str:
        opaque = _opaque(how)
        wanted = stateless.RestartSpec(ranges=[span(*bounds) for bounds in spans], **how)
        return await self._change("RestartJob", pb.RestartJobRequest, version, restart_spec=wanted, **opaque)

    async def pause(self, **how: Any) -> str:
        return await self._change("PauseJobWorkflow", pb.PauseJobWorkflowRequest, None, **_opaque(how))

    async def resume(self, **how: Any) -> str:
        return await self._change("ResumeJobWorkflow", pb.ResumeJobWorkflowRequest, None, **_opaque(how))

    async def abort(self, **how: Any) -> str:
        return await self._change("AbortJobWorkflow", pb.AbortJobWorkflowRequest, None, **_opaque(how))

    async def start(self) -> str:
        return await self._change("StartJob", pb.StartJobRequest, None)

    async def stop(self, *, wait: bool = True) -> str:
        version = await self._change("StopJob", pb.StopJobRequest, None)
        if wait:
            await self.until_state(stateless.JOB_STATE_KILLED)
        return version

    async def delete(self, *, force: bool = True, wait: bool = True) -> None:
        await self.yard.call("DeleteJob", self.ask(pb.DeleteJobRequest, force=force))
        if wait:
            await self.until_gone()

    # -- looking

    async def get(self, version: str = "", **fields: Any) -> pb.GetJobResponse:
        return await self.yard.call("GetJob", self.ask(pb.GetJobRequest, version=version, **fields))

    async def exists(self) -> bool:
        try:
            await self.get()
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return False
        return True

    async def spec(self) -> stateless.JobSpec:
        return (await self.get()).job_info.spec

    async def status(self) -> stateless.JobStatus:
        return (await self.get()).job_info.status

    async def workflow(self) -> stateless.WorkflowInfo:
        return (await self.get()).workflow_info

    async def workflows(self, **fields: Any) -> list[stateless.WorkflowInfo]:
        request = self.ask(pb.ListJobWorkflowsRequest, **fields)
        return list((await self.yard.call("ListJobWorkflows", request)).workflow_infos)

    async def pods(self) -> dict[int, pod_pb2.PodStatus]:
        """By instance."""
        found = await self.yard.call("ListPods", self.ask(pb.ListPodsRequest))
        return {
            int(pod.pod_name.value.rpartition("-")[2]): pod.status for batch in found for pod in batch.pods
        }

    async def runs(self) -> dict[int, int]:
        """The number of the current run of each instance."""
        return {i: int(status.pod_id.value.rpartition("-")[2]) for i, status in (await self.pods()).items()}

    async def pod(self, instance: int = 0) -> pod_pb2.PodStatus:
        return (await self.pods())[instance]

    def pod_name(self, instance: int = 0) -> str:
        return f"{self.id}-{instance}"

    def pod_id(self, instance: int = 0, run: int = 1) -> str:
        return f"{self.id}-{instance}-{run}"

    async def about_pod(self, name: str, request: Any, instance: int = 0, **fields: Any) -> Any:
        """A call of PodService."""
        asked = request(**fields)
        asked.pod_name.value = self.pod_name(instance)
        return await self.yard.call(name, asked)

    async def start_pod(self, instance: int = 0) -> None:
        await self.about_pod("StartPod", pod_svc_pb2.StartPodRequest, instance)

    async def stop_pod(self, instance: int = 0) -> None:
        await self.about_pod("StopPod", pod_svc_pb2.StopPodRequest, instance)

    # -- waiting: seconds may pass with each look

    async def until_over(
        self, state: int = stateless.WORKFLOW_STATE_SUCCEEDED, *, passing: float = 0
    ) -> stateless.WorkflowInfo:
        """Until its workflow is over; it must have come to `state`."""
        found = await self._until(self.workflow, lambda found: found.status.state in _OVER, passing)
        assert found.status.state == state, found
        return found

    async def until_workflow(self, state: int) -> stateless.WorkflowInfo:
        return await until(self.workflow, lambda found: found.status.state == state)

    async def until_flying(self, *instances: int, state: int = 0) -> stateless.WorkflowInfo:
        """Once exactly these are in flight, and, if `state` says so, in that state."""
        found = await until(
            self.workflow, lambda found: list(found.status.instances_current) == list(instances)
        )
        for instance in instances if state else ():
            await self.until_pod(state, instance)
        return found

    async def until_state(self, state: int, *, passing: float = 0) -> stateless.JobStatus:
        return await self._until(self.status, lambda found: found.state == state, passing)

    async def until_pod(
        self, state: int, instance: int = 0, run: int | None = None, *, passing: float = 0
    ) -> pod_pb2.PodStatus:
        """Until the pod is in that state, in that run."""
        wanted = None if run is None else self.pod_id(instance, run)

        async def read() -> pod_pb2.PodStatus | None:
            return (await self.pods()).get(instance)

        def done(found: pod_pb2.PodStatus | None) -> bool:
            return found is not None and found.state == state and wanted in (None, found.pod_id.value)

        return await self._until(read, done, passing)

    async def until_gone(self, *, passing: float = 0) -> None:
        await self._until(self.exists, lambda found: not found, passing)

    async def _until(
        self, read: Callable[[], Awaitable[Any]], done: Callable[[Any], bool], passing: float
    ) -> Any:
        async def look() -> Any:
            if passing:
                await self.yard.advance(passing)
            return await read()

        return await until(look, done)


_OVER = frozenset(
    {
        stateless.WORKFLOW_STATE_SUCCEEDED,
        stateless.WORKFLOW_STATE_FAILED,
        stateless.WORKFLOW_STATE_ABORTED,
        stateless.WORKFLOW_STATE_ROLLED_BACK,
    }
)


def span(begin: int, end: int) -> pod_pb2.InstanceIDRange:
    """Half-open."""
    return pod_pb2.InstanceIDRange(**{"from": begin, "to": end})


def spans(found: Iterable[pod_pb2.InstanceIDRange]) -> list[tuple[int, int]]:
    return [(getattr(one, "from"), one.to) for one in found]


def _opaque(how: dict[str, Any]) -> dict[str, Any]:
    if "opaque" not in how:
        return {}
    return {"opaque_data": {"data": how.pop("opaque")}}


async def until(read: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
    """What `read` answers once it is `done`."""
    found: Any = None
    try:
        async with asyncio.timeout(PATIENCE):
            while not done(found := await read()):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it never came to that: {found}") from None
    return found


@asynccontextmanager
async def opened(
    data: Path, backend: Any = "memory", *, engine: FakeEngine | None = None, **settings: Any
) -> AsyncIterator[Yard]:
    """The service on `backend`, a name or a store, at the time that its engine says."""
    engine = engine or FakeEngine(SCRIPTS)
    # Open streams look at the real clock, too: begin now.
    engine.advance(max(0.0, (time.time_ns() - engine.clock()) / 1e9))
    settings = {"store": backend, "clock": engine.clock, **settings}
    database = ""
    if backend == "mongomock":
        settings["store"] = mongo(AsyncMongoMockClient(), "jobs", engine.clock)
    elif backend == "wire":
        url, database = await asyncio.to_thread(server_url), new_database()
        settings["store"] = mongo(url, database, engine.clock)
    service = dataclasses.replace(SERVICE, assemble=partial(assemble, runtime=FakeRuntime(engine)))
    try:
        async with (
            started(service, data, **settings) as running,
            aiohttp.ClientSession() as http,
            grpc.aio.insecure_channel(running.target) as channel,
        ):
            for role in running.tokens:
                # Much time passes in tests.
                access = running.running.environment.access
                token, _ = await access.issue(role, role, timedelta(days=365), creator="test", by=_BY)
                running.tokens[role] = token
            yield Yard(running, engine, http, channel)
    finally:
        if database:
            await asyncio.to_thread(drop_database, url, database)


def stored_kinds(clock: Callable[[], int]) -> list[Kind]:
    """What a store of this service keeps."""
    definitions = SERVICE.definitions(Config.load({}), clock, lambda: "")
    return [*(definition.storage() for definition in definitions), *SERVICE.kinds]


def mongo(client: Any, database: str, clock: Callable[[], int]) -> MongoStore:
    return MongoStore(client, database, stored_kinds(clock), clock=clock)
