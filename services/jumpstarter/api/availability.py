"""The board of a lab: which exporters are free, who holds the others and how many wait for each.

Answered from what the controller holds in memory, so that a page and its counts are of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from services.jumpstarter.api.listing import size_of
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.exporter import State
from services.jumpstarter.leasing.lab import Lab, Namespace
from shared.errors import InvalidArgument
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.query import page_token
from shared.query.dialects import selector

# In the order of the messages' enum.
SHOWN: Final = {
    State.FREE: pb.FREE,
    State.NOT_READY: pb.NOT_READY,
    State.LEASED: pb.LEASED,
    State.OFFLINE: pb.OFFLINE,
    State.DISABLED: pb.DISABLED,
}
_KEYS: Final = frozenset({"k", "n", "q"})
_DIRECTIONS: Final = {"asc": False, "desc": True}
# Sorts after every end.
_NEVER: Final = (1 << 63) - 1

# What a list is sorted by, before the name.
Value = Callable[[str, int], int]


def page(engine: Engine, request: pb.ListBoardRequest) -> pb.ListBoardResponse:
    """Raises InvalidArgument. Of a namespace that there is not, nothing."""
    wanted = selector.parse(request.filter)
    size = size_of(request.page_size, default=50, most=1000)
    space = engine.lab.namespace(request.parent)
    value, descending = _order(request.order_by, engine.lab, space)
    view = space.board.view(wanted)
    states = {name: SHOWN[state] for name, state in view.states() if request.exporter in ("", name)}
    chosen = set(request.states) - {pb.AVAILABILITY_UNSPECIFIED}
    rows = sorted(
        ((value(name, state), name) for name, state in states.items() if not chosen or state in chosen),
        reverse=descending,
    )
    query = page_token.fingerprint(
        request.parent, str(wanted), request.order_by, request.exporter, str(sorted(chosen))
    )
    following = _after(rows, _place(request.page_token, query), descending)
    shown, more = following[:size], len(following) > size
    return pb.ListBoardResponse(
        slots=[_slot(engine, space, name, states[name]) for _, name in shown],
        next_page_token=page_token.encode({"k": shown[-1][0], "n": shown[-1][1], "q": query}) if more else "",
        counts=[
            pb.Count(state=state, count=sum(found == state for found in states.values()))
            for state in SHOWN.values()
        ],
        total_size=len(rows),
    )


def _slot(engine: Engine, space: Namespace, name: str, state: pb.Availability) -> pb.Slot:
    exporter = space.board.exporters[name]
    shown = lab_pb2.Exporter()
    shown.CopyFrom(exporter)
    del shown.devices[:]
    controller = engine.lab.controllers.get(exporter.controller)
    if controller is not None and controller.heartbeat.ToNanoseconds() > shown.last_seen.ToNanoseconds():
        shown.last_seen.CopyFrom(controller.heartbeat)
    waiting = sum(1 for _ in space.queue.wanting(exporter, engine.now()))
    return pb.Slot(exporter=shown, state=state, lease=engine.lab.lease(exporter.lease), waiting=waiting)


def _order(text: str, lab: Lab, space: Namespace) -> tuple[Value, bool]:
    """Raises InvalidArgument."""

    def until(name: str, state: int) -> int:
        lease = lab.lease(space.board.exporters[name].lease)
        end = None if lease is None else rules.expires_at(lease)
        return _NEVER if end is None else end

    known: dict[str, Value] = {
        "name": lambda name, state: 0,
        "state": lambda name, state: state,
        "until": until,
    }
    words = text.split() or ["name"]
    if words[0] not in known:
        raise InvalidArgument.at("order_by", f"{words[0][:300]!r} is none of {', '.join(known)}")
    direction = words[1].lower() if len(words) > 1 else "asc"
    if len(words) > 2 or direction not in _DIRECTIONS:
        raise InvalidArgument.at("order_by", "is one field, with asc or desc behind it")
    return known[words[0]], _DIRECTIONS[direction]


def _place(token: str, query: str) -> tuple[int, str] | None:
    """Of the last row of the page before."""
    if not token:
        return None
    payload = page_token.decode(token, _KEYS)
    value, name = payload["k"], payload["n"]
    if type(value) is not int or not isinstance(name, str) or payload["q"] != query:
        raise InvalidArgument.at("page_token", "is of another query; start again without it")
    return value, name


def _after(rows: Sequence[Any], place: tuple[int, str] | None, descending: bool) -> Sequence[Any]:
    if place is None:
        return rows
    return [row for row in rows if (row < place if descending else row > place)]
