"""A mark that a process bears with all that it ever starts, so that none of them can get lost.

Sessions, groups, environment and open files can all be left behind, by setsid, a double fork or
`env -i`. Resource limits cannot, but by asking for it: the mark is the soft limit of the CPU time of
real-time threads. It is far above what anything reaches, and everyone may read it in /proc.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_KIND: Final = resource.RLIMIT_RTTIME
_LINE: Final = b"Max realtime timeout"
# Microseconds, where the host sets no bound.
_TOP: Final = 1 << 62
_RANDOM: Final = random.SystemRandom()


def new() -> int:
    """One that nobody else has: marks of all keepers of a host share one space."""
    hard = resource.getrlimit(_KIND)[1]
    top = _TOP if hard == resource.RLIM_INFINITY else hard
    return _RANDOM.randrange(top // 2, top)


@contextmanager
def borne(mark: int) -> Iterator[None]:
    """Within, whatever is started bears it."""
    soft, hard = resource.getrlimit(_KIND)
    resource.setrlimit(_KIND, (mark, hard))
    try:
        yield
    finally:
        resource.setrlimit(_KIND, (soft, hard))


def of(pid: int | str) -> int:
    """0: it has none, or is gone."""
    try:
        text = Path(f"/proc/{pid}/limits").read_bytes()
    except OSError:
        return 0
    at = text.find(_LINE)
    soft = text[at + len(_LINE) :].split(None, 1)[0] if at >= 0 else b""
    return int(soft) if soft.isdigit() else 0


def bearers(wanted: Collection[int]) -> list[int]:
    """Every process of the host that has one of those marks."""
    pids = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(pid) for pid in pids if of(pid) in wanted]
