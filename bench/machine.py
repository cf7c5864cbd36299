"""The machine that measures: its facts, which core serves and which one loads, and CPU time."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PACKAGES: Final = ("grpcio", "aiohttp", "uvloop", "protobuf")


def cores() -> tuple[int, int]:
    """(the core of the servers, the core of everything that loads them); the same one where this
    process may use one only."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pin(core: int) -> None:
    """This process, and what it starts from now on, runs on `core`."""
    os.sched_setaffinity(0, {core})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its living descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / _TICKS
    return own + sum(map(cpu_seconds, _children(pid)))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def resident_bytes(pid: int) -> int:
    """Memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def facts() -> dict[str, str]:
    """What a reader must know to judge the numbers; nothing that names the machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores used",
        "memory": f"{pages * size / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: metadata.version(name) for name in _PACKAGES},
    }
