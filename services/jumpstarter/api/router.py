"""jumpstarter.v1.RouterService: two callers with the same token meet, and everything that one sends
reaches the other (jumpstarter contract, section 6).

Messages are not parsed: requests and responses are the same on the wire. Each side's handler reads
what the *other* caller sends and yields it to its own, so a message is written before the next one is
read: what a slow reader has not taken stays with the sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc.aio

from services.jumpstarter.api.router_tokens import RouterTokens, Ticket
from shared.errors import ApiError, DeadlineExceeded, FailedPrecondition, Unavailable
from shared.pb.jumpstarter.v1 import router_pb2 as pb
from shared.rpc.method import Call
from shared.service.service import Clock

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RouterService"]
# Methods whose requests stay bytes.
RAW: Final = ("Stream",)


class _Side:
    """One caller. `requests` is what it sends."""

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self.requests = requests
        self.pair: _Pair | None = None
        self.met = asyncio.Event()
        self.sending = False
        self.reason: ApiError | None = None
        self._task = asyncio.current_task()

    def end(self, reason: ApiError) -> None:
        """Its call ends with `reason`, when its reader has taken the message that is on its way."""
        if self.reason is None and self._task is not None:
            self.reason = reason
            if not self.sending:
                self._task.cancel()

    def meet(self, pair: _Pair) -> None:
        self.pair = pair
        self.met.set()

    def ended_by_us(self) -> bool:
        """Whether a cancellation that arrived is that of `end`, and nobody else's."""
        return self.reason is not None and self._task is not None and self._task.uncancel() == 0

    def leave(self) -> None:
        """Its call is over."""
        self._task = None
        if self.pair is not None:
            self.pair.leave(self)


class _Pair:
    def __init__(self, first: _Side, second: _Side) -> None:
        self._sides = (first, second)
        self._drained = 0
        self._finished = asyncio.Event()

    def other(self, side: _Side) -> _Side:
        first, second = self._sides
        return second if side is first else first

    async def drained(self) -> None:
        """One direction has ended: until both have."""
        self._drained += 1
        if self._drained == 2:
            self._finished.set()
        await self._finished.wait()

    def leave(self, side: _Side) -> None:
        if not self._finished.is_set():
            self.other(side).end(Unavailable("the other side of the stream is gone"))


class RouterService:
    """`clock` answers nanoseconds since 1970."""

    def __init__(self, tokens: RouterTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._waiting: dict[str, _Side] = {}
        # Streams at which two have met, until their token expires (seconds since 1970).
        self._spent: dict[str, int] = {}
        self._sides: set[_Side] = set()
        self._stopping = False

    async def Stream(self, request: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        """Raises Unauthenticated, FailedPrecondition when two have met with this token already,
        DeadlineExceeded when nobody comes, Unavailable when the other side breaks off."""
        ticket = self._tokens.verify(call.metadata)
        side = _Side(request)
        self._enter(ticket, side)
        try:
            pair = await self._partner(ticket, side)
            async for message in pair.other(side).requests:
                side.sending = True
                yield message
                side.sending = False
                if side.reason is not None:
                    raise side.reason
            await pair.drained()
        except asyncio.CancelledError:
            if side.reason is None or not side.ended_by_us():
                raise
            raise side.reason from None
        except grpc.aio.BaseError as error:
            raise Unavailable("the other side of the stream is gone") from error
        finally:
            side.leave()
            self._sides.discard(side)

    async def stop(self) -> None:
        """Every call ends with Unavailable, and so do those that come."""
        self._stopping = True
        for side in tuple(self._sides):
            side.end(_stopping())

    def _enter(self, ticket: Ticket, side: _Side) -> None:
        if self._stopping:
            raise _stopping()
        if ticket.stream in self._spent:
            raise FailedPrecondition("two callers have met with this router token already; dial again")
        first = self._waiting.pop(ticket.stream, None)
        if first is None:
            self._waiting[ticket.stream] = side
        else:
            self._spend(ticket)
            pair = _Pair(first, side)
            first.meet(pair)
            side.meet(pair)
        self._sides.add(side)

    async def _partner(self, ticket: Ticket, side: _Side) -> _Pair:
        try:
            async with asyncio.timeout(ticket.expires_at - self._clock() / 1e9):
                await side.met.wait()
        except TimeoutError:
            raise DeadlineExceeded("nobody came to this stream until its token expired; dial again") from None
        finally:
            if self._waiting.get(ticket.stream) is side:
                del self._waiting[ticket.stream]
        assert side.pair is not None
        return side.pair

    def _spend(self, ticket: Ticket) -> None:
        now = self._clock() // 1_000_000_000
        # All tokens live equally long: those that expire first stand first, or nearly so.
        while self._spent and self._spent[oldest := next(iter(self._spent))] <= now:
            del self._spent[oldest]
        self._spent[ticket.stream] = ticket.expires_at


def _stopping() -> Unavailable:
    return Unavailable("the process is stopping")
