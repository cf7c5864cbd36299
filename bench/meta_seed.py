"""A catalogue of regions that was there before, put into the meta service's store in large commits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from uuid import UUID

from services.meta.service import SERVICE
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.pb.goten_sdk.types.meta_pb2 import Lifecycle
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author, Put, Store

_BATCH: Final = 5_000
_BY: Final = Author("bench", "bench:catalogue:apply")
_AT: Final = 1_700_000_000
# Coprime to every count in use: titles are ordered otherwise than names.
_STRIDE: Final = 7_919


def name(number: int) -> str:
    return f"regions/site-{number:07d}"


def place(number: int, count: int) -> int:
    """Of the region `number` of `count` in the order of titles."""
    return number * _STRIDE % count


def title(number: int, count: int) -> str:
    """Of the region `number` of `count`: all different."""
    return f"Site {place(number, count):07d}"


def region(number: int, count: int) -> Region:
    """As the service would have stored it."""
    found = Region(name=name(number), title=title(number, count), domain=f"site-{number:07d}.example.com")
    found.location.continent = "Europe"
    found.location.city = f"City {number % 997}"
    metadata = found.metadata
    metadata.create_time.seconds = metadata.update_time.seconds = _AT + number
    metadata.uuid = str(UUID(int=0x5EED << 112 | 4 << 76 | 8 << 60 | number))
    metadata.resource_version = str(UUID(int=0xFEED << 112 | 4 << 76 | 8 << 60 | number))
    metadata.generation = 1
    metadata.lifecycle.state = Lifecycle.ACTIVE
    metadata.labels["tier"] = "edge"
    return found


def meta(data: Path, count: int) -> None:
    """`count` regions in the SQLite store that the service will open in `data`."""
    asyncio.run(_open_and_fill(data, count))


async def _open_and_fill(data: Path, count: int) -> None:
    kinds = [d.storage() for d in SERVICE.definitions(Config.load({}, data=data), lambda: 0, lambda: "")]
    store = factory.build("sqlite", SERVICE.name, [*kinds, *SERVICE.kinds], data=data)
    await store.open()
    try:
        await fill(store, count)
    finally:
        await store.close()


async def fill(store: Store, count: int) -> None:
    """`count` regions in an open store."""
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        await store.commit(
            [Put("region", name(n), region(n, count).SerializeToString(deterministic=True)) for n in numbers],
            by=_BY,
        )
