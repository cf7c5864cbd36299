"""The controller of the lab: gives exporters to leases, and takes them back.

Level-triggered: each decision is made from what is stored, so a crash at any point continues where
it was, and several controllers may work on one store. All writes to exporters' states and to leases
go through it, one after the other; a peer that was first shows up as a conflict, after which the log
is caught up with and the decision made anew. An assignment also checks that no lease was written
since the decision: nobody overtakes a lease that a peer has just accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from services.jumpstarter import kinds, names
from services.jumpstarter import lease as rules
from services.jumpstarter.decision import Assign, Decision, End, Keep, Wait, decide
from services.jumpstarter.exporter import State, state
from services.jumpstarter.lab import Lab
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.service.service import Clock
from shared.storage.errors import Compacted, Conflict, Exists, StoreError, StoreUnavailable
from shared.storage.port import Author, Check, Condition, Delete, Expect, Order, Put, Query, Store
from shared.watch.tailer import Tailer

log = logging.getLogger(__name__)
T = TypeVar("T")
# What to write, what it was decided by, and what the caller is told.
Plan = tuple[Sequence[Put], Sequence[Check], T]

_SECOND: Final = 1_000_000_000
# A conflict means that another controller got on, so few tries are ever needed.
_TRIES: Final = 64
# The clock may be set: nobody sleeps longer than that on what it said.
_NAP: Final = 1.0
_RETRY: Final = 0.5
_BATCH: Final = 256
# How often ended leases that are too old are looked for.
_FORGET: Final = 60 * _SECOND
_ASSIGNED: Final = Author("controller", "controller:lease:assign")
_ENDED: Final = Author("controller", "controller:lease:end")
_FORGOTTEN: Final = Author("controller", "controller:lease:forget")


class Engine:
    """One in each process. `retention`: how long ended leases stay readable, in nanoseconds."""

    def __init__(self, store: Store, tailer: Tailer, clock: Clock, *, retention: int) -> None:
        self.lab = Lab()
        self._store = store
        self._tailer = tailer
        self._clock = clock
        self._retention = retention
        self._turn = asyncio.Lock()
        # When to look at which leases again; entries that `_due_at` does not confirm are old.
        self._due: list[tuple[int, str]] = []
        self._due_at: dict[str, int] = {}
        self._forget_at = 0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Engine:
        """Knows the lab and has looked at everything in it."""
        await self.lab.load(self._store)
        async with self._turn:
            await self._settle()
        self._task = asyncio.create_task(self._run(), name="lease controller")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.lab.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._clock()

    def wake(self) -> None:
        """Look at the clock again: for tests that set it."""
        self._woken.set()

    async def current(self) -> Lab:
        """The lab as of now: with all that anybody has been told is written."""
        if self.lab.revision < await self._store.head():
            async with self._turn:
                await self._catch_up()
        return self.lab

    # -- leases

    async def create(self, lease: pb.Lease, by: Author) -> pb.Lease:
        """Store a new lease, with its exporter when one is free for it. Raises AlreadyExists."""

        async def plan() -> Plan[pb.Lease]:
            new = pb.Lease()
            new.CopyFrom(lease)
            new.create_time.FromNanoseconds(self.now())
            new.labels.update(rules.labels(new))
            changes, checks = self._carried_out(new, Expect.ABSENT)
            return changes, checks, new

        try:
            return await self._write(plan, by)
        except Exists as error:
            raise AlreadyExists(f"lease {lease.name} exists", kind=kinds.LEASE, name=lease.name) from error

    async def update(self, name: str, change: Callable[[pb.Lease], None], by: Author) -> pb.Lease:
        """Apply `change` to the lease as it is, and what follows from it. Raises NotFound and
        whatever `change` raises."""

        async def plan() -> Plan[pb.Lease]:
            old, revision = await self._found(name)
            new = pb.Lease()
            new.CopyFrom(old)
            change(new)
            if new == old:
                return [], [], new
            if new.ended:
                return [_lease(new, revision)], [], new
            changes, checks = self._carried_out(new, revision)
            return changes, checks, new

        return await self._write(plan, by)

    async def release(self, name: str, by: Author) -> pb.Lease:
        """End it. An expired lease is only marked. Raises NotFound, and FailedPrecondition when that
        was done before."""

        def change(lease: pb.Lease) -> None:
            if lease.released:
                raise FailedPrecondition(f"{name} is released already", kind=kinds.LEASE, name=name)
            lease.released = True

        return await self.update(name, change, by)

    async def get(self, name: str) -> pb.Lease:
        """A lease, ended or not, as it is: of one that waits the condition says why it does so now.
        Raises NotFound."""
        return self.explained((await self._found(name, fresh=True))[0])

    def explained(self, lease: pb.Lease) -> pb.Lease:
        """`lease`, whose condition Pending tells what it waits for at this moment. What is stored says
        what it was when the wait began."""
        if lease.ended or lease.exporter:
            return lease
        space = self.lab.namespace(lease.name)
        made = decide(lease, space, self.now())
        found = pb.Lease()
        found.CopyFrom(lease)
        if isinstance(made, Wait):
            place = space.queue.position(lease.name)
            message = f"{made.message}; {place} of {len(space.queue)} in the queue" if place else made.message
            rules.set_condition(found, rules.PENDING, rules.TRUE, made.reason, message, self.now())
        return found

    # -- exporters

    async def register(
        self, name: str, labels: Mapping[str, str], devices: Sequence[DriverInstanceReport], by: Author
    ) -> str:
        """The exporter's uid. Of `labels` those are kept that are an exporter's own."""

        def change(exporter: pb.Exporter) -> None:
            for key in [key for key in exporter.labels if key.startswith(kinds.OWN_PREFIX)]:
                del exporter.labels[key]
            exporter.labels.update({k: v for k, v in labels.items() if k.startswith(kinds.OWN_PREFIX)})
            del exporter.devices[:]
            exporter.devices.extend(devices)
            exporter.registered = True

        return (await self._change(name, change, by)).uid

    async def unregister(self, name: str, reason: str, by: Author) -> None:
        def change(exporter: pb.Exporter) -> None:
            del exporter.devices[:]
            exporter.registered = exporter.online = False
            exporter.status = common.EXPORTER_STATUS_OFFLINE
            exporter.status_message = reason or "The exporter has unregistered"
            exporter.last_seen.FromNanoseconds(self.now())

        await self._change(name, change, by)

    async def report_status(
        self, name: str, status: common.ExporterStatus, message: str, release: bool, by: Author
    ) -> None:
        """With `release` the lease that holds the exporter ends as well."""

        def change(exporter: pb.Exporter) -> None:
            exporter.status = status
            exporter.status_message = message
            exporter.online = status not in (
                common.EXPORTER_STATUS_OFFLINE,
                common.EXPORTER_STATUS_UNSPECIFIED,
            )
            exporter.last_seen.FromNanoseconds(self.now())

        await self._change(name, change, by, release=release)

    async def attach(self, name: str, controller: str, by: Author) -> None:
        """The exporter's status stream is open at `controller`."""

        def change(exporter: pb.Exporter) -> None:
            exporter.controller = controller
            if exporter.status == common.EXPORTER_STATUS_OFFLINE or not exporter.HasField("last_seen"):
                exporter.status = common.EXPORTER_STATUS_UNSPECIFIED
                exporter.status_message = ""
            exporter.online = True
            exporter.last_seen.FromNanoseconds(self.now())

        await self._change(name, change, by)

    async def detach(self, name: str, controller: str, by: Author) -> None:
        """That stream has ended. By itself it changes nothing until the exporter was silent for too
        long."""

        def change(exporter: pb.Exporter) -> None:
            if exporter.controller == controller:
                exporter.controller = ""
                exporter.last_seen.FromNanoseconds(self.now())

        with contextlib.suppress(NotFound):
            await self._change(name, change, by)

    async def lose(self, name: str, message: str, still: Callable[[pb.Exporter], bool], by: Author) -> None:
        """The exporter was silent for too long, unless `still` denies it by now."""

        def change(exporter: pb.Exporter) -> None:
            if still(exporter):
                exporter.online = False
                exporter.controller = ""
                exporter.status = common.EXPORTER_STATUS_OFFLINE
                exporter.status_message = message

        with contextlib.suppress(NotFound):
            await self._change(name, change, by)

    async def _change(
        self, name: str, change: Callable[[pb.Exporter], None], by: Author, *, release: bool = False
    ) -> pb.Exporter:
        async def plan() -> Plan[pb.Exporter]:
            old = self.lab.exporter(name)
            if old is None:
                raise NotFound(f"exporter {name!r} not found", kind=kinds.EXPORTER, name=name)
            new = pb.Exporter()
            new.CopyFrom(old)
            change(new)
            held = self.lab.lease(new.lease) if release and new.lease else None
            changes: list[Put] = []
            if held is not None:
                lease = pb.Lease()
                lease.CopyFrom(held)
                lease.released = True
                self._end(lease, decide(lease, self.lab.namespace(name), self.now()))
                changes.append(_lease(lease, self.lab.at(lease.name)))
                new.lease = ""
            if new != old:
                changes.append(_exporter(new, self.lab.at(name)))
            return changes, [], new

        return await self._write(plan, by)

    # -- writing

    async def _write(self, plan: Callable[[], Awaitable[Plan[T]]], by: Author) -> T:
        """Carry out what `plan` makes of the newest state, in which nobody waits for what is free.
        Raises Exists when a new name is taken, what `plan` raises, and Unavailable."""
        async with self._turn:
            for _ in range(_TRIES):
                await self._catch_up()
                await self._settle()
                changes, checks, answer = await plan()
                if not changes:
                    return answer
                try:
                    await self._store.commit(changes, checks=checks, by=by)
                except Exists:
                    raise
                except Conflict:
                    continue
                await self._catch_up()
                self._woken.set()
                return answer
        raise Unavailable("others write to the lab too fast; nothing was changed, try again")

    def _carried_out(self, lease: pb.Lease, expect: Expect | int) -> tuple[list[Put], list[Check]]:
        """The changes that store `lease`, once what is decided about it has been done to it."""
        space = self.lab.namespace(lease.name)
        made = decide(lease, space, self.now())
        changes: list[Put] = []
        checks: list[Check] = []
        match made:
            case Assign(name, priority, spot):
                rules.assign(lease, name, priority, spot, self.now())
                exporter = pb.Exporter()
                exporter.CopyFrom(space.board.exporters[name])
                exporter.lease = lease.name
                changes.append(_exporter(exporter, self.lab.at(name)))
                # Nobody was here before it.
                checks.append(Check(kinds.LEASE, None, self.lab.revision))
            case Wait(reason, message):
                rules.set_condition(lease, rules.PENDING, rules.TRUE, reason, message, self.now())
            case End():
                changes += self._freed(lease)
                self._end(lease, made)
        changes.append(_lease(lease, expect))
        return changes, checks

    def _freed(self, lease: pb.Lease) -> list[Put]:
        """What takes the exporter back from `lease`."""
        held = self.lab.exporter(lease.exporter) if lease.exporter else None
        if held is None or held.lease != lease.name:
            return []
        exporter = pb.Exporter()
        exporter.CopyFrom(held)
        exporter.lease = ""
        return [_exporter(exporter, self.lab.at(held.name))]

    def _end(self, lease: pb.Lease, made: Decision) -> None:
        assert isinstance(made, End)
        now = self.now()
        if made.reason == "Expired" and rules.condition(lease, rules.PENDING) is not None:
            # Clients of 0.9.0 would wait on for ever (jumpstarter contract, section 10, trap 4).
            rules.set_condition(lease, rules.PENDING, rules.FALSE, made.reason, made.message, now)
        rules.set_condition(lease, made.condition, made.status, made.reason, made.message, now)
        rules.end(lease, now)

    # -- what follows from changes and from time

    async def _run(self) -> None:
        while True:
            try:
                async with self._turn:
                    await self._catch_up()
                    await self._settle()
                    await self._forget()
                if not await self._sleep():
                    return
            except StoreError as error:
                log.warning("the lease controller cannot go on; trying again", extra={"error": str(error)})
                await asyncio.sleep(_RETRY)

    async def _sleep(self) -> bool:
        """Until something changes or is due. False: the process stops."""
        left = _NAP if not self._due else min(_NAP, max(0.0, (self._due[0][0] - self.now()) / _SECOND))
        changed = asyncio.ensure_future(self._tailer.wait(self.lab.revision))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({changed, woken}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (changed, woken):
                task.cancel()
            ends = await asyncio.gather(changed, woken, return_exceptions=True)
        self._woken.clear()
        return not isinstance(ends[0], StoreUnavailable)

    async def _catch_up(self) -> None:
        """Know what the log says by now."""
        head = await self._store.head()
        try:
            while self.lab.revision < head:
                for commit in await self._tailer.changes(self.lab.revision, _BATCH):
                    self.lab.apply(commit)
        except Compacted:
            await self.lab.load(self._store)

    async def _settle(self) -> None:
        """Look at all that is new or due, until nothing is."""
        news = self.lab.news
        while True:
            now = self.now()
            while self._due and self._due[0][0] <= now:
                at, name = heapq.heappop(self._due)
                if self._due_at.get(name) == at:
                    del self._due_at[name]
                    if name in self.lab.leases:
                        news.leases[name] = None
            if not news:
                return
            if news.namespaces:
                await self._look_at(self._all_of(next(iter(news.namespaces))))
            elif news.freed:
                await self._give(next(iter(news.freed)))
            else:
                # Oldest first: whoever is looked at first takes what is free.
                await self._look_at(sorted(news.leases, key=self._place)[:_BATCH])

    def _all_of(self, namespace: str) -> list[str]:
        """The names of all leases of a namespace, whose turn it is to be looked at."""
        del self.lab.news.namespaces[namespace]
        prefix = f"namespaces/{namespace}/"
        return sorted((n for n in self.lab.leases if n.startswith(prefix)), key=self._place)

    def _place(self, name: str) -> tuple[int, str]:
        lease = self.lab.leases.get(name)
        return (rules.queued_at(lease) if lease is not None else 0, name)

    async def _look_at(self, leases: Iterable[str]) -> None:
        for name in leases:
            self.lab.news.leases.pop(name, None)
            lease = self.lab.leases.get(name)
            if lease is not None and not await self._carry_out(lease):
                self.lab.news.leases[name] = None

    async def _give(self, name: str) -> None:
        """A free exporter to those who have waited longest for it."""
        exporter = self.lab.exporter(name)
        if exporter is not None:
            for waiting in self.lab.namespace(name).queue.wanting(exporter, self.now()):
                current = self.lab.exporter(name)
                if current is None or state(current, allow_disabled=True) is not State.FREE:
                    break
                lease = self.lab.leases.get(waiting)
                if lease is not None and not await self._carry_out(lease):
                    return
        self.lab.news.freed.pop(name, None)

    async def _carry_out(self, lease: pb.Lease) -> bool:
        """What is decided about a lease that is stored. False when others wrote first: the log is
        caught up with and everything that they changed is news again."""
        made = decide(lease, self.lab.namespace(lease.name), self.now())
        if isinstance(made, Keep | Wait):
            if made.until is not None and self._due_at.get(lease.name) != made.until:
                self._due_at[lease.name] = made.until
                heapq.heappush(self._due, (made.until, lease.name))
            if isinstance(made, Keep) or rules.condition(lease, rules.PENDING) is not None:
                return True
        new = pb.Lease()
        new.CopyFrom(lease)
        changes, checks = self._carried_out(new, self.lab.at(lease.name))
        by = _ENDED if isinstance(made, End) else _ASSIGNED
        try:
            await self._store.commit(changes, checks=checks, by=by)
        except Conflict:
            await self._catch_up()
            return False
        await self._catch_up()
        return True

    async def _forget(self) -> None:
        """Remove a few of the leases that ended too long ago."""
        now = self.now()
        if now < self._forget_at:
            return
        before = now - self._retention
        old = (Condition("ended", "=", 1), Condition("ended_time", "<", before))
        query = Query(kinds.LEASE, where=old, order=(Order("ended_time"),), limit=_BATCH)
        changes = [Delete(kinds.LEASE, r.name, r.revision) async for r in self._store.scan(query)]
        if changes:
            with contextlib.suppress(Conflict):
                await self._store.commit(changes, by=_FORGOTTEN)
        # The rest soon, but others come first.
        self._forget_at = now + (_SECOND if len(changes) == _BATCH else _FORGET)

    async def _found(self, name: str, *, fresh: bool = False) -> tuple[pb.Lease, int]:
        """A lease, ended or not, and its revision; with `fresh` as it is stored, whatever is known
        here. Raises NotFound."""
        active = None if fresh else self.lab.lease(name)
        if active is not None:
            return active, self.lab.at(name)
        record = await self._store.get(kinds.LEASE, name)
        if record is None:
            raise NotFound(f"lease {name!r} not found", kind=kinds.LEASE, name=name)
        return pb.Lease.FromString(record.body), record.revision


def _lease(lease: pb.Lease, expect: Expect | int) -> Put:
    body = lease.SerializeToString(deterministic=True)
    return Put(kinds.LEASE, lease.name, body, names.parent(lease.namespace), expect)


def _exporter(exporter: pb.Exporter, expect: int) -> Put:
    body = exporter.SerializeToString(deterministic=True)
    return Put(kinds.EXPORTER, exporter.name, body, names.parent(exporter.namespace), expect)
