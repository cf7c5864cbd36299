"""Exporters, leases and what waits, as rows and pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from google.protobuf.timestamp_pb2 import Timestamp

from admin_ui import lab_state
from admin_ui.lab_kinds import id_of, namespace_of
from admin_ui.presenters import moments
from admin_ui.presenters.catalogue import Label
from admin_ui.presenters.experiments import State
from shared.pb.jumpstarter.v1 import common_pb2, kubernetes_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb

# Words of addresses, by what the service says.
WORDS: Final = {
    pb.FREE: lab_state.FREE,
    pb.LEASED: lab_state.LEASED,
    pb.NOT_READY: lab_state.NOT_READY,
    pb.OFFLINE: lab_state.OFFLINE,
    pb.DISABLED: lab_state.DISABLED,
}
NUMBERS: Final = {word: number for number, word in WORDS.items()}
STATES: Final = {
    lab_state.FREE: State("Free", "ok", "check"),
    lab_state.LEASED: State("Leased", "info", "user"),
    lab_state.NOT_READY: State("Not ready", "warn", "clock"),
    lab_state.OFFLINE: State("Offline", "bad", "cross"),
    lab_state.DISABLED: State("Disabled", "muted", "pause"),
}
UNKNOWN: Final = State("Unknown", "warn", "question")
# What an exporter says of itself.
STATUSES: Final = {
    common_pb2.EXPORTER_STATUS_UNSPECIFIED: "not reported",
    common_pb2.EXPORTER_STATUS_OFFLINE: "offline",
    common_pb2.EXPORTER_STATUS_AVAILABLE: "available",
    common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK: "running its hook before the lease",
    common_pb2.EXPORTER_STATUS_LEASE_READY: "ready for the lease",
    common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK: "cleaning up after the lease",
    common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED: "its hook before the lease has failed",
    common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED: "its hook after the lease has failed",
}
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Condition:
    """One of a lease's, as a step of its life."""

    type: str
    status: str
    reason: str
    message: str
    at: datetime | None
    tone: str
    icon: str


@dataclass(frozen=True, slots=True)
class Lease:
    """`until`: when it ends by itself; None while that depends on when it gets an exporter. `why`:
    what it waits for, or why there will be nothing to wait for."""

    name: str
    id: str
    namespace: str
    client: str
    exporter: str
    wanted: str
    selector: str
    tags: tuple[Label, ...]
    state: State
    active: bool
    duration: timedelta
    created: datetime | None
    asked_begin: datetime | None
    begun: datetime | None
    until: datetime | None
    ended: datetime | None
    why: str
    conditions: tuple[Condition, ...]
    allow_disabled: bool
    context: tuple[tuple[str, str], ...]

    @property
    def client_id(self) -> str:
        return id_of(self.client)

    @property
    def exporter_id(self) -> str:
        return id_of(self.exporter)

    @property
    def held(self) -> bool:
        """It has its exporter now."""
        return self.active and bool(self.exporter)

    @property
    def asks(self) -> str:
        """For what, in one line."""
        parts = ([f"exporter {self.wanted}"] if self.wanted else []) + (
            [self.selector] if self.selector else []
        )
        return " and ".join(parts) or "any exporter"

    @property
    def last(self) -> datetime:
        """Where its bar on a timeline ends."""
        return self.ended or self.until or _LAST


@dataclass(frozen=True, slots=True)
class Exporter:
    name: str
    id: str
    namespace: str
    labels: tuple[Label, ...]
    # What the exporter itself registered.
    own_labels: tuple[Label, ...]
    enabled: bool
    online: bool
    registered: bool
    status: str
    message: str
    seen: datetime | None
    created: datetime | None
    uid: str


@dataclass(frozen=True, slots=True)
class Slot:
    """An exporter on the board."""

    exporter: Exporter
    word: str
    state: State
    lease: Lease | None
    waiting: int


@dataclass(frozen=True, slots=True)
class Count:
    """How many exporters are in a state, and where they stand in the bar, in percent."""

    word: str
    state: State
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """`position` 0: its time has not come."""

    lease: str
    client: str
    position: int
    reason: str
    message: str
    since: datetime | None

    @property
    def id(self) -> str:
        return id_of(self.lease)

    @property
    def client_id(self) -> str:
        return id_of(self.client)


# --- exporters ----------------------------------------------------------------------------------


def exporter(found: lab_pb2.Exporter) -> Exporter:
    shown = [
        Label(key, value, _query(filter=f"{key}={value}", namespace=namespace_of(found.name)))
        for key, value in sorted(found.labels.items())
    ]
    return Exporter(
        name=found.name,
        id=id_of(found.name),
        namespace=namespace_of(found.name),
        labels=tuple(label for label in shown if not is_own(label.key)),
        own_labels=tuple(label for label in shown if is_own(label.key)),
        enabled=not found.HasField("enabled") or found.enabled,
        online=found.online,
        registered=found.registered,
        status=STATUSES.get(found.status, f"status {found.status}"),
        message=found.status_message,
        seen=moments.from_timestamp(found.last_seen),
        created=moments.from_timestamp(found.create_time),
        uid=found.uid,
    )


