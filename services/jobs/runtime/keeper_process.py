"""The keeper of a folder as a process: for whoever ends it, and all that it keeps, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from pathlib import Path
from typing import Final, Self

# How a keeper is told from another process that got its number.
_NAME: Final = b"services.jobs.runtime.keeper"


class KeeperProcess:
    """A context manager: it holds a handle of the process, which no other process can get."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    @classmethod
    def of(cls, home: Path) -> Self | None:
        """The one that keeps the pods of `home`; None when nobody does."""
        with contextlib.suppress(OSError, ValueError), (home / ".keeper" / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = cls(int(lock.read()))
                with contextlib.suppress(OSError):
                    if _NAME in Path(f"/proc/{found.pid}/cmdline").read_bytes():
                        return found
                found.close()
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._handle)

    def end(self) -> None:
        """Asks each pod to end, and makes it after its grace. Once more: makes all of them at once."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Its pods are left to the next keeper, which ends them."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    async def wait(self) -> None:
        """Until it has ended."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._handle)
