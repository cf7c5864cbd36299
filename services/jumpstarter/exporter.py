"""The rules of one exporter: whether it is free, and its public form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1 import common_pb2 as common
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
