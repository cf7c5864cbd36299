"""What SIGINT, SIGTERM and SIGHUP ask of `up`: to stop, and then to hurry."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Final

# Seconds after the first signal within which others are the same wish: supervisors send several at once,
# and Ctrl-C reaches a whole group of processes, of which some pass it on.
SAME: Final = 1.0


class Signals:
    """`stop` is set by the first signal, `hurry` by one that comes `SAME` seconds after it or later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._clock = clock
        self._first = 0.0

    def listen(self) -> None:
        """From now on, in the running loop."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._asked)

    def deaf(self) -> float:
        """Seconds until another signal will make it hurry."""
        return max(0.0, self._first + SAME - self._clock()) if self.stop.is_set() else 0.0

    def _asked(self) -> None:
        if not self.stop.is_set():
            self._first = self._clock()
            self.stop.set()
        elif not self.deaf():
            self.hurry.set()
