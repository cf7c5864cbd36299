"""One `roundhouse up` a data folder: a lock that its death releases, with a note on who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE: Final = "up.lock"


@dataclass(frozen=True, slots=True)
class Note:
    """What the holder says of itself."""

    pid: int
    base_port: int
    url: str


class Held(Exception):
    """Another process holds the lock; `note` is None when it has not said who it is yet."""

    def __init__(self, note: Note | None) -> None:
        super().__init__("locked")
        self.note = note


class Lock:
    """Taken when made; raises Held. Keep the object as long as the lock."""

    def __init__(self, run: Path, note: Note) -> None:
        self._file = (run / FILE).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = read(run)
            self._file.close()
            raise Held(holder) from None
        self._file.truncate(0)
        self._file.write(json.dumps(asdict(note)))
        self._file.flush()
        os.fsync(self._file.fileno())

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def read(run: Path) -> Note | None:
    """The holder's note; None when there is none."""
    try:
        return Note(**json.loads((run / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
