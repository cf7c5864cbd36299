"""The lab as the contract words it: one thread, plain loops, nothing remembered.

What the engine makes of any sequence of operations must be what this makes of it. It shares nothing
with the engine but the stored messages and the matching of one selector against labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from services.jumpstarter import selectors
from shared.errors import AlreadyExists, FailedPrecondition, NotFound
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects import selector as dialect

SECOND = 1_000_000_000
NAMESPACE = "lab"
PARENT = f"namespaces/{NAMESPACE}"
OWN = "jumpstarter.dev/"


def name(plural: str, id: str) -> str:
    return f"{PARENT}/{plural}/{id}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a lease: `type` is a condition's, or "Assign"."""

    type: str
    reason: str = ""
    exporter: str = ""
    priority: int = 0
    spot: bool = False


SCHEDULED = Verdict("Scheduled")


def place(lease: pb.Lease) -> tuple[int, str]:
    """Its place among those that wait."""
    since = lease.create_time.ToNanoseconds()
    if lease.HasField("begin_time"):
        since = max(since, lease.begin_time.ToNanoseconds())
    return since, lease.name


def expiry(lease: pb.Lease) -> int | None:
    duration = lease.duration.ToNanoseconds()
    if lease.HasField("end_time"):
        return lease.end_time.ToNanoseconds()
    if lease.HasField("begin_time"):
        return lease.begin_time.ToNanoseconds() + duration
    if lease.HasField("effective_begin_time"):
        return lease.effective_begin_time.ToNanoseconds() + duration
    return None


def conditions(lease: pb.Lease) -> list[tuple[str, str, str, int]]:
    """(type, status, reason, nanoseconds of the last transition), in order."""
    return [
        (c.type, c.status, c.reason, c.lastTransitionTime.seconds * SECOND + c.lastTransitionTime.nanos)
        for c in lease.conditions
    ]


