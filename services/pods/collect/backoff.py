"""How long to wait before something is tried again."""

from __future__ import annotations

import asyncio
import random
from typing import Final

FIRST: Final = 0.8
LONGEST: Final = 30.0


class Backoff:
    """Twice as long each time, up to the longest, and each time between half and all of that: many that
    failed at once do not come back at once."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """What was tried has worked."""
        self._next = self._first

    def delay(self, at_least: float = 0.0) -> float:
        """Seconds to wait now; `at_least` is what the other side asks for."""
        delay, self._next = self._next, min(2 * self._next, self._longest)
        return max(delay * random.uniform(0.5, 1.0), at_least)

    async def wait(self, at_least: float = 0.0) -> None:
        await asyncio.sleep(self.delay(at_least))
