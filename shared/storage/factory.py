"""From a setting to a store: the only place that knows which backends there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.errors import InvalidArgument
from shared.storage.port import Kind, Store

SCHEMES = ("sqlite", "memory", "mongodb://", "mongodb+srv://")


def build(
    store: str,
    name: str,
    kinds: Sequence[Kind],
    *,
    data: Path,
    prefix: str = "roundhouse",
    documents: bool = True,
    clock: Callable[[], int] = time.time_ns,
) -> Store:
    """The store called `name`, not opened yet: `data`/<name>.db, or the MongoDB database
    <prefix>_<name>. Raises InvalidArgument for an unknown kind of store."""
    if store == "memory":
        from shared.storage.memory import MemoryStore

        return MemoryStore(kinds, clock=clock)
    if store == "sqlite":
        from shared.storage.sqlite import SqliteStore

        data.mkdir(parents=True, exist_ok=True)
        return SqliteStore(data / f"{name}.db", kinds, clock=clock)
    if store.startswith(SCHEMES[2:]):
        from shared.storage.mongo import MongoStore

        return MongoStore(store, f"{prefix}_{name}", kinds, clock=clock, readable_documents=documents)
    raise InvalidArgument.at("ROUNDHOUSE_STORE", f"{store!r} is none of {', '.join(SCHEMES)}")
