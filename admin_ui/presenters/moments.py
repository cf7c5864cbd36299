"""Times for people: how long ago, and exactly when."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_STEPS: Final = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (86_400 * 45, 86_400, "d"))


@dataclass(frozen=True, slots=True)
class Moment:
    """`iso` for programs, `relative` to read, `exact` to be sure."""

    iso: str
    relative: str
    exact: str


def moment(at: datetime, *, now: datetime, zone: str = "UTC") -> Moment:
    local = at.astimezone(zoneinfo.ZoneInfo(zone))
    return Moment(
        at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        relative(at, now=now, zone=zone),
        f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}",
    )


def relative(at: datetime, *, now: datetime, zone: str = "UTC") -> str:
    """`just now`, `5 min ago`, `in 3 h`; beyond 45 days the date."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 5:
        return "just now"
    for limit, unit, name in _STEPS:
        if size < limit:
            text = f"{int(size // unit)} {name}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return f"{at.astimezone(zoneinfo.ZoneInfo(zone)):%-d %b %Y}"


def duration(span: timedelta) -> str:
    """`850 ms`, `12.3 s`, `4 min 5 s`, `3 h 20 min`."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def left(at: datetime, *, now: datetime) -> str:
    """Until `at`: `2 d 3 h`, `3 h 20 min`, `29 min 5 s`, `45 s`; `no time` once it is past."""
    seconds = int((at - now).total_seconds())
    if seconds <= 0:
        return "no time"
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def clock(at: datetime, *, zone: str = "UTC", day: bool = False) -> str:
    """`14:30`, or with `day` `Tue 5`."""
    local = at.astimezone(zoneinfo.ZoneInfo(zone))
    return f"{local:%a %-d}" if day else f"{local:%H:%M}"


def from_timestamp(stamp: Timestamp) -> datetime | None:
    """None for one that was never set, which our APIs answer as 1970, or that is out of range."""
    if stamp.seconds <= 0:
        return None
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
