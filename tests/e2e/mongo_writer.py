"""A program for test_mongo_processes.py: writes to one MongoDB database beside its peers, and watches.

Arguments: URL, database, tag, commits to make (0: until it is killed). It says `ack TAG REVISION NAME`
for each acknowledged commit and `done`. Then it takes a revision from stdin, and says `seen REVISION
DIGEST` for every commit that its watcher met up to there. One line is one write, so that a kill never
cuts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys

from shared.storage.errors import Conflict
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Put
from shared.storage.testing import body, sample_kinds

WRITERS = 3


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


async def write(store: MongoStore, tag: str, writer: int, count: int) -> None:
    for number in range(count) if count else itertools.count():
        name = f"{tag}-{writer}-{number}"
        # A record of its own, and one that all writers of all processes fight for.
        changes = [Put("item", name, body(title=name, size=number)), Put("note", "shared", name.encode())]
        commit = await store.commit(changes, by=Author(tag))
        say("ack", tag, commit.revision, name)
        await increment(store)


async def increment(store: MongoStore) -> None:
    while True:
        record = await store.get("note", "counter")
        old = 0 if record is None else record.revision
        value = 1 if record is None else int(record.body) + 1
        try:
            await store.commit([Put("note", "counter", b"%d" % value, expect=old)], by=Author("counter"))
        except Conflict:
            continue
        return


async def watch(store: MongoStore, seen: list[str]) -> None:
    while True:
        for commit in await store.changes(len(seen), 50):
            assert commit.revision == len(seen) + 1
            seen.append(hashlib.sha256(repr(commit).encode()).hexdigest()[:16])
        await asyncio.sleep(0.02)


async def serve(url: str, database: str, tag: str, count: int) -> None:
    store = MongoStore(url, database, sample_kinds())
    await store.open()
    seen: list[str] = []
    watching = asyncio.create_task(watch(store, seen))
    await asyncio.gather(*(write(store, tag, writer, count) for writer in range(WRITERS)))
    say("done")
    end = int(await asyncio.to_thread(sys.stdin.readline))
    async with asyncio.timeout(30):
        # The watcher has no event to wait for: it polls, as peers do.
        while len(seen) < end:
            await asyncio.sleep(0.02)
    watching.cancel()
    for number, digest in enumerate(seen, 1):
        say("seen", number, digest)
    await store.close()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4], int(sys.argv[4])))
