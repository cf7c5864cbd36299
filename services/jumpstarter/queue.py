"""The leases of one namespace that wait for an exporter, oldest first."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.jumpstarter import lease as rules
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects.selector import Selector

# Since when a lease waits, and its name: a place in the queue.
Place = tuple[int, str]
# Sorts after every name.
_AFTER: Final = "\U0010ffff"


@dataclass
class _Group:
    """Leases that ask for the same."""

    selector: Selector
    exporter: str
    places: list[Place] = field(default_factory=list)

    def wants(self, exporter: pb.Exporter) -> bool:
        if self.exporter and exporter.name != self.exporter:
            return False
        return self.selector.matches(exporter.labels)


class Queue:
    """Fair: whoever has waited longest is first. Leases that ask for the same are looked at together."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._groups: dict[tuple[str, str], _Group] = {}
        self._of: dict[str, tuple[Place, tuple[str, str]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def __iter__(self) -> Iterator[str]:
        """Names, in order."""
        return (name for _, name in self._places)

    def put(self, lease: pb.Lease, exporter: str) -> None:
        """`lease` waits; `exporter` is the full name of the one that it asks for, or empty."""
        place, key = (rules.queued_at(lease), lease.name), (lease.selector, exporter)
        if self._of.get(lease.name) == (place, key):
            return
        self.remove(lease.name)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(rules.selector_of(lease), exporter)
        insort(group.places, place)
        insort(self._places, place)
        self._of[lease.name] = (place, key)

    def remove(self, name: str) -> None:
        found = self._of.pop(name, None)
        if found is None:
            return
        place, key = found
        group = self._groups[key]
        del group.places[bisect_left(group.places, place)]
        del self._places[bisect_left(self._places, place)]
        if not group.places:
            del self._groups[key]

    def position(self, name: str) -> int:
        """Counted from 1; 0 for a lease that does not wait."""
        found = self._of.get(name)
        return 0 if found is None else bisect_left(self._places, found[0]) + 1

    def due(self, now: int) -> Sequence[Place]:
        """Those whose time has come, in order."""
        return self._places[: bisect_right(self._places, (now, _AFTER))]

    def wanting(self, exporter: pb.Exporter, now: int) -> Iterator[Place]:
        """Those who ask for what `exporter` is and whose time has come, in order. The queue may change
        meanwhile: who waits no longer is left out."""
        wanting = [group.places for group in self._groups.values() if group.wants(exporter)]
        due = [places[: bisect_right(places, (now, _AFTER))] for places in wanting]
        return (place for place in heapq.merge(*due) if place[1] in self._of)
