"""A lab that was there before: exporters that stay online, those who wait, and leases that end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.names import CLIENTS, EXPORTERS, LEASES, parent
from services.jumpstarter.service import SERVICE
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.service.config import Config
from shared.storage import factory
from shared.storage.port import Author, Put

NAMESPACE: Final = "lab"
PARENT: Final = parent(NAMESPACE)
CLIENT: Final = CLIENTS.name(NAMESPACE, "bench")
# What the free exporters are, and the one that others wait for.
FREE: Final = "board=rpi"
BUSY: Final = "board=busy"
_BATCH: Final = 500
_SECOND: Final = 1_000_000_000
_DAY: Final = 86_400 * _SECOND
_BY: Final = Author("bench", "bench:lab:create")


def exporter(number: int) -> str:
    return EXPORTERS.name(NAMESPACE, f"e{number:05}")


def lease(id: str) -> str:
    return LEASES.name(NAMESPACE, id)


def lab(data: Path, *, free: int, waiting: int = 0, ends: Sequence[int] = ()) -> None:
    """`free` exporters, and one that is held while `waiting` leases ask for it; beside them one lease
    for each of `ends` (nanoseconds since 1970) that holds an exporter of its own until then. In the
    SQLite store that the service will open in `data`."""
    asyncio.run(_fill(data, list(_puts(free, waiting, ends))))


async def _fill(data: Path, puts: Sequence[Put]) -> None:
    config = Config.load({}, data=data)
    definitions = SERVICE.definitions(config, time.time_ns, lambda: "")
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    store = factory.build("sqlite", SERVICE.name, kinds, data=data)
    await store.open()
    try:
        for start in range(0, len(puts), _BATCH):
            await store.commit(puts[start : start + _BATCH], by=_BY)
    finally:
        await store.close()


def _puts(free: int, waiting: int, ends: Sequence[int]) -> Iterator[Put]:
    now = time.time_ns()
    client = pb.Client(name=CLIENT, namespace=NAMESPACE, uid="bench")
    yield Put("client", CLIENT, client.SerializeToString(), PARENT)
    for number in range(free):
        yield _exporter(exporter(number), "rpi", now)
    for number, end in enumerate(ends):
        held = EXPORTERS.name(NAMESPACE, f"held{number:05}")
        yield _exporter(held, "held", now, lease(f"held{number:05}"))
        yield _lease(f"held{number:05}", "board=held", now, end, held)
    if waiting:
        busy = EXPORTERS.name(NAMESPACE, "busy")
        yield _exporter(busy, "busy", now, lease("first"))
        yield _lease("first", BUSY, now, now + _DAY, busy)
    for number in range(waiting):
        yield _lease(f"waits{number:05}", BUSY, now + number)


def _exporter(name: str, board: str, now: int, held_by: str = "") -> Put:
    found = pb.Exporter(
        name=name,
        labels={"board": board, "serial": name[-5:]},
        namespace=NAMESPACE,
        uid=name[-5:],
        status=common.EXPORTER_STATUS_AVAILABLE,
        registered=True,
        online=True,
        lease=held_by,
    )
    # Nobody is lost for as long as a measurement takes.
    found.last_seen.FromNanoseconds(now + _DAY)
    return Put("exporter", name, found.SerializeToString(deterministic=True), PARENT)


def _lease(id: str, selector: str, created: int, end: int | None = None, held: str = "") -> Put:
    found = pb.Lease(name=lease(id), namespace=NAMESPACE, selector=selector, client=CLIENT)
    found.create_time.FromNanoseconds(created)
    found.duration.FromNanoseconds(_DAY)
    found.labels.update(rules.labels(found))
    if held:
        rules.assign(found, held, 0, False, created)
        found.end_time.FromNanoseconds(end or 0)
    else:
        rules.set_condition(found, rules.PENDING, rules.TRUE, "NotAvailable", "", created)
    return Put("lease", found.name, found.SerializeToString(deterministic=True), PARENT)
