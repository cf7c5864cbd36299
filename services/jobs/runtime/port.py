"""The runtime port: runs one attempt of one pod.

A runtime knows nothing of jobs, versions, restarts, batches or pools: the controller owns all policy.
`services.jobs.runtime.testing` is the contract that every runtime passes unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shared.errors import Violation
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

# Seconds that a pod has to end after it was asked to, where its spec does not say.
GRACE: Final = 30
STDOUT: Final = "stdout"
STDERR: Final = "stderr"


@dataclass(frozen=True)
class Attempt:
    """One run of one pod. `spec` is the effective spec of the instance; `environment` is added to
    what it says (JOB_ID, INSTANCE_ID, POD_NAME, POD_ID)."""

    pod_id: str
    spec: pod_pb2.PodSpec
    environment: Mapping[str, str] = field(default_factory=dict)


class Phase(Enum):
    """How far an attempt is. It never goes back."""

    # Accepted, not yet begun: launches are limited.
    WAITING = "waiting"
    STARTING = "starting"
    # The command runs: its exec has succeeded.
    RUNNING = "running"
    # Nothing of it is left: no process of it lives.
    ENDED = "ended"


class Ending(Enum):
    # By itself, with an exit code.
    EXITED = "exited"
    # By a signal that nobody here had asked for.
    SIGNALLED = "signalled"
    # Because `stop` was called.
    STOPPED = "stopped"
    # It could not be launched at all.
    LAUNCH_FAILED = "launch_failed"
    # The liveness check failed too often.
    UNHEALTHY = "unhealthy"
    # It used more memory than it may.
    OUT_OF_MEMORY = "out_of_memory"
    # The runtime lost sight of it, and made sure that nothing of it is left.
    LOST = "lost"


class Health(Enum):
    # No liveness check is asked for.
    DISABLED = "disabled"
    # No result yet.
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Observation:
    """What a runtime knows of an attempt. Times are nanoseconds since 1970, 0 for not yet."""

    pod_id: str
    phase: Phase
    host: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    health: Health = Health.DISABLED
    # Output of the last failed check.
    health_output: str = ""
    started_at: int = 0
    ended_at: int = 0
    ending: Ending | None = None
    exit_code: int = 0
    # Its name, as in SIGKILL.
    signal: str = ""
    # For people: why it ended, or which limits are not enforced.
    message: str = ""


@dataclass(frozen=True)
class Capacity:
    """What the runtime can hold at once. `labels` are those of the one host that pods run on, for
    constraints; None: where pods run is the runtime's own business, and what they ask for with it."""

    cpu: float
    memory_mb: float
    pods: int
    gpu: float = 0.0
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LogChunk:
    """Bytes of a log. `offset` counts from the first byte that was ever written; older bytes may have
    been rotated away, so a chunk may begin later than asked for."""

    offset: int
    data: bytes


class UnknownAttempt(Exception):
    """There is no such attempt, or it was forgotten."""


class RuntimeUnavailable(Exception):
    """The runtime does not answer just now. What was asked may or may not have happened; asking
    again is safe."""


class Runtime(ABC):
    """All calls may raise RuntimeUnavailable. All are idempotent."""

    name: str

    @abstractmethod
    async def open(self) -> None:
        """Reach it, starting what it needs. Attempts of earlier processes go on."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it. Attempts go on."""

    @abstractmethod
    async def capacity(self) -> Capacity: ...

    @abstractmethod
    def unsupported(self, spec: pod_pb2.PodSpec) -> Sequence[Violation]:
        """The fields of an effective spec that this runtime cannot honour, with the reason."""

    @abstractmethod
    async def start(self, attempt: Attempt) -> None:
        """Run it, at most once ever: an attempt of that id that is known already stays as it is.
        Returns once the runtime will remember it, whatever happens to the caller."""

    @abstractmethod
    async def stop(self, pod_id: str, grace: float) -> None:
        """Ask it to end, and make it after `grace` seconds; a smaller grace later counts, a greater
        one does not. An attempt that waits never begins. Raises UnknownAttempt."""

    @abstractmethod
    async def forget(self, pod_id: str) -> None:
        """Remove what is kept of an attempt that has ended: record, logs, files. An unknown one is
        forgotten already. Never touches one that has not ended."""

    @abstractmethod
    async def attempts(self) -> Sequence[Observation]:
        """All that are known and not forgotten, as they are now."""

    @abstractmethod
    def watch(self) -> AsyncGenerator[Observation, None]:
        """First every attempt as it is, then each change; in order for each attempt. A slow reader
        may miss what was between, never the newest. Ends with RuntimeUnavailable."""

    @abstractmethod
    async def read_log(self, pod_id: str, stream: str, *, offset: int = 0, limit: int = 65_536) -> LogChunk:
        """What stands at `offset` and after; a negative offset counts from the end. Empty data: no
        more for now. Raises UnknownAttempt."""

    @abstractmethod
    async def files(self, pod_id: str) -> Sequence[str]:
        """Paths in its sandbox, relative to it, sorted. Raises UnknownAttempt."""
