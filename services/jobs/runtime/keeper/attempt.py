"""One attempt: from waiting over running to its end, when nothing of it lives."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import checking, launch, marks, protocol
from services.jobs.runtime.keeper.cgroup import Cgroup
from services.jobs.runtime.keeper.journal import Journal
from services.jobs.runtime.keeper.launch import LaunchFailed
from services.jobs.runtime.keeper.leases import Devices, NoneLeft, Ports
from services.jobs.runtime.keeper.logs import Log
from services.jobs.runtime.keeper.pump import Pump
from services.jobs.runtime.keeper.reaper import Reaper, send, send_group

STREAMS: Final = ("stdout", "stderr")
# Of a description.
_KEYS: Final = frozenset(
    {
        *("pod_id", "argv", "environment", "ports", "span", "gpus", "devices", "limits", "cgroup"),
        *("check", "grace", "volumes", "log_bytes", "log_files", "note"),
    }
)
# Of a record, in exit.json.
_SHOWN: Final = ("ending", "exit_code", "signal", "started_at", "ended_at", "message")

log = logging.getLogger("keeper")


@dataclass(frozen=True)
class Tools:
    """What all attempts share. `changed` is told the id of each that changed; `discard` removes a file
    or folder, at once as far as anybody can see; `later` does what may take its time, in order."""

    home: Path
    journal: Journal
    reaper: Reaper
    ports: Ports
    devices: Devices
    changed: Callable[[str], None]
    discard: Callable[[Path], None]
    later: Callable[[Callable[[], None]], object]


class Attempt:
    """`record` is what clients see of it."""

    def __init__(self, description: dict[str, Any], mark: int, tools: Tools) -> None:
        self.id: str = description["pod_id"]
        self.description = description
        self.mark = mark
        self.begun = False
        self.sandbox = tools.home / self.id
        self.record: dict[str, Any] = {
            "pod_id": self.id,
            "phase": "waiting",
            "health": "unknown" if description["check"] else "disabled",
            "message": description["note"],
        }
        size, files = description["log_bytes"], description["log_files"]
        self.logs = {name: Log(self.sandbox / name, limit=size, files=files) for name in STREAMS}
        self._tools = tools
        self._process: subprocess.Popen[bytes] | None = None
        self._pumps: list[Pump] = []
        self._cgroup: Cgroup | None = None
        self._devices: list[str] = []
        self._check: asyncio.Task[None] | None = None
        # How it ends, once that is decided; and when it is made to.
        self._ending = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._pressed = False
        self._warned: set[int] = set()
        self._code = 0

    @classmethod
    def accept(cls, description: dict[str, Any], tools: Tools) -> Attempt:
        """A new one, remembered. Raises KeyError or TypeError for what is no description, and OSError."""
        missing = _KEYS - description.keys()
        if missing:
            raise KeyError(f"no {', '.join(sorted(missing))}")
        found = cls(description, marks.new(), tools)
        tools.journal.append({"accepted": description, "mark": found.mark})
        return found

    @classmethod
    def of_the_past(cls, record: dict[str, Any], tools: Tools) -> Attempt:
        """One that has ended."""
        nothing = {"check": None, "note": "", "log_bytes": 1, "log_files": 1}
        found = cls({"pod_id": record["pod_id"], **nothing}, 0, tools)
        found.record = record
        found.begun = "started_at" in record
        found._recall()
        return found

    @property
    def ended(self) -> bool:
        return bool(self.record["phase"] == "ended")

    # -- its life

    def begin(self) -> None:
        """Unless it has ended before its turn came. Raises nothing: others wait behind it."""
        if self.ended:
            return
        try:
            # Should the keeper be killed from here on, it is not begun a second time.
            self._tools.journal.append({"begun": self.id})
            self.begun = True
            self._prepare()
            self._launch()
        except (LaunchFailed, NoneLeft, OSError) as error:
            self._not_begun(str(error))
        except Exception as error:
            log.exception("%s cannot be launched", self.id)
            self._not_begun(f"{type(error).__name__}: {error}")

    def _prepare(self) -> None:
        """Raises NoneLeft and OSError."""
        wanted, tools = self.description, self._tools
        self.sandbox.mkdir(mode=0o700, exist_ok=True)
        for volume in wanted["volumes"]:
            (self.sandbox / volume).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.record["ports"] = tools.ports.take(wanted["ports"], wanted["span"])
        self._devices = tools.devices.take(wanted["gpus"], wanted["devices"])
        if wanted["cgroup"]:
            self._cgroup = Cgroup.create(Path(wanted["cgroup"]), self.id, wanted["limits"])

    def _launch(self) -> None:
        """Raises LaunchFailed and OSError; what runs already is ended then."""
        wanted = self.description
        names = launch.named(wanted["ports"], self.record["ports"])
        arguments = [launch.filled(text, names) for text in wanted["argv"]]
        self._process = process = self._spawn(arguments, merged=False)
        self._tools.reaper.add(process, self.mark, self._exited)
        pipes = (process.stdout, process.stderr)
        self._pumps = [Pump(pipe, self.logs[name]) for name, pipe in zip(STREAMS, pipes, strict=True) if pipe]
        self._tell(phase="running", started_at=time.time_ns())
        if wanted["check"]:
            self._check = asyncio.create_task(self._watch_health(), name=f"health of {self.id}")

    def _not_begun(self, why: str) -> None:
        if self._process is None:
            self._finish("launch_failed", message=why)
        else:
            self._tell(message=why)
            self._ending = "launch_failed"
            self._press()

    def _spawn(
        self, arguments: list[str], *, merged: bool, variables: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Raises LaunchFailed."""
        wanted = self.description
        if variables is None:
            ports = self.record["ports"]
            variables = launch.environment(wanted, self.sandbox, ports, self._devices)
        return launch.spawn(
            arguments,
            folder=self.sandbox,
            variables=variables,
            limits=wanted["limits"],
            mark=self.mark,
            cgroup=self._cgroup,
            merged=merged,
        )

    async def _watch_health(self) -> None:
        wanted = checking.filled(self.description, self.record["ports"])

        def spawn() -> subprocess.Popen[bytes]:
            return self._spawn(wanted["argv"], merged=True, variables={} if wanted["bare"] else None)

        reaper = self._tools.reaper
        async for health in checking.results(wanted, spawn, reaper, self.mark):
            self._tell(health=health.state, health_output=health.output)
            if health.final:
                self._end_it("unhealthy", self.description["grace"])

    def stop(self, grace: float) -> None:
        """The earliest end that was asked for counts."""
        if self.record["phase"] == "waiting":
            self._finish("stopped")
        elif not self.ended:
            self._end_it("stopped", grace)

    def abandon(self, *, at_once: bool) -> None:
        """The keeper ends, and it must not outlive it."""
        if self.record["phase"] == "running" and self._process is not None:
            self._tell(message="Its keeper was told to end")
            self._end_it("lost", 0.0 if at_once else self.description["grace"])

    def _end_it(self, ending: str, grace: float) -> None:
        if self._process is None:
            return  # of another keeper, and being ended as it is
        loop = asyncio.get_running_loop()
        at = loop.time() + grace
        first = not self._ending
        if self._process.returncode is None:
            self._ending = self._ending or ending
        if self._deadline is not None and self._deadline.when() <= at:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = loop.call_at(at, self._press)
        if first and self._process.returncode is None:
            send_group(self._process.pid, signal.SIGTERM)

    def _press(self) -> None:
        """Its time is up."""
        self._pressed = True
        if self._cgroup is not None:
            self._cgroup.kill()
        if self._process is not None and self._process.returncode is None:
            send_group(self._process.pid, signal.SIGKILL)
        self._tools.reaper.look()

    def _exited(self, code: int) -> None:
        """Its first process has; the others may go on as long as a stop gives them time."""
        assert self._process is not None
        self._code = code
        if self._check is not None:
            self._check.cancel()
        if not self._ending:
            self._pressed = True
        if self._pressed:
            send_group(self._process.pid, signal.SIGKILL)
            if self._cgroup is not None:
                self._cgroup.kill()
        self._tools.reaper.leave(self.mark, self._left)

    def _left(self, pids: list[int]) -> None:
        if not pids:
            self._gone()
            return
        for pid in pids:
            if self._pressed:
                if not send(pid, signal.SIGKILL) and pid not in self._warned:
                    self._tell(message=f"Process {pid} of it may not be ended by this user")
            elif pid not in self._warned and not self._in_group(pid):
                send(pid, signal.SIGTERM)
            self._warned.add(pid)

    def _in_group(self, pid: int) -> bool:
        """It was asked to end when the group was."""
        try:
            return self._process is not None and os.getpgid(pid) == self._process.pid
        except ProcessLookupError:
            return True

    def _gone(self) -> None:
        ending = self._ending
        if not ending:
            short = self._code != 0 and self._cgroup is not None and self._cgroup.ran_out_of_memory()
            ending = "out_of_memory" if short else "signalled" if self._code < 0 else "exited"
        self._finish(ending, exit_code=max(self._code, 0), signal=_name(-self._code))

    # -- its record

    def entries(self) -> list[dict[str, Any]]:
        """What a keeper after this one must know."""
        if self.ended:
            return [{"ended": self.record}]
        begun = [{"begun": self.id}] if self.begun else []
        return [{"accepted": self.description, "mark": self.mark}, *begun]

    def take_over(self) -> None:
        """It was begun by another keeper, so its pipes are gone and it cannot go on."""
        self.begun = True
        self.record.update(phase="running", health="disabled")
        self._recall()
        if self.description["cgroup"]:
            self._cgroup = Cgroup(Path(self.description["cgroup"]) / self.id)
            self._cgroup.kill()

    def _recall(self) -> None:
        for output in self.logs.values():
            output.recall()

    def lose(self, message: str) -> None:
        """It was taken over, and nothing of it is left."""
        self._finish("lost", message=message)

    def _tell(self, **changes: Any) -> None:
        self.record.update(changes)
        self._tools.changed(self.id)

    def _finish(self, ending: str, message: str = "", **more: Any) -> None:
        """Everything of it is written when its end is told."""
        if self._deadline is not None:
            self._deadline.cancel()
        for pump in self._pumps:
            pump.close()
        for output in self.logs.values():
            output.close()
        if self._cgroup is not None:
            self._cgroup.remove()
        self._tools.ports.release(self.record.get("ports", {}).values())
        self._tools.devices.release(self._devices)
        self.record.update(more, ending=ending, ended_at=time.time_ns())
        if message:
            self.record["message"] = message
        try:
            self._tools.journal.append({"ended": {**self.record, "phase": "ended"}})
            if self.begun:
                self._clear_up()
        except OSError as error:
            # Should the keeper be killed before there is room again, it is lost instead.
            log.warning("the end of %s cannot be written: %s", self.id, error)
        self.description = {"pod_id": self.id}
        self._process, self._pumps, self._check = None, [], None
        self._tell(phase="ended")

    def _clear_up(self) -> None:
        for name in self.description["volumes"]:
            self._tools.discard(self.sandbox / name)
        content = protocol.encode({name: self.record.get(name) for name in _SHOWN})
        self._tools.later(partial(_write, self.sandbox, content))


def _write(sandbox: Path, content: str) -> None:
    """Whole or not at all."""
    fresh = sandbox / ".exit.json"
    try:
        fresh.write_text(content)
        fresh.replace(sandbox / "exit.json")
    except FileNotFoundError:
        log.debug("%s was forgotten meanwhile", sandbox)
    except OSError as error:
        log.warning("an end cannot be written: %s", error)


def _name(number: int) -> str:
    """Of a signal, as in SIGKILL; empty for none."""
    if number <= 0:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