@dataclass
class Model:
    """Full names to what is stored. Operations have the errors that the engine has."""

    exporters: dict[str, pb.Exporter] = field(default_factory=dict)
    clients: dict[str, pb.Client] = field(default_factory=dict)
    policies: dict[str, pb.AccessPolicy] = field(default_factory=dict)
    leases: dict[str, pb.Lease] = field(default_factory=dict)
    # Leases that were written: their conditions are of now, those of others of when they began to wait.
    written: set[str] = field(default_factory=set)

    # -- what the contract says of one lease

    def verdict(self, lease: pb.Lease, now: int) -> Verdict | None:
        """None: it goes on as it is."""
        if lease.released:
            return Verdict("Ready", "Released")
        end = expiry(lease)
        if end is not None and end <= now:
            return Verdict("Ready", "Expired")
        if lease.exporter:
            return None
        if lease.HasField("begin_time") and lease.begin_time.ToNanoseconds() > now:
            return SCHEDULED
        if not lease.selector and not lease.exporter_name:
            return Verdict("Invalid", "InvalidSelector")
        wanted = dialect.parse(lease.selector)
        matching = [e for e in self.exporters.values() if wanted.matches(e.labels)]
        if lease.exporter_name:
            named = self.exporters.get(name("exporters", lease.exporter_name))
            if named is None:
                return Verdict("Unsatisfiable", "ExporterNotFound")
            if named not in matching:
                return Verdict("Unsatisfiable", "SelectorMismatch")
            if self.disabled(named) and not lease.allow_disabled:
                return Verdict("Unsatisfiable", "ExporterDisabled")
            candidates = [named]
        else:
            candidates = [e for e in matching if not self.disabled(e)]
            if matching and not candidates:
                return Verdict("Unsatisfiable", "AllDisabled")
        pairs = [(e, *rule) for e in candidates for rule in self.approvals(lease, e)]
        if not pairs:
            return Verdict("Unsatisfiable", "NoAccess")
        pairs = [p for p in pairs if p[0].registered and p[0].online]
        if not pairs:
            return Verdict("Pending", "Offline")
        pairs.sort(key=lambda p: (bool(p[0].lease), p[2], -p[1], p[0].name))
        if pairs[0][2]:
            return Verdict("Unsatisfiable", "SpotAccess")
        pairs = [p for p in pairs if not p[0].lease]
        if not pairs:
            return Verdict("Pending", "NotAvailable")
        idle = (common.EXPORTER_STATUS_AVAILABLE, common.EXPORTER_STATUS_UNSPECIFIED)
        pairs = [p for p in pairs if p[0].status in idle]
        if not pairs:
            return Verdict("Pending", "NotReady")
        exporter, priority, spot = pairs[0]
        return Verdict("Assign", "", exporter.name, priority, spot)

    def approvals(self, lease: pb.Lease, exporter: pb.Exporter) -> Iterable[tuple[int, bool]]:
        """Priority and spot flag of each rule that lets the lease have the exporter."""
        if not self.policies:
            yield 0, False
        client = self.clients.get(lease.client)
        labels: Any = client.labels if client is not None else {}
        for policy in self.policies.values():
            if not selectors.of(policy.exporter_selector).matches(exporter.labels):
                continue
            for rule in policy.policies:
                longest = rule.maximum_duration.ToNanoseconds()
                if rule.HasField("maximum_duration") and lease.duration.ToNanoseconds() > longest:
                    continue
                if any(selectors.of(c.client_selector).matches(labels) for c in getattr(rule, "from")):
                    yield rule.priority, rule.spot_access

    @staticmethod
    def disabled(exporter: pb.Exporter) -> bool:
        return exporter.HasField("enabled") and not exporter.enabled

    # -- what follows

    @property
    def active(self) -> list[pb.Lease]:
        """In the order in which they wait."""
        return sorted((lease for lease in self.leases.values() if not lease.ended), key=place)

    def settle(self, now: int) -> None:
        """First end what is over, then give, to whoever has waited longest first."""
        for lease in self.active:
            if lease.exporter and (found := self.verdict(lease, now)):
                self._end(lease, found, now)
        while any(self._step(lease, now) for lease in self.active if not lease.exporter):
            pass
        self.written.clear()

    def _step(self, lease: pb.Lease, now: int) -> bool:
        found = self.verdict(lease, now)
        if found is None or found == SCHEDULED:
            return False
        if found.type == "Pending":
            if lease.name in self.written or all(c.type != "Pending" for c in lease.conditions):
                self._condition(lease, "Pending", "True", found.reason, now)
            return False
        if found.type == "Assign":
            lease.exporter, lease.priority, lease.spot = found.exporter, found.priority, found.spot
            lease.effective_begin_time.FromNanoseconds(now)
            self.exporters[found.exporter].lease = lease.name
            self._condition(lease, "Ready", "True", "Ready", now)
        else:
            self._end(lease, found, now)
        return True

    def _end(self, lease: pb.Lease, found: Verdict, now: int) -> None:
        if found.reason == "Expired":
            self._condition(lease, "Pending", "False", "Expired", now)
        status = "False" if found.type == "Ready" else "True"
        self._condition(lease, found.type, status, found.reason, now)
        lease.ended = True
        lease.ended_time.FromNanoseconds(now)
        if lease.exporter:
            self.exporters[lease.exporter].lease = ""

    @staticmethod
    def _condition(lease: pb.Lease, type: str, status: str, reason: str, now: int) -> None:
        found = next((c for c in lease.conditions if c.type == type), None)
        if found is None:
            found = lease.conditions.add(type=type)
        if found.status != status:
            found.lastTransitionTime.seconds, found.lastTransitionTime.nanos = divmod(now, SECOND)
        found.status, found.reason = status, reason

    # -- operations on leases

    def create(self, lease: pb.Lease, now: int) -> None:
        if lease.client not in self.clients:
            raise NotFound(lease.client)
        if lease.name in self.leases:
            raise AlreadyExists(lease.name)
        new = pb.Lease()
        new.CopyFrom(lease)
        new.create_time.FromNanoseconds(now)
        self.leases[new.name] = new

    def change(self, lease: str, change: Callable[[pb.Lease], None]) -> None:
        if lease not in self.leases:
            raise NotFound(lease)
        changed = pb.Lease()
        changed.CopyFrom(self.leases[lease])
        change(changed)
        if changed.client not in self.clients and changed.client != self.leases[lease].client:
            raise NotFound(changed.client)
        if changed != self.leases[lease]:
            self.written.add(lease)
        self.leases[lease] = changed

    # -- operations on exporters

    def exporter(self, id: str) -> pb.Exporter:
        found = self.exporters.get(name("exporters", id))
        if found is None:
            raise NotFound(id)
        return found

    def register(self, id: str, labels: dict[str, str]) -> None:
        found = self.exporter(id)
        for key in [key for key in found.labels if key.startswith(OWN)]:
            del found.labels[key]
        found.labels.update({key: value for key, value in labels.items() if key.startswith(OWN)})
        found.registered = True

    def unregister(self, id: str) -> None:
        found = self.exporter(id)
        found.registered = found.online = False
        found.status = common.EXPORTER_STATUS_OFFLINE

    def report(self, id: str, status: common.ExporterStatus, release: bool) -> None:
        found = self.exporter(id)
        found.status = status
        found.online = status not in (common.EXPORTER_STATUS_UNSPECIFIED, common.EXPORTER_STATUS_OFFLINE)
        if release and found.lease:
            self.leases[found.lease].released = True

    def attach(self, id: str) -> None:
        found = self.exporter(id)
        if found.status == common.EXPORTER_STATUS_OFFLINE:
            found.status = common.EXPORTER_STATUS_UNSPECIFIED
        found.online = True

    def lose(self, id: str) -> None:
        found = self.exporters.get(name("exporters", id))
        if found is not None and found.online:
            found.online = False
            found.status = common.EXPORTER_STATUS_OFFLINE

    # -- operations of operators

    def put_exporter(self, id: str, labels: dict[str, str], enabled: bool) -> None:
        found = self.exporters.setdefault(name("exporters", id), pb.Exporter(name=name("exporters", id)))
        for key in [key for key in found.labels if not key.startswith(OWN)]:
            del found.labels[key]
        found.labels.update(labels)
        found.enabled = enabled

    def delete_exporter(self, id: str) -> None:
        if self.exporter(id).lease:
            raise FailedPrecondition(id)
        del self.exporters[name("exporters", id)]

    def delete_client(self, id: str) -> None:
        client = name("clients", id)
        if client not in self.clients:
            raise NotFound(id)
        if any(lease.client == client for lease in self.active):
            raise FailedPrecondition(id)
        del self.clients[client]
