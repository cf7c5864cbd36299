"""The lab as this process sees it: what the store holds, folded from its log.

Only `Engine` feeds it. Everybody else reads, and waits for changes. Holds the exporters, clients,
access policies and controllers, and of the leases those that have not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from services.jumpstarter import kinds, names
from services.jumpstarter.board import Board
from services.jumpstarter.exporter import State, state
from services.jumpstarter.names import EXPORTERS
from services.jumpstarter.queue import Queue
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.errors import StoreUnavailable
from shared.storage.port import Commit, Condition, Query, Record, Store

_ACTIVE: Final = (Condition("ended", "=", 0),)


@dataclass
class Namespace:
    board: Board = field(default_factory=Board)
    queue: Queue = field(default_factory=Queue)
    clients: dict[str, pb.Client] = field(default_factory=dict)
    policies: dict[str, pb.AccessPolicy] = field(default_factory=dict)


@dataclass
class News:
    """What the controller has yet to look at."""

    # Exporters that may be given to someone now.
    freed: dict[str, None] = field(default_factory=dict)
    # Leases that are new or were changed.
    leases: dict[str, None] = field(default_factory=dict)
    # Namespaces in which what was possible may not be any more, or the other way round.
    namespaces: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.freed or self.leases or self.namespaces)


class Lab:
    """`revision` is the one that it shows."""

    def __init__(self) -> None:
        self.revision = 0
        self.leases: dict[str, pb.Lease] = {}
        self.controllers: dict[str, pb.Controller] = {}
        self.news = News()
        self._namespaces: dict[str, Namespace] = {}
        # Of exporters and active leases: the revisions of their records, and those at which anything
        # about them changed.
        self._revisions: dict[str, int] = {}
        self._marks: dict[str, int] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._closed = False
        self._take: dict[str, Callable[[str, bytes | None, int], None]] = {
            kinds.EXPORTER: self._take_exporter,
            kinds.LEASE: self._take_lease,
            kinds.CLIENT: self._take_client,
            kinds.ACCESS_POLICY: self._take_policy,
            kinds.CONTROLLER.name: self._take_controller,
        }

    # -- reading

    def namespace(self, name: str) -> Namespace:
        """That of a full name of anything in it. An unknown one is empty."""
        return self._namespaces.get(names.namespace_of(name)) or Namespace()

    @property
    def namespaces(self) -> Iterable[str]:
        """The ids of those in which there is anything."""
        return self._namespaces

    def exporter(self, name: str) -> pb.Exporter | None:
        return self.namespace(name).board.exporters.get(name)

    def client(self, name: str) -> pb.Client | None:
        return self.namespace(name).clients.get(name)

    def lease(self, name: str) -> pb.Lease | None:
        """None: there is none that has not ended."""
        return self.leases.get(name)

    def at(self, name: str) -> int:
        """The revision of an exporter or active lease; 0 when there is none."""
        return self._revisions.get(name, 0)

    @property
    def exporters(self) -> Iterator[pb.Exporter]:
        return (e for space in self._namespaces.values() for e in space.board.exporters.values())

    async def change(self, name: str, seen: int) -> int:
        """Until something about the exporter or active lease of that name changes after revision
        `seen`, or it is gone; answers the revision of that. To an exporter belongs the lease that holds
        it. Raises StoreUnavailable when the process stops."""
        while self._marks.get(name, self.revision + 1) <= seen:
            if self._closed:
                raise StoreUnavailable("the process is stopping")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(name, set()).add(waiter)
            try:
                await waiter
            finally:
                waiting = self._waiters.get(name)
                if waiting is not None:
                    waiting.discard(waiter)
                    if not waiting:
                        del self._waiters[name]
        return self._marks.get(name, self.revision)

    def close(self) -> None:
        """Whoever waits for a change learns that there will be none."""
        self._closed = True
        for name in list(self._waiters):
            self._wake(name)

    # -- feeding

    async def load(self, store: Store) -> None:
        """What `store` holds now, instead of what was known. All of it is news."""
        at = await store.head()
        fresh: dict[str, list[Record]] = {kind: [] for kind in self._take}
        for kind, found in fresh.items():
            query = Query(kind, where=_ACTIVE if kind == kinds.LEASE else ())
            async with aclosing(store.scan(query, at=at)) as records:
                async for record in records:
                    found.append(record)
        known = [*self._revisions]
        self._namespaces.clear()
        self.leases.clear()
        self.controllers.clear()
        self._revisions.clear()
        self._marks.clear()
        for kind, records_ in fresh.items():
            for record in records_:
                self._take[kind](record.name, record.body, record.revision)
        self.revision = at
        for name in self._namespaces:
            self.news.namespaces[name] = None
        for name in {*known, *self._revisions}:
            self._wake(name)

    def apply(self, commit: Commit) -> None:
        """The commit that follows `revision`."""
        for change in commit.changes:
            take = self._take.get(change.kind)
            if take is not None:
                take(change.name, change.after, commit.revision)
        self.revision = commit.revision

    def _take_exporter(self, name: str, body: bytes | None, revision: int) -> None:
        space = self._space(name)
        before = space.board.exporters.get(name)
        after = None if body is None else pb.Exporter.FromString(body)
        space.board.put(name, after)
        self._moved(name, revision if after is not None else 0)
        if after is not None and state(after, allow_disabled=True) is State.FREE:
            self.news.freed[name] = None
        if before is not None and _offer(before) != _offer(after):
            self.news.namespaces[names.namespace_of(name)] = None
        if body is None:
            self.news.freed.pop(name, None)

    def _take_lease(self, name: str, body: bytes | None, revision: int) -> None:
        space = self._space(name)
        lease = None if body is None else pb.Lease.FromString(body)
        if lease is None or lease.ended:
            self.leases.pop(name, None)
            self.news.leases.pop(name, None)
            space.queue.remove(name)
            self._moved(name, 0)
            return
        self.leases[name] = lease
        self.news.leases[name] = None
        if lease.exporter:
            space.queue.remove(name)
            if lease.exporter in self._marks:
                self._marks[lease.exporter] = revision
                self._wake(lease.exporter)
        else:
            wanted = EXPORTERS.name(lease.namespace, lease.exporter_name) if lease.exporter_name else ""
            space.queue.put(lease, wanted)
        self._moved(name, revision)

    def _take_client(self, name: str, body: bytes | None, revision: int) -> None:
        clients = self._space(name).clients
        before = clients.pop(name, None)
        if body is not None:
            clients[name] = pb.Client.FromString(body)
        if before is not None and (body is None or before.labels != clients[name].labels):
            self.news.namespaces[names.namespace_of(name)] = None

    def _take_policy(self, name: str, body: bytes | None, revision: int) -> None:
        _keep(self._space(name).policies, name, body, pb.AccessPolicy)
        self.news.namespaces[names.namespace_of(name)] = None

    def _take_controller(self, name: str, body: bytes | None, revision: int) -> None:
        _keep(self.controllers, name, body, pb.Controller)

    def _space(self, name: str) -> Namespace:
        return self._namespaces.setdefault(names.namespace_of(name), Namespace())

    def _moved(self, name: str, revision: int) -> None:
        if revision:
            self._revisions[name] = self._marks[name] = revision
        else:
            self._revisions.pop(name, None)
            self._marks.pop(name, None)
        self._wake(name)

    def _wake(self, name: str) -> None:
        for waiter in self._waiters.pop(name, ()):
            if not waiter.done():
                waiter.set_result(None)


def _offer(exporter: pb.Exporter | None) -> Any:
    """What of an exporter decides whether a lease may wait for it."""
    if exporter is None:
        return None
    return dict(exporter.labels), exporter.HasField("enabled") and not exporter.enabled


def _keep(found: dict[str, Any], name: str, body: bytes | None, message: Any) -> None:
    if body is None:
        found.pop(name, None)
    else:
        found[name] = message.FromString(body)
