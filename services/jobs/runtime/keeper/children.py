"""Children that somebody waits for."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Final

# Their pids: nobody else may reap them.
WAITED: Final[set[int]] = set()


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code, once it has ended; a negative one is a signal. Whoever is cancelled waits for it
    no longer."""
    WAITED.add(process.pid)
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not done.done():
            done.set_result(None)

    loop.add_reader(descriptor, ready)
    try:
        await done
        return process.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        WAITED.discard(process.pid)
