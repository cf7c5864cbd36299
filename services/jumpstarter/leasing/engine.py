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
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from services.jumpstarter import kinds, names
from services.jumpstarter.leasing import exporter as exporters
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing import outcome
from services.jumpstarter.leasing.agenda import Agenda
from services.jumpstarter.leasing.decision import Decision, End, Keep, Wait, decide, explained
from services.jumpstarter.leasing.exporter import State, state
from services.jumpstarter.leasing.lab import Lab
from services.jumpstarter.leasing.outcome import copied
from services.jumpstarter.leasing.retention import Retention
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.service.service import Clock
from shared.storage.errors import Compacted, Conflict, Exists, StoreError, StoreUnavailable
from shared.storage.port import Author, Check, Expect, Put, Store
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
# Leases that are ended in one commit.
_TOGETHER: Final = 64
# Exporters that are offered one by one; when more are free at once everybody is asked.
_FEW: Final = 8
_ASSIGNED: Final = Author("controller", "controller:lease:assign")
_ENDED: Final = Author("controller", "controller:lease:end")


class _Behind(Exception):
    """A lease was written since the lab was caught up with: what else was is not known yet."""


class Engine:
    """One in each process. `retention`: how long ended leases stay readable, in nanoseconds."""

    def __init__(self, store: Store, tailer: Tailer, clock: Clock, *, retention: int) -> None:
        self.lab = Lab()
        self._store = store
        self._tailer = tailer
        self._clock = clock
        self._retention = Retention(store, retention)
        self._turn = asyncio.Lock()
        self._agenda = Agenda()
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

    async def settle(self) -> None:
        """Do all that follows from what is stored and from the clock: for tests that set it."""
        async with self._turn:
            await self._catch_up()
            await self._settle()

    # -- leases

    async def create(self, lease: pb.Lease, by: Author) -> pb.Lease:
        """Store a new lease, with its exporter when one is free for it. Raises AlreadyExists, and
        NotFound for its client."""

        async def plan(now: int) -> Plan[pb.Lease]:
            new = copied(lease)
            new.create_time.FromNanoseconds(now)
            new.labels.update(rules.labels(new))
            self._check_client(new.client)
            return self._stored(new, Expect.ABSENT, now)

        try:
            return await self._write(plan, by)
        except Exists as error:
            raise AlreadyExists(f"lease {lease.name} exists", kind=kinds.LEASE, name=lease.name) from error

    async def update(self, name: str, change: Callable[[pb.Lease], None], by: Author) -> pb.Lease:
        """Apply `change` to the lease as it is, and what follows from it. Raises NotFound, also for
        another client, and whatever `change` raises."""

        async def plan(now: int) -> Plan[pb.Lease]:
            old, revision = await self._found(name)
            new = copied(old)
            change(new)
            if new == old:
                return [], [], new
            if new.ended:
                return [outcome.put_lease(new, revision)], [], new
            if new.client != old.client:
                self._check_client(new.client)
            return self._stored(new, revision, now)

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
        return explained(lease, self.lab.namespace(lease.name), self.now())

    # -- exporters

    async def register(
        self, name: str, labels: Mapping[str, str], devices: Sequence[DriverInstanceReport], by: Author
    ) -> str:
        """The exporter's uid. Of `labels` those are kept that are an exporter's own."""

        def change(exporter: pb.Exporter) -> None:
            exporters.register(exporter, labels, devices)

        return (await self._change(name, change, by)).uid

    async def unregister(self, name: str, reason: str, by: Author) -> None:
        await self._change(name, lambda found: exporters.unregister(found, reason, self.now()), by)

    async def report_status(
        self, name: str, status: common.ExporterStatus, message: str, release: bool, by: Author
    ) -> None:
        """With `release` the lease that holds the exporter ends as well."""

        def change(exporter: pb.Exporter) -> None:
            exporters.report(exporter, status, message, self.now())

        await self._change(name, change, by, release=release)

    async def attach(self, name: str, controller: str, by: Author) -> None:
        """The exporter's status stream is open at `controller`."""
        await self._change(name, lambda found: exporters.attach(found, controller, self.now()), by)

    async def detach(self, name: str, controller: str, by: Author) -> None:
        """That stream has ended. By itself it changes nothing until the exporter was silent for too
        long."""
        with contextlib.suppress(NotFound):
            await self._change(name, lambda found: exporters.detach(found, controller, self.now()), by)

    async def lose(self, name: str, message: str, still: Callable[[pb.Exporter], bool], by: Author) -> None:
        """The exporter was silent for too long, unless `still` denies it by now."""

        def change(exporter: pb.Exporter) -> None:
            if still(exporter):
                exporters.lose(exporter, message)

        with contextlib.suppress(NotFound):
            await self._change(name, change, by)

    async def _change(
        self, name: str, change: Callable[[pb.Exporter], None], by: Author, *, release: bool = False
    ) -> pb.Exporter:
        async def plan(now: int) -> Plan[pb.Exporter]:
            old = self.lab.exporter(name)
            if old is None:
                raise NotFound(f"exporter {name!r} not found", kind=kinds.EXPORTER, name=name)
            new = copied(old)
            change(new)
            held = self.lab.lease(new.lease) if release and new.lease else None
            changes: list[Put] = []
            if held is not None:
                lease = copied(held)
                lease.released = True
                made = decide(lease, self.lab.namespace(name), now)
                assert isinstance(made, End)
                outcome.end(lease, made, now)
                changes.append(outcome.put_lease(lease, self.lab.at(lease.name)))
                new.lease = ""
            if new != old:
                changes.append(outcome.put_exporter(new, self.lab.at(name)))
            return changes, [], new

        return await self._write(plan, by)

    # -- writing

    async def _write(self, plan: Callable[[int], Awaitable[Plan[T]]], by: Author) -> T:
        """Carry out what `plan` makes of the newest state, in which nobody waits for what is free as of
        the time that it is given. Raises Exists when a new name is taken, what `plan` raises, and
        Unavailable."""
        async with self._turn:
            try:
                for _ in range(_TRIES):
                    await self._catch_up()
                    try:
                        changes, checks, answer = await plan(await self._settle())
                        if not changes:
                            return answer
                        await self._store.commit(changes, checks=checks, by=by)
                    except Exists:
                        raise
                    except (Conflict, _Behind):
                        continue
                    await self._catch_up()
                    return answer
            finally:
                # Of what follows, or was cut off, nobody else may come to know.
                self._woken.set()
        raise Unavailable("others write to the lab too fast; nothing was changed, try again")

    def _stored(self, lease: pb.Lease, expect: Expect | int, now: int) -> Plan[pb.Lease]:
        """Store what a caller made of `lease`, with what is decided about it."""
        made = decide(lease, self.lab.namespace(lease.name), now)
        changes, checks = outcome.of(self.lab, lease, made, expect, now)
        # The owner may be removed meanwhile.
        return changes, checks or [Check(kinds.CLIENT, None, self.lab.revision)], lease

    def _check_client(self, name: str) -> None:
        if self.lab.client(name) is None:
            raise NotFound(f"client {name!r} not found", kind=kinds.CLIENT, name=name)

    # -- what follows from changes and from time

    async def _run(self) -> None:
        while True:
            try:
                async with self._turn:
                    await self._catch_up()
                    await self._settle()
                    await self._retention.tidy(self.now())
                if not await self._sleep():
                    return
            except StoreError as error:
                log.warning("the lease controller cannot go on; trying again", extra={"error": str(error)})
                await asyncio.sleep(_RETRY)
            except Exception:
                # Whatever it is, leases must end: everything is looked at again.
                log.exception("the lease controller has failed; trying again")
                await asyncio.sleep(_RETRY)

    async def _sleep(self) -> bool:
        """Until something changes or is due. False: the process stops."""
        due = self._agenda.next_due
        left = _NAP if due is None else min(_NAP, max(0.0, (due - self.now()) / _SECOND))
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

    async def _settle(self) -> int:
        """Look at all that is new or due, until nothing is; answers as of when."""
        while True:
            now = self.now()
            self._note(now)
            if ending := self._ending(now):
                await self._carry_out(ending, now)
            elif acting := self._acting(now):
                await self._carry_out([acting], now)
            elif self._agenda:
                # It is long; others may do what needs no turn.
                await asyncio.sleep(0)
            else:
                return now

    def _ending(self, now: int) -> list[tuple[pb.Lease, Decision]]:
        """A few of the leases that end now. Together: on a slow store many ends at once would be late."""
        found: list[tuple[pb.Lease, Decision]] = []
        for name in self._agenda.first:
            lease, made = self._look_at(name, now)
            if lease is None or not isinstance(made, End):
                self._agenda.dismiss(name)
                continue
            found.append((lease, made))
            if len(found) == _TOGETHER:
                break
        return found

    def _acting(self, now: int) -> tuple[pb.Lease, Decision] | None:
        """The next that waits and about which there is something to write; not the one that ends, which
        comes among the first."""
        for _ in range(_BATCH):
            name = self._agenda.next(self._is_free)
            if name is None:
                break
            lease, made = self._look_at(name, now)
            if isinstance(made, End):
                self._agenda.put_first(name)
            elif lease is not None and outcome.acts(made, lease):
                return lease, made
            self._agenda.done()
        return None

    def _look_at(self, name: str, now: int) -> tuple[pb.Lease | None, Decision]:
        lease = self.lab.leases.get(name)
        if lease is None:
            return None, Keep(None)
        made = decide(lease, self.lab.namespace(name), now)
        if isinstance(made, Keep | Wait) and made.until is not None:
            self._agenda.later(name, made.until)
        return lease, made

    def _note(self, now: int) -> None:
        """Put on the agenda what is new and what is due."""
        news, lab = self.lab.news, self.lab
        for name in self._agenda.due(now):
            news.leases[name] = None
        for name in news.leases:
            lease = lab.leases.get(name)
            if lease is None:
                self._agenda.forget(name)
            elif lease.exporter or rules.is_over(lease, now):
                self._agenda.put_first(name)
            else:
                self._agenda.waiting((rules.queued_at(lease), name))
        news.leases.clear()
        if len(news.freed) > _FEW:
            news.namespaces.update(dict.fromkeys(map(names.namespace_of, news.freed)))
        else:
            for exporter in filter(None, map(lab.exporter, news.freed)):
                queue = lab.namespace(exporter.name).queue
                self._agenda.free(exporter.name, queue.wanting(exporter, now))
        news.freed.clear()
        for namespace in news.namespaces:
            for place in lab.namespace(names.parent(namespace)).queue.due(now):
                self._agenda.waiting(place)
        news.namespaces.clear()

    def _is_free(self, name: str) -> bool:
        exporter = self.lab.exporter(name)
        return exporter is not None and state(exporter, allow_disabled=True) is State.FREE

    async def _carry_out(self, decided: Sequence[tuple[pb.Lease, Decision]], now: int) -> None:
        """What is decided about leases that are stored, in one commit. When others wrote first nothing
        is done, and everything that they changed is news."""
        changes: list[Put] = []
        checks: list[Check] = []
        for lease, made in decided:
            put, check = outcome.of(self.lab, copied(lease), made, self.lab.at(lease.name), now)
            changes += put
            checks += check
        by = _ENDED if isinstance(decided[0][1], End) else _ASSIGNED
        with contextlib.suppress(Conflict):
            await self._store.commit(changes, checks=checks, by=by)
        await self._catch_up()

    async def _found(self, name: str, *, fresh: bool = False) -> tuple[pb.Lease, int]:
        """A lease, ended or not, and its revision; with `fresh` as it is stored, whatever is known
        here. Raises NotFound, and _Behind unless it is as fresh as the lab."""
        active = None if fresh else self.lab.lease(name)
        if active is not None:
            return active, self.lab.at(name)
        record = await self._store.get(kinds.LEASE, name)
        if record is None:
            raise NotFound(f"lease {name!r} not found", kind=kinds.LEASE, name=name)
        if not fresh and record.revision > self.lab.revision:
            raise _Behind
        return pb.Lease.FromString(record.body), record.revision
