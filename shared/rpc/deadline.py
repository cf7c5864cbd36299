"""When a stream must end, whatever it waits for then."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadline:
    """Cuts off whatever is awaited inside `with deadline` when it passes, with its reason, and all that
    is begun later. As `asyncio.timeout` does, but with one timer for a stream instead of one for each of
    its messages. Waits come one after the other, in any task."""

    def __init__(self) -> None:
        self._reason: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._passed = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def set(self, seconds: float | None, reason: Exception) -> None:
        """Pass so many seconds from now (None: never), with `reason`. Replaces what was set before."""
        self.cancel()
        self._reason = reason
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._pass)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        self._passed = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> Self:
        if self._passed and self._reason is not None:
            raise self._reason
        task = self._task = asyncio.current_task()
        if task is not None:
            self._cancelling = task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self._passed or task is None or self._reason is None:
            return
        # Somebody else may have cancelled the task too, which comes first.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._reason from None
