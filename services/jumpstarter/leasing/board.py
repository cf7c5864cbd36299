"""The exporters of one namespace, found by what is asked of their labels and by their state.

A view is the answer to one selector and is kept up to date, so that giving an exporter away costs the
same among ten and among ten thousand. Views of selectors that nobody asked for lately are dropped.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from services.jumpstarter.leasing.exporter import State, state
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects.selector import Selector

# How many views are kept, and of how many exporters in all: about 100 bytes each.
_VIEWS: Final = 2048
_ENTRIES: Final = 1_000_000


class View:
    """The exporters that some selectors choose: by state, each in the order of their names."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        # By state, which is a number.
        self._names: list[list[str]] = [[] for _ in State]

    def __len__(self) -> int:
        return len(self._states)

    def count(self, *states: State) -> int:
        total = 0
        for one in states:
            total += len(self._names[one])
        return total

    def states(self) -> Iterable[tuple[str, State]]:
        """Every name with its state, in no order."""
        return self._states.items()

    def first(self, *states: State) -> str | None:
        """The first name of those in one of `states`."""
        return min((names[0] for state in states if (names := self._names[state])), default=None)

    def put(self, name: str, now: State | None) -> None:
        """`name` is in that state now, or no longer here."""
        before = self._states.get(name)
        if before is now:
            return
        if before is not None:
            names = self._names[before]
            del names[bisect_left(names, name)]
        if now is None:
            del self._states[name]
        else:
            insort(self._names[now], name)
            self._states[name] = now


class Board:
    """All exporters of a namespace by full name."""

    def __init__(self) -> None:
        self.exporters: dict[str, pb.Exporter] = {}
        # Label key -> value -> names.
        self._labelled: dict[str, dict[str, set[str]]] = {}
        # What was asked for last comes last.
        self._views: dict[frozenset[Selector], View] = {}

    def put(self, name: str, exporter: pb.Exporter | None) -> None:
        """`exporter` is what is stored under `name` now."""
        before = self.exporters.pop(name, None)
        relabelled = before is None or exporter is None or before.labels != exporter.labels
        if relabelled:
            self._unlabel(name, before)
        if exporter is not None:
            self.exporters[name] = exporter
            if relabelled:
                for key, value in exporter.labels.items():
                    self._labelled.setdefault(key, {}).setdefault(value, set()).add(name)
        for selectors, view in self._views.items():
            if exporter is None or (relabelled and not _chosen(exporter.labels, selectors)):
                view.put(name, None)
            elif relabelled or name in view._states:
                view.put(name, state(exporter))

    def view(self, *selectors: Selector) -> View:
        """Of the exporters that all `selectors` choose."""
        key = frozenset([selector for selector in selectors if selector.requirements])
        found = self._views.pop(key, None)
        if found is None:
            found = self._make(key)
            self._make_room(len(found))
        self._views[key] = found
        return found

    def _make(self, selectors: Collection[Selector]) -> View:
        view = View()
        for name in self._candidates(selectors):
            exporter = self.exporters[name]
            if _chosen(exporter.labels, selectors):
                view.put(name, state(exporter))
        return view

    def _make_room(self, entries: int) -> None:
        """For one more view with that many exporters."""
        entries += sum(map(len, self._views.values()))
        while self._views and (len(self._views) >= _VIEWS or entries > _ENTRIES):
            oldest = next(iter(self._views))
            entries -= len(self._views.pop(oldest))

    def _candidates(self, selectors: Collection[Selector]) -> Iterable[str]:
        """Few names among which all are that `selectors` choose."""
        best: Iterable[str] = self.exporters
        least = len(self.exporters)
        for selector in selectors:
            for key, value in selector.equalities.items():
                names = self._labelled.get(key, {}).get(value, set())
                if len(names) < least:
                    best, least = names, len(names)
        return best

    def _unlabel(self, name: str, exporter: pb.Exporter | None) -> None:
        for key, value in exporter.labels.items() if exporter is not None else ():
            values = self._labelled[key]
            values[value].discard(name)
            if not values[value]:
                del values[value]
                if not values:
                    del self._labelled[key]


def _chosen(labels: Mapping[str, str], selectors: Collection[Selector]) -> bool:
    return all(selector.matches(labels) for selector in selectors)
