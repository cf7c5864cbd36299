"""Leases of an exporter over time, as a picture: bars and marks in percent of its width.

The template draws them, the style sheet colours them; the same stands in a table beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from admin_ui.presenters.lab import Lease

# What a picture spans: its word, and how far back it reaches.
SPANS: Final = {"hours": timedelta(hours=6), "day": timedelta(days=1), "week": timedelta(days=7)}
# Of that, how far it looks ahead at least.
AHEAD: Final = 0.2
# Marks that have room, and the steps between them.
MARKS: Final = 6
_STEPS: Final = tuple(timedelta(minutes=m) for m in (15, 30, 60, 120, 240, 360, 720, 1440, 2880))
# Percent: what is shorter is still seen.
_LEAST: Final = 0.6


@dataclass(frozen=True, slots=True)
class Bar:
    """`open`: its end is only foreseen."""

    lease: Lease
    start: float
    width: float
    open: bool


@dataclass(frozen=True, slots=True)
class Mark:
    at: datetime
    x: float


@dataclass(frozen=True, slots=True)
class Picture:
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    now: float
    begin: datetime
    end: datetime


def picture(leases: Iterable[Lease], now: datetime, span: timedelta) -> Picture:
    """Of the leases that had the exporter within `span` before `now`. It looks ahead to the end of the
    one that has it, at most as far as it looks back."""
    begin = now - span
    shown = [one for one in leases if one.begun is not None and one.last > begin]
    latest = max((one.last for one in shown), default=now)
    end = min(max(latest, now + AHEAD * span), now + span)
    whole = end - begin

    def x(at: datetime) -> float:
        return round(100 * min(max((at - begin) / whole, 0.0), 1.0), 3)

    bars = []
    for one in sorted(shown, key=lambda one: one.begun or now):
        assert one.begun is not None
        start = x(one.begun)
        width = max(x(one.last) - start, _LEAST)
        bars.append(Bar(one, min(start, 100 - width), round(width, 3), one.active))
    return Picture(tuple(bars), tuple(_marks(begin, end, x)), x(now), begin, end)


def _marks(begin: datetime, end: datetime, x: Callable[[datetime], float]) -> Iterable[Mark]:
    """At round hours of UTC."""
    step = next((step for step in _STEPS if (end - begin) / step <= MARKS), _STEPS[-1])
    seconds = int(step.total_seconds())
    first = -(-int(begin.timestamp()) // seconds) * seconds
    at = datetime.fromtimestamp(first, begin.tzinfo)
    while at < end:
        yield Mark(at, x(at))
        at += step
