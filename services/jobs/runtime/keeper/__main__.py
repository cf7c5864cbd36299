"""python -m services.jobs.runtime.keeper HOME: the keeper of the pods in HOME.

Returns with status 0 as soon as one serves that folder, this one or another; it goes on in the
background, in a session of its own, until SIGTERM, or until it had nothing to keep for a while and
nobody asked. A second SIGTERM leaves pods no more time to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import math
import os
import signal
import sys
from pathlib import Path
from typing import Final

from services.jobs.runtime.keeper.keeper import Keeper
from services.jobs.runtime.keeper.server import Server

log = logging.getLogger("keeper")

_SERVES: Final = b"1"
_LOG_BYTES: Final = 1 << 20
# How often it is looked whether anybody needs it (seconds).
_LOOK: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
# Ignored by Python, which resets them in what it starts.
_PYTHONS: Final = {signal.SIGPIPE, signal.SIGXFSZ}


def main() -> int:
    home = Path(sys.argv[1]).absolute()
    folder = home / ".keeper"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    result, told = os.pipe()
    if os.fork():
        os.close(told)
        _end_with_parent()
        return 0 if os.read(result, 1) == _SERVES else 1
    os.close(result)
    os.setsid()
    _detach(folder)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Another one has this folder: whoever connects finds that.
        os.write(told, _SERVES)
        return 0
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    try:
        asyncio.run(_serve(home, folder, told))
    except Exception:
        log.exception("the keeper ends")
        return 1
    return 0


def _end_with_parent() -> None:
    """A service that is killed while it waits for a keeper wants none: nobody would end that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _detach(folder: Path) -> None:
    """From the terminal, the signals and the output of whoever started it."""
    output = folder / "log"
    if output.exists() and output.stat().st_size > _LOG_BYTES:
        output.replace(folder / "log.old")
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, to in ((0, null), (1, file), (2, file)):
        os.dup2(to, number)
    for opened in (file, null):
        os.close(opened)
    os.chdir("/")
    # What is ignored here would be ignored by every pod.
    for number in signal.valid_signals() - _PYTHONS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


async def _serve(home: Path, folder: Path, told: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, log.info, "signal %s means nothing here", number.name)
    keeper = Keeper(home)

    def asked() -> None:
        if stopped.is_set():
            keeper.hurry()
        stopped.set()

    loop.add_signal_handler(signal.SIGTERM, asked)
    server = Server(keeper, stopped.set)
    await keeper.open()
    await server.open(folder)
    log.info("keeper %s serves %s", os.getpid(), home)
    try:
        os.write(told, _SERVES)
    except BrokenPipeError:
        log.info("whoever started it is gone")
        stopped.set()
    os.close(told)
    unneeded_since = math.inf
    while not stopped.is_set() and loop.time() - unneeded_since < keeper.idle_for:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), _LOOK)
        unneeded = server.alone and keeper.idle
        unneeded_since = min(unneeded_since, loop.time()) if unneeded else math.inf
    log.info("keeper %s ends", os.getpid())
    await keeper.end()
    await server.close()


if __name__ == "__main__":
    sys.exit(main())
