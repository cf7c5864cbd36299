"""Durable writers over SQLite, each in a process of its own:

    python -m bench.writers raw|store FOLDER COUNT

`raw` is what a careful program does by hand: one connection, one transaction a write, two inserts (the
row with its unique name and the order that lists want, and a line of a change log), WAL and
synchronous=FULL. `store` is the storage port: 64 callers at once, each write a commit of an experiment
and of the claim to its name. Both print the seconds that the writes took, opening left out.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

from bench import seed
from services.pipelines.service import SERVICE
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.resource.collection import Collection
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author

CALLERS: Final = 64
_BY: Final = Author("bench", "bench:experiment:create")
_SCHEMA: Final = """
CREATE TABLE experiments (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
    state TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX by_created_at ON experiments (created_at, id);
CREATE TABLE log (revision INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, author TEXT NOT NULL,
    op TEXT NOT NULL, id TEXT NOT NULL, body BLOB);
"""


def raw(folder: Path, writes: int) -> float:
    """Seconds for `writes` transactions, one after the other."""
    with closing(sqlite3.connect(folder / "raw.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        started = time.perf_counter()
        for number in range(writes):
            identifier, name, at = seed.identifier(number), seed.name(number), time.time_ns()
            experiment = Experiment(
                experiment_id=identifier, display_name=name, storage_state=Experiment.AVAILABLE
            )
            experiment.created_at.seconds = at // 1_000_000_000
            body = experiment.SerializeToString()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO experiments VALUES (?, ?, ?, ?, ?)",
                (identifier, name, experiment.created_at.seconds, "AVAILABLE", body),
            )
            connection.execute(
                "INSERT INTO log (at, author, op, id, body) VALUES (?, ?, ?, ?, ?)",
                (at, _BY.subject, "create", identifier, body),
            )
            connection.execute("COMMIT")
        return time.perf_counter() - started


async def store(folder: Path, writes: int) -> float:
    """Seconds for `writes` creates by CALLERS callers, each waiting for its last to be durable."""
    numbers = count()
    (definition,) = SERVICE.definitions(
        Config.load({}, data=folder), time.time_ns, lambda: seed.identifier(next(numbers))
    )
    opened = factory.build("sqlite", SERVICE.name, [definition.storage(), *SERVICE.kinds], data=folder)
    collection: Collection[Experiment] = Collection(opened, definition)
    names = iter(range(writes))

    async def caller() -> None:
        for number in names:
            await collection.create(Experiment(display_name=seed.name(number)), _BY)

    await opened.open()
    try:
        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return time.perf_counter() - started
    finally:
        await opened.close()


def main(kind: str, folder: Path, writes: int) -> None:
    import uvloop

    print(raw(folder, writes) if kind == "raw" else uvloop.run(store(folder, writes)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
