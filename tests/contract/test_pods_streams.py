"""Exports that take their time: readers that stall or hang up, what changes meanwhile, what fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc import interceptors
from shared.service.config import Config
from shared.storage.errors import StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Query, Record
from tests.contract.pods_yard import EXPORT, SERVICE, Yard, by_id, event, feed, opened, pod
from tests.patience import PATIENCE

DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
# More than sockets and streams buffer: a reader that stalls is felt.
COUNT, PADDING = 120, "x" * 80_000


class Watched(MemoryStore):
    """Knows how many scans of pods are open, and can fail, stand still or find no end in one of them."""

    def __init__(self) -> None:
        definitions = SERVICE.definitions(Config.load({}), lambda: 0, lambda: "")
        super().__init__([*(definition.storage() for definition in definitions), *SERVICE.kinds])
        self.open_scans = 0
        self.fails_after: int | None = None
        self.stands_still = False
        # Until then the second pod is there again and again.
        self.comes_to_an_end = asyncio.Event()
        self.comes_to_an_end.set()

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        self.open_scans += query.kind == "pod"
        number = 0
        try:
            if self.stands_still:
                await asyncio.Event().wait()
            async with contextlib.aclosing(super().scan(query, at=at)) as records:
                async for record in records:
                    if number == self.fails_after:
                        raise StoreUnavailable("the disk is gone")
                    while number == 1 and not self.comes_to_an_end.is_set():
                        yield record
                    number += 1
                    yield record
        finally:
            self.open_scans -= query.kind == "pod"


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path, store=Watched(), max_message_bytes=8 << 20) as found:
        yield found


async def fill(yard: Yard, count: int = COUNT) -> list[Pod]:
    """Large pods, in the order of the export."""
    pods = [pod(number) for number in range(count)]
    for one in pods:
        one.live_instances[0].termination_reason = PADDING
    await yard.push(*(event(feed.REPLACE, one) for one in pods))
    return sorted(pods, key=lambda one: (one.deployment_id, one.id))


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def connections() -> int:
    """That the HTTP server serves."""
    return sum("RequestHandler.start" in repr(task.get_coro()) for task in asyncio.all_tasks())


class Reader:
    """A client of HTTP that reads when it is told to, into small buffers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def rest(self) -> bytes:
        """All that comes until the connection ends or the last chunk is there."""
        found = bytearray()
        async with asyncio.timeout(PATIENCE):
            while not found.endswith(b"\r\n0\r\n\r\n"):
                data = await self.reader.read(1 << 20)
                if not data:
                    break
                found += data
        return bytes(found)


