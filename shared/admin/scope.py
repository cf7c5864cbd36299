"""What of a kind a caller may see and touch: all of it, or what is in the caller's namespaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.auth.identity import Identity
from shared.errors import PermissionDenied
from shared.query.ast import EVERYTHING, And, In, Node
from shared.query.evaluate import compile
from shared.resource.definition import Definition


@dataclass(frozen=True)
class Scope:
    """`filter` narrows to what is inside; `text` names it in the fingerprints of tokens."""

    filter: Node
    text: str
    admits: Callable[[Any], bool]

    def within(self, filter: Node) -> Node:
        """What `filter` finds inside."""
        return filter if self.filter == EVERYTHING else And((self.filter, filter))

    def check(self, *messages: Any) -> None:
        """Raises PermissionDenied unless all messages are inside."""
        if not all(map(self.admits, messages)):
            raise PermissionDenied("it is in a namespace that you may not touch")


EVERYWHERE = Scope(EVERYTHING, "", lambda message: True)


def of(definition: Definition, identity: Identity) -> Scope:
    """The part of a kind that `identity` may touch."""
    if not definition.namespace or identity.namespaces is None:
        return EVERYWHERE
    names = tuple(sorted(identity.namespaces))
    filter = In(definition.namespace, names)
    return Scope(filter, ",".join(names), compile(filter, definition.schema))
