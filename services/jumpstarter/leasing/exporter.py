"""The rules of one exporter: whether it is free, what it says of itself, and its public form. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from services.jumpstarter.kinds import OWN_PREFIX
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1 import common_pb2 as common
from shared.pb.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb

_READY: Final = frozenset({common.EXPORTER_STATUS_AVAILABLE, common.EXPORTER_STATUS_UNSPECIFIED})


class State(IntEnum):
    """What keeps an exporter from being given away, from most to least (jumpstarter contract,
    section 3, steps b to h)."""

    DISABLED = 0
    OFFLINE = 1
    LEASED = 2
    NOT_READY = 3
    FREE = 4


def disabled(exporter: pb.Exporter) -> bool:
    return exporter.HasField("enabled") and not exporter.enabled


def state(exporter: pb.Exporter, *, allow_disabled: bool = False) -> State:
    if disabled(exporter) and not allow_disabled:
        return State.DISABLED
    if not (exporter.registered and exporter.online):
        return State.OFFLINE
    if exporter.lease:
        return State.LEASED
    return State.FREE if exporter.status in _READY else State.NOT_READY


# -- what it says of itself; times are nanoseconds since 1970


def register(
    exporter: pb.Exporter, labels: Mapping[str, str], devices: Sequence[DriverInstanceReport]
) -> None:
    """Of `labels` those are kept that are an exporter's own."""
    for key in [key for key in exporter.labels if key.startswith(OWN_PREFIX)]:
        del exporter.labels[key]
    exporter.labels.update({key: value for key, value in labels.items() if key.startswith(OWN_PREFIX)})
    del exporter.devices[:]
    exporter.devices.extend(devices)
    exporter.registered = True


def unregister(exporter: pb.Exporter, reason: str, now: int) -> None:
    del exporter.devices[:]
    exporter.registered = False
    report(exporter, common.EXPORTER_STATUS_OFFLINE, reason or "The exporter has unregistered", now)


def report(exporter: pb.Exporter, status: common.ExporterStatus, message: str, now: int) -> None:
    exporter.status = status
    exporter.status_message = message
    exporter.online = status not in (common.EXPORTER_STATUS_OFFLINE, common.EXPORTER_STATUS_UNSPECIFIED)
    exporter.last_seen.FromNanoseconds(now)


# -- where its status stream is


def attach(exporter: pb.Exporter, controller: str, now: int) -> None:
    exporter.controller = controller
    if exporter.status == common.EXPORTER_STATUS_OFFLINE or not exporter.HasField("last_seen"):
        exporter.status = common.EXPORTER_STATUS_UNSPECIFIED
        exporter.status_message = ""
    exporter.online = True
    exporter.last_seen.FromNanoseconds(now)


def detach(exporter: pb.Exporter, controller: str, now: int) -> None:
    """Nothing where another controller has it by now."""
    if exporter.controller == controller:
        exporter.controller = ""
        exporter.last_seen.FromNanoseconds(now)


def lose(exporter: pb.Exporter, message: str) -> None:
    exporter.online = False
    exporter.controller = ""
    exporter.status = common.EXPORTER_STATUS_OFFLINE
    exporter.status_message = message


# -- the public form


@dataclass(frozen=True)
class LabelPolicy:
    """Which labels of exporters are shown: `deprecated` maps a key to what to use instead."""

    hidden: frozenset[str] = frozenset()
    deprecated: Mapping[str, str] = field(default_factory=dict)


def public(exporter: pb.Exporter, policy: LabelPolicy, *, show_hidden: bool = False) -> client_pb2.Exporter:
    """As ClientService shows it."""
    shown = {
        key: value
        for key, value in exporter.labels.items()
        if show_hidden or (key not in policy.hidden and key not in policy.deprecated)
    }
    return client_pb2.Exporter(
        name=exporter.name,
        labels=shown,
        online=exporter.online,
        status=exporter.status,
        status_message=exporter.status_message,
        enabled=not disabled(exporter),
        deprecated_labels={k: v for k, v in policy.deprecated.items() if k in exporter.labels},
    )
