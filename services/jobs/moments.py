"""Times as the API writes them: RFC 3339 text, UTC, with nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# What happens in one pass happens at one time.
@lru_cache(maxsize=1000)
def text(at: int) -> str:
    """Of nanoseconds since 1970; empty for 0."""
    if not at:
        return ""
    seconds, nanos = divmod(at, 1_000_000_000)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"


@lru_cache(maxsize=1000)
def seconds_text(at: int) -> str:
    """The same to the second, as events have it."""
    return f"{_EPOCH + timedelta(seconds=at // 1_000_000_000):%Y-%m-%dT%H:%M:%SZ}" if at else ""
