"""Keeps the pods service's picture of one cluster true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.pods.collect import resources
from services.pods.collect.backoff import Backoff
from services.pods.collect.feed import Feed, lasting
from services.pods.collect.inventory import Inventory
from services.pods.collect.kubernetes import KubernetesApi, served
from services.pods.collect.mapping import uid
from services.pods.collect.owners import Owners
from services.pods.collect.reflector import Reflector, Sink
from services.pods.collect.sinks import Moved, Namespaces, OwnersOf, Pods
from services.pods.collect.state import FEED, State
from services.pods.faults import cluster_id
from shared.errors import ApiError, FailedPrecondition
from shared.rpc.client import CallFailed, Client

log = logging.getLogger(__name__)
SOURCE: Final = "kubernetes:"
Backoffs = Callable[[], Backoff]


@dataclass(frozen=True)
class Cluster:
    """A cluster that can be reached. `paths`: of each kind, as its server has it. `state` is told how it
    fares."""

    state: State
    id: str
    api: KubernetesApi
    paths: Mapping[str, str]
    backoffs: Backoffs = Backoff

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def source(self) -> str:
        """By the id, for a name may change."""
        return f"{SOURCE}{self.id}"

    async def run(self, connect: Callable[[], Client]) -> None:
        """Until it is cancelled. Whenever the feed breaks it starts over with all that there is: what
        was not acknowledged may be lost. Raises CallFailed when the pods service refuses the very first
        call in a way that will not pass, and the ApiError with which `connect` fails the first time."""
        backoff, fed = self.backoffs(), False
        while True:
            try:
                async with connect() as client:
                    session = _Session(self, Feed(client, self.id, self.source, self.state), backoff)
                    await session.begin()
                    fed = True
                    await session.run()
            except Moved:
                self.state.fails(FEED, "owners have changed: listing anew")
                log.info("owners have changed; listing anew", extra={"cluster": self.name})
            except (CallFailed, ApiError) as error:
                if not fed and (isinstance(error, ApiError) or lasting(error.failure)):
                    raise
                self.state.fails(FEED, str(error))
                log.warning("feeding broke; starting over", extra={"cluster": self.name, "error": str(error)})
            await backoff.wait()


class _Session:
    """From a list of everything until the feed breaks."""

    def __init__(self, cluster: Cluster, feed: Feed, backoff: Backoff) -> None:
        self._cluster = cluster
        self._backoff = backoff
        self._push = feed.push()
        self._inventory = Inventory(feed, cluster.name)
        self._owners = Owners()
        self._pods = Pods(feed, self._push, self._owners, self._inventory)

    async def begin(self) -> None:
        """Tell of the cluster. Raises CallFailed."""
        await self._inventory.send()

    async def run(self) -> None:
        """Raises CallFailed and Moved."""
        try:
            await self._run()
        except ExceptionGroup as group:
            known, others = group.split((CallFailed, Moved))
            if others is not None:
                raise
            assert known is not None
            raise _first(known) from group

    async def _run(self) -> None:
        sinks: dict[str, Sink] = {"Namespace": Namespaces(self._inventory)}
        for owner in resources.OWNERS:
            sinks[owner.kind] = OwnersOf(owner.kind, self._owners, self._inventory, self._pods)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._push.run())
            above = [self._reflector(kind, sink) for kind, sink in sinks.items() if self._path(kind)]
            for reflector in above:
                group.create_task(reflector.run())
            # Pods belong to what is known by then, and queries find them by it.
            for reflector in above:
                await reflector.listed.wait()
            await self._inventory.send()
            pods = self._reflector("Pod", self._pods)
            group.create_task(pods.run())
            await pods.listed.wait()
            await self._inventory.forget_others()
            self._backoff.reset()
            group.create_task(self._inventory.run())
            self._cluster.state.follows()
            log.info("following", extra={"cluster": self._cluster.name, "id": self._cluster.id})

    def _path(self, kind: str) -> str:
        return self._cluster.paths.get(kind, "")

    def _reflector(self, kind: str, sink: Sink) -> Reflector:
        cluster = self._cluster
        return Reflector(cluster.api, self._path(kind), sink, cluster.backoffs(), cluster.state)


async def reached(state: State, given_id: str, api: KubernetesApi, backoffs: Backoffs = Backoff) -> Cluster:
    """The cluster, once its server has let us list all that we need. Raises ApiError that says what is
    missing."""
    name = state.name
    try:
        id = cluster_id(given_id or uid(await api.get(resources.SYSTEM)), "cluster id")
        paths = {resource.kind: await served(api, resource) for resource in resources.ALL}
    except ApiError as error:
        error.message = f"cluster {name!r}: {error.message}"
        error.args = (error.message,)
        raise
    for kind, path in paths.items():
        if not path:
            log.warning("the cluster has no such objects", extra={"cluster": name, "kind": kind})
    if not paths[resources.POD.kind]:
        raise FailedPrecondition(f"cluster {name!r}: its server knows no pods")
    return Cluster(state, id, api, paths, backoffs)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    found: Exception = group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
