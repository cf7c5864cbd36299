"""A store of experiments that was there before: names, ids and times follow from the number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from services.pipelines.service import SERVICE
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.resource.collection import Collection
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author

_BATCH: Final = 250
_BY: Final = Author("bench", "bench:experiment:create")
DESCRIPTION: Final = "Nightly training on the newest snapshot, evaluated against the model in production."


def name(number: int) -> str:
    return f"nightly-training-{number:06d}"


def identifier(number: int) -> str:
    return str(UUID(int=0x5EED << 112 | 4 << 76 | 8 << 60 | number))


def pipelines(data: Path, count: int) -> None:
    """`count` experiments in the SQLite store that the service will open in `data`."""
    asyncio.run(_fill(data, count))


async def _fill(data: Path, count: int) -> None:
    seconds = _seconds()
    config = Config.load({}, data=data)
    (definition,) = SERVICE.definitions(config, lambda: next(seconds), lambda: "")
    store = factory.build("sqlite", SERVICE.name, [definition.storage(), *SERVICE.kinds], data=data)
    collection: Collection[Experiment] = Collection(store, definition)
    await store.open()
    try:
        for start in range(0, count, _BATCH):
            changes = [
                change
                for number in range(start, min(start + _BATCH, count))
                for change in collection.creation(
                    Experiment(
                        experiment_id=identifier(number), display_name=name(number), description=DESCRIPTION
                    )
                )
            ]
            await store.commit(changes, by=_BY)
    finally:
        await store.close()


def _seconds() -> Iterator[int]:
    """Nanoseconds since 1970, a second apart, in the past."""
    at = 1_700_000_000
    while True:
        yield at * 1_000_000_000
        at += 1
