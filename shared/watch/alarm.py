"""A time that is put off again and again, as the next heartbeat is by every message."""

from __future__ import annotations

import asyncio
import time

# What a timer may be early by: clocks of event loops count milliseconds.
_GRAIN = 0.001


class Alarm:
    """Rings at a time that may only be put off. Its timer is set anew when it runs out, not each time
    that the alarm is put off: a watch that is told much pays nothing for it."""

    def __init__(self) -> None:
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sleeper: asyncio.Future[None] | None = None

    @property
    def rung(self) -> bool:
        """The time has come."""
        return time.monotonic() >= self._at

    def put_off(self, at: float) -> None:
        """Ring at `at`, of time.monotonic()."""
        self._at = at
        if self._timer is None:
            self._start()

    def wakes(self, sleeper: asyncio.Future[None]) -> None:
        """`sleeper` is done when the alarm rings, unless it is before."""
        self._sleeper = sleeper

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        left = max(0.0, self._at - time.monotonic()) + _GRAIN
        self._timer = asyncio.get_running_loop().call_later(left, self._ended)

    def _ended(self) -> None:
        self._timer = None
        if not self.rung:
            self._start()
        elif self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
