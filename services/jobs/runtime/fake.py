"""A runtime without processes: attempts follow scripts, and time passes when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.jobs.runtime.feed import Feed
from services.jobs.runtime.node import Node
from services.jobs.runtime.port import (
    STDERR,
    STDOUT,
    Attempt,
    Capacity,
    Ending,
    Health,
    LogChunk,
    Observation,
    Phase,
    Runtime,
    RuntimeUnavailable,
    UnknownAttempt,
)
from services.jobs.runtime.script import FOREVER, Script
from services.jobs.runtime.unsupported import unsupported
from shared.errors import Violation
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

_SECOND: Final = 1_000_000_000
_BEGINNING: Final = 1_700_000_000 * _SECOND
_FIRST_PORT: Final = 31000
_HOST: Final = "fake-host"
_CHECK: Final = 15
Scripts = Mapping[str, Script] | Callable[[Attempt], Script]


@dataclass
class _Run:
    attempt: Attempt
    script: Script
    seen: Observation
    logs: dict[str, bytes] = field(default_factory=lambda: {STDOUT: b"", STDERR: b""})
    asked: bool = False
    deadline: int = 0


class FakeEngine:
    """Outlives its runtimes, as a cluster or a keeper does.

    `scripts` by the command of a spec (`entrypoint.value`), or a function of the attempt; others run
    for ever. `launch_rate`: launches a second, None for as many as are asked for. `launched` names
    every attempt that ever began, in order."""

    def __init__(
        self,
        scripts: Scripts | None = None,
        *,
        capacity: Capacity | None = None,
        launch_rate: float | None = None,
    ) -> None:
        self.capacity = capacity or Capacity(
            cpu=1e6, memory_mb=1e9, pods=1_000_000, labels={"hostname": _HOST, "zone": "a"}
        )
        self.launched: list[str] = []
        self.available = True
        self._scripts = scripts if scripts is not None else {}
        self._rate = launch_rate
        self._now = _BEGINNING
        self._next_launch = _BEGINNING
        self._runs: dict[str, _Run] = {}
        self._feeds: set[Feed] = set()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ports = itertools.count(_FIRST_PORT)

    # -- what tests do

    def clock(self) -> int:
        """Nanoseconds since 1970."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Everything that is due until then happens, in order, each at its time."""
        until = self._now + int(seconds * _SECOND)
        while self._due and self._due[0][0] <= until:
            at, _, action = heapq.heappop(self._due)
            self._now = max(self._now, at)
            action()
        self._now = until

    def alive(self) -> list[str]:
        """Attempts of which something lives."""
        return [id for id, run in self._runs.items() if run.seen.phase in (Phase.STARTING, Phase.RUNNING)]

    def observe(self, pod_id: str) -> Observation:
        return self._runs[pod_id].seen

    def write(self, pod_id: str, data: bytes, stream: str = STDOUT) -> None:
        """The attempt writes that."""
        self._runs[pod_id].logs[stream] += data

    def end(
        self, pod_id: str, ending: Ending = Ending.EXITED, *, exit_code: int = 0, signal: str = ""
    ) -> None:
        """It ends now, unless it has."""
        self._end(self._runs[pod_id], ending, exit_code=exit_code, signal=signal)

    def crash(self) -> None:
        """It is started anew, and whatever lived is lost."""
        for pod_id in self.alive():
            self.end(pod_id, Ending.LOST)
        self.hide()
        self.available = True

    def hide(self) -> None:
        """It does not answer until `available` is true again; attempts go on."""
        self.available = False
        for feed in self._feeds:
            feed.put("")

    # -- what runtimes do

    def start(self, attempt: Attempt) -> None:
        if attempt.pod_id in self._runs:
            return
        checked = bool(attempt.spec.containers) and attempt.spec.containers[0].liveness_check.enabled
        seen = Observation(
            attempt.pod_id,
            Phase.WAITING,
            host=_HOST,
            health=Health.UNKNOWN if checked else Health.DISABLED,
        )
        run = self._runs[attempt.pod_id] = _Run(attempt, self._script(attempt), seen)
        self._tell(run)
        if self._rate is None:
            self._launch(run)
        else:
            at = self._next_launch = max(self._next_launch, self._now)
            self._next_launch += int(_SECOND / self._rate)
            self._at(at, lambda: self._launch(run))

    def stop(self, pod_id: str, grace: float) -> None:
        run = self.known(pod_id)
        if run.seen.phase is Phase.ENDED:
            return
        if run.seen.phase is Phase.WAITING:
            self._end(run, Ending.STOPPED)
            return
        deadline = self._now + int(grace * _SECOND)
        if not run.asked:
            run.asked, run.deadline = True, deadline
            self._asked(run)
        elif deadline < run.deadline:
            run.deadline = deadline
        if run.seen.phase is not Phase.ENDED:
            self._at(run.deadline, lambda: self._press(run))

    def forget(self, pod_id: str) -> None:
        run = self._runs.get(pod_id)
        if run is not None and run.seen.phase is Phase.ENDED:
            del self._runs[pod_id]

    def all(self) -> list[Observation]:
        return [run.seen for run in self._runs.values()]

    def known(self, pod_id: str) -> _Run:
        try:
            return self._runs[pod_id]
        except KeyError:
            raise UnknownAttempt(pod_id) from None

    async def follow(self) -> AsyncGenerator[Observation, None]:
        feed = Feed(self._runs)
        self._feeds.add(feed)
        try:
            while True:
                for pod_id in await feed.take():
                    if not pod_id:
                        raise RuntimeUnavailable("the fake was made to hide")
                    run = self._runs.get(pod_id)
                    if run is not None:
                        yield run.seen
        finally:
            self._feeds.discard(feed)

    # -- what scripts do

    def _script(self, attempt: Attempt) -> Script:
        if callable(self._scripts):
            return self._scripts(attempt)
        containers = attempt.spec.containers
        return self._scripts.get(containers[0].entrypoint.value if containers else "", FOREVER)

    def _launch(self, run: _Run) -> None:
        if run.seen.phase is not Phase.WAITING:
            return
        if run.script.launch_error:
            self._end(run, Ending.LAUNCH_FAILED, message=run.script.launch_error)
            return
        self.launched.append(run.attempt.pod_id)
        containers = run.attempt.spec.containers
        ports = (
            {port.name: port.value or next(self._ports) for port in containers[0].ports} if containers else {}
        )
        if run.script.starts_after:
            self._tell(run, phase=Phase.STARTING, ports=ports)
            self._in(run.script.starts_after, lambda: self._run(run))
        else:
            self._run(run, ports=ports)

    def _run(self, run: _Run, **changes: Any) -> None:
        if run.seen.phase is Phase.ENDED:
            return
        script = run.script
        run.logs[STDOUT] += script.output
        self._tell(run, phase=Phase.RUNNING, started_at=self._now, **changes)
        if script.lasts is not None:
            ending = Ending.SIGNALLED if script.signal else Ending.EXITED
            code = 0 if script.signal else script.exit_code
            self._in(script.lasts, lambda: self._end(run, ending, exit_code=code, signal=script.signal))
        if script.lost_after is not None:
            self._in(script.lost_after, lambda: self._end(run, Ending.LOST))
        if run.seen.health is Health.UNKNOWN:
            self._check(run)

    def _check(self, run: _Run) -> None:
        check = run.attempt.spec.containers[0].liveness_check
        first = check.initial_interval_secs or _CHECK
        sick = run.script.unhealthy_after
        if sick is None or sick > first:
            self._in(first, lambda: self._feel(run, Health.HEALTHY))
        if sick is not None:
            self._in(max(sick, first), lambda: self._fail(run))

    def _feel(self, run: _Run, health: Health, output: str = "") -> None:
        if run.seen.phase is Phase.RUNNING:
            self._tell(run, health=health, health_output=output)

    def _fail(self, run: _Run) -> None:
        self._feel(run, Health.UNHEALTHY, "status 1")
        self._end(run, Ending.UNHEALTHY, signal="SIGTERM")

    def _asked(self, run: _Run) -> None:
        if run.script.ends_after == 0.0:
            self._end(run, Ending.STOPPED, signal="SIGTERM")
        elif run.script.ends_after is not None:
            self._in(run.script.ends_after, lambda: self._end(run, Ending.STOPPED))

    def _press(self, run: _Run) -> None:
        if self._now >= run.deadline:
            self._end(run, Ending.STOPPED, signal="SIGKILL")

    def _end(
        self, run: _Run, ending: Ending, *, exit_code: int = 0, signal: str = "", message: str = ""
    ) -> None:
        if run.seen.phase is not Phase.ENDED:
            self._tell(
                run,
                phase=Phase.ENDED,
                ending=ending,
                exit_code=exit_code,
                signal=signal,
                message=message,
                ended_at=self._now,
            )

    def _tell(self, run: _Run, **changes: Any) -> None:
        if changes:
            run.seen = replace(run.seen, **changes)
        for feed in self._feeds:
            feed.put(run.attempt.pod_id)

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(self._now + int(seconds * _SECOND), action)

    def _at(self, at: int, action: Callable[[], None]) -> None:
        """At once, when that is now."""
        if at <= self._now:
            action()
        else:
            heapq.heappush(self._due, (at, next(self._order), action))


