"""What the lease controller has yet to look at, and in which order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from services.jumpstarter.leasing.queue import Place

# How many entries that no longer count are let be.
_SLACK: Final = 1024


@dataclass(eq=False)
class _Sweep:
    """Those who want one exporter, asked one after the other for as long as it is free."""

    exporter: str
    places: Iterator[Place]


class Agenda:
    """Leases that hold an exporter, or are over, come first: looking at them can but free exporters. Of
    those that wait the oldest is first, whatever the cause to look at it, so that nobody is overtaken.

    An entry stays until it is dismissed or `done`: whoever is cut off in between has it to do again.
    """

    def __init__(self) -> None:
        self._first: dict[str, None] = {}
        self._waiting: list[tuple[Place, int, _Sweep | None]] = []
        self._serial = count()
        # When to look at which leases again; entries that `_due_at` does not confirm are old.
        self._due: list[tuple[int, str]] = []
        self._due_at: dict[str, int] = {}

    # -- now

    def __bool__(self) -> bool:
        """Whether there may be something to look at now."""
        return bool(self._first or self._waiting)

    @property
    def first(self) -> list[str]:
        """The names of those to look at before all that wait."""
        return list(self._first)

    def put_first(self, lease: str) -> None:
        self._first[lease] = None

    def dismiss(self, lease: str) -> None:
        """Nothing, or nothing more, follows for one of the first."""
        del self._first[lease]

    def waiting(self, place: Place) -> None:
        heapq.heappush(self._waiting, (place, next(self._serial), None))

    def free(self, exporter: str, places: Iterable[Place]) -> None:
        """To be offered to those at `places`, which are in order."""
        self._advance(_Sweep(exporter, iter(places)))

    def next(self, is_free: Callable[[str], bool]) -> str | None:
        """The name of the waiting lease to look at now."""
        while self._waiting:
            (_, name), _, sweep = self._waiting[0]
            if sweep is None or is_free(sweep.exporter):
                return name
            heapq.heappop(self._waiting)
        return None

    def done(self) -> None:
        """Nothing, or nothing more, follows for the lease that `next` answered last."""
        _, _, sweep = heapq.heappop(self._waiting)
        if sweep is not None:
            self._advance(sweep)

    def _advance(self, sweep: _Sweep) -> None:
        place = next(sweep.places, None)
        if place is not None:
            heapq.heappush(self._waiting, (place, next(self._serial), sweep))

    # -- later

    @property
    def next_due(self) -> int | None:
        """Nothing is due before then."""
        return self._due[0][0] if self._due else None

    def later(self, lease: str, at: int) -> None:
        """Look at it then, and not at the time that was said before."""
        if self._due_at.get(lease) == at:
            return
        self._due_at[lease] = at
        heapq.heappush(self._due, (at, lease))
        if len(self._due) > 2 * len(self._due_at) + _SLACK:
            self._due = [(at, name) for name, at in self._due_at.items()]
            heapq.heapify(self._due)

    def forget(self, lease: str) -> None:
        """It has ended."""
        self._due_at.pop(lease, None)

    def due(self, now: int) -> Iterator[str]:
        """The names of those whose time has come, once."""
        while self._due and self._due[0][0] <= now:
            at, name = heapq.heappop(self._due)
            if self._due_at.get(name) == at:
                del self._due_at[name]
                yield name
