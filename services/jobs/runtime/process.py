"""Runs pods as processes of this host, held by a keeper that outlives the service."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from services.jobs.runtime.command import describe
from services.jobs.runtime.keeper_client import KeeperClient
from services.jobs.runtime.node import Node
from services.jobs.runtime.port import (
    Attempt,
    Capacity,
    Ending,
    Health,
    LogChunk,
    Observation,
    Phase,
    Runtime,
)
from services.jobs.runtime.unsupported import unsupported
from shared.errors import InvalidArgument, Violation
from shared.pb.peloton.api.v1alpha.pod import pod_pb2


class ProcessRuntime(Runtime):
    """`home` holds a sandbox for each attempt. It is no security boundary: pods can do what the user
    of the service can."""

    name = "process"

    def __init__(self, home: Path, node: Node) -> None:
        self._node = node
        self._host = node.host
        configuration = {
            "rate": node.launch_rate,
            "pods": node.pods,
            "processes": node.processes,
            "idle": node.idle,
        }
        if node.controllers >= {"pids"}:
            # Each pod has a bound of its own then.
            configuration["processes"] = 0
        self._keeper = KeeperClient(home, configuration)

    async def open(self) -> None:
        """Raises InvalidArgument for root, unless that is allowed."""
        if os.geteuid() == 0 and not self._node.allow_root:
            raise InvalidArgument.at(
                "ROUNDHOUSE_JOBS_ALLOW_ROOT",
                "pods would run as root, who may do anything to this host: start the service as another "
                "user, or set this to true",
            )
        await self._keeper.open()

    async def close(self) -> None:
        await self._keeper.close()

    async def end(self) -> None:
        """End all attempts, as gently as they asked for, and the keeper; they are LOST then, and may
        be run again. Returns at once."""
        await self._keeper.call("end")

    async def capacity(self) -> Capacity:
        return self._node.capacity()

    def unsupported(self, spec: pod_pb2.PodSpec) -> Sequence[Violation]:
        return list(unsupported(spec, self._node))

    async def start(self, attempt: Attempt) -> None:
        await self._keeper.call("start", description=describe(attempt, self._node))

    async def stop(self, pod_id: str, grace: float) -> None:
        await self._keeper.call("stop", pod_id=pod_id, grace=grace)

    async def forget(self, pod_id: str) -> None:
        await self._keeper.call("forget", pod_id=pod_id)

    async def attempts(self) -> Sequence[Observation]:
        answer, _ = await self._keeper.call("attempts")
        return [self._observation(record) for record in answer["attempts"]]

    async def watch(self) -> AsyncGenerator[Observation, None]:
        async with aclosing(self._keeper.events()) as records:
            async for record in records:
                yield self._observation(record)

    async def read_log(self, pod_id: str, stream: str, *, offset: int = 0, limit: int = 65_536) -> LogChunk:
        answer, data = await self._keeper.call(
            "read", pod_id=pod_id, stream=stream, offset=offset, limit=limit
        )
        return LogChunk(answer["offset"], data)

    async def files(self, pod_id: str) -> Sequence[str]:
        answer, _ = await self._keeper.call("files", pod_id=pod_id)
        return list(answer["files"])

    def _observation(self, record: Mapping[str, Any]) -> Observation:
        ending = record.get("ending")
        return Observation(
            pod_id=record["pod_id"],
            phase=Phase(record["phase"]),
            host=self._host,
            ports=record.get("ports", {}),
            health=Health(record["health"]),
            health_output=record.get("health_output", ""),
            started_at=record.get("started_at", 0),
            ended_at=record.get("ended_at", 0),
            ending=Ending(ending) if ending else None,
            exit_code=record.get("exit_code", 0),
            signal=record.get("signal", ""),
            message=record["message"],
        )