def is_own(key: str) -> bool:
    """A label that an exporter gives itself; manifests may not have it."""
    return key.startswith("jumpstarter.dev/")


def slot(found: pb.Slot, now: datetime) -> Slot:
    word = WORDS.get(found.state, "")
    return Slot(
        exporter=exporter(found.exporter),
        word=word,
        state=STATES.get(word, UNKNOWN),
        lease=lease(found.lease, now) if found.HasField("lease") else None,
        waiting=found.waiting,
    )


def counts(found: Iterable[pb.Count]) -> list[Count]:
    """In the order of a bar: what can be had first."""
    numbers = {WORDS[one.state]: one.count for one in found if one.state in WORDS}
    total = sum(numbers.values())
    told, start = [], 0.0
    for word in lab_state.STATES:
        count = numbers.get(word, 0)
        width = 100 * count / total if total else 0.0
        told.append(Count(word, STATES[word], count, round(start, 3), round(width, 3)))
        start += width
    return told


# --- leases -------------------------------------------------------------------------------------


def lease(found: lab_pb2.Lease, now: datetime) -> Lease:
    namespace = namespace_of(found.name)
    told = tuple(_condition(one) for one in found.conditions)
    return Lease(
        name=found.name,
        id=id_of(found.name),
        namespace=namespace,
        client=found.client,
        exporter=found.exporter,
        wanted=found.exporter_name,
        selector=found.selector,
        tags=tuple(
            Label(key, value, _query(tags=f"{key}={value}", namespace=namespace, show="all"))
            for key, value in sorted(found.tags.items())
        ),
        state=_state(found, now),
        active=not found.ended,
        duration=_span(found.duration),
        created=moments.from_timestamp(found.create_time),
        asked_begin=_at(found, "begin_time"),
        begun=_at(found, "effective_begin_time"),
        until=until(found),
        ended=_at(found, "ended_time"),
        why=_why(found),
        conditions=told,
        allow_disabled=found.allow_disabled,
        context=tuple(sorted(found.context.items())),
    )


def until(found: lab_pb2.Lease) -> datetime | None:
    """When it ends by itself (jumpstarter contract, section 3, step 4)."""
    if found.HasField("end_time"):
        return _at(found, "end_time")
    begin = _at(found, "begin_time") or _at(found, "effective_begin_time")
    try:
        return begin + _span(found.duration) if begin else None
    except OverflowError:
        return _LAST


def _state(found: lab_pb2.Lease, now: datetime) -> State:
    kinds = {one.type: one for one in found.conditions}
    if found.ended:
        if "Unsatisfiable" in kinds:
            return State("Impossible", "bad", "cross")
        if "Invalid" in kinds:
            return State("Invalid", "bad", "cross")
        if kinds.get("Ready") and kinds["Ready"].reason == "Expired":
            return State("Expired", "muted", "clock")
        return State("Released", "muted", "check")
    if found.exporter:
        return State("Active", "ok", "dot")
    begin = _at(found, "begin_time")
    if begin is not None and begin > now:
        return State("Scheduled", "info", "clock")
    return State("Waiting", "warn", "clock")


def _why(found: lab_pb2.Lease) -> str:
    """Of a lease that has no exporter."""
    if found.exporter:
        return ""
    wanted = ("Unsatisfiable", "Invalid", "Ready") if found.ended else ("Pending",)
    told = {one.type: one.message for one in found.conditions}
    return next((told[type] for type in wanted if told.get(type)), "")


_TONES: Final = {
    ("Ready", "True"): ("ok", "check"),
    ("Ready", "False"): ("muted", "cross"),
    ("Pending", "True"): ("warn", "clock"),
    ("Pending", "False"): ("muted", "clock"),
    ("Unsatisfiable", "True"): ("bad", "cross"),
    ("Invalid", "True"): ("bad", "cross"),
}


def _condition(found: kubernetes_pb2.Condition) -> Condition:
    tone, icon = _TONES.get((found.type, found.status), ("muted", "dot"))
    at = found.lastTransitionTime
    stamp = Timestamp(seconds=at.seconds, nanos=at.nanos)
    return Condition(
        found.type, found.status, found.reason, found.message, moments.from_timestamp(stamp), tone, icon
    )


def waiting(found: pb.Waiting) -> Waiting:
    return Waiting(
        lease=found.lease,
        client=found.client,
        position=found.position,
        reason=found.pending.reason,
        message=found.pending.message,
        since=moments.from_timestamp(found.since),
    )


def _at(found: Any, field: str) -> datetime | None:
    return moments.from_timestamp(getattr(found, field)) if found.HasField(field) else None


def _span(found: Any) -> timedelta:
    try:
        return timedelta(seconds=found.seconds, microseconds=found.nanos // 1000)
    except OverflowError:
        return timedelta.max


def _query(**given: str) -> str:
    return f"?{urlencode(given)}"
