"""Asks the runtime for what is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from services.jobs import machines, names
from services.jobs.engine import reconcile
from services.jobs.engine.active import Active
from services.jobs.engine.board import Forget, Request, Start, Stop
from services.jobs.runtime.port import Attempt, Runtime, RuntimeUnavailable, UnknownAttempt
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import PodSpec

_AT_ONCE: Final = 64


class Asker:
    """`launched` is called for each start that the runtime took."""

    def __init__(self, runtime: Runtime, launched: Callable[[], None]) -> None:
        self._runtime = runtime
        self._launched = launched

    async def ask(self, active: Active) -> None:
        """All of the job's requests, under its lock. What finds no answer stays among them; then raises
        RuntimeUnavailable, or whatever the runtime made of it. A run that turns out to be unknown is
        among the lost ones."""
        waiting = deque(active.requests)
        active.requests.clear()
        failed: list[tuple[Request, Exception]] = []

        async def work() -> None:
            while waiting and not (failed and isinstance(failed[-1][1], RuntimeUnavailable)):
                request = waiting.popleft()
                try:
                    await self._one(active, request)
                except Exception as error:
                    failed.append((request, error))
                except BaseException:
                    waiting.appendleft(request)
                    raise

        try:
            await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(waiting)))))
        finally:
            # Others may have been added meanwhile.
            active.requests[:0] = [*(request for request, _ in failed), *waiting]
        for _, error in failed:
            raise error

    async def _one(self, active: Active, request: Request) -> None:
        match request:
            case Start():
                await self._start(active, request)
            case Stop():
                await self._stop(active, request)
            case Forget():
                await self._runtime.forget(request.pod_id)

    async def _start(self, active: Active, request: Start) -> None:
        kept = active.board.pods.get(request.instance)
        if kept is None or names.pod_id(kept.message.name, kept.message.run) != request.pod_id:
            return
        pod = kept.message
        if pod.status.state != machines.LAUNCHED:
            # It is known to have started, or is to end and need not.
            return
        spec = PodSpec()
        spec.CopyFrom(active.board.effective(pod.configuration, request.instance))
        spec.pod_name.value = pod.name
        environment = {
            "JOB_ID": pod.job,
            "INSTANCE_ID": str(pod.instance),
            "POD_NAME": pod.name,
            "POD_ID": request.pod_id,
        }
        await self._runtime.start(Attempt(request.pod_id, spec, environment))
        self._launched()

    async def _stop(self, active: Active, request: Stop) -> None:
        try:
            await self._runtime.stop(request.pod_id, self._grace(active, request))
        except UnknownAttempt:
            active.strays.discard(request.pod_id)
            active.lost.add(request.pod_id)

    def _grace(self, active: Active, request: Stop) -> float:
        if request.grace is not None:
            return request.grace
        kept = active.board.pods.get(request.instance)
        if kept is None:
            return 0.0
        return reconcile.grace(active.board.effective(kept.message.configuration, request.instance))
