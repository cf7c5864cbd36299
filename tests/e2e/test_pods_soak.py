"""A large export while pods are written: whole, of one revision, in bounded memory, beside others."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from services.pods.kinds import POD
from services.pods.service import SERVICE
from services.pods.stored import body_of
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.api.v1.pod_service_pb2_grpc import PodServiceStub
from shared.pb.api.v1.search_service_pb2 import RawQuery
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as feed
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2_grpc import PodFeedServiceStub
from shared.pb.storage.pod_pb2 import Pod
from shared.service.config import Config
from shared.storage.port import Author, Put
from shared.storage.sqlite import SqliteStore
from tests.contract.pods_yard import CLUSTER, EXPORT, OTHER, id_of, pod
from tests.process import Process, started, token

# Pods that every write changes, all in one revision: in one snapshot they agree.
GROUP = 50
# Seconds for an export that waits for a writer eighty times.
PATIENCE = 1800
Read = Callable[[Any], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GROUP_FROM, EXTRA_FROM = 10_000_000, 20_000_000
MEGABYTE = 1 << 20


def padded(number: int, name: str, cluster: str = CLUSTER) -> Pod:
    found = pod(number, name=name, cluster_id=cluster)
    found.live_instances[0].termination_reason = "x" * 300
    return found


async def fill(data: Path, count: int) -> None:
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "")
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    data.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(data / "pods.db", kinds)
    await store.open()
    try:
        for start in range(0, count, 2000):
            bodies = (
                body_of(padded(n, f"web-{n}"), "import", 1) for n in range(start, min(count, start + 2000))
            )
            puts = [Put(POD, id_of(start + n), body) for n, body in enumerate(bodies)]
            await store.commit(puts, by=Author("test"))
    finally:
        await store.close()


class Suite:
    """The process, with somebody who writes and somebody who asks all the time."""

    def __init__(self, process: Process, bearer: str, channel: grpc.aio.Channel, echo: Streams) -> None:
        self.process = process
        self.headers = {"Authorization": f"Bearer {bearer}"}
        self.metadata = (("authorization", f"Bearer {bearer}"),)
        self.pods = PodServiceStub(channel)
        self.feeds = PodFeedServiceStub(channel)
        self.written = 0
        self.latencies: list[float] = []
        # Of a process that does nothing else than to answer.
        self.idle: list[float] = []
        self.echo, self.beside = echo

    @property
    def resident(self) -> int:
        """Bytes of memory that are the process's own."""
        text = Path(f"/proc/{self.process.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    async def write(self) -> None:
        """Each turn: the group gets a new name and one pod comes or goes, in one revision."""
        start = feed.SyncItem(start=feed.SyncStart(cluster_id=OTHER, source="group"))
        while True:
            self.written += 1
            turn = [padded(GROUP_FROM + number, f"v{self.written}", OTHER) for number in range(GROUP)]
            if self.written % 2 == 0:
                turn.append(padded(EXTRA_FROM + self.written, "extra", OTHER))
            items = [start, *(feed.SyncItem(pod=one) for one in turn)]
            await self.feeds.Sync(iter(items), metadata=self.metadata)
            await asyncio.sleep(0.02)

    async def rewrite(self, count: int) -> None:
        """Feeds that many of the pods as changed ones."""
        events = (
            feed.PodEvent(action=feed.REPLACE, pod=padded(number, f"web-{number}", OTHER))
            for number in range(count)
        )
        async for _ in self.feeds.Push(events, metadata=self.metadata):
            pass

    async def ask(self) -> None:
        """Asks the process, and whoever else of this machine stands still now and then."""
        query = RawQuery(query=f"Pod ID:{id_of(1)}")
        while True:
            began = time.perf_counter()
            await self.pods.GetPods(query, metadata=self.metadata)
            asked = time.perf_counter()
            self.latencies.append(asked - began)
            self.beside.write(b"\n")
            await self.beside.drain()
            await self.echo.readline()
            self.idle.append(time.perf_counter() - asked)
            await asyncio.sleep(0.01)

    async def over_http(self, read: Read) -> None:
        async with aiohttp.ClientSession() as session:
            url = self.process.url + EXPORT
            async with session.get(url, headers={**self.headers, "Accept-Encoding": "identity"}) as answer:
                assert answer.status == 200
                async for line in answer.content:
                    await read(line)

    async def over_grpc(self, read: Read) -> None:
        async for answer in self.pods.ExportPods(ExportPodRequest(), metadata=self.metadata):
            await read(answer)


async def test_a_large_export_while_pods_are_written(
    tmp_path: Path, soak: bool, scale: Callable[[int, int], int]
) -> None:
    count = scale(10_000, 200_000)
    await fill(tmp_path, count)
    async with (
        started("pods", tmp_path) as process,
        grpc.aio.insecure_channel(process.target) as channel,
        idle_process() as echo,
    ):
        suite = Suite(process, await token(tmp_path, "admin"), channel, echo)
        # What a first export leaves behind is not growth, nor is the store's cache of what was written.
        await suite.over_http(ignore)
        await suite.rewrite(scale(500, 40_000))
        tasks = [asyncio.create_task(work) for work in (suite.write(), suite.ask())]
        async with asyncio.timeout(60):
            while not suite.latencies or suite.written < 3:
                await asyncio.sleep(0.01)
        suite.latencies.clear()
        for export in (suite.over_http, suite.over_grpc):
            await whole(suite, export, count)
        for task in tasks:
            assert not task.done(), task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if soak:
        # Less what an idle process takes at the same time: a machine that others use stands still itself.
        assert p99(suite.latencies) - p99(suite.idle) < 0.05


def p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)]


@asynccontextmanager
async def idle_process() -> AsyncIterator[Streams]:
    """Answers each line with itself."""
    program = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.flush()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout, process.stdin
    finally:
        process.kill()
        await process.wait()


async def ignore(item: Any) -> None:
    """Reads on."""


async def whole(suite: Suite, export: Any, count: int) -> None:
    """One export: what it holds, and what memory it took."""
    before, most, written = suite.resident, 0, suite.written
    found: dict[str, str] = {}

    async def read(item: Any) -> None:
        nonlocal most
        id, name = named(item) if isinstance(item, bytes) else (item.pod.id, item.pod.name)
        assert id not in found
        found[id] = name
        if len(found) % 2500 == 0:
            most = max(most, suite.resident)
            # Here the reader stands still until something was written.
            turn = suite.written
            while suite.written == turn:
                await asyncio.sleep(0.01)

    async with asyncio.timeout(PATIENCE):
        await export(read)
    assert suite.written >= written + 4
    verify(found, count)
    assert most - before < 32 * MEGABYTE


def named(line: bytes) -> tuple[str, str]:
    one = json.loads(line)["result"]["pod"]
    assert set(one) == {field.json_name for field in Pod.DESCRIPTOR.fields}
    return one["id"], one["name"]


def verify(found: dict[str, str], count: int) -> None:
    """It is exactly what one revision held, that of some turn of the writer."""
    names = {found[id_of(GROUP_FROM + number)] for number in range(GROUP)}
    assert len(names) == 1, names
    (name,) = names
    turn = int(name.removeprefix("v"))
    wanted = {id_of(number): f"web-{number}" for number in range(count)}
    wanted |= {id_of(GROUP_FROM + number): name for number in range(GROUP)}
    if turn % 2 == 0:
        wanted[id_of(EXTRA_FROM + turn)] = "extra"
    assert found == wanted
