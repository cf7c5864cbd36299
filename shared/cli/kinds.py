"""Which service keeps which kind: asked once per command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from grpc import StatusCode

from shared.cli.yard import CommandError, Yard, each
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc
from shared.rpc.client import CallFailed

# A service that is down answers at once on one machine; across machines this is long enough.
_DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """A kind and the service that keeps it."""

    service: str
    kind: admin_pb2.Kind


@dataclass(slots=True)
class Kinds:
    """`down` holds why a service could not be asked."""

    places: list[Place] = field(default_factory=list)
    down: dict[str, CallFailed] = field(default_factory=dict)

    def find(self, text: str) -> Place:
        """By singular or plural, `-` or `_`. CommandError when no service that answers has it."""
        wanted = text.strip().lower().replace("-", "_")
        for place in self.places:
            if wanted in (place.kind.kind, place.kind.plural):
                return place
        raise CommandError(f"no kind {text!r}; {self._known()}")

    def of_list(self, plural: str) -> Place:
        """By the name of its list in a manifest."""
        for place in self.places:
            if plural == place.kind.plural:
                return place
        raise CommandError(f"{plural}: no service keeps such a list; {self._known()}")

    def services(self) -> list[str]:
        """Those that answered, in order."""
        return list(dict.fromkeys(place.service for place in self.places))

    def plural(self, kind: str) -> str:
        return next((place.kind.plural for place in self.places if place.kind.kind == kind), f"{kind}s")

    def _known(self) -> str:
        names = ", ".join(place.kind.plural for place in self.places) or "none"
        down = f"; not reached: {', '.join(self.down)} (see `roundhouse doctor`)" if self.down else ""
        return f"there are: {names}{down}"


async def ask(yard: Yard, only: Iterable[str] = ()) -> Kinds:
    """The kinds of every service. A service that is down is noted; that all are, or that the token
    is not good enough, raises CallFailed or CommandError."""
    wanted = set(only)
    names = [name for name in yard.targets() if not wanted or name in wanted]
    answers = await each({name: _list(yard, name) for name in names})
    found = Kinds()
    for name, answer in answers.items():
        if isinstance(answer, CallFailed) and answer.failure.code in _DOWN:
            found.down[name] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            known = {place.kind.kind for place in found.places}
            found.places += [Place(name, kind) for kind in answer.kinds if kind.kind not in known]
    if not found.places and found.down:
        raise next(iter(found.down.values()))
    return found


_DOWN = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNIMPLEMENTED})


async def _list(yard: Yard, name: str) -> admin_pb2.ListKindsResponse:
    async with yard.client(name) as client:
        return await client.call(
            admin_pb2_grpc.AdminServiceStub, "ListKinds", admin_pb2.ListKindsRequest(), timeout=_DEADLINE
        )
