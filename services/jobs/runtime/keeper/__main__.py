"""python -m services.jobs.runtime.keeper HOME SOCKET RATE: the keeper of one data folder."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import signal
import sys
from pathlib import Path

from services.jobs.runtime.keeper import remains
from services.jobs.runtime.keeper.keeper import Keeper


def main() -> None:
    home, socket, rate = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    (home / ".keeper").mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / ".keeper" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another keeper has this folder")
        remains.become_subreaper()
        # The service's terminal and supervisor have nothing to say here.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_until_stopped(Keeper(home, rate=rate), socket))


async def _until_stopped(keeper: Keeper, socket: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    running = asyncio.create_task(keeper.run(socket))
    ended = asyncio.create_task(stopped.wait())
    await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    main()
