"""Brings exporters that listen and clients that dial together (jumpstarter contract, section 5).

An exporter listens at one controller process; a client may dial at any. Each `listener` record says
which process has the lease's exporter. Within that process a dial goes straight to the listener's
queue. At another it becomes a `dial` record, which the listener's process finds in the log, passes on
and removes; both processes sign the same token. Client and exporter then meet at the router of the
listener's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final, Self

from services.jumpstarter.api.router_tokens import RouterTokens
from services.jumpstarter.kinds import CONTROLLER, DIAL, LISTENER
from shared.errors import ApiError, ResourceExhausted, Unavailable
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.service.service import Clock, NewId
from shared.storage.errors import Compacted, Conflict, FutureRevision, StoreError, StoreUnavailable
from shared.storage.port import Author, Change, Commit, Delete, Expect, Put, Query, Record, Store
from shared.watch.tailer import Tailer

log = logging.getLogger(__name__)

# Dials that may wait for one listener.
QUEUE: Final = 8
# Nanoseconds after which a controller that gave no sign of life counts for nothing, and a dial record
# was left behind.
LOST_AFTER: Final = 60 * 1_000_000_000
# Seconds that another controller may take to pass a dial on; between looks for what was left behind;
# until the log is read again after a failure.
ANSWER: Final = 5.0
SWEEP_EVERY: Final = 30.0
_RETRY: Final = 0.1

_PASSED: Final = Author("controller", "controller:dial:pass")
_REFUSED: Final = Author("controller", "controller:dial:refuse")
_WITHDRAWN: Final = Author("controller", "controller:dial:withdraw")
_ENDED: Final = Author("controller", "controller:listener:end")
_KEPT: Final = Author("controller", "controller:listener:keep")
_SWEPT: Final = Author("controller", "controller:listener:sweep")


class _Listener:
    """One Listen: what it is yet to send, and why it ends."""

    def __init__(self, lease: str, id: str) -> None:
        self.lease = lease
        self.id = id
        # Of the commit that announced it.
        self.revision = 0
        self._waiting: deque[pb.ListenResponse] = deque()
        self._reason: ApiError | None = None
        self._woken = asyncio.Event()

    def push(self, dial: pb.ListenResponse) -> bool:
        """Whether there was room."""
        if len(self._waiting) >= QUEUE:
            return False
        self._waiting.append(dial)
        self._woken.set()
        return True

    def end(self, reason: ApiError) -> None:
        """What waits is still sent."""
        self._reason = self._reason or reason
        self._woken.set()

    async def next(self) -> pb.ListenResponse:
        """Raises the reason of the end."""
        while not self._waiting:
            if self._reason is not None:
                raise self._reason
            self._woken.clear()
            await self._woken.wait()
        return self._waiting.popleft()


class Dialing:
    """Of one controller process. Leases are full names. `controller` is its id, new at each start,
    under which it gives signs of life (kind `controller`); `endpoint` the host:port of its router."""

    def __init__(
        self,
        store: Store,
        tailer: Tailer,
        tokens: RouterTokens,
        clock: Clock,
        new_id: NewId,
        *,
        controller: str,
        endpoint: str,
    ) -> None:
        self._store = store
        self._tailer = tailer
        self._tokens = tokens
        self._clock = clock
        self._new_id = new_id
        self._controller = controller
        self._endpoint = endpoint
        self._listeners: dict[str, _Listener] = {}
        # Dials that other controllers are to pass on: whether they did.
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        after = self._tailer.head
        self._runs = [
            asyncio.create_task(self._follow(after), name="dialing"),
            asyncio.create_task(self._keep_sweeping(), name="dialing-sweep"),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()
        for run in self._runs:
            run.cancel()
        for listener in self._listeners.values():
            self._spawn(self._withdraw(listener))
        await asyncio.gather(*self._runs, *self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Every listener and dial ends with Unavailable, and so do those that come."""
        self._stopping = True
        for listener in self._listeners.values():
            listener.end(_stopping())
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(_stopping())

    # -- what the controller's service calls

    async def listen(self, lease: str, by: Author) -> AsyncGenerator[pb.ListenResponse, None]:
        """Each dial to `lease` from now on. Never ends by itself: raises Unavailable when a newer
        Listen has taken its place and what waited was sent, and when the process stops."""
        if self._stopping:
            raise _stopping()
        listener = _Listener(lease, self._new_id())
        try:
            await self._announce(listener, by)
            if (other := self._listeners.get(lease)) is not None:
                if other.revision > listener.revision:
                    raise _replaced()
                other.end(_replaced())
            self._listeners[lease] = listener
            while True:
                yield await listener.next()
        finally:
            if self._listeners.get(lease) is listener:
                del self._listeners[lease]
            self._spawn(self._withdraw(listener))

    async def dial(self, lease: str, by: Author) -> pb.DialResponse:
        """Where and with which token to meet the exporter that listens for `lease`; it is sent the
        same. Raises Unavailable when none listens, and ResourceExhausted when it takes no more."""
        if self._stopping:
            raise _stopping()
        record = await self._store.get(LISTENER.name, lease)
        if record is None:
            raise _nobody(lease)
        found = lab_pb2.Listener.FromString(record.body)
        if found.controller != self._controller:
            return await self._ask(found, by)
        stream, now = self._new_id(), self._clock()
        if not self._pass(lease, stream, now):
            raise _full(lease)
        return pb.DialResponse(router_endpoint=self._endpoint, router_token=self._tokens.issue(stream, now))

    def _pass(self, lease: str, stream: str, at: int) -> bool:
        """To the listener here; whether it has room. Raises Unavailable without one."""
        if self._stopping:
            raise _stopping()
        listener = self._listeners.get(lease)
        if listener is None:
            raise _nobody(lease)
        token = self._tokens.issue(stream, at)
        return listener.push(pb.ListenResponse(router_endpoint=self._endpoint, router_token=token))

    # -- dials to listeners at other controllers

    async def _ask(self, listener: lab_pb2.Listener, by: Author) -> pb.DialResponse:
        peer = await self._peer(listener.controller)
        if peer is None:
            raise _nobody(listener.lease)
        now = self._clock()
        dial = lab_pb2.Dial(id=self._new_id(), lease=listener.lease, controller=peer.id)
        dial.create_time.FromNanoseconds(now)
        if not await self._answered(dial, by):
            raise _full(listener.lease)
        token = self._tokens.issue(dial.id, now)
        return pb.DialResponse(router_endpoint=peer.endpoint, router_token=token)

    async def _answered(self, dial: lab_pb2.Dial, by: Author) -> bool:
        """Whether the other controller passed the dial on. Raises Unavailable when it does not say."""
        asked = self._asked[dial.id] = asyncio.get_running_loop().create_future()
        passed = False
        try:
            await self._store.commit([_put(dial, Expect.ABSENT)], by=by)
            async with asyncio.timeout(ANSWER):
                passed = await asked
            return passed
        except TimeoutError:
            raise Unavailable(
                "the controller that the exporter listens at does not answer; try again"
            ) from None
        finally:
            del self._asked[dial.id]
            if not passed:
                self._spawn(self._remove(dial, _WITHDRAWN))

    async def _peer(self, controller: str) -> lab_pb2.Controller | None:
        """Another controller, if it gave a sign of life lately."""
        record = await self._store.get(CONTROLLER.name, controller)
        if record is None:
            return None
        found = lab_pb2.Controller.FromString(record.body)
        return found if self._clock() - found.heartbeat.ToNanoseconds() <= LOST_AFTER else None

    # -- what the log says

    async def _follow(self, after: int) -> None:
        while True:
            try:
                async for commit in self._tailer.follow(after):
                    self._apply(commit)
                    after = commit.revision
            except (Compacted, FutureRevision):
                after = self._tailer.head
                with contextlib.suppress(StoreError):
                    await self._catch_up(after)
            except StoreUnavailable:
                await asyncio.sleep(_RETRY)

    def _apply(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.kind == DIAL.name:
                self._dial_changed(change.name, change.after)
            elif change.kind == LISTENER.name:
                self._listener_changed(change, commit.revision)

    def _dial_changed(self, id: str, body: bytes | None) -> None:
        asked = self._asked.get(id)
        dial = None if body is None else lab_pb2.Dial.FromString(body)
        if asked is not None:
            if not asked.done() and (dial is None or dial.refused):
                asked.set_result(dial is None)
        elif dial is not None and dial.controller == self._controller and not dial.refused:
            self._serve(dial)

    def _serve(self, dial: lab_pb2.Dial) -> None:
        """Pass on what another controller took. Nobody listening here: that one gives up by itself."""
        with contextlib.suppress(Unavailable):
            if self._pass(dial.lease, dial.id, dial.create_time.ToNanoseconds()):
                self._spawn(self._remove(dial, _PASSED))
            else:
                dial.refused = True
                self._spawn(self._commit(_put(dial, Expect.PRESENT), _REFUSED))

    def _listener_changed(self, change: Change, revision: int) -> None:
        listener = self._listeners.get(change.name)
        if listener is None or revision <= listener.revision:
            return
        if change.after is None:
            # Somebody took this process for dead.
            self._spawn(self._keep(listener))
        elif lab_pb2.Listener.FromString(change.after).id != listener.id:
            listener.end(_replaced())
            del self._listeners[change.name]

    async def _catch_up(self, at: int) -> None:
        """With what the log no longer tells, as of revision `at`."""
        for lease in list(self._listeners):
            record = await self._store.get(LISTENER.name, lease)
            body = None if record is None else record.body
            self._listener_changed(Change(LISTENER.name, lease, "", None, body, 0), at)
        present = {record.name: record.body for record in await self._all(DIAL.name)}
        for id in {*present, *self._asked}:
            self._dial_changed(id, present.get(id))

    # -- what stands in the store

    async def _announce(self, listener: _Listener, by: Author, expect: Expect = Expect.ANY) -> None:
        body = lab_pb2.Listener(lease=listener.lease, controller=self._controller, id=listener.id)
        put = Put(LISTENER.name, listener.lease, body.SerializeToString(deterministic=True), expect=expect)
        listener.revision = (await self._store.commit([put], by=by)).revision

    async def _keep(self, listener: _Listener) -> None:
        with contextlib.suppress(Conflict):  # a newer one is there
            await self._announce(listener, _KEPT, Expect.ABSENT)

    async def _withdraw(self, listener: _Listener) -> None:
        """Unless a newer one stands there."""
        record = await self._store.get(LISTENER.name, listener.lease)
        if record is not None and lab_pb2.Listener.FromString(record.body).id == listener.id:
            await self._commit(Delete(LISTENER.name, record.name, record.revision), _ENDED)

    async def _remove(self, dial: lab_pb2.Dial, by: Author) -> None:
        await self._commit(Delete(DIAL.name, dial.id), by)

    async def _commit(self, change: Put | Delete, by: Author) -> None:
        with contextlib.suppress(Conflict):  # someone else did it
            await self._store.commit([change], by=by)

    async def _all(self, kind: str) -> list[Record]:
        async with contextlib.aclosing(self._store.scan(Query(kind))) as records:
            return [record async for record in records]

    async def sweep(self) -> None:
        """Remove what processes that died left behind."""
        now = self._clock()
        for record in await self._all(DIAL.name):
            dial = lab_pb2.Dial.FromString(record.body)
            if now - dial.create_time.ToNanoseconds() > LOST_AFTER:
                await self._remove(dial, _SWEPT)
        for record in await self._all(LISTENER.name):
            listener = lab_pb2.Listener.FromString(record.body)
            if listener.controller != self._controller and await self._peer(listener.controller) is None:
                await self._commit(Delete(LISTENER.name, record.name, record.revision), _SWEPT)

    async def _keep_sweeping(self) -> None:
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("cannot look for dials that were left behind", extra={"error": str(error)})
            await asyncio.sleep(SWEEP_EVERY)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """What must happen though its caller is gone."""

        async def run() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("cannot write about a dial", extra={"error": str(error)})

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _put(dial: lab_pb2.Dial, expect: Expect) -> Put:
    return Put(DIAL.name, dial.id, dial.SerializeToString(deterministic=True), expect=expect)


def _nobody(lease: str) -> Unavailable:
    return Unavailable(f"no exporter listens for {lease}; try again")


def _full(lease: str) -> ResourceExhausted:
    return ResourceExhausted(f"{QUEUE} dials wait for the exporter of {lease} already")


def _replaced() -> Unavailable:
    return Unavailable("a newer Listen has taken over")


def _stopping() -> Unavailable:
    return Unavailable("the process is stopping")
