"""A token bucket for things that strangers may try."""

from __future__ import annotations

from shared.auth.tokens import Clock


class Bucket:
    """Holds `burst` at first and at most, and gains `rate` a second."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = float(burst)
        self._at = clock()

    def wait(self) -> float:
        """Seconds until there is one to take; 0 when there is."""
        now = self._clock()
        # A clock that was set back gains nothing.
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._level) / self._rate)

    def take(self) -> None:
        """Take one, also beyond what `wait` allows."""
        self._level -= 1
