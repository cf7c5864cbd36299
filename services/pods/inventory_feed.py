"""How clusters and deployments are written: all of a stream in one revision, with the mark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from services.pods import faults
from services.pods.inventory import Inventory
from services.pods.kinds import CLUSTER, DEPLOYMENT, INVENTORY, MARK
from shared.errors import InvalidArgument, ResourceExhausted
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.service.service import Clock
from shared.storage.port import Author, Delete, Expect, Put, Store

_READ: Final = 1000
_KINDS: Final = {
    "cluster": CLUSTER,
    "deployment": DEPLOYMENT,
    "removed_cluster": CLUSTER,
    "removed_deployment": DEPLOYMENT,
}
_Key = tuple[str, str]


class InventoryFeed:
    def __init__(self, store: Store, inventory: Inventory, clock: Clock, *, max_rows: int) -> None:
        """`max_rows`: of one call, all of which are held until its end."""
        self._store = store
        self._inventory = inventory
        self._clock = clock
        self._max_rows = max_rows
        self._turn = asyncio.Lock()

    async def put(self, items: AsyncIterator[pb.InventoryItem], by: Author) -> pb.PutResult:
        """Raises InvalidArgument and ResourceExhausted; nothing was written then."""
        wanted: dict[_Key, bytes | None] = {}
        number = 0
        async for item in items:
            key, body = _read(item, f"items[{number}]")
            wanted[key] = body
            number += 1
            if len(wanted) > self._max_rows:
                raise ResourceExhausted(f"more than {self._max_rows} rows in one call; send them in several")
        async with self._turn:
            return await self._written(wanted, by)

    async def _written(self, wanted: dict[_Key, bytes | None], by: Author) -> pb.PutResult:
        known: dict[_Key, bytes] = {}
        for kind in (CLUSTER, DEPLOYMENT):
            names = [name for of, name in wanted if of == kind]
            for start in range(0, len(names), _READ):
                records = await self._store.get_many(kind, names[start : start + _READ])
                known |= {(kind, name): record.body for name, record in records.items()}
        changes: list[Put | Delete] = []
        result = pb.PutResult()
        for (kind, name), body in wanted.items():
            before = known.get((kind, name))
            if body == before:
                result.unchanged += body is not None
            elif body is None:
                result.removed += 1
                changes.append(Delete(kind, name, Expect.ANY))
            else:
                result.stored += 1
                changes.append(Put(kind, name, body))
        if not changes:
            result.revision = await self._store.head()
            return result
        changes.append(Put(MARK.name, INVENTORY, str(self._clock()).encode()))
        result.revision = (await self._store.commit(changes, by=by)).revision
        await self._inventory.rows(self._store, result.revision)
        return result


def _read(item: pb.InventoryItem, where: str) -> tuple[_Key, bytes | None]:
    """What an item says of which row; None removes it."""
    kind = item.WhichOneof("item")
    if kind is None:
        raise InvalidArgument.at(where, "must be a cluster, a deployment, or the id of one to remove")
    if kind in ("removed_cluster", "removed_deployment"):
        return (_KINDS[kind], faults.cluster_id(getattr(item, kind), f"{where}.{kind}")), None
    row = getattr(item, kind)
    faults.check_row(row, f"{where}.{kind}.")
    return (_KINDS[kind], row.id), row.SerializeToString(deterministic=True)
