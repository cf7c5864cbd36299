"""The rows of the inventory that are a cluster's: what has to be sent, and what was."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final

from services.pods import faults
from services.pods.collect import mapping
from services.pods.collect.feed import Feed
from services.pods.collect.mapping import Object, metadata
from shared.errors import InvalidArgument
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment
from shared.query.dialects.search import uuid

log = logging.getLogger(__name__)
# Rows of one call: each is a revision, at which the service reads its inventory anew.
BATCH: Final = 5000
# Seconds between calls.
PAUSE: Final = 1.0


class Inventory:
    """Of one cluster. Of a row that was sent it keeps a digest only."""

    def __init__(self, feed: Feed, cluster_name: str) -> None:
        self._feed = feed
        self._cluster = Cluster(id=feed.cluster_id, name=cluster_name)
        self._namespaces: dict[str, str] = {}
        # Digests of rows by kind and id.
        self._rows: dict[str, dict[str, bytes]] = {}
        # Rows whose namespace has not been seen yet, by its name.
        self._homeless: dict[str, dict[str, Deployment]] = {}
        self._wanted: dict[str, pb.InventoryItem] = {
            self._cluster.id: pb.InventoryItem(cluster=self._cluster)
        }
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()

    def put(self, kind: str, found: Object) -> None:
        namespace = metadata(found).get("namespace", "")
        row = mapping.deployment(
            found,
            kind,
            cluster_id=self._cluster.id,
            cluster_name=self._cluster.name,
            namespace_id=self._namespaces.get(namespace, ""),
        )
        try:
            faults.check_row(row, "")
        except InvalidArgument as error:
            log.warning("left out of the inventory", extra={**_named(row), "error": error.message})
            self.remove(kind, row.id)
            return
        self._homeless.get(namespace, {}).pop(row.id, None)
        if not row.namespace_id:
            self._homeless.setdefault(namespace, {})[row.id] = row
        self._put(row)

    def _put(self, row: Deployment) -> None:
        rows = self._rows.setdefault(row.type, {})
        digest = hashlib.blake2b(row.SerializeToString(deterministic=True), digest_size=16).digest()
        if rows.get(row.id) != digest:
            rows[row.id] = digest
            self._want(row.id, pb.InventoryItem(deployment=row))

    def remove(self, kind: str, id: str) -> None:
        if self._rows.get(kind, {}).pop(id, None) is not None:
            for rows in self._homeless.values():
                rows.pop(id, None)
            self._want(id, pb.InventoryItem(removed_deployment=id))

    def keep(self, kind: str, ids: set[str]) -> None:
        """Of that kind there are no others."""
        for id in self._rows.get(kind, {}).keys() - ids:
            self.remove(kind, id)

    def namespace(self, name: str, id: str) -> None:
        """Rows that came before their namespace get its id."""
        if uuid(id) is None:
            return
        self._namespaces[name] = id
        for row in self._homeless.pop(name, {}).values():
            row.namespace_id = id
            self._put(row)

    def namespace_gone(self, name: str) -> None:
        self._namespaces.pop(name, None)
        self._homeless.pop(name, None)

    def namespaces(self) -> set[str]:
        return set(self._namespaces)

    async def forget_others(self) -> None:
        """Rows of this cluster that the service has from earlier and the cluster no longer. Raises
        CallFailed."""
        ours = {id for rows in self._rows.values() for id in rows}
        for id in await self._feed.deployments() - ours:
            self._want(id, pb.InventoryItem(removed_deployment=id))

    async def run(self) -> None:
        """Sends what changes, until it is cancelled. Raises CallFailed."""
        while True:
            await self._changed.wait()
            await self.send()
            await asyncio.sleep(PAUSE)

    async def send(self) -> None:
        """All that has changed so far. Raises CallFailed."""
        async with self._sending:
            self._changed.clear()
            while self._wanted:
                batch: dict[str, Any] = {}
                while self._wanted and len(batch) < BATCH:
                    id, item = self._wanted.popitem()
                    batch[id] = item
                await self._feed.put(batch.values())

    def _want(self, id: str, item: pb.InventoryItem) -> None:
        self._wanted[id] = item
        self._changed.set()


def _named(row: Deployment) -> dict[str, str]:
    return {"kind": row.type, "namespace": row.namespace, "object": row.name}
