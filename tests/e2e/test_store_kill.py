"""Processes that write to one SQLite file are killed at arbitrary moments: what was acknowledged stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shared.storage.sqlite import SqliteStore
from shared.storage.testing import sample_kinds

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 100
ROUNDS_OF_TWO = 15


class Writers:
    """The program that forks writers, and what they acknowledged."""

    def __init__(self, stdin: IO[str], stdout: IO[str], path: Path) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._path = path
        self.acknowledged: dict[int, str] = {}
        self.dead: set[str] = set()

    def start(self, tag: str) -> None:
        self._stdin.write(f"{self._path} {tag}\n")
        self._stdin.flush()

    def read(self) -> list[str]:
        """The next line in words. Remembers acknowledgements and deaths."""
        line = self._stdout.readline().split()
        assert line, "the writing program ended by itself"
        if line[0] == "ack":
            revision = int(line[2])
            assert revision not in self.acknowledged, "a revision was acknowledged twice"
            self.acknowledged[revision] = line[3]
        elif line[0] == "dead":
            self.dead.add(line[1])
        return line

    def read_pids(self, count: int) -> list[int]:
        pids: list[int] = []
        while len(pids) < count:
            words = self.read()
            if words[0] == "open":
                pids.append(int(words[1]))
        return pids

    def read_until_acknowledged(self, count: int) -> None:
        goal = len(self.acknowledged) + count
        while len(self.acknowledged) < goal:
            self.read()

    def read_until_dead(self, *tags: str) -> None:
        while not self.dead.issuperset(tags):
            self.read()


@contextmanager
def writers(path: Path) -> Iterator[Writers]:
    command = [sys.executable, "-m", "tests.e2e.store_writer"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        try:
            yield Writers(program.stdin, program.stdout, path)
            program.stdin.close()
            assert program.wait(30) == 0
        finally:
            program.kill()


class Ledger:
    """What the log has said so far, and whether it holds together."""

    def __init__(self) -> None:
        self.head = 0
        self.bodies: dict[tuple[str, str], tuple[bytes | None, int]] = {}
        self.names: set[str] = set()

    async def follow(self, store: SqliteStore, acknowledged: dict[int, str]) -> None:
        """Read what is new: contiguous, no commit twice, each image the one before; and every
        acknowledged commit is there, under the revision that was told."""
        commits = await store.changes(self.head, 1_000_000)
        head = await store.head()
        assert [commit.revision for commit in commits] == list(range(self.head + 1, head + 1))
        written = {}
        for commit in commits:
            first = commit.changes[0].name
            assert len(commit.changes) == 3
            assert first not in self.names
            self.names.add(first)
            written[commit.revision] = first
            for change in commit.changes:
                key = (change.kind, change.name)
                assert (change.before, change.previous) == self.bodies.get(key, (None, 0))
                self.bodies[key] = (change.after, commit.revision)
        assert {r: written.get(r) for r in acknowledged if r > self.head} == {
            r: name for r, name in acknowledged.items() if r > self.head
        }
        shared = await store.get("note", "shared")
        assert shared is not None and shared.body.decode() == written.get(head, shared.body.decode())
        self.head = head


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(path, sample_kinds())
    await store.open()
    return store


async def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path, chance, ledger = tmp_path / "store.sqlite", random.Random(7), Ledger()
    store: SqliteStore | None = None
    with writers(path) as program:
        for number in range(ROUNDS):
            # Every other round nobody else has the file open, so that opening it recovers its log.
            if store is not None and number % 2:
                await store.close()
                store = None
            program.start(f"last{number}")
            (pid,) = program.read_pids(1)
            program.read_until_acknowledged(chance.randrange(1, 80))
            os.kill(pid, signal.SIGKILL)
            program.read_until_dead(f"last{number}")
            store = store or await opened(path)
            await ledger.follow(store, program.acknowledged)
    assert store is not None
    assert ledger.head >= len(program.acknowledged) >= ROUNDS
    await store.close()


async def test_two_processes_write_one_file_and_one_is_killed(tmp_path: Path) -> None:
    path, chance, ledger = tmp_path / "store.sqlite", random.Random(11), Ledger()
    with writers(path) as program:
        for number in range(ROUNDS_OF_TWO):
            program.start(f"a{number}")
            program.start(f"last{number}")
            pids = program.read_pids(2)
            program.read_until_acknowledged(chance.randrange(20, 150))
            os.kill(pids[number % 2], signal.SIGKILL)
            # The other goes on, whatever lock the killed one held.
            program.read_until_acknowledged(chance.randrange(80, 160))
            os.kill(pids[1 - number % 2], signal.SIGKILL)
            program.read_until_dead(f"a{number}", f"last{number}")
            store = await opened(path)
            await ledger.follow(store, program.acknowledged)
            await store.close()
    assert ledger.head >= len(program.acknowledged)
