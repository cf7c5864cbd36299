"""What pods have written (roundhouse/jobs/v1/logs.proto)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from google.api.httpbody_pb2 import HttpBody

from services.jobs import machines, names
from services.jobs.api import logs
from services.jobs.api.logs import LogFile
from services.jobs.api.runs import Place, Runs
from services.jobs.engine.controller import Controller
from services.jobs.runtime.port import STDERR, STDOUT, LogChunk, RuntimeUnavailable, UnknownAttempt
from shared.errors import InvalidArgument, NotFound, Unavailable, Violation
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb_jobs
from shared.pb.roundhouse.jobs.v1 import logs_pb2 as pb
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["LogService"]
_TEXT: Final = "text/plain; charset=utf-8"
_STREAMS: Final = {pb.ReadLogRequest.STDOUT: STDOUT, pb.ReadLogRequest.STDERR: STDERR}


class LogService:
    """`writer` answers the controller, whose runtime has the logs, or raises Unavailable."""

    def __init__(self, runs: Runs, writer: Callable[[], Controller]) -> None:
        self._runs = runs
        self._writer = writer
        self._stopping = asyncio.Event()

    async def stop(self) -> None:
        """End what is followed, with Unavailable."""
        self._stopping.set()

    async def ReadLog(self, request: pb.ReadLogRequest, call: Call) -> AsyncGenerator[pb.LogChunk, None]:
        async with aclosing(self._read(request)) as found:
            async for chunk in found:
                if chunk.data:
                    yield pb.LogChunk(offset=chunk.offset, data=chunk.data)

    async def DownloadLog(self, request: pb.ReadLogRequest, call: Call) -> AsyncGenerator[HttpBody, None]:
        async with aclosing(self._read(request)) as found:
            async for chunk in found:
                yield HttpBody(content_type=_TEXT, data=chunk.data)

    async def _read(self, request: pb.ReadLogRequest) -> AsyncGenerator[LogChunk, None]:
        place = Place.of(request.pod_name.value)
        _check(request)
        run = await self._run(place, request)
        id = names.pod_id(run.pod, run.run)

        async def start(log: LogFile) -> int:
            return await log.last_lines(request.tail_lines) if request.tail_lines else request.offset

        async def over() -> bool:
            return not request.follow or await self._over(place, id)

        log = LogFile(self._writer().runtime, id, _STREAMS[request.stream])
        found = logs.pieces(log, start, limit=request.limit_bytes, over=over, stopping=self._stopping)
        try:
            async with aclosing(found):
                async for chunk in found:
                    yield chunk
        except UnknownAttempt:
            if run.status.start_time:
                raise NotFound(f"the log of pod {id} is gone", kind="run", name=id) from None
        except RuntimeUnavailable as error:
            raise Unavailable(f"the runtime does not answer: {error}") from error
        if self._stopping.is_set():
            raise Unavailable("the process is stopping")

    async def _run(self, place: Place, request: pb.ReadLogRequest) -> pb_jobs.Run:
        """Whoever follows the log of a pod that its job is to have waits until it does: creating a job
        answers before its pods are there. Raises NotFound and Unavailable."""
        while True:
            try:
                return await self._runs.run(place, request.pod_id.value)
            except NotFound:
                if not request.follow or request.pod_id.value or not await self._runs.wanted(place):
                    raise
            if await logs.stopped(self._stopping, logs.SHORTEST):
                raise Unavailable("the process is stopping")

    async def _over(self, place: Place, id: str) -> bool:
        """Whether the run writes no more."""
        try:
            run = await self._runs.run(place, id)
        except NotFound:
            return True
        return run.status.pod_id.value != id or run.status.state in machines.ENDED


def _check(request: pb.ReadLogRequest) -> None:
    """Raises InvalidArgument."""
    wrong: list[Violation] = []
    if request.stream not in _STREAMS:
        wrong.append(Violation("stream", f"{request.stream} is neither STDOUT nor STDERR"))
    if request.offset and request.tail_lines:
        wrong.append(Violation("tail_lines", "cannot be combined with offset"))
    if wrong:
        raise InvalidArgument.of(wrong)
