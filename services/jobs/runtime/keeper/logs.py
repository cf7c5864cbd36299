"""One output of an attempt, in files of a bounded size."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DIGITS: Final = 15


class Log:
    """The newest bytes are in `path`. Older files have the offset of their first byte behind the
    name, counted from the first byte that was ever written; there are at most `files` in all (at least
    two, or offsets would be forgotten), of `limit` bytes at most. A file ends with a whole line, but for
    lines that are longer than that.

    The pod can do what it likes to these files: this loses bytes then, but never blocks."""

    def __init__(self, path: Path, *, limit: int, files: int) -> None:
        self._path = path
        self._limit = max(1, limit)
        self._files = max(2, files)
        self._file: int | None = None
        # Where in the newest file its last, unfinished line begins.
        self._line = 0
        # First byte -> number of bytes, oldest first; the newest file apart.
        self._older: dict[int, int] = {}
        self._start = 0
        self._length = 0

    def recall(self) -> None:
        """What an earlier keeper wrote."""
        for found in sorted(self._path.parent.glob(f"{self._path.name}.{'[0-9]' * _DIGITS}")):
            start = int(found.suffix[1:])
            self._older[start] = _size(found)
            self._start = start + self._older[start]
        self._length = _size(self._path)

    @property
    def end(self) -> int:
        return self._start + self._length

    def write(self, data: bytes) -> None:
        """All of it, over as many files as it takes. Raises OSError."""
        view = memoryview(data)
        while view:
            room = self._limit - self._length
            piece = view[: max(0, room)]
            if len(view) > room:
                whole = bytes(piece).rfind(b"\n") + 1
                if whole:
                    piece = piece[:whole]
                elif self._line:
                    piece = piece[:0]
            if not piece:
                self._rotate()
                continue
            self._append(piece)
            view = view[len(piece) :]
            if len(piece) < room and view:
                self._rotate()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """What stands at `offset` and after, as far as it is still there, and where that begins. A
        negative offset counts from the end."""
        oldest = min(self._older, default=self._start)
        at = begin = min(max(offset + self.end if offset < 0 else offset, oldest), self.end)
        found = bytearray()
        files = [(start, size, self._numbered(start)) for start, size in self._older.items()]
        for start, size, path in [*files, (self._start, self._length, self._path)]:
            if start <= at < start + size and len(found) < limit:
                wanted = min(limit - len(found), start + size - at)
                data = self._read(path, at - start, wanted)
                found += data
                at += len(data)
                if not found:
                    # The pod removed it: what comes after is still there.
                    at = begin = start + size
        return begin, bytes(found)

    def _read(self, path: Path, at: int, limit: int) -> bytes:
        if path == self._path and self._file is not None:
            return os.pread(self._file, limit, at)
        return _read(path, at, limit)

    def _append(self, piece: memoryview) -> None:
        if self._file is None:
            # Not before: to make a file takes as long as to start a process.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS
            self._file = os.open(self._path, flags, 0o600)
        whole = bytes(piece).rfind(b"\n") + 1
        if whole:
            self._line = self._length + whole
        while piece:
            written = os.write(self._file, piece)
            self._length += written
            piece = piece[written:]

    def _rotate(self) -> None:
        """The unfinished line goes to the new file, unless it is all that there is."""
        tail = b""
        if self._file is not None and 0 < self._line < self._length:
            tail = os.pread(self._file, self._length - self._line, self._line)
            os.ftruncate(self._file, self._line)
            self._length = self._line
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._numbered(self._start))
        self._older[self._start] = self._length
        self._start += self._length
        self._length = self._line = 0
        while len(self._older) >= self._files:
            oldest = min(self._older)
            del self._older[oldest]
            self._numbered(oldest).unlink(missing_ok=True)
        if tail:
            self._append(memoryview(tail))

    def _numbered(self, start: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{start:0{_DIGITS}}")


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _read(path: Path, at: int, limit: int) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return b""
    try:
        return os.pread(file, limit, at) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(file)
