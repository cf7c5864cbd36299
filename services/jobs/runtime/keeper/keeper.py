"""Keeps the attempts of one folder: what it knows of them, which may begin, and what is left of an
earlier keeper's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
import secrets
import shutil
import stat
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.feed import Feed
from services.jobs.runtime.keeper import journal
from services.jobs.runtime.keeper.attempt import STREAMS, Attempt, Tools
from services.jobs.runtime.keeper.journal import Journal
from services.jobs.runtime.keeper.leases import Devices, Ports
from services.jobs.runtime.keeper.reaper import Reaper, end_strangers

log = logging.getLogger("keeper")

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_FILES: Final = 10_000
# Of each attempt that runs: two pipes, two files; and some for everything else.
_DESCRIPTORS: Final = 4
_SPARE: Final = 256
# Looks in a row that must find nothing: one may just miss a process that forks and ends.
_LOOKS: Final = 3
_PAUSE: Final = 0.01
_IDLE: Final = 60.0
_LONGEST_PAUSE: Final = 1.0
# Seconds of launches in one turn of the loop: more would keep the pipes of those that run from being
# read, and a turn for each costs a tenth of a launch.
_TURN: Final = 0.01


def most_pods(descriptors: int) -> int:
    """How many attempts may run with so many."""
    return max(0, descriptors - _SPARE) // _DESCRIPTORS


class Unknown(Exception):
    """There is no such attempt."""


class Keeper:
    """`home` holds a sandbox for each attempt, and `.keeper`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._own = home / ".keeper"
        self._trash = self._own / "trash"
        self._journal = Journal(self._own / "journal")
        self._reaper = Reaper()
        # For what is slow on a disk and must be in order.
        self._thread = ThreadPoolExecutor(1, "files")
        self._tools = Tools(
            home,
            self._journal,
            self._reaper,
            Ports(),
            Devices(),
            self._changed,
            self._discard,
            self._thread.submit,
        )
        self._attempts: dict[str, Attempt] = {}
        self._line: deque[Attempt] = deque()
        self._more = asyncio.Event()
        self._more_trash = asyncio.Event()
        self._feeds: set[Feed] = set()
        self._rate = 1.0
        self.idle_for = _IDLE
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._hurry = False

    async def open(self) -> None:
        """Knows again what was accepted before, and ends what ran."""
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reaper.open()
        left = self._remember()
        self._write_anew()
        for attempt in self._attempts.values():
            if not attempt.ended and attempt not in left:
                self._enqueue(attempt)
        self._tasks = [
            asyncio.create_task(self._take_over(left), name="taking over"),
            asyncio.create_task(self._launch(), name="launching"),
            asyncio.create_task(self._empty_trash(), name="emptying the trash"),
        ]

    async def end(self) -> None:
        """Ends what runs, as gently as it asked for. What waits goes on waiting, for the next keeper."""
        self._stopping = True
        feed = Feed()
        self._feeds.add(feed)
        running = [a for a in self._attempts.values() if a.record["phase"] == "running"]
        for attempt in running:
            attempt.abandon(at_once=self._hurry)
        while any(not attempt.ended for attempt in running):
            await feed.take()
        self._feeds.discard(feed)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)
        self._journal.close()

    def hurry(self) -> None:
        """What is being ended, or will be, has no more time for that."""
        self._hurry = True
        for attempt in self._attempts.values():
            attempt.abandon(at_once=True)

    @property
    def idle(self) -> bool:
        """There is nothing to keep: another keeper would know as much from the journal."""
        return all(attempt.ended for attempt in self._attempts.values())

    # -- what clients ask for

    def configure(self, *, rate: float, pods: int, processes: int, idle: float) -> None:
        """`rate`: launches a second. `pods`: how many may run, so that there are descriptors for all.
        `processes`: how many the user of the pods may have; 0 leaves that as it is. `idle`: seconds
        that it stays without use."""
        self.idle_for = idle
        self._rate = max(rate, 0.001)
        self._more.set()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS * pods + _SPARE
        if soft != resource.RLIM_INFINITY and soft < wanted:
            bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (bound, hard))
        if processes:
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            bound = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (bound, hard))

    def start(self, description: dict[str, Any]) -> None:
        """Raises ValueError, KeyError or TypeError for what is no description, and OSError when it
        cannot be remembered."""
        id = description["pod_id"]
        if id in self._attempts:
            return
        if not _ID.fullmatch(id):
            raise ValueError(f"{id!r} is no name of a folder")
        if self._stopping:
            raise OSError("the keeper is ending")
        attempt = Attempt.accept(description, self._tools)
        self._attempts[id] = attempt
        self._changed(id)
        self._enqueue(attempt)
        self._tidy()

    def known(self, id: str) -> Attempt:
        """Raises Unknown."""
        try:
            return self._attempts[id]
        except KeyError:
            raise Unknown from None

    async def forget(self, id: str) -> None:
        """Unless it has not ended. Raises OSError; then it is known still."""
        attempt = self._attempts.get(id)
        if attempt is None or not attempt.ended:
            return
        # After what is still to be written there.
        await asyncio.get_running_loop().run_in_executor(self._thread, self._put_away, attempt.sandbox)
        self._more_trash.set()
        if id in self._attempts:
            self._journal.append({"forgotten": id})
            del self._attempts[id]

    def records(self) -> list[dict[str, Any]]:
        return [attempt.record for attempt in self._attempts.values()]

    def record(self, id: str) -> dict[str, Any] | None:
        attempt = self._attempts.get(id)
        return attempt.record if attempt is not None else None

    def read(self, id: str, stream: str, offset: int, limit: int) -> tuple[int, bytes]:
        """Raises Unknown, and ValueError for a stream that there is none of."""
        attempt = self.known(id)
        if stream not in STREAMS:
            raise ValueError(f"no stream {stream!r}; there are {', '.join(STREAMS)}")
        return attempt.logs[stream].read(offset, limit)

    async def files(self, id: str) -> list[str]:
        """Both logs, though nothing may have been written to them, and all others. Raises Unknown."""
        attempt = self.known(id)
        found = await asyncio.to_thread(_files, attempt.sandbox)
        return sorted({*found, *STREAMS}) if attempt.begun else found

    def follow(self) -> Feed:
        """The ids of all attempts, then of each that changes, until `unfollow`."""
        feed = Feed(self._attempts)
        self._feeds.add(feed)
        return feed

    def unfollow(self, feed: Feed) -> None:
        self._feeds.discard(feed)

    def _changed(self, id: str) -> None:
        for feed in self._feeds:
            feed.put(id)

    # -- launching

    def _enqueue(self, attempt: Attempt) -> None:
        self._line.append(attempt)
        self._more.set()

    async def _launch(self) -> None:
        """In order, no more a second than is allowed: a burst may have as many as a tenth of a second."""
        tokens, at = 1.0, time.monotonic()
        turn = at
        while not self._stopping:
            now = time.monotonic()
            if now - turn > _TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()
            tokens, at = min(max(1.0, self._rate / 10), tokens + (now - at) * self._rate), now
            if not self._line or tokens < 1:
                await self._something_new((1 - tokens) / self._rate if self._line else None)
                turn = time.monotonic()
                continue
            attempt = self._line.popleft()
            if not attempt.ended:
                tokens -= 1
                attempt.begin()

    async def _something_new(self, timeout: float | None) -> None:
        self._more.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._more.wait(), timeout)

    # -- an earlier keeper's

    def _remember(self) -> list[Attempt]:
        """Fills what is known; answers the attempts that must be made sure of."""
        boot = ""
        suspects: set[str] = set()
        for entry in self._journal.entries():
            try:
                if "boot" in entry:
                    boot = entry["boot"]
                else:
                    self._recall(entry, suspects)
            except (KeyError, TypeError) as error:
                log.warning("an entry of the journal is left out: %s %s", type(error).__name__, error)
        found = [self._attempts[id] for id in self._attempts if id in suspects]
        if boot == journal.boot():
            return found
        # The host was started anew: nothing of it runs, and how far the others were is not certain.
        for attempt in self._attempts.values():
            if not attempt.ended:
                attempt.take_over()
        return [attempt for attempt in self._attempts.values() if not attempt.ended]

    def _recall(self, entry: dict[str, Any], suspects: set[str]) -> None:
        if "accepted" in entry:
            attempt = Attempt(entry["accepted"], entry["mark"], self._tools)
            self._attempts[attempt.id] = attempt
        elif "begun" in entry:
            self._attempts[entry["begun"]].take_over()
            suspects.add(entry["begun"])
        elif "ended" in entry:
            id = entry["ended"]["pod_id"]
            self._attempts[id] = Attempt.of_the_past(entry["ended"], self._tools)
            suspects.discard(id)
        elif "forgotten" in entry:
            self._attempts.pop(entry["forgotten"], None)
            suspects.discard(entry["forgotten"])

    async def _take_over(self, attempts: list[Attempt]) -> None:
        """Make an end of them; each is lost once nothing of it is found any more."""
        pause, quiet = _PAUSE, 0
        left = {attempt.mark: attempt for attempt in attempts}
        while left and quiet < _LOOKS:
            found = end_strangers(set(left))
            quiet = 0 if found else quiet + 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE) if found else _PAUSE
        for attempt in left.values():
            attempt.lose("Its keeper was killed, and it was ended")

    def _tidy(self) -> None:
        if self._journal.stale:
            try:
                self._write_anew()
            except OSError as error:
                log.warning("the journal cannot be written anew: %s", error)

    def _write_anew(self) -> None:
        self._journal.rewrite(self._entries())

    def _entries(self) -> Iterator[dict[str, Any]]:
        yield {"boot": journal.boot()}
        for attempt in self._attempts.values():
            yield from attempt.entries()

    # -- what is forgotten

    def _discard(self, path: Path) -> None:
        self._put_away(path)
        self._more_trash.set()

    def _put_away(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.rename(self._trash / secrets.token_hex(8))

    async def _empty_trash(self) -> None:
        self._more_trash.set()
        while True:
            await self._more_trash.wait()
            self._more_trash.clear()
            await asyncio.to_thread(_remove_all, self._trash)


def _files(folder: Path) -> list[str]:
    found: list[str] = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file():
                found.append(str(path.relative_to(folder)))
        if len(found) >= _FILES:
            break
    return sorted(found[:_FILES])


def _remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                _open_up(path)
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _open_up(folder: Path) -> None:
    """A pod may leave folders behind that nobody may write to. Never follows a link."""
    with contextlib.suppress(OSError):
        folder.chmod(stat.S_IRWXU)
        for place, names, _ in os.walk(folder):
            for name in names:
                path = Path(place, name)
                if not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
