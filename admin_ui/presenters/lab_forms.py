"""What people type into a lab's forms: spans of time, labels and tags, and moments of their day."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(days?|d|hours?|h|minutes?|min|m|seconds?|s)", re.IGNORECASE)
_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_LONGEST: Final = 10_000 * 86_400


def span_of(text: str) -> timedelta:
    """`90m`, `1h 30min`, `2 days`, `45s`. Raises ValueError, which says what is wrong."""
    rest, total = text.strip(), 0.0
    if not rest:
        raise ValueError("say how long: for example 45m, 2h or 1h30m")
    while rest:
        match = _PART.match(rest)
        if match is None:
            raise ValueError(f"“{rest[:40]}” is no duration: write for example 45m, 2h or 1h30m")
        total += float(match[1]) * _UNITS[match[2][0].lower()]
        rest = rest[match.end() :].strip()
    if total <= 0:
        raise ValueError("must be longer than nothing")
    if total > _LONGEST:
        raise ValueError("is longer than 10,000 days")
    return timedelta(seconds=total)


def pairs_of(text: str) -> dict[str, str]:
    """Labels or tags as people type them: `key=value`, by line or comma. Raises ValueError."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        key, separator, value = (part.strip() for part in entry.partition("="))
        if not separator or not key:
            raise ValueError(f"“{entry[:60]}” is not key=value")
        if found.get(key, value) != value:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def pairs_text(found: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={value}" for key, value in sorted(found.items()))


def brief(span: timedelta) -> str:
    """`45 min`, `2 h`, `1 h 30 min`, `3 d`: without what is nought."""
    seconds = int(span.total_seconds())
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment_of(text: str, zone: str) -> datetime:
    """What a field for date and time says, in the person's zone. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("is no date and time: write for example 2026-08-01 09:30") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None
