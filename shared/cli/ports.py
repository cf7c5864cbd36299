"""Who holds a TCP port."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, as far as this user may see it; pid 0 is unknown."""

    pid: int = 0
    command: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid}: {self.command}" if self.pid else "another program"


def is_taken(host: str, port: int) -> bool:
    """Whether something listens there, so that a process of ours could not. Raises OSError when
    the address cannot be bound for another reason."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or "127.0.0.1", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as attempt:
        # A connection of the last run may linger; a listener still refuses.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(address)
            attempt.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def holder(port: int) -> Holder:
    """The process that listens on `port`, by Linux's /proc; unknown elsewhere."""
    inodes = set(_listening(port))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return Holder(int(process.name), command.strip())
        except OSError:
            # It ended meanwhile, or it is someone else's.
            continue
    return Holder()


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - a socket is no path
    except OSError:
        return ""


def _listening(port: int) -> Iterator[str]:
    """`socket:[inode]` of each socket that listens on `port`."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"
