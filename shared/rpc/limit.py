"""What ends a stream at a certain time, wherever it then is."""

from __future__ import annotations

import asyncio
from types import TracebackType

from shared.rpc import status as statuses
from shared.rpc.status import StatusError


class Limit:
    """A transport has it around all that it does for one stream: so the clock runs in the handler,
    and in a write that waits for a slow reader."""

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(None)
        self._reason: Exception | None = None

    def end_after(self, seconds: float, reason: Exception) -> None:
        """End the stream with `reason` so many seconds from now; of several the first counts."""
        when, set_to = asyncio.get_running_loop().time() + seconds, self._timeout.when()
        if set_to is None or when < set_to:
            self._reason = reason
            self._timeout.reschedule(when)

    @property
    def is_set(self) -> bool:
        return self._timeout.when() is not None

    @property
    def reason(self) -> Exception | None:
        """Why it has ended the stream; None: it has not."""
        return self._reason if self._timeout.expired() else None

    async def __aenter__(self) -> Limit:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises StatusError when it has ended the stream."""
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self.reason is None:
                raise
            raise StatusError(statuses.of(self.reason)) from None
