"""A control group (version 2) for each attempt, where a folder of them was delegated."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_PERIOD: Final = 100_000  # microseconds
_CONTROLLERS: Final = ("cpu", "memory", "pids")


def controllers(folder: Path) -> frozenset[str]:
    """Those that a group in `folder` can have; empty where there is none."""
    try:
        return frozenset((folder / "cgroup.controllers").read_text().split()) & frozenset(_CONTROLLERS)
    except OSError:
        return frozenset()


class Cgroup:
    """Of one attempt. All its processes are in it from before their exec."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def create(cls, parent: Path, name: str, limits: Mapping[str, Any]) -> Cgroup:
        """`limits`: cpu (CPUs), memory (bytes), processes; 0 or absent for none. Raises OSError."""
        had = controllers(parent)
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(had)))
        folder = parent / name
        folder.mkdir(exist_ok=True)
        if limits.get("cpu") and "cpu" in had:
            quota = max(1000, int(limits["cpu"] * _PERIOD))
            (folder / "cpu.max").write_text(f"{quota} {_PERIOD}")
        if limits.get("memory") and "memory" in had:
            (folder / "memory.max").write_text(str(limits["memory"]))
            # Hosts without swap do not have it.
            with contextlib.suppress(OSError):
                (folder / "memory.swap.max").write_text("0")
        if limits.get("processes") and "pids" in had:
            (folder / "pids.max").write_text(str(limits["processes"]))
        return cls(folder)

    def join(self) -> None:
        """The process that calls it. Raises OSError."""
        (self._folder / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        """Everything in it at once; kernels before 5.14 cannot, and then it is done one by one."""
        with contextlib.suppress(OSError):
            (self._folder / "cgroup.kill").write_text("1")

    def ran_out_of_memory(self) -> bool:
        try:
            lines = (self._folder / "memory.events").read_text().split("\n")
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.rmdir()
