"""A lab at a glance, for the home page: of all namespaces that the person may touch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from admin_ui.lab import Lab
from admin_ui.lab_kinds import parent_of
from admin_ui.presenters import lab as presenter
from admin_ui.presenters.lab import Count, Slot, Waiting
from admin_ui.views import lab
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb

# Namespaces that are looked at; of more, the first by name.
MOST: Final = 12
# Leases that are named, of each sort.
NAMED: Final = 4
# What ends within this time, and what waits for longer, is worth a word.
SOON: Final = timedelta(minutes=30)
LONG: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Glance:
    """`namespace`: where the links lead. `looked`: at how many, `hidden`: at how many others not."""

    namespace: str
    looked: int
    counts: list[Count]
    total: int
    ending: list[Slot]
    waiting: list[Waiting]
    queued: int
    hidden: int


async def load(request: web.Request) -> Glance:
    """Raises CallFailed."""
    calls = lab.lab(request)
    found = await lab.standing(request)
    namespace = await lab.place(request, found, "")
    some = found.namespaces[:MOST]
    boards, queues = await asyncio.gather(
        asyncio.gather(*(_board(calls, one) for one in some)),
        asyncio.gather(*(calls.queue(one) for one in some)),
    )
    now = lab.now()
    counts: dict[pb.Availability, int] = {}
    for board in boards:
        for one in board.counts:
            counts[one.state] = counts.get(one.state, 0) + one.count
    slots = [presenter.slot(slot, now) for board in boards for slot in board.slots]
    ending = sorted((s for s in slots if _ends_soon(s, now)), key=lambda s: _until(s, now))
    waiting = [presenter.waiting(one) for queue in queues for one in queue]
    long = sorted(
        (one for one in waiting if one.position and one.since is not None and now - one.since > LONG),
        key=lambda one: one.since or now,
    )
    told = presenter.counts([pb.Count(state=state, count=count) for state, count in counts.items()])
    return Glance(
        namespace,
        len(some),
        told,
        sum(one.count for one in told),
        ending[:NAMED],
        long[:NAMED],
        sum(bool(one.position) for one in waiting),
        len(found.namespaces) - len(some),
    )


async def _board(calls: Lab, namespace: str) -> pb.ListBoardResponse:
    """Its counts, and those whose leases end first."""
    request = pb.ListBoardRequest(parent=parent_of(namespace), order_by="until", page_size=NAMED)
    return await calls.board(request)


def _until(slot: Slot, now: datetime) -> datetime:
    return (slot.lease.until if slot.lease else None) or now


def _ends_soon(slot: Slot, now: datetime) -> bool:
    until = slot.lease.until if slot.lease is not None else None
    return until is not None and until - now < SOON
