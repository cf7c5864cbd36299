"""A program for test_store_kill.py: writes to a SQLite store until it is killed.

For every line `path tag` on stdin it forks a child, which opens the store and commits from many tasks at
once. The child says `open PID`, then `ack TAG REVISION NAME` for each commit that was acknowledged;
when it is dead the program says `dead TAG`. One line is one write, so that a kill never cuts it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from shared.storage.port import Author, Put
from shared.storage.sqlite import SqliteStore
from shared.storage.testing import body, sample_kinds

WRITERS = 24


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


async def write(store: SqliteStore, tag: str, writer: int) -> None:
    for number in itertools.count():
        name = f"{tag}-{writer}-{number}"
        # A record of its own, one that this writer updates, one that all do.
        changes = [
            Put("item", name, body(title=name, size=number)),
            Put("item", f"writer-{writer}", body(title=name)),
            Put("note", "shared", name.encode()),
        ]
        commit = await store.commit(changes, by=Author(tag))
        say("ack", tag, commit.revision, name)


async def serve(path: Path, tag: str) -> None:
    store = SqliteStore(path, sample_kinds(), busy_timeout=30)
    await store.open()
    say("open", os.getpid())
    await asyncio.gather(*(write(store, tag, writer) for writer in range(WRITERS)))


def main() -> None:
    children: dict[int, str] = {}
    for line in sys.stdin:
        path, tag = line.rstrip("\n").rsplit(" ", 1)
        pid = os.fork()
        if not pid:
            asyncio.run(serve(Path(path), tag))
            os._exit(1)
        children[pid] = tag
        if tag.startswith("last"):
            while children:
                pid, _ = os.wait()
                say("dead", children.pop(pid))


if __name__ == "__main__":
    main()
