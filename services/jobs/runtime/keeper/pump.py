"""What a process writes, from its pipe into its log."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import IO, Final

from services.jobs.runtime.keeper.logs import Log

log = logging.getLogger("keeper")
# As much as a pipe holds: a process that writes without end has no more than its turn.
_CHUNK: Final = 1 << 16


class Pump:
    def __init__(self, pipe: IO[bytes], to: Log) -> None:
        self._pipe = pipe
        self._log = to
        self._full = False
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._move)

    def close(self) -> None:
        """After all that is there. Nobody of the pod can write any more; if others hold the pipe,
        nobody waits for them."""
        while not self._pipe.closed and self._move():
            pass
        self._let_go()

    def _move(self) -> bool:
        try:
            data = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._let_go()
            return False
        try:
            self._log.write(data)
            self._full = False
        except OSError as error:
            # A full disk must not stop the pod.
            if not self._full:
                log.warning("output is lost: %s", error)
            self._full = True
        return True

    def _let_go(self) -> None:
        if not self._pipe.closed:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
