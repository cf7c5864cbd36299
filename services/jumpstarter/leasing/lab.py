"""The lab as this process sees it: what the store holds, folded from its log.

Only `Engine` feeds it. Everybody else reads, and waits for changes. Holds the exporters, clients,
access policies and controllers, and of the leases those that have not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeVar

from services.jumpstarter import kinds, names
from services.jumpstarter.leasing import policies
from services.jumpstarter.leasing.board import Board
from services.jumpstarter.leasing.exporter import State, disabled, state
from services.jumpstarter.leasing.policies import Grant
from services.jumpstarter.leasing.queue import Queue
from services.jumpstarter.names import EXPORTERS
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.storage.errors import StoreUnavailable
from shared.storage.port import Commit, Condition, Query, Record, Store

M = TypeVar("M")
_ACTIVE: Final = (Condition("ended", "=", 0),)
# Of clients and durations, those whose grants are remembered.
_GRANTS: Final = 10_000


class Namespace:
    """What is in one. Clients and access policies are put, not assigned."""

    def __init__(self) -> None:
        self.board = Board()
        self.queue = Queue()
        self.clients: dict[str, pb.Client] = {}
        self.policies: dict[str, pb.AccessPolicy] = {}
        # Whether a policy grants spot access: then an exporter's state decides what others may wait for.
        self.spot = False
        self._grants: dict[tuple[str, int], Sequence[Grant]] = {}

    def put_client(self, name: str, client: pb.Client | None) -> None:
        _put(self.clients, name, client)
        self._grants.clear()

    def put_policy(self, name: str, policy: pb.AccessPolicy | None) -> None:
        _put(self.policies, name, policy)
        self.spot = any(rule.spot_access for policy in self.policies.values() for rule in policy.policies)
        self._grants.clear()

    def client_labels(self, client: str) -> Mapping[str, str]:
        found = self.clients.get(client)
        return found.labels if found is not None else {}

    def grants(self, client: str, duration: int) -> Sequence[Grant]:
        """What that client may have for that many nanoseconds, best first."""
        key = (client, duration)
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) >= _GRANTS:
                self._grants.clear()
            labels = self.client_labels(client)
            found = self._grants[key] = policies.grants(self.policies.values(), labels, duration)
        return found


@dataclass
class News:
    """What the controller has yet to look at."""

    # Exporters that may be given to someone now.
    freed: dict[str, None] = field(default_factory=dict)
    # Leases that are new, were changed, or have ended.
    leases: dict[str, None] = field(default_factory=dict)
    # Namespaces in which what was possible may not be any more, or the other way round.
    namespaces: dict[str, None] = field(default_factory=dict)


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
        """What `store` holds now, instead of what was known. All leases are news, and so every exporter
        is offered."""
        at = await store.head()
        fresh: dict[str, list[Record]] = {kind: [] for kind in self._take}
        for kind, found in fresh.items():
            query = Query(kind, where=_ACTIVE if kind == kinds.LEASE else ())
            async with aclosing(store.scan(query, at=at)) as records:
                async for record in records:
                    found.append(record)
        known, gone = [*self._revisions], [*self.leases]
        self._namespaces.clear()
        self.leases.clear()
        self.controllers.clear()
        self._revisions.clear()
        self._marks.clear()
        for kind, records_ in fresh.items():
            for record in records_:
                self._take[kind](record.name, record.body, record.revision)
        self.revision = at
        self.news.freed.clear()
        self.news.namespaces.clear()
        self.news.leases.update(dict.fromkeys(gone))
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
        else:
            self.news.freed.pop(name, None)
        if before is not None and (after is None or _changes_offers(before, after, spot=space.spot)):
            self.news.namespaces[names.namespace_of(name)] = None

    def _take_lease(self, name: str, body: bytes | None, revision: int) -> None:
        space = self._space(name)
        lease = None if body is None else pb.Lease.FromString(body)
        self.news.leases[name] = None
        if lease is None or lease.ended:
            self.leases.pop(name, None)
            space.queue.remove(name)
            self._moved(name, 0)
            return
        self.leases[name] = lease
        if lease.exporter:
            space.queue.remove(name)
            if lease.exporter in self._marks:
                self._marks[lease.exporter] = max(revision, self._marks[lease.exporter])
                self._wake(lease.exporter)
        else:
            wanted = EXPORTERS.name(lease.namespace, lease.exporter_name) if lease.exporter_name else ""
            space.queue.put(lease, wanted)
        self._moved(name, revision)

    def _take_client(self, name: str, body: bytes | None, revision: int) -> None:
        space = self._space(name)
        before = space.client_labels(name)
        space.put_client(name, None if body is None else pb.Client.FromString(body))
        if space.client_labels(name) != before:
            self.news.namespaces[names.namespace_of(name)] = None

    def _take_policy(self, name: str, body: bytes | None, revision: int) -> None:
        policy = None if body is None else pb.AccessPolicy.FromString(body)
        self._space(name).put_policy(name, policy)
        self.news.namespaces[names.namespace_of(name)] = None

    def _take_controller(self, name: str, body: bytes | None, revision: int) -> None:
        _put(self.controllers, name, None if body is None else pb.Controller.FromString(body))

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


def _changes_offers(before: pb.Exporter, after: pb.Exporter, *, spot: bool) -> bool:
    """Whether leases may wait for it that could not before, or the other way round."""
    if before.labels != after.labels or disabled(before) != disabled(after):
        return True
    return spot and state(before) is not state(after)


def _put(found: dict[str, M], name: str, message: M | None) -> None:
    if message is None:
        found.pop(name, None)
    else:
        found[name] = message
