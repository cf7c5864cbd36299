"""All children of the keeper: those it started, and those it inherited.

The keeper is the subreaper of all that it starts: a process whose parent ends becomes its child. So an
attempt has a live process exactly as long as the keeper has a child with its mark, for the parents of
such a process all bear the mark too, up to a child of the keeper. A child stays in the kernel's list,
and its pid its own, until it is reaped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.jobs.runtime.keeper import marks

_PR_SET_CHILD_SUBREAPER: Final = 36
# After the name, of the fields of /proc/PID/stat.
_STATE: Final = 0
_PARENT: Final = 1
_THREADS: Final = 17

# Told the exit code, negative for a signal, while the pid is still its own.
Exited = Callable[[int], None]
# Told the live processes of a mark whenever they may have changed; the last time there are none.
Left = Callable[[list[int]], None]


class Reaper:
    def __init__(self) -> None:
        self._started: dict[int, tuple[subprocess.Popen[bytes], int, Exited]] = {}
        # Pid -> mark.
        self._inherited: dict[int, int] = {}
        self._leaving: dict[int, Left] = {}
        self._due = False

    def open(self) -> None:
        """From now on children are reaped, by nobody else."""
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def add(self, process: subprocess.Popen[bytes], mark: int, exited: Exited) -> None:
        self._started[process.pid] = (process, mark, exited)

    def leave(self, mark: int, left: Left) -> None:
        """`left` hears of the processes with that mark until there are none."""
        self._leaving[mark] = left
        self._soon()

    def look(self) -> None:
        """Tell those that leave what is left of them, soon."""
        if self._leaving:
            self._soon()

    def _soon(self) -> None:
        # Many attempts that end at once share one look at the children.
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            pid = found.si_pid
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            self._inherited.pop(pid, None)
            process, _, exited = self._started.pop(pid, (None, 0, None))
            if exited is not None:
                exited(code)
            if process is not None:
                process.returncode = code
            os.waitpid(pid, 0)
        self.look()

    def _look(self) -> None:
        self._due = False
        if not self._leaving:
            return
        children = _children()
        for pid in self._inherited.keys() - children:
            del self._inherited[pid]
        for pid in children - self._inherited.keys() - self._started.keys():
            self._inherited[pid] = marks.of(pid)
        found: dict[int, list[int]] = {mark: [] for mark in self._leaving}
        for pid, mark in self._inherited.items():
            if mark in found:
                found[mark].append(pid)
        for pid, (_, mark, _) in self._started.items():
            if mark in found:
                found[mark].append(pid)
        for mark, pids in found.items():
            left = self._leaving[mark]
            if not pids:
                del self._leaving[mark]
            left(pids)


def _children() -> set[int]:
    own = os.getpid()
    try:
        return set(map(int, Path(f"/proc/{own}/task/{own}/children").read_bytes().split()))
    except FileNotFoundError:
        # A kernel without that list.
        entries = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return {int(pid) for pid in entries if _parent(pid) == own}


def _parent(pid: str) -> int:
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def _over(pid: int) -> bool:
    """It only waits for its parent to notice."""
    fields = _stat(pid)
    return not fields or (fields[_STATE] == "Z" and int(fields[_THREADS]) <= 1)


def _stat(pid: int | str) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def send(pid: int, number: int) -> bool:
    """To a child that is not reaped yet. False: it may not be done."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def send_group(leader: int, number: int) -> None:
    """To the group of a child that is not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def end_strangers(wanted: set[int]) -> set[int]:
    """Kill all that bear one of those marks, though they are no children. Answers the marks that were
    found; a process is held by a descriptor, so that nobody else can be hit."""
    found: set[int] = set()
    for pid in marks.bearers(wanted):
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            mark = marks.of(pid)
            if mark in wanted and not _over(pid):
                found.add(mark)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return found
