"""Who is told of a cluster's namespaces, owners and pods, and what they make of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from services.pods import faults
from services.pods.collect import mapping
from services.pods.collect.feed import Feed, Push, tell_refused
from services.pods.collect.inventory import Inventory
from services.pods.collect.kubernetes import Event
from services.pods.collect.mapping import Object, metadata, uid
from services.pods.collect.owners import Owners, owner
from shared.errors import InvalidArgument
from shared.pb.storage.pod_pb2 import Pod

log = logging.getLogger(__name__)


class Moved(Exception):
    """Pods belong to another owner without having changed: all of them have to be read again."""


class Namespaces:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def replace(self, objects: AsyncIterator[Object]) -> None:
        found = {metadata(one).get("name", ""): uid(one) async for one in objects}
        for name in self._inventory.namespaces() - found.keys():
            self._inventory.namespace_gone(name)
        for name, id in found.items():
            self._inventory.namespace(name, id)

    async def changed(self, event: Event) -> None:
        name = metadata(event.object).get("name", "")
        if event.type == "DELETED":
            self._inventory.namespace_gone(name)
        else:
            self._inventory.namespace(name, uid(event.object))


class Pods:
    """Keeps only those that wait for an owner, which may come later than they."""

    def __init__(self, feed: Feed, push: Push, owners: Owners, inventory: Inventory) -> None:
        self._feed = feed
        self._push = push
        self._owners = owners
        self._inventory = inventory
        # By the uid of the owner, then by their own.
        self._waiting: dict[str, dict[str, Object]] = {}
        self._syncing = False

    async def replace(self, objects: AsyncIterator[Object]) -> None:
        """Raises CallFailed; nothing was changed then."""
        alone: set[str] = set()
        self._syncing = True
        try:
            # What is still under way would undo what comes now.
            await self._push.drain()
            self._waiting.clear()
            async with aclosing(self._listed(objects, alone)) as pods:
                result = await self._feed.sync(pods)
        finally:
            self._syncing = False
        self._inventory.keep("Pod", alone)
        counts = {name: getattr(result, name) for name in ("stored", "unchanged", "removed")}
        log.info("synced", extra={"cluster": self._feed.cluster_id, **counts})
        if result.refused:
            tell_refused(result.refusals, result.refused, self._feed.source)
        for above, waiting in list(self._waiting.items()):
            if all(self._owners.top(one) is not None for one in waiting.values()):
                await self.arrived(above)

    async def _listed(self, objects: AsyncIterator[Object], alone: set[str]) -> AsyncGenerator[Pod, None]:
        async for found in objects:
            if owner(found) is None:
                alone.add(uid(found))
            pod = self._read(found)
            if pod is not None:
                yield pod

    async def changed(self, event: Event) -> None:
        """Raises CallFailed."""
        found = event.object
        if event.type == "DELETED":
            self._wait_no_more(found)
            self._inventory.remove("Pod", uid(found))
            await self._push.remove(mapping.pod_id(uid(found)))
            return
        pod = self._read(found)
        if pod is not None:
            await self._push.upsert(pod)

    async def arrived(self, above: str) -> None:
        """An owner is known from now on. Raises CallFailed."""
        for found in list(self._waiting.get(above, {}).values()):
            # What is listed now comes with its owner, or waits until the list is through.
            if self._syncing:
                return
            # It may have changed or gone while another one was sent.
            if self._waiting.get(above, {}).get(uid(found)) is found:
                pod = self._read(found)
                if pod is not None:
                    await self._push.upsert(pod)

    def _read(self, found: Object) -> Pod | None:
        """None for a pod that the service would not take, which is logged."""
        above, top = owner(found), self._owners.top(found)
        self._wait_no_more(found)
        if top is None and above is not None:
            self._waiting.setdefault(above.uid, {})[uid(found)] = found
        if above is None:
            self._inventory.put("Pod", found)
        else:
            self._inventory.remove("Pod", uid(found))
        pod = mapping.pod(found, cluster_id=self._feed.cluster_id, deployment_id=top or "")
        try:
            faults.check_pod(pod, "")
        except InvalidArgument as error:
            named = {"namespace": pod.namespace, "pod": pod.name}
            log.warning("a pod was left out", extra={**named, "error": error.message})
            return None
        return pod

    def _wait_no_more(self, found: Object) -> None:
        above = owner(found)
        if above is not None and above.uid in self._waiting:
            self._waiting[above.uid].pop(uid(found), None)
            if not self._waiting[above.uid]:
                del self._waiting[above.uid]


class OwnersOf:
    """The owners of one kind."""

    def __init__(self, kind: str, owners: Owners, inventory: Inventory, pods: Pods) -> None:
        self._kind = kind
        self._owners = owners
        self._inventory = inventory
        self._pods = pods

    async def replace(self, objects: AsyncIterator[Object]) -> None:
        """Raises CallFailed and Moved."""
        found: set[str] = set()
        async for one in objects:
            found.add(uid(one))
            await self._put(one)
        for gone in self._owners.uids(self._kind) - found:
            self._remove(gone)

    async def changed(self, event: Event) -> None:
        """Raises CallFailed and Moved."""
        if event.type == "DELETED":
            self._remove(uid(event.object))
        else:
            await self._put(event.object)

    async def _put(self, found: Object) -> None:
        if self._owners.put(self._kind, found):
            raise Moved
        if owner(found) is None:
            self._inventory.put(self._kind, found)
        await self._pods.arrived(uid(found))

    def _remove(self, gone: str) -> None:
        self._owners.remove(self._kind, gone)
        self._inventory.remove(self._kind, gone)
