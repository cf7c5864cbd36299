"""What the keeper must still know after it was killed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import protocol

log = logging.getLogger("keeper")

_LEAST: Final = 4 << 20
_GROWTH: Final = 4
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """Objects, a line of JSON each, appended; written anew once it is mostly history. It survives the
    death of any process; only a power cut can take its last lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._size = 0
        self._allowed = _LEAST

    def entries(self) -> Iterator[dict[str, Any]]:
        """All of them, oldest first. What is no object is left out: the last line of a keeper that was
        killed while it wrote."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    found = json.loads(line)
                except ValueError:
                    log.warning("a line of %s cannot be read", self._path)
                    continue
                if isinstance(found, dict):
                    yield found

    def rewrite(self, entries: Iterable[dict[str, Any]]) -> None:
        """These alone. Raises OSError, and all is as it was."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for entry in entries:
                file.write(_line(entry))
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size, self._allowed = size, max(_LEAST, _GROWTH * size)

    def append(self, entry: dict[str, Any]) -> None:
        """Raises OSError; then it is as if it had not been."""
        assert self._file is not None
        line = _line(entry)
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, self._size)
            raise OSError(f"{self._path}: the disk is full")
        self._size += written

    @property
    def stale(self) -> bool:
        return self._size > self._allowed

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(entry: dict[str, Any]) -> bytes:
    return protocol.encode(entry).encode() + b"\n"


def boot() -> str:
    """Names this start of the host."""
    return _BOOT.read_text().strip()
