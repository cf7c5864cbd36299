"""supervisord: its configuration, and what its own log says about the processes it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.cli import child
from shared.cli.suite import Program

CONFIGURATION: Final = "supervisord.conf"
SOCKET: Final = "supervisor.sock"
# A process that lives shorter than this is restarted with a growing delay, else at once.
SETTLED_SECONDS: Final = 5
_LOG_BYTES: Final = "10MB"
_LOG_BACKUPS: Final = 5
# Longer paths do not fit into a Unix socket's address.
_SOCKET_PATH: Final = 100


def configuration(programs: Sequence[Program], *, run: Path, logs: Path, stop_seconds: int) -> str:
    """supervisord.conf for `run`. All programs form one group, so that they stop at once."""
    here = "%(here)s"
    sections = [
        "[supervisord]",
        "nodaemon=true",
        f"logfile={here}/supervisord.log",
        "logfile_maxbytes=1MB",
        "logfile_backups=2",
        f"pidfile={here}/supervisord.pid",
        f"childlogdir={here}",
        f"minfds={_files()}",
        "minprocs=1",
        "",
    ]
    if len(str(run / SOCKET)) < _SOCKET_PATH:
        sections += [
            "[unix_http_server]",
            f"file={here}/{SOCKET}",
            "chmod=0700",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "",
            "[supervisorctl]",
            f"serverurl=unix://{here}/{SOCKET}",
            "",
        ]
    for program in programs:
        command = shlex.join([sys.executable, "-S", child.__file__, program.module]).replace("%", "%%")
        sections += [
            f"[program:{program.name}]",
            f"command={command}",
            "autostart=true",
            "autorestart=true",
            f"startsecs={SETTLED_SECONDS}",
            # Never give up: the delay grows by a second with each try.
            "startretries=1000000",
            "stopsignal=TERM",
            f"stopwaitsecs={stop_seconds}",
            "redirect_stderr=true",
            f"stdout_logfile={here}/../{logs.name}/{program.name}.log",
            f"stdout_logfile_maxbytes={_LOG_BYTES}",
            f"stdout_logfile_backups={_LOG_BACKUPS}",
            "",
        ]
    sections += ["[group:roundhouse]", f"programs={','.join(program.name for program in programs)}", ""]
    return "\n".join(sections)


def _files() -> int:
    """File descriptors to ask for: many watches need many, and the limit may be low."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended by itself. `delay` seconds pass before it is started again."""

    program: str
    how: str
    delay: int

    def __str__(self) -> str:
        again = f"restarting in {self.delay} s" if self.delay else "restarting now"
        return f"{self.program} died ({self.how}), {again}"


@dataclass(frozen=True, slots=True)
class Spawned:
    program: str
    pid: int
    again: bool


@dataclass(frozen=True, slots=True)
class Said:
    """Something else that the terminal should show."""

    text: str


Event = Died | Spawned | Said

_SPAWNED: Final = re.compile(r"INFO spawned: '(?P<program>[^']+)' with pid (?P<pid>\d+)")
_SETTLED: Final = re.compile(r"INFO success: (?P<program>\S+) entered RUNNING")
_EXITED: Final = re.compile(r"(?:INFO|WARN) exited: (?P<program>\S+) \((?P<how>.*); (?:not )?expected\)")
_SERIOUS: Final = re.compile(r" (?:WARN|ERRO|CRIT) (?P<text>.*)")
# Known, harmless and of no use to a reader.
_QUIET: Final = re.compile(r"running as root|received SIG|stopped: |without any HTTP authentication")


@dataclass(slots=True)
class Reader:
    """Turns the lines of supervisord's log into events; knows its rule for delays."""

    pids: dict[str, int] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def event(self, line: str) -> Event | None:
        if match := _SPAWNED.search(line):
            program, pid = match["program"], int(match["pid"])
            again = program in self._seen
            self._seen.add(program)
            self.pids[program] = pid
            return Spawned(program, pid, again)
        if match := _SETTLED.search(line):
            self._settled.add(match["program"])
            self._failures.pop(match["program"], None)
            return None
        if match := _EXITED.search(line):
            return self._died(match["program"], match["how"])
        if (match := _SERIOUS.search(line)) and not _QUIET.search(line):
            return Said(match["text"])
        return None

    def _died(self, program: str, how: str) -> Died:
        self.pids.pop(program, None)
        delay = 0
        if program not in self._settled:
            delay = self._failures[program] = self._failures.get(program, 0) + 1
        self._settled.discard(program)
        return Died(program, how.replace("exit status", "exit").removeprefix("terminated by "), delay)


async def start(run: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """supervisord in a session of its own, so that Ctrl-C reaches only us; it stops when we die.
    Its log comes out of the pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-S",
        child.__file__,
        "supervisor.supervisord",
        "-c",
        str(run / CONFIGURATION),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def wake(run: Path) -> bool:
    """End supervisord's one-second nap by touching its socket. False when there is none (yet)."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as touch:
        touch.settimeout(1)
        touch.connect(str(run / SOCKET))
        return True
    return False
