"""One output of an attempt, in files of a bounded size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Files beside the one that is written to.
KEPT: Final = 2


class Log:
    """`path`, `path.1` (older), `path.2`. Offsets count from the first byte ever written. `start` is
    the offset of the first byte of `path` itself."""

    def __init__(self, path: Path, *, limit: int, start: int = 0) -> None:
        self._path = path
        self._limit = limit
        self.start = start
        self._file: int | None = None
        self._size = path.stat().st_size if path.exists() else 0

    @property
    def end(self) -> int:
        return self.start + self._size

    def write(self, data: bytes) -> None:
        """Whole, over as many files as it takes."""
        while data:
            room = self._limit - self._size
            if room <= 0:
                self._rotate()
                continue
            piece, data = data[:room], data[room:]
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            while piece:
                written = os.write(self._file, piece)
                self._size += written
                piece = piece[written:]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """What stands at `offset` and after, as far as it is still there, and where that begins. A
        negative offset counts from the end."""
        wanted = max(0, self.end + offset) if offset < 0 else offset
        begin = self.start
        files = [(begin, self._path)]
        for number in range(1, KEPT + 1):
            path = self._numbered(number)
            if not path.exists():
                break
            begin -= path.stat().st_size
            files.append((begin, path))
        oldest = files[-1][0]
        wanted = min(max(wanted, oldest), self.end)
        found = b""
        for begin, path in reversed(files):
            if len(found) >= limit or not path.exists():
                continue
            at = wanted + len(found) - begin
            if at < 0 or at >= path.stat().st_size:
                continue
            with path.open("rb") as file:
                file.seek(at)
                found += file.read(limit - len(found))
        return wanted, found

    def _rotate(self) -> None:
        self.close()
        for number in range(KEPT, 1, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._path.exists():
            self._path.replace(self._numbered(1))
        self.start += self._size
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