class FakeRuntime(Runtime):
    """One user of an engine."""

    name = "fake"

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine()
        self._open = False

    async def open(self) -> None:
        self._open = True
        self._reach()

    async def close(self) -> None:
        self._open = False

    async def capacity(self) -> Capacity:
        return self._reach().capacity

    def unsupported(self, spec: pod_pb2.PodSpec) -> Sequence[Violation]:
        """What the process runtime cannot do where limits are advisory."""
        return list(unsupported(spec, Node(enforce=False)))

    async def start(self, attempt: Attempt) -> None:
        self._reach().start(attempt)

    async def stop(self, pod_id: str, grace: float) -> None:
        self._reach().stop(pod_id, grace)

    async def forget(self, pod_id: str) -> None:
        self._reach().forget(pod_id)

    async def attempts(self) -> Sequence[Observation]:
        return self._reach().all()

    async def watch(self) -> AsyncGenerator[Observation, None]:
        async for seen in self._reach().follow():
            yield seen

    async def read_log(self, pod_id: str, stream: str, *, offset: int = 0, limit: int = 65_536) -> LogChunk:
        written = self._reach().known(pod_id).logs.get(stream)
        if written is None:
            raise ValueError(f"no stream {stream!r}")
        at = min(max(0, len(written) + offset if offset < 0 else offset), len(written))
        return LogChunk(at, written[at : at + max(0, limit)])

    async def files(self, pod_id: str) -> Sequence[str]:
        run = self._reach().known(pod_id)
        return [STDERR, STDOUT] if run.seen.started_at else []

    def _reach(self) -> FakeEngine:
        if not self._open or not self.engine.available:
            raise RuntimeUnavailable("the fake is not open, or was made to hide")
        return self.engine
