"""The leases of one namespace that wait for an exporter, oldest first."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.jumpstarter.leasing import lease as rules
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects.selector import Selector

# Since when a lease waits, and its name: a place in the queue.
Place = tuple[int, str]
# A selector's text, and the name of an exporter or nothing.
Wish = tuple[str, str]
# What an exporter must have, so that not all wishes need be looked at: its name, or one of its labels;
# None where neither is asked for.
Anchor = str | tuple[str, str] | None
# Sorts after every name.
_AFTER: Final = "\U0010ffff"


@dataclass
class _Group:
    """Leases that ask for the same."""

    selector: Selector
    places: list[Place] = field(default_factory=list)


class Queue:
    """Fair: whoever has waited longest is first. Leases that ask for the same are looked at together."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        # By anchor, and then by all that is asked for.
        self._groups: dict[Anchor, dict[Wish, _Group]] = {}
        self._of: dict[str, tuple[Place, Anchor, Wish]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def __iter__(self) -> Iterator[str]:
        """Names, in order."""
        return (name for _, name in self._places)

    def put(self, lease: pb.Lease, exporter: str) -> None:
        """`lease` waits; `exporter` is the full name of the one that it asks for, or empty."""
        place, wish = (rules.queued_at(lease), lease.name), (lease.selector, exporter)
        known = self._of.get(lease.name)
        if known is not None and (known[0], known[2]) == (place, wish):
            return
        self.remove(lease.name)
        selector = rules.selector_of(lease)
        anchor = exporter or next(iter(selector.equalities.items()), None)
        groups = self._groups.setdefault(anchor, {})
        group = groups.get(wish)
        if group is None:
            group = groups[wish] = _Group(selector)
        insort(group.places, place)
        insort(self._places, place)
        self._of[lease.name] = (place, anchor, wish)

    def remove(self, name: str) -> None:
        found = self._of.pop(name, None)
        if found is None:
            return
        place, anchor, wish = found
        groups = self._groups[anchor]
        group = groups[wish]
        del group.places[bisect_left(group.places, place)]
        del self._places[bisect_left(self._places, place)]
        if not group.places:
            del groups[wish]
            if not groups:
                del self._groups[anchor]

    def position(self, name: str) -> int:
        """Counted from 1; 0 for a lease that does not wait."""
        found = self._of.get(name)
        return 0 if found is None else bisect_left(self._places, found[0]) + 1

    def waiting(self, now: int) -> int:
        """How many there are whose time has come."""
        return bisect_right(self._places, (now, _AFTER))

    def due(self, now: int) -> Sequence[Place]:
        """Those whose time has come, in order."""
        return self._places[: self.waiting(now)]

    def wanting(self, exporter: pb.Exporter, now: int) -> Iterator[Place]:
        """Those who ask for what `exporter` is and whose time has come, in order. The queue may change
        meanwhile: who waits no longer is left out."""
        anchors: list[Anchor] = [None, exporter.name, *exporter.labels.items()]
        groups = (group for anchor in anchors for group in self._groups.get(anchor, {}).values())
        wanting = (group.places for group in groups if group.selector.matches(exporter.labels))
        due = [places[: bisect_right(places, (now, _AFTER))] for places in wanting]
        return (place for place in heapq.merge(*due) if place[1] in self._of)
