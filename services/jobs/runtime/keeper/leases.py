"""What attempts hold while they run and no two may hold at once: ports and devices of this host."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class NoneLeft(Exception):
    """It cannot be had; says why."""


class Ports:
    def __init__(self) -> None:
        self._taken: set[int] = set()
        # Where the search begins: a port that was just given back rests for a while.
        self._next = random.randrange(1 << 16)

    def take(self, wanted: Iterable[Mapping[str, Any]], span: Sequence[int]) -> dict[str, int]:
        """Name -> port, for ports with a "name" and a "value", 0 for a free one of the span from its
        first to its last. Raises NoneLeft, and has taken none then."""
        found: dict[str, int] = {}
        try:
            for port in wanted:
                found[port["name"]] = self._given(port["value"]) if port["value"] else self._free(span)
        except NoneLeft:
            self.release(found.values())
            raise
        return found

    def release(self, ports: Iterable[int]) -> None:
        self._taken.difference_update(ports)

    def _given(self, port: int) -> int:
        if port in self._taken:
            raise NoneLeft(f"port {port} is taken by another pod")
        if not _bindable(port):
            raise NoneLeft(f"port {port} is taken on this host, or may not be bound")
        self._taken.add(port)
        return port

    def _free(self, span: Sequence[int]) -> int:
        first, last = span
        size = last - first + 1
        for _ in range(size):
            port = first + self._next % size
            self._next += 1
            if port not in self._taken and _bindable(port):
                self._taken.add(port)
                return port
        raise NoneLeft(f"no port from {first} to {last} is free")


class Devices:
    """GPUs by their ids."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, count: int, of: Iterable[str]) -> list[str]:
        """Raises NoneLeft, and has taken none then."""
        found = [device for device in of if device not in self._taken][:count]
        if len(found) < count:
            raise NoneLeft(f"of {count} GPUs {len(found)} are free")
        self._taken.update(found)
        return found

    def release(self, devices: Iterable[str]) -> None:
        self._taken.difference_update(devices)


def _bindable(port: int) -> bool:
    """Nobody listens there, whatever address they chose. Does not listen itself."""
    with socket.socket() as probe:
        # As servers do: connections that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
