"""What the terminal shows of the log files that the supervisor writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# An event of `shared.service.logging`, in either form, of the two upper levels.
_SERIOUS: Final = re.compile(r'\[(error|critical) *\]|"level": ?"(error|critical)"', re.IGNORECASE)
_WARNING: Final = re.compile(r"^\S+ \[warning *\] (?P<said>.*?) +\[[\w.]+\]", re.IGNORECASE)
_LONGEST: Final = 400
_MOST: Final = 1 << 20


def serious(line: str) -> bool:
    return _SERIOUS.search(line) is not None


def tail(path: Path, count: int, *, after: int = 0) -> list[str]:
    """The last `count` lines of the file behind byte `after`; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(after if after <= size else 0, size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line[:_LONGEST] for line in text.splitlines() if line.strip()][-count:]


def warning(line: str) -> str:
    """What a line warns of; empty for one that does not."""
    if match := _WARNING.search(line):
        return match["said"]
    try:
        event = json.loads(line)
    except ValueError:
        return ""
    warns = isinstance(event, dict) and event.get("level") == "warning"
    return str(event.get("event", "")) if warns else ""


def warnings(path: Path, *, after: int) -> list[str]:
    """All that a process has warned of since byte `after` of its log, each once."""
    try:
        with path.open("rb") as file:
            file.seek(after)
            lines = file.read(_MOST).decode(errors="replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(said[:_LONGEST] for line in lines if (said := warning(line))))


class Follower:
    """Answers the serious lines that were added to a log file since it was last asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = self._size()
        self._offset = self.start
        self._rest = b""

    def mark(self) -> None:
        """What follows is of a new process: `start` is where its lines begin."""
        self.start = self._size()

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self) -> Sequence[str]:
        size = self._size()
        if size < self._offset:
            # The supervisor rotated it.
            self._offset = self.start = 0
            self._rest = b""
        if size == self._offset:
            return ()
        with self.path.open("rb") as file:
            file.seek(self._offset)
            added = self._rest + file.read(1 << 20)
            self._offset = file.tell()
        *lines, self._rest = added.split(b"\n")
        texts = (line.decode(errors="replace") for line in lines)
        return [text[:_LONGEST] for text in texts if serious(text)]
