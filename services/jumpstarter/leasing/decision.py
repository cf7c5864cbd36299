"""What becomes of one lease now (jumpstarter contract, section 3). Pure: decides, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing import policies
from services.jumpstarter.leasing.board import View
from services.jumpstarter.leasing.exporter import State, disabled, state
from services.jumpstarter.leasing.lab import Namespace
from services.jumpstarter.leasing.policies import Grant
from services.jumpstarter.names import EXPORTERS, id_of
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects.selector import Selector

# Of exporters that are there at all.
_ONLINE: Final = (State.LEASED, State.NOT_READY, State.FREE)
_UNLEASED: Final = (State.NOT_READY, State.FREE)
_ENABLED: Final = (State.OFFLINE, *_ONLINE)
# The state that each reason for waiting is about, and what is said of it.
_BLOCKED: Final = {"Offline": State.OFFLINE, "NotAvailable": State.LEASED, "NotReady": State.NOT_READY}
_SAID: Final = {
    State.LEASED: "leased",
    State.NOT_READY: "not ready yet",
    State.OFFLINE: "offline",
    State.FREE: "free for others",
}


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do until `until`, or until something changes."""

    until: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """No exporter yet. `until`: when it would end by itself."""

    reason: str
    message: str
    until: int | None


@dataclass(frozen=True, slots=True)
class Assign:
    exporter: str
    priority: int
    spot: bool


@dataclass(frozen=True, slots=True)
class End:
    """It ends now, and the condition says why."""

    condition: str
    status: str
    reason: str
    message: str


Decision = Keep | Wait | Assign | End


def decide(lease: pb.Lease, space: Namespace, now: int) -> Decision:
    """Of an active lease in its namespace."""
    if lease.released:
        return End(rules.READY, rules.FALSE, "Released", "The lease was released")
    expires = rules.expires_at(lease)
    if expires is not None and expires <= now:
        text = (
            "The lease has expired"
            if lease.exporter
            else "The lease's time was over before an exporter was free"
        )
        return End(rules.READY, rules.FALSE, "Expired", text)
    if lease.exporter:
        return Keep(expires)
    if lease.HasField("begin_time") and (begin := lease.begin_time.ToNanoseconds()) > now:
        return Keep(begin)
    if not lease.selector and not lease.exporter_name:
        return End(
            rules.INVALID, rules.TRUE, "InvalidSelector", "Neither a selector nor an exporter name is given"
        )
    return _seek(lease, space, expires)


def explained(lease: pb.Lease, space: Namespace, now: int) -> pb.Lease:
    """`lease`, whose condition Pending tells what it waits for now, and in which place. The same one
    when it does not wait."""
    made = Keep(None) if lease.ended or lease.exporter else decide(lease, space, now)
    if not isinstance(made, Wait):
        return lease
    message, place = made.message, space.queue.position(lease.name)
    if place:
        message = f"{message}; {place} of {space.queue.waiting(now)} in the queue"
    found = pb.Lease()
    found.CopyFrom(lease)
    rules.set_condition(found, rules.PENDING, rules.TRUE, made.reason, message, now)
    return found


# A grant, and the exporters that a lease may have under it.
Offer = tuple[Grant, View]


