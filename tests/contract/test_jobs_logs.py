"""LogService: tail, follow and download of any run, over gRPC and REST."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio

from services.jobs.api.logs import BLOCK, LogFile
from services.jobs.runtime.port import LogChunk
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as pb
from shared.pb.roundhouse.jobs.v1.logs_pb2_grpc import LogServiceStub
from tests.contract.jobs_yard import RUNNING, Job, Yard, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-logs")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
STDERR = pb.ReadLogRequest.STDERR


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


def ask(job: Job, **fields: Any) -> pb.ReadLogRequest:
    return ask_of(job.pod_name(), **fields)


def ask_of(pod_name: str, **fields: Any) -> pb.ReadLogRequest:
    request = pb.ReadLogRequest(**fields)
    request.pod_name.value = pod_name
    return request


async def read(job: Job, method: str = "ReadLog", **fields: Any) -> bytes:
    found = await job.yard.call(method, ask(job, **fields), role="viewer")
    return b"".join(chunk.data for chunk in found)


async def test_the_log_of_the_newest_run(yard: Yard) -> None:
    job = await yard.job(count=1)
    yard.engine.write(job.pod_id(), b"one\ntwo\n")
    yard.engine.write(job.pod_id(), b"oops\n", "stderr")
    assert await read(job) == b"hello\none\ntwo\n"
    assert await read(job, stream=STDERR) == b"oops\n"
    assert await read(job, "DownloadLog") == b"hello\none\ntwo\n"
    assert await read(job, offset=6, limit_bytes=4) == b"one\n"
    assert await read(job, offset=-4) == b"two\n"
    assert await read(job, offset=-400) == b"hello\none\ntwo\n"
    assert await read(job, offset=400) == b""
    [chunk] = await yard.call("ReadLog", ask(job, offset=6))
    assert (chunk.offset, chunk.data) == (6, b"one\ntwo\n")


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (b"", 3, b""),
        (b"a", 1, b"a"),
        (b"a\n", 1, b"a\n"),
        (b"a\nb", 1, b"b"),
        (b"a\nb\n", 1, b"b\n"),
        (b"a\nb\n", 2, b"a\nb\n"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"\n\n\n", 2, b"\n\n"),
        (b"x" * (BLOCK - 1) + b"\nlast\n", 1, b"last\n"),
        (b"first\n" + b"x" * BLOCK + b"\n", 1, b"x" * BLOCK + b"\n"),
        (b"first\n" + b"x" * (3 * BLOCK) + b"\nlast", 2, b"x" * (3 * BLOCK) + b"\nlast"),
        (b"line\n" * 100_000, 70_000, b"line\n" * 70_000),
    ],
)
async def test_the_last_lines(yard: Yard, text: bytes, lines: int, expected: bytes) -> None:
    job = await yard.job("crash", count=1)
    yard.engine.write(job.pod_id(), text)
    assert await read(job, tail_lines=lines) == expected
    await job.delete()


class Rotated:
    """A log of which the beginning is gone, that answers in small pieces."""

    def __init__(self, text: bytes, gone: int) -> None:
        self.text, self.gone = text, gone

    async def read_log(self, pod_id: str, stream: str, *, offset: int, limit: int) -> LogChunk:
        end = len(self.text)
        at = max(self.gone, end + offset if offset < 0 else offset)
        return LogChunk(min(at, end), self.text[at : at + min(limit, 7000)])


@pytest.mark.parametrize(("lines", "expected"), [(1, 195_000 - 5), (20_000, 95_000), (30_000, 50_003)])
async def test_the_last_lines_of_a_log_that_was_rotated(lines: int, expected: int) -> None:
    log = LogFile(Rotated(b"line\n" * 39_000, 50_003), "pod", "stdout")  # type: ignore[arg-type]
    assert await log.last_lines(lines) == expected


async def test_every_run_has_a_log_of_its_own(yard: Yard) -> None:
    job = await yard.job(count=1)
    yard.engine.write(job.pod_id(), b"first\n")
    await job.replace(yard.spec("run2", count=1))
    await job.until_over()
    assert await read(job) == b"hello again\n"
    assert await read(job, pod_id={"value": job.pod_id()}) == b"hello\nfirst\n"
    for wrong in (job.pod_id(1), "x"):
        await yard.fails(INVALID, "ReadLog", ask(job, pod_id={"value": wrong}), "pod_id.value")
    await yard.fails(NOT_FOUND, "ReadLog", ask(job, pod_id={"value": job.pod_id(0, 7)}))


async def test_a_run_that_has_not_begun_has_written_nothing(yard: Yard) -> None:
    job = await yard.job(count=1, settle=False, resource={"cpu_limit": 1e9})
    await job.until_pod(pod_pb2.POD_STATE_PENDING)
    assert await read(job) == b""
    await job.delete()


async def test_a_log_that_is_gone(yard: Yard) -> None:
    job = await yard.job("crash", count=1)
    await job.until_pod(pod_pb2.POD_STATE_FAILED, passing=10)
    yard.engine.forget(job.pod_id())
    for method in ("ReadLog", "DownloadLog"):
        await yard.fails(NOT_FOUND, method, ask(job), "gone")
    sandbox = pod_svc_pb2.BrowsePodSandboxRequest()
    sandbox.pod_name.value = job.pod_name()
    await yard.fails(NOT_FOUND, "BrowsePodSandbox", sandbox, "gone")
    await job.delete()


async def test_requests_that_are_wrong(yard: Yard) -> None:
    job = await yard.job(count=1)
    await yard.fails(INVALID, "ReadLog", ask(job, stream=7), "stream")
    await yard.fails(INVALID, "ReadLog", ask(job, offset=1, tail_lines=1), "tail_lines")
    await yard.fails(INVALID, "ReadLog", pb.ReadLogRequest(), "pod_name.value")
    unknown = pb.ReadLogRequest()
    unknown.pod_name.value = job.pod_name(5)
    await yard.fails(NOT_FOUND, "DownloadLog", unknown)


class Follower:
    """Reads what comes."""

    def __init__(self, job: Job, channel: grpc.aio.Channel | None = None, **fields: Any) -> None:
        read = job.yard.method("ReadLog") if channel is None else LogServiceStub(channel).ReadLog
        metadata = tuple(job.yard.who("viewer").items())
        self.call = read(ask(job, follow=True, **fields), metadata=metadata)
        self.found = b""

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.found:
                self.found += (await self.call.read()).data

    async def until_end(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while (chunk := await self.call.read()) is not grpc.aio.EOF:
                self.found += chunk.data
        return self.found


async def test_a_log_is_followed_to_the_end_of_its_run(yard: Yard) -> None:
    job = await yard.job("crash", count=1)
    follower = Follower(job)
    await follower.until(b"")
    for word in (b"one\n", b"two\n"):
        yard.engine.write(job.pod_id(), word)
        await follower.until(word)
    yard.engine.write(job.pod_id(), b"last words\n")
    await yard.advance(10)
    assert await follower.until_end() == b"one\ntwo\nlast words\n"
    await job.delete()


async def test_a_follower_waits_for_a_run_to_begin(yard: Yard) -> None:
    job = await yard.job(count=1, settle=False, resource={"cpu_limit": 1e9})
    await job.until_pod(pod_pb2.POD_STATE_PENDING)
    follower = Follower(job, tail_lines=10)
    await job.replace(yard.spec("run2", count=1))
    await follower.until(b"hello again\n")
    await job.stop()
    assert await follower.until_end() == b"hello again\n"


async def test_a_follower_waits_for_a_pod_that_is_still_to_be_made(yard: Yard) -> None:
    # One at a time, and the first cannot run: the second is not made.
    job = await yard.job(
        count=2,
        settle=False,
        resource={"cpu_limit": 1e9},
        create_spec=stateless_pb2.CreateSpec(batch_size=1),
    )
    await job.until_pod(pod_pb2.POD_STATE_PENDING)
    second = ask_of(job.pod_name(1), follow=True)
    await yard.fails(NOT_FOUND, "ReadLog", ask_of(job.pod_name(1)))
    await yard.fails(NOT_FOUND, "ReadLog", ask_of(job.pod_name(2), follow=True))
    call = yard.method("ReadLog")(second, metadata=tuple(yard.who("viewer").items()))
    await job.replace(yard.spec("run2", count=2))
    async with asyncio.timeout(PATIENCE):
        assert (await call.read()).data == b"hello again\n"
    call.cancel()
    await job.delete()


async def test_a_follower_of_a_pod_that_is_never_made_ends_with_its_job(yard: Yard) -> None:
    job = await yard.job(
        count=2,
        settle=False,
        resource={"cpu_limit": 1e9},
        create_spec=stateless_pb2.CreateSpec(batch_size=1),
    )
    await job.until_pod(pod_pb2.POD_STATE_PENDING)
    call = yard.method("ReadLog")(
        ask_of(job.pod_name(1), follow=True), metadata=tuple(yard.who("viewer").items())
    )
    waiting = asyncio.ensure_future(call.read())
    await job.delete()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await asyncio.wait_for(waiting, PATIENCE)
    assert failed.value.code() is NOT_FOUND


async def test_a_follower_of_a_run_that_never_begins_ends_with_it(yard: Yard) -> None:
    job = await yard.job(count=1, settle=False, resource={"cpu_limit": 1e9})
    await job.until_pod(pod_pb2.POD_STATE_PENDING)
    follower = Follower(job)
    await job.delete()
    assert await follower.until_end() == b""


async def test_a_new_run_ends_who_follows_the_one_before(yard: Yard) -> None:
    job = await yard.job(count=1)
    follower = Follower(job)
    await follower.until(b"hello\n")
    await job.restart()
    assert await follower.until_end() == b"hello\n"


async def test_a_stop_ends_followers_with_unavailable(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with AsyncExitStack() as stack:
        async with opened(tmp_path_factory.mktemp("own")) as yard:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(yard.service.target))
            job = await yard.job(count=1)
            follower = Follower(job, channel)
            await follower.until(b"hello\n")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await follower.until_end()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_rest_reads_lines_of_json_and_downloads_bytes(yard: Yard) -> None:
    job = await yard.job(count=1)
    yard.engine.write(job.pod_id(), b"\xff\x00 no text\n")
    path = f"/v1alpha/pods/{job.pod_name()}/log"
    [line] = (await yard.rest("GET", path, role="viewer", offset=6)).ok
    assert line["result"]["offset"] == "6"
    assert base64.b64decode(line["result"]["data"]) == b"\xff\x00 no text\n"
    found = await yard.rest("GET", f"{path}:download", role="viewer", tailLines=1)
    assert found.ok == b"\xff\x00 no text\n"
    assert found.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (await yard.rest("GET", f"{path}:download", stream="STDERR")).ok == b""
    missing = await yard.rest("GET", f"/v1alpha/pods/{job.pod_name(9)}/log:download")
    missing.is_error(404, NOT_FOUND)
    (await yard.rest("GET", f"{path}:download", stream="x")).is_error(400, INVALID, "stream")


async def test_rest_follows(yard: Yard) -> None:
    job = await yard.job("crash", count=1)
    url = f"{yard.service.url}/v1alpha/pods/{job.pod_name()}/log:download?follow=true"
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with yard.http.get(url, headers=yard.who(), timeout=timeout) as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        yard.engine.write(job.pod_id(), b"one\n")
        assert await answer.content.readline() == b"one\n"
        yard.engine.write(job.pod_id(), b"two\n")
        await yard.advance(10)
        assert await answer.content.read() == b"two\n"
    await job.delete()


async def test_a_download_that_breaks_does_not_look_whole(yard: Yard) -> None:
    job = await yard.job(count=1)
    url = f"{yard.service.url}/v1alpha/pods/{job.pod_name()}/log:download?follow=true"
    async with yard.http.get(url, headers=yard.who()) as answer:
        assert await answer.content.readline() == b"hello\n"
        yard.engine.hide()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()
    yard.engine.available = True
    await job.restart()
    await job.until_pod(RUNNING, run=2, passing=1)
