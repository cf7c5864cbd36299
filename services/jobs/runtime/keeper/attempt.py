"""One attempt: its record on disk, its process and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import children, health, remains
from services.jobs.runtime.keeper.launch import Launched, LaunchFailed, Ports, environment, filled, launch
from services.jobs.runtime.keeper.logs import Log

STREAMS: Final = ("stdout", "stderr")
_CHUNK: Final = 1 << 16
# How often what is left of an attempt is looked for, and how often each pipe is read before the next.
_POLL: Final = 0.02
_SWEEPS: Final = 500
_LINGER: Final = 5.0

log = logging.getLogger("keeper")


class Attempt:
    """`record` is what clients see of it; `description` what to run. `changed` is told of every change."""

    def __init__(
        self, home: Path, description: dict[str, Any], ports: Ports, changed: Callable[[Attempt], None]
    ) -> None:
        self.id: str = description["pod_id"]
        self.description = description
        self.sandbox = home / self.id
        self.record: dict[str, Any] = {
            "pod_id": self.id,
            "phase": "waiting",
            "health": "unknown" if description["check"] else "disabled",
            "message": description["note"],
        }
        self._path = home / ".keeper" / f"{self.id}.json"
        self._ports = ports
        self._changed = changed
        limit = description["log_bytes"]
        self.logs = {name: Log(self.sandbox / name, limit=limit) for name in STREAMS}
        self._stop_at: float | None = None
        self._stopping = asyncio.Event()
        self._unhealthy = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return bool(self.record["phase"] == "ended")

    def save(self) -> None:
        """So that another keeper knows of it."""
        starts = {name: log.start for name, log in self.logs.items()}
        content = {"description": self.description, "record": self.record, "starts": starts}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._path)

    @classmethod
    def load(cls, path: Path, ports: Ports, changed: Callable[[Attempt], None]) -> Attempt:
        """Raises ValueError, KeyError or OSError for a file that is none."""
        content = json.loads(path.read_text())
        found = cls(path.parent.parent, content["description"], ports, changed)
        found.record = content["record"]
        for name, log in found.logs.items():
            log.start = content["starts"][name]
        return found

    def start(self) -> None:
        """Unless it has ended before its turn came."""
        if not self.ended:
            self._task = asyncio.create_task(self._run(), name=self.id)

    async def stop(self, grace: float) -> None:
        """The earliest end that was asked for counts."""
        at = time.monotonic() + grace
        self._stop_at = at if self._stop_at is None else min(at, self._stop_at)
        self._stopping.set()
        if self._task is None and not self.ended:
            self._end("stopped")

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.sandbox, ignore_errors=True)

    async def abandon(self) -> None:
        """Of an earlier keeper: its pipes are gone, so nothing of it may go on."""
        pid = self.record.get("pid", 0)
        same = bool(pid) and remains.start_time(pid) == self.record.get("start_time")
        while left := remains.strays({self.id}):
            if same:
                remains.signal_group(pid, signal.SIGKILL)
            remains.kill(left)
            await asyncio.sleep(_POLL)
        self._end("lost", message="The keeper was started anew while it ran")

    # -- its life

    async def _run(self) -> None:
        try:
            await self._live()
        except Exception:
            log.exception("%s cannot be kept", self.id)
            remains.kill(remains.strays({self.id}))
            self._end("lost", message="The keeper could not go on with it; see its log")

    async def _live(self) -> None:
        ports: dict[str, int] = {}
        try:
            self._tell(phase="starting")
            self.sandbox.mkdir(parents=True, exist_ok=True)
            ports = self._ports.allot(self.description["ports"])
            launched = launch(self.description, self.sandbox, ports)
        except (LaunchFailed, OSError) as error:
            self._ports.free(ports)
            return self._end("launch_failed", message=str(error))
        pid = launched.process.pid
        children.WAITED.add(pid)
        born = remains.start_time(pid)
        self._tell(phase="running", started_at=time.time_ns(), pid=pid, start_time=born, ports=ports)
        try:
            await self._watch(launched)
        finally:
            self._ports.free(ports)

    async def _watch(self, launched: Launched) -> None:
        process = launched.process
        pumps = [
            asyncio.create_task(self._pump(pipe, self.logs[name]))
            for name, pipe in zip(STREAMS, (process.stdout, process.stderr), strict=True)
        ]
        checks = asyncio.create_task(self._check(launched.ports))
        exited = asyncio.create_task(children.ended(process))
        asked = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({exited, asked, checks}, return_when=asyncio.FIRST_COMPLETED)
            if checks.done() and not exited.done():
                self._unhealthy = True
                await self.stop(self.description["grace"])
            if not exited.done():
                await self._press(process, exited)
            await exited
            await self._clear(process.pid)
            # Somebody who hid well may hold a pipe still.
            await asyncio.wait(pumps, timeout=_LINGER)
        finally:
            for task in (*pumps, checks, asked, exited):
                task.cancel()
            await asyncio.gather(*pumps, checks, asked, exited, return_exceptions=True)
            for log in self.logs.values():
                log.close()
        self._ended(process.returncode)

    async def _press(self, process: subprocess.Popen[bytes], exited: asyncio.Task[int]) -> None:
        """SIGTERM, and SIGKILL once its time is up; a later stop may shorten that."""
        remains.signal_group(process.pid, signal.SIGTERM)
        while not exited.done():
            assert self._stop_at is not None
            left = self._stop_at - time.monotonic()
            if left <= 0:
                remains.signal_group(process.pid, signal.SIGKILL)
                await exited
                return
            await asyncio.wait({exited}, timeout=min(left, 0.2))

    async def _clear(self, session: int) -> None:
        """End whatever is left of it: nothing may live once it is said to have ended."""
        for sweep in range(_SWEEPS):
            grouped = remains.signal_group(session, signal.SIGKILL)
            left = remains.orphans(self.id)
            remains.kill(left)
            remains.reap()
            if not grouped and not left:
                return
            await asyncio.sleep(_POLL if sweep else 0)

    async def _pump(self, pipe: Any, log: Log) -> None:
        """Everything that it writes, until nobody holds the pipe any more."""
        loop = asyncio.get_running_loop()
        number = pipe.fileno()
        os.set_blocking(number, False)
        ended: asyncio.Future[None] = loop.create_future()

        def ready() -> None:
            try:
                data = os.read(number, _CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                before = log.start
                with contextlib.suppress(OSError):  # a full disk must not stop the pod
                    log.write(data)
                if log.start != before:
                    self.save()
            elif not ended.done():
                ended.set_result(None)

        loop.add_reader(number, ready)
        try:
            await ended
        finally:
            loop.remove_reader(number)
            pipe.close()

    async def _check(self, ports: dict[str, int]) -> None:
        """Ends when it has failed too often in a row; never without a check."""
        wanted = self.description["check"]
        if not wanted:
            await asyncio.get_running_loop().create_future()
        wanted = {**wanted}
        if wanted["type"] == "http":
            wanted["port"] = ports.get(wanted["port_name"], wanted["port"])
            wanted["path"] = filled(wanted["path"], ports)
        else:
            wanted["argv"] = [filled(text, ports) for text in wanted["argv"]]
        variables = environment(self.description, ports)
        failures = successes = 0
        await asyncio.sleep(wanted["initial"])
        while failures < wanted["failures"]:
            wrong = await health.check(wanted, sandbox=self.sandbox, environment=variables)
            if wrong:
                failures, successes = failures + 1, 0
                self._tell(health="unhealthy", health_output=f"{wrong} ({failures} in a row)")
            else:
                failures, successes = 0, successes + 1
                if successes >= wanted["successes"] and self.record["health"] != "healthy":
                    self._tell(health="healthy", health_output="")
            await asyncio.sleep(wanted["interval"])

    # -- its record

    def _tell(self, **changes: Any) -> None:
        self.record.update(changes)
        self.save()
        self._changed(self)

    def _ended(self, code: int) -> None:
        if self._unhealthy:
            ending = "unhealthy"
        elif self._stopping.is_set():
            ending = "stopped"
        else:
            ending = "signalled" if code < 0 else "exited"
        self._end(ending, exit_code=max(code, 0), signal=signal.Signals(-code).name if code < 0 else "")

    def _end(self, ending: str, **more: Any) -> None:
        note = more.pop("message", "") or self.record["message"]
        with contextlib.suppress(OSError):
            self.sandbox.mkdir(parents=True, exist_ok=True)
            for name in self.description["volumes"]:
                shutil.rmtree(self.sandbox / name, ignore_errors=True)
            ended = {
                "ending": ending,
                "ended_at": time.time_ns(),
                "started_at": self.record.get("started_at", 0),
            }
            temporary = self.sandbox / ".exit.json"
            temporary.write_text(json.dumps({**ended, **more}))
            temporary.replace(self.sandbox / "exit.json")
        self._tell(phase="ended", ending=ending, ended_at=time.time_ns(), message=note, **more)