def _seek(lease: pb.Lease, space: Namespace, expires: int | None) -> Decision:
    """An exporter for a lease that has none."""
    selector = rules.selector_of(lease)
    if lease.exporter_name:
        named = _named(lease, selector, space)
        if isinstance(named, End):
            return named
        wanted = named
    else:
        wanted = space.board.view(selector)
        if len(wanted) and not wanted.count(*_ENABLED):
            return _unsatisfiable("AllDisabled", f"All {len(wanted)} matching exporters are disabled")
    grants = space.grants(lease.client, lease.duration.ToNanoseconds())
    offers = _offers(lease, selector, space, grants, wanted)
    if not offers:
        return _unsatisfiable("NoAccess", _no_access(lease, wanted, space))
    if not any(view.count(*_ONLINE) for _, view in offers):
        return _wait("Offline", wanted, expires)
    unleased = [offer for offer in offers if offer[1].count(*_UNLEASED)]
    leased = [offer for offer in offers if offer[1].count(State.LEASED)]
    first, _ = min(unleased, key=_rank(*_UNLEASED)) if unleased else min(leased, key=_rank(State.LEASED))
    if first.spot:
        return _unsatisfiable("SpotAccess", "The best exporter can be had under a spot access policy only")
    if not unleased:
        return _wait("NotAvailable", wanted, expires)
    free = [offer for offer in unleased if offer[1].count(State.FREE)]
    if not free:
        return _wait("NotReady", wanted, expires)
    grant, view = min(free, key=_rank(State.FREE))
    exporter = view.first(State.FREE)
    assert exporter is not None
    return Assign(exporter, grant.priority, grant.spot)


def _named(lease: pb.Lease, selector: Selector, space: Namespace) -> View | End:
    """The exporter that the lease names, alone."""
    name = EXPORTERS.name(lease.namespace, lease.exporter_name)
    exporter = space.board.exporters.get(name)
    if exporter is None:
        return _unsatisfiable("ExporterNotFound", f"There is no exporter {lease.exporter_name}")
    if not selector.matches(exporter.labels):
        text = f"Exporter {lease.exporter_name} does not match the selector {lease.selector}"
        return _unsatisfiable("SelectorMismatch", text)
    if disabled(exporter) and not lease.allow_disabled:
        text = f"Exporter {lease.exporter_name} is disabled; allow_disabled leases it all the same"
        return _unsatisfiable("ExporterDisabled", text)
    view = View()
    view.put(name, state(exporter, allow_disabled=lease.allow_disabled))
    return view


def _offers(
    lease: pb.Lease, selector: Selector, space: Namespace, grants: Sequence[Grant], wanted: View
) -> list[Offer]:
    if lease.exporter_name:
        name = EXPORTERS.name(lease.namespace, lease.exporter_name)
        labels = space.board.exporters[name].labels
        return [(grant, wanted) for grant in grants if grant.exporters.matches(labels)]
    found = ((grant, space.board.view(selector, grant.exporters)) for grant in grants)
    return [(grant, view) for grant, view in found if view.count(*_ENABLED)]


def _rank(*states: State) -> Callable[[Offer], tuple[bool, int, str]]:
    """Sorts the best first: no spot access, the greatest priority, then the name."""
    return lambda offer: (offer[0].spot, -offer[0].priority, offer[1].first(*states) or "")


def _unsatisfiable(reason: str, message: str) -> End:
    return End(rules.UNSATISFIABLE, rules.TRUE, reason, message)


def _wait(reason: str, wanted: View, expires: int | None) -> Wait:
    """Counts what stands in the way, for whoever asks why a lease waits."""
    total = wanted.count(*_ENABLED)
    parts = [f"{count} {text}" for state, text in _SAID.items() if (count := wanted.count(state))]
    example = id_of(wanted.first(_BLOCKED[reason]) or "")
    what = "1 exporter matches" if total == 1 else f"{total} exporters match"
    return Wait(reason, f"{what}: {', '.join(parts)} (for example {example})", expires)


def _no_access(lease: pb.Lease, wanted: View, space: Namespace) -> str:
    if not len(wanted):
        return f"No exporter matches the selector {lease.selector}"
    example = wanted.first(*_ENABLED, State.DISABLED) or ""
    exporter = space.board.exporters[example]
    refused = policies.refusals(
        space.policies.values(),
        space.client_labels(lease.client),
        lease.duration.ToNanoseconds(),
        exporter.labels,
    )
    said = f": {'; '.join(refused)}" if refused else ""
    return f"No access policy lets {id_of(lease.client)} lease {id_of(example)} for that long{said}"
