"""(f) What pushing filters down to the store is worth: one collection, once with the indexes of the
catalogue and once with none, over the same regions and in this process.

Both answer the same rows, which is verified: what is not pushed down is read and tested one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import meta_seed
from bench.client import BadAnswer
from bench.meta_requests import PAGE
from bench.rounds import Result, Sample, interleaved, result
from services.meta.kinds import REGIONS, CatalogueRules, definition
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.resource.collection import Collection, PageRequest
from shared.resource.definition import Definition
from shared.storage import factory

_ROWS: Final = 10_000
_PAGES: Final = 20
_FILTERS: Final = {
    "one match": 'title = "Site 0004711"',
    "a range of 50": 'title >= "Site 0005000" AND title < "Site 0005050"',
    "a prefix of 10": 'title LIKE "Site 000471%"',
    "two of a list": 'title IN ["Site 0000007", "Site 0009000"]',
    "an unindexed field beside an indexed one": 'title < "Site 0000500" AND location.city = "City 7"',
    "an unindexed field alone": 'location.city = "City 7"',
}


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    for name in ("on", "off"):
        (folder / name).mkdir(parents=True)
    with asyncio.Runner() as runner:
        on = runner.run(_collection(folder / "on", REGIONS.indexed))
        off = runner.run(_collection(folder / "off", ()))
        try:
            for what, text in _FILTERS.items():
                pages = max(3, int(_PAGES * scale))
                if runner.run(_names(on, text)) != runner.run(_names(off, text)):
                    raise BadAnswer(f"{text} selects other regions without push-down")
                sides: dict[str, Callable[[], Sample]] = {
                    "on": partial(_pages, runner, on, text, pages),
                    "off": partial(_pages, runner, off, text, pages),
                }
                samples = interleaved(sides, rounds)
                yield result(
                    "f", what, f"no index, {_ROWS:,} regions", samples["on"], samples["off"], wall=True
                )
        finally:
            runner.run(on.store.close())
            runner.run(off.store.close())


async def _collection(folder: Path, indexed: tuple[str, ...]) -> Collection[Any]:
    schema = DescriptorSchema(REGIONS.message.DESCRIPTOR, names=REGIONS.names, indexed=indexed)
    whole: Definition[Any] = definition(REGIONS, CatalogueRules(REGIONS, time.time_ns, str))
    covering = tuple(name for name in whole.covering if name in indexed)
    changed = replace(whole, schema=schema, parse_filter=Sqlish(schema).parse, covering=covering)
    store = factory.build("sqlite", "meta", [changed.storage()], data=folder)
    await store.open()
    await meta_seed.fill(store, _ROWS)
    return Collection(store, changed)


def _request(collection: Collection[Any], text: str) -> PageRequest:
    definition = collection.definition
    return PageRequest(PAGE, definition.ordering(""), definition.parse_filter(text))


async def _names(collection: Collection[Any], text: str) -> list[str]:
    return [record.name for record in (await collection.page(_request(collection, text))).records]


def _pages(runner: asyncio.Runner, collection: Collection[Any], text: str, count: int) -> Sample:
    async def pages() -> None:
        for _ in range(count):
            await collection.page(_request(collection, text))

    cpu, started = time.process_time(), time.perf_counter()
    runner.run(pages())
    seconds = time.perf_counter() - started
    return Sample(count, seconds, max(time.process_time() - cpu, 1e-6))