@asynccontextmanager
async def reading(yard: Yard, query: str = "", *, who: str = "admin") -> AsyncIterator[Reader]:
    """An export whose answer has begun."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", yard.service.running.http_port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=65_536)
    token = yard.service.tokens[who]
    writer.write(f"GET {EXPORT}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    try:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        yield Reader(reader, writer)
    finally:
        writer.transport.abort()


# -- the clock


@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_a_timeout_before_the_first_pod(yard: Yard, transport: str) -> None:
    yard.store.stands_still = True
    if transport == "rest":
        (await yard.rest("GET", f"{EXPORT}?timeout=1")).is_error(504, 4, "deadline exceeded")
    else:
        call = yard.stub.ExportPods(ExportPodRequest(timeout=1), metadata=yard.metadata())
        assert (await yard.fails(call)).code is DEADLINE
    assert yard.store.open_scans == 0
    metrics = (await yard.rest("GET", "/metrics", who="")).body.decode()
    assert (
        f'code="DEADLINE_EXCEEDED",method="ExportPods",service="v1.PodService",transport="{transport}"'
        in metrics
    )


@pytest.mark.parametrize(
    ("limit", "deadline", "message"), [(60, 0.3, ""), (1, 60.0, "context deadline exceeded")]
)
async def test_of_a_timeout_and_a_deadline_the_earlier_one_counts(
    yard: Yard, limit: int, deadline: float, message: str
) -> None:
    yard.store.stands_still = True
    call = yard.stub.ExportPods(ExportPodRequest(timeout=limit), metadata=yard.metadata(), timeout=deadline)
    failure = await yard.fails(call)
    assert failure.code is DEADLINE and message in failure.message
    await until(lambda: yard.store.open_scans == 0)


async def test_a_timeout_while_the_reader_stalls_over_http(yard: Yard) -> None:
    await fill(yard)
    async with reading(yard, "?timeout=1") as reader:
        await until(lambda: yard.store.open_scans == 0)
        found = await reader.rest()
    assert found.endswith(b"\r\n0\r\n\r\n"), "the chunked body ends properly"
    last = found.removesuffix(b"\r\n0\r\n\r\n").splitlines()[-1]
    assert json.loads(last) == {
        "error": {
            "grpcCode": 4,
            "httpCode": 504,
            "message": "context deadline exceeded",
            "httpStatus": "Gateway Timeout",
            "details": [],
            "code": 4,
        }
    }
    assert found.count(b'{"result":') < COUNT


async def test_a_reader_that_never_comes_back_loses_the_connection(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.rest.streaming._LAST_WORD", 0.05)
    await fill(yard)
    before = connections()
    async with reading(yard, "?timeout=1") as reader:
        await until(lambda: yard.store.open_scans == 0 and connections() == before)
        with contextlib.suppress(ConnectionError):
            assert not (await reader.rest()).endswith(b"\r\n0\r\n\r\n")


async def test_a_timeout_while_the_reader_stalls_over_grpc(yard: Yard) -> None:
    await fill(yard)
    call = yard.stub.ExportPods(ExportPodRequest(timeout=1), metadata=yard.metadata())
    first = await call.read()
    assert first.pod.name.startswith("web-")
    await until(lambda: yard.store.open_scans == 0)
    assert (await yard.fails(call_rest(call))).code is DEADLINE


async def call_rest(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )  # type: ignore[arg-type]


async def test_a_limit_that_is_kept_changes_nothing(yard: Yard) -> None:
    pods = await fill(yard, 20)
    assert await yard.export(timeout=60) == pods
    assert len((await yard.lines(timeout=60)).pods) == 20


async def test_what_is_found_does_not_wait_for_the_end(yard: Yard) -> None:
    await yard.upsert(pod(1), pod(2))
    yard.store.comes_to_an_end.clear()
    async with reading(yard, "?query=Node:node-1") as reader:
        async with asyncio.timeout(PATIENCE):
            first = await reader.reader.readuntil(b"}}}\n")
        assert b'"name":"web-1"' in first and yard.store.open_scans == 1
        yard.store.comes_to_an_end.set()
        assert await reader.rest() == b"\r\n0\r\n\r\n"


async def test_a_timeout_keeps_what_was_found(yard: Yard) -> None:
    await yard.upsert(pod(1), pod(2))
    yard.store.comes_to_an_end.clear()
    found = await yard.lines("Node:node-1", timeout=2)
    (one, last) = found.lines
    assert one["result"]["pod"]["name"] == "web-1" and last["error"]["grpcCode"] == 4
    assert yard.store.open_scans == 0


# -- one snapshot, and nobody waits for a reader


@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_an_export_is_of_one_moment_and_blocks_nobody(yard: Yard, transport: str) -> None:
    pods = await fill(yard)
    async with contextlib.AsyncExitStack() as stack:
        if transport == "rest":
            reader = await stack.enter_async_context(reading(yard))
        else:
            call = yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata())
            first = await call.read()
        await until(lambda: yard.store.open_scans == 1)
        # The reader stands still. Others write and read.
        changes = [event(feed.REMOVE, one) for one in pods[1::2]]
        changes += [event(feed.REPLACE, pod(5000 + number)) for number in range(10)]
        await yard.push(
            *changes, *(event(feed.REPLACE, Pod(**{**_plain(one), "name": "new"})) for one in pods[::2])
        )
        after = by_id(await yard.export())
        assert len(after) == COUNT / 2 + 10 and yard.store.open_scans == 1
        if transport == "grpc":
            found = [first.pod]
            while (answer := await call.read()) is not grpc.aio.EOF:
                found.append(answer.pod)
            assert found == pods
            return
        body = await reader.rest()
    names = [json.loads(line)["result"]["pod"]["name"] for line in _dechunked(body)]
    assert names == [one.name for one in pods]


def _plain(one: Pod) -> dict[str, Any]:
    return {"id": one.id, "cluster_id": one.cluster_id}


def _dechunked(body: bytes) -> list[bytes]:
    """The lines of a chunked body."""
    found, at = bytearray(), 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if not size:
            return bytes(found).splitlines()
        found += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_a_reader_that_hangs_up_frees_everything(yard: Yard, transport: str) -> None:
    await fill(yard)
    if transport == "rest":
        async with reading(yard):
            await until(lambda: yard.store.open_scans == 1)
    else:
        call = yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata())
        await call.read()
        assert yard.store.open_scans == 1
        call.cancel()
    await until(lambda: yard.store.open_scans == 0)

    async def streams() -> float:
        text = (await yard.rest("GET", "/metrics", who="")).body.decode()
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("roundhouse_rpc_streams ")
        )

    async with asyncio.timeout(PATIENCE):
        while await streams():
            await asyncio.sleep(0.01)


# -- failures


async def test_a_failure_before_the_first_pod(yard: Yard) -> None:
    await yard.upsert(pod(1))
    yard.store.fails_after = 0
    (await yard.lines()).is_error(503, 14, "the disk is gone")
    assert (await yard.fails(yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata()))).code is (
        grpc.StatusCode.UNAVAILABLE
    )


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_failure_behind_the_first_pods(yard: Yard, coding: str) -> None:
    await fill(yard, 5)
    yard.store.fails_after = 3
    found = await yard.lines(headers={"Accept-Encoding": coding})
    assert found.status == 200
    *pods, last = found.lines
    assert len(pods) == 3 and all("result" in line for line in pods)
    assert last["error"] == {
        "grpcCode": 14,
        "httpCode": 503,
        "message": "the disk is gone",
        "httpStatus": "Service Unavailable",
        "details": [],
        "code": 14,
    }
    call = yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata())
    got = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for answer in call:
            got.append(answer)
    assert (len(got), caught.value.code()) == (3, grpc.StatusCode.UNAVAILABLE)


async def test_an_export_whose_revision_is_compacted_fails(yard: Yard) -> None:
    pods = await fill(yard)
    call = yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata())
    await call.read()
    await yard.push(*(event(feed.REMOVE, one) for one in pods))
    await yard.store.compact(await yard.store.head())
    assert (await yard.fails(call_rest(call))).code is grpc.StatusCode.OUT_OF_RANGE


@pytest.mark.parametrize("transport", ["grpc", "rest"])
async def test_a_scope_that_changes_ends_the_export(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setattr(interceptors, "_RECHECK", 0.0)
    await fill(yard)
    await yard.put_user("viewer", "viewer", "*")
    if transport == "rest":
        async with reading(yard, who="viewer") as reader:
            await until(lambda: yard.store.open_scans == 1)
            await yard.put_user("viewer", "viewer", "prod")
            *pods, last = _dechunked(await reader.rest())
        assert json.loads(last)["error"]["grpcCode"] == 7 and 0 < len(pods) < COUNT
        return
    call = yard.stub.ExportPods(ExportPodRequest(), metadata=yard.metadata("viewer"))
    await call.read()
    await yard.put_user("viewer", "viewer", "prod")
    assert (await yard.fails(call_rest(call))).code is grpc.StatusCode.PERMISSION_DENIED
