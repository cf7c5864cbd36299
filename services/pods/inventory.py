"""The clusters and deployments that pods belong to, and which deployments meet a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from services.pods.kinds import CLUSTER, DEPLOYMENT, INVENTORY, MARK, ROW_SCHEMA, Row
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.query.ast import In, Node
from shared.query.evaluate import compile
from shared.storage.port import Query, Store

# Seconds after which a long evaluation lets others get on.
TURN: Final = 0.005
# More ids than that are compared here and not in the store, which would do it for every page.
_ASKED: Final = 1000


class Inventory:
    """Read at the revision of whoever asks. The rows are kept until the inventory changes, which its
    mark tells (`kinds.MARK`)."""

    def __init__(self) -> None:
        self._rows: Sequence[Row] = ()
        self._revision = 0
        self._loading = asyncio.Lock()

    async def rows(self, store: Store, at: int) -> Sequence[Row]:
        """Raises Compacted."""
        async with self._loading:
            mark = await store.get(MARK.name, INVENTORY, at=at)
            revision = mark.revision if mark is not None else 0
            if revision == self._revision:
                return self._rows
            rows = await _read(store, at)
            if revision > self._revision:
                self._rows, self._revision = rows, revision
            return rows

    async def among(self, condition: Node, store: Store, at: int) -> Node:
        """Pods whose deployment meets the condition at revision `at`."""
        meets = compile(condition, ROW_SCHEMA)
        found: list[str] = []
        turn = time.monotonic()
        for row in await self.rows(store, at):
            if meets(row):
                found.append(row.deployment.id)
            if time.monotonic() - turn > TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()
        return _of(found)

    def among_known(self, condition: Node) -> Node:
        """The same, of the inventory that this process read last."""
        meets = compile(condition, ROW_SCHEMA)
        return _of([row.deployment.id for row in self._rows if meets(row)])


def _of(deployments: Sequence[str]) -> Node:
    field = "deployment_id" if len(deployments) <= _ASKED else "deployment"
    return In(field, tuple(deployments))


async def _read(store: Store, at: int) -> Sequence[Row]:
    clusters: dict[str, str] = {}
    async with aclosing(store.scan(Query(CLUSTER), at=at)) as records:
        async for record in records:
            cluster = pb.Cluster.FromString(record.body)
            clusters[cluster.id] = cluster.name
    rows: list[Row] = []
    async with aclosing(store.scan(Query(DEPLOYMENT), at=at)) as records:
        async for record in records:
            deployment = pb.Deployment.FromString(record.body)
            name = clusters.get(deployment.cluster_id, deployment.cluster_name)
            rows.append(Row(deployment, name))
    return rows
