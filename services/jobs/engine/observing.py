"""Hears what the runtime says, and sees to it that it runs nothing that nobody asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

from services.jobs import kinds, machines, names
from services.jobs.engine.active import Active
from services.jobs.engine.board import Start
from services.jobs.runtime.port import Observation, Phase, Runtime, RuntimeUnavailable, UnknownAttempt
from shared.storage.errors import StoreError
from shared.storage.port import Store

log = logging.getLogger(__name__)

# Seconds until a runtime or a store that did not answer is asked again.
RETRY: Final = 1.0


class Observer:
    """`jobs` are those in hand. `look` has one of them looked at soon; `load` takes one in hand, None
    when there is none. `rest` waits for so many seconds."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        jobs: Mapping[str, Active],
        *,
        look: Callable[[str], None],
        load: Callable[[str], Awaitable[Active | None]],
        rest: Callable[[float], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._store = store
        self._jobs = jobs
        self._look = look
        self._load = load
        self._rest = rest
        # The newest of runs whose jobs are not in hand.
        self._others: dict[str, Observation] = {}
        self._heard = asyncio.Event()

    async def follow(self) -> None:
        """For ever. After a break everything is compared anew."""
        while True:
            try:
                async with aclosing(self._runtime.watch()) as observations:
                    async for seen in observations:
                        self._see(seen)
            except RuntimeUnavailable as error:
                log.warning("the runtime does not answer; trying again", extra={"error": str(error)})
            await self._reach()

    async def _reach(self) -> None:
        while True:
            await self._rest(RETRY)
            with contextlib.suppress(RuntimeUnavailable):
                await self._runtime.open()
                await self.compare()
                return

    async def compare(self) -> None:
        """Whatever must be known to the runtime and is not is started, or lost. Raises
        RuntimeUnavailable."""
        attempts = {seen.pod_id: seen for seen in await self._runtime.attempts()}
        for seen in attempts.values():
            self._see(seen)
        for id, active in self._jobs.items():
            for instance, kept in active.board.pods.items():
                pod = kept.message
                pod_id = names.pod_id(pod.name, pod.run)
                if pod.status.state not in machines.LIVE or pod_id in attempts:
                    continue
                if pod.status.state == machines.LAUNCHED:
                    active.requests.append(Start(pod_id, instance))
                else:
                    active.lost.add(pod_id)
                self._look(id)

    def _see(self, seen: Observation) -> None:
        job, _, _ = names.parse_run(seen.pod_id)
        active = self._jobs.get(job)
        if active is not None:
            active.seen[seen.pod_id] = seen
            self._look(job)
        else:
            self._others[seen.pod_id] = seen
            self._heard.set()

    async def clear(self) -> None:
        """For ever: see to runs whose jobs are not in hand, as those are that have nothing to do."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            found, self._others = self._others, {}
            try:
                while found:
                    await self._clear(next(iter(found.values())))
                    del found[next(iter(found))]
            except (StoreError, RuntimeUnavailable) as error:
                log.warning("cannot look after runs of other jobs", extra={"error": str(error)})
                self._others = found | self._others
                self._heard.set()
                await self._rest(RETRY)

    async def _clear(self, seen: Observation) -> None:
        job, _, _ = names.parse_run(seen.pod_id)
        if seen.phase is Phase.ENDED:
            if await self._store.get(kinds.JOB, job) is None:
                await self._runtime.forget(seen.pod_id)
            return
        active = await self._load(job)
        if active is not None:
            active.seen[seen.pod_id] = seen
            self._look(job)
            return
        log.warning("a run that no record asks for is ended", extra={"pod": seen.pod_id})
        with contextlib.suppress(UnknownAttempt):
            await self._runtime.stop(seen.pod_id, 0.0)
