"""Which of a cluster's objects a pod belongs to: the top-most of its owners that we know of."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.pods.collect.mapping import Object, metadata, uid
from services.pods.collect.resources import OWNERS

_TRACKED: Final = frozenset((resource.group, resource.kind) for resource in OWNERS)
# These may belong to another owner in turn, which only they themselves tell.
_BETWEEN: Final = frozenset({"ReplicaSet", "Job"})
# Longer chains than any, should owners ever go in a circle.
_LONGEST: Final = 8
# Deleted owners that are remembered for their pods, which go after them.
_DEPARTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Reference:
    kind: str
    uid: str


def owner(found: Object) -> Reference | None:
    """The tracked owner that an object names: its controller if it is one, else the first. Others,
    such as the node of a static pod or an object of a custom kind, do not count."""
    first = None
    for reference in metadata(found).get("ownerReferences") or ():
        group = reference.get("apiVersion", "").rpartition("/")[0]
        if (group, reference.get("kind")) in _TRACKED:
            named = Reference(reference["kind"], reference.get("uid", ""))
            if reference.get("controller"):
                return named
            first = first or named
    return first


class Owners:
    """The owners of one cluster: of each its own owner, by uid."""

    def __init__(self) -> None:
        self._above: dict[str, dict[str, Reference | None]] = {resource.kind: {} for resource in OWNERS}
        self._departed: OrderedDict[str, Reference | None] = OrderedDict()

    def put(self, kind: str, found: Object) -> bool:
        """Whether pods that it owns belong to another one from now on, as when it is adopted."""
        known, above = self._above[kind], owner(found)
        moved = uid(found) in known and known[uid(found)] != above
        known[uid(found)] = above
        return moved

    def remove(self, kind: str, gone: str) -> None:
        """Its pods go after it, and belong to the same one until then."""
        known = self._above[kind]
        if gone in known:
            self._departed[gone] = known.pop(gone)
            while len(self._departed) > _DEPARTED:
                self._departed.popitem(last=False)

    def uids(self, kind: str) -> set[str]:
        return set(self._above[kind])

    def top(self, found: Object) -> str | None:
        """The uid of the top-most owner: the object's own where it has none, and None while an owner on
        the way has not been seen."""
        above = owner(found)
        if above is None:
            return uid(found)
        for _ in range(_LONGEST):
            if above.uid in self._above[above.kind]:
                higher = self._above[above.kind][above.uid]
            elif above.uid in self._departed:
                higher = self._departed[above.uid]
            elif above.kind in _BETWEEN:
                return None
            else:
                higher = None
            if higher is None:
                return above.uid
            above = higher
        return above.uid
