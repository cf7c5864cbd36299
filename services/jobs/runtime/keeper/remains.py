"""What is left of an attempt: all its processes, wherever they went.

A pod has a session and a process group of its own. What leaves them is found again: the keeper is the
subreaper of all that it starts, so an orphan becomes its child, and every process inherits POD_ID.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Final

from services.jobs.runtime.keeper import children

PR_SET_CHILD_SUBREAPER: Final = 36
_START_TIME: Final = 19  # after the name, of the fields of /proc/PID/stat


def become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_time(pid: int) -> int:
    """In clock ticks since the host started; 0 when there is no such process. With the pid it names a
    process for ever."""
    fields = _stat(pid)
    return int(fields[_START_TIME]) if fields else 0


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """It runs, or is at least no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def signal_group(group: int, number: int) -> bool:
    """False: there is nobody in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def orphans(pod_id: str) -> list[int]:
    """Processes of the pod that lost their parent, and so have become children of this one."""
    return [pid for pid in _children() if pid not in children.WAITED and pod_of(pid) == pod_id]


def _children() -> list[int]:
    own = os.getpid()
    try:
        return list(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))
    except OSError:
        return []


def strays(pod_ids: Collection[str]) -> list[int]:
    """Every live process of those pods, by looking at every process that there is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (pid := int(entry.name)) != os.getpid():
            id = pod_of(pid)
            if id in pod_ids and alive(pid):
                found.append(pid)
    return found


def pod_of(pid: int) -> str:
    """The pod that a process belongs to; empty for none, and for one that may not be asked."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    found = next((entry for entry in variables if entry.startswith(b"POD_ID=")), b"")
    return found[len("POD_ID=") :].decode(errors="replace")


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def reap() -> None:
    """Let go of orphans that have ended."""
    for pid in _children():
        if pid not in children.WAITED and not alive(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
