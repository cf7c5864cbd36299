"""Times in the search language (pods contract, section 3): days, days ago, and ranges of either."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from shared.query.ast import And, Compare, Comparison, IsNull, Node, Not

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400_000_000_000
_SIGN: Final = re.compile(r"(<=|>=|==|<|>|=)?\s*(.*)", re.DOTALL)
_AGO: Final = re.compile(r"(\d{1,6})d", re.ASCII)
_AGO_RANGE: Final = re.compile(r"(\d{1,6})d-(\d{1,6})d", re.ASCII)
_RANGE: Final = re.compile(r"tr/(\d{1,16})-(\d{1,16})", re.ASCII)
_DATE: Final = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})"
    r"(?:\s+(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(AM|PM)?)?"
    r"(?:\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2}))?",
    re.ASCII | re.IGNORECASE,
)
_REVERSED: Final[dict[str, Comparison]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_PLAIN: Final[dict[str, Comparison]] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}


def parse(field: str, value: str, now: int) -> Node:
    """A test of `field`, nanoseconds since 1970. Raises ValueError."""
    if value == "*":
        return Not(IsNull(field))
    if value == "-":
        return IsNull(field)
    if match := _RANGE.fullmatch(value):
        return _between(field, int(match[1]) * 1_000_000, int(match[2]) * 1_000_000)
    if match := _AGO_RANGE.fullmatch(value):
        ends = sorted(now - int(days) * _DAY for days in match.groups())
        return _between(field, *ends)
    found = _SIGN.fullmatch(value)
    assert found is not None, "it has an optional part and a rest"
    sign, text = found[1] or "", found[2].strip()
    if match := _AGO.fullmatch(text):
        # More days ago is earlier.
        return _compared(field, sign, now - int(match[1]) * _DAY, _REVERSED)
    if match := _DATE.fullmatch(text):
        return _compared(field, sign, _date(match, value), _PLAIN)
    raise _wrong(value)


def _compared(field: str, sign: str, at: int, signs: dict[str, Comparison]) -> Node:
    if sign in signs:
        return And((Not(IsNull(field)), Compare(field, signs[sign], at)))
    return _between(field, at, at + _DAY)


def _between(field: str, start: int, end: int) -> Node:
    """From `start` on, before `end`."""
    return And((Not(IsNull(field)), Compare(field, ">=", start), Compare(field, "<", end)))


def _date(match: re.Match[str], value: str) -> int:
    month, day, year, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    half = (match[7] or "").upper()
    if half:
        if not 1 <= hour <= 12:
            raise _wrong(value)
        hour = hour % 12 + (12 if half == "PM" else 0)
    try:
        found = datetime(year, month, day, hour, minute, second, tzinfo=_zone(match[8] or ""))
        return (found - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        raise _wrong(value) from None


def _zone(text: str) -> Any:
    if not text or text[0] not in "+-":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _wrong(value: str) -> ValueError:
    shown = value if len(value) <= 100 else value[:99] + "…"
    return ValueError(
        f'value "{shown}" in search query must be a time: MM/DD/YYYY, 3d, 1d-3d or tr/<ms>-<ms>, the '
        "first two with <, >, <=, >= or = before them if wanted"
    )
