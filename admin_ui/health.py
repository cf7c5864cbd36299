"""Whether each service answers: asked all the time, so that every page can say it at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from admin_ui.clients import Caller, Clients, Endpoint
from admin_ui.live import Signal
from shared.rpc.client import CallFailed

# Seconds between two questions to one service. Home promises to notice a change within 5 s.
INTERVAL: Final = 1.5
TIMEOUT: Final = 2.0
SAMPLES: Final = 40

log = logging.getLogger(__name__)

State = Literal["serving", "not_serving", "down", "unknown"]


@dataclass(slots=True)
class Health:
    """What is known of one service. `latencies` are milliseconds, oldest first."""

    endpoint: Endpoint
    state: State = "unknown"
    message: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    @property
    def up(self) -> bool:
        return self.state in ("serving", "unknown")

    @property
    def latency(self) -> float | None:
        """The median of the last questions, in milliseconds."""
        known = sorted(self.latencies)
        return known[len(known) // 2] if known else None


class Monitor(Signal):
    """Asks every service for its gRPC health. The version grows when a service's state changes."""

    def __init__(self, clients: Clients) -> None:
        super().__init__()
        self._caller = clients.caller("")
        self.services: Mapping[str, Health] = {
            name: Health(endpoint) for name, endpoint in clients.endpoints.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run(health), name=f"health-{name}")
            for name, health in self.services.items()
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, health: Health) -> None:
        while True:
            state, message = await check(self._caller, health)
            if (state, message) != (health.state, health.message):
                if state != health.state:
                    health.since = datetime.now(UTC)
                    log.info(
                        "a service changed its state", extra={"peer": health.endpoint.name, "state": state}
                    )
                health.state, health.message = state, message
                self.bump()
            await asyncio.sleep(INTERVAL)


async def check(caller: Caller, health: Health) -> tuple[State, str]:
    """Asks once; an answer adds its latency."""
    begun = time.perf_counter()
    try:
        answer = await caller.call(
            health.endpoint.name,
            health_pb2_grpc.HealthStub,
            "Check",
            health_pb2.HealthCheckRequest(),
            timeout=TIMEOUT,
        )
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "down", f"no answer within {TIMEOUT:.0f} s"
        return "down", error.failure.message
    health.latencies.append((time.perf_counter() - begun) * 1000)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return "serving", ""
    return "not_serving", "it runs, and says that it cannot serve now"
