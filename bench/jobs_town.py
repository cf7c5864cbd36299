"""Jobs for measurements: callers of a jobs service whose pods only pretend to run, and what its store
alone takes for the same commits."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import grpc
import grpc.aio

from bench import processes
from bench.client import BadAnswer
from bench.processes import Server
from bench.rounds import Sample
from services.jobs import kinds, machines
from services.jobs.api import lifecycle
from services.jobs.api.pools import DEFAULT_PATH, id_of
from services.jobs.service import SERVICE
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.peloton_pb2 import OpaqueData
from shared.rpc.client import bearer
from shared.service.config import Config
from shared.storage.port import Author, Delete, Expect, Put, Query
from shared.storage.sqlite import SqliteStore

_BY: Final = Author("bench", "bench:job:create")
_TIMEOUT: Final = 600.0
_PAUSE: Final = 0.05
_SEEDED: Final = 1_000
_BEGINNING: Final = 1_700_000_000_000_000_000


def spec(instances: int, note: str = "", name: str = "shop") -> stateless.JobSpec:
    """`note` makes it another one."""
    found = stateless.JobSpec(name=name, owner="team-a", instance_count=instances)
    found.respool_id.value = id_of(DEFAULT_PATH)
    container = found.default_spec.containers.add(name="main")
    container.entrypoint.value = "sleep 1000"
    container.environment.add(name="NOTE", value=note)
    return found


def job_id(number: int) -> str:
    return str(uuid.UUID(int=0x10B << 112 | 4 << 76 | 8 << 60 | number))


@contextmanager
def service(place: Path) -> Iterator[Server]:
    """Pods run at once and for ever, and take no room."""
    place.mkdir(parents=True, exist_ok=True)
    with processes.service("jobs", place, jobs_runtime="fake", jobs_launch_rate="1000000") as server:
        yield server


class Town:
    """A jobs service and its callers."""

    def __init__(self, server: Server, place: Path) -> None:
        self.server = server
        self.place = place
        self._metadata = bearer((place / "operator.token").read_text().strip())

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.ports['grpc']}")
        self._stub = JobServiceStub(self._channel)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._channel.close(None)

    async def call(self, name: str, request: Any) -> Any:
        """Raises BadAnswer."""
        try:
            return await getattr(self._stub, name)(request, metadata=self._metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise BadAnswer(f"{name}: {error.code().name} {error.details()}") from error

    async def create(self, id: str, wanted: stateless.JobSpec) -> None:
        request = pb.CreateJobRequest(spec=wanted)
        request.job_id.value = id
        await self.call("CreateJob", request)

    async def replace(self, id: str, wanted: stateless.JobSpec, batch: int) -> None:
        request = pb.ReplaceJobRequest(spec=wanted, update_spec={"batch_size": batch})
        request.job_id.value = id
        request.version.value = (await self.status(id)).version.value
        await self.call("ReplaceJob", request)

    async def status(self, id: str) -> stateless.JobStatus:
        request = pb.GetJobRequest(summary_only=True)
        request.job_id.value = id
        return (await self.call("GetJob", request)).summary.status

    async def settled(self, id: str) -> None:
        """Its workflow has come to an end."""
        async with asyncio.timeout(_TIMEOUT):
            while True:
                if await self._over(id):
                    return
                await asyncio.sleep(_PAUSE)

    async def _over(self, id: str) -> bool:
        return (await self.status(id)).workflow_status.state == stateless.WORKFLOW_STATE_SUCCEEDED

    async def revision(self) -> int:
        """Of the newest commit."""
        async with _store(self.place / "jobs.db") as store:
            return await store.head()

    async def taken(self, units: int, work: Callable[[], Awaitable[object]]) -> Sample:
        """What `work` cost the service, which does so many `units`."""
        cpu, begun = self.server.cpu(), time.perf_counter()
        await work()
        return Sample(units, time.perf_counter() - begun, max(self.server.cpu() - cpu, 0.01))


async def replayed(town: Town, after: int, units: int, into: Path) -> Sample:
    """The commits of the service since revision `after` made once more, one after the other, by a loop
    on another file that has what was there before; what that costs."""
    async with _store(town.place / "jobs.db") as source, _store(into) as copy:
        await _copied(source, copy, after)
        commits = await _commits(source, after)
        cpu, begun = time.process_time(), time.perf_counter()
        for changes in commits:
            await copy.commit(changes, by=_BY)
        return Sample(units, time.perf_counter() - begun, max(time.process_time() - cpu, 0.01))


async def _commits(source: SqliteStore, after: int) -> list[list[Put | Delete]]:
    found: list[list[Put | Delete]] = []
    while commits := await source.changes(after, 256):
        for commit in commits:
            after = commit.revision
            found.append(
                [
                    Put(change.kind, change.name, change.after, change.parent, Expect.ANY)
                    if change.after is not None
                    else Delete(change.kind, change.name, Expect.ANY)
                    for change in commit.changes
                ]
            )
    return found


async def _copied(source: SqliteStore, copy: SqliteStore, at: int) -> None:
    for kind in source.kinds:
        async with aclosing(source.scan(Query(kind), at=at)) as records:
            puts = [Put(kind, row.name, row.body, row.parent) async for row in records]
        for begin in range(0, len(puts), _SEEDED):
            await copy.commit(puts[begin : begin + _SEEDED], by=_BY)


async def seed(place: Path, count: int) -> None:
    """So many jobs of which nothing is to be done, though they say that they run."""
    async with _store(place / "jobs.db") as store:
        for begin in range(0, count, _SEEDED):
            changes = [_seeded(number) for number in range(begin, min(count, begin + _SEEDED))]
            await store.commit(changes, by=_BY)


def _seeded(number: int) -> Put:
    wanted = spec(3, name=f"shop-{number * 7919 % 1_000_000:06d}")
    made = lifecycle.create(
        job_id(number), wanted, stateless.CreateSpec(), OpaqueData(), "bench", _BEGINNING + number
    )
    job = made.job
    job.settled = True
    job.state = machines.J_KILLED if number % 10 == 0 else machines.J_RUNNING
    return Put(kinds.JOB, job.id, job.SerializeToString(deterministic=True))


@asynccontextmanager
async def _store(path: Path) -> Any:
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "")
    store = SqliteStore(path, [*(definition.storage() for definition in definitions), *SERVICE.kinds])
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
