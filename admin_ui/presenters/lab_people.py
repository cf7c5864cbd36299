"""Clients and access policies as rows and pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from admin_ui.lab_kinds import id_of, namespace_of
from admin_ui.presenters import lab_forms, moments
from shared.pb.jumpstarter.v1.kubernetes_pb2 import LabelSelector
from shared.pb.roundhouse.lab.v1 import lab_pb2


@dataclass(frozen=True, slots=True)
class Rule:
    """`clients`: selectors, one of which must match; none lets nobody in. `longest` empty: no limit."""

    description: str
    priority: int
    clients: tuple[str, ...]
    longest: str
    spot: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A client, or a policy: then `exporters` says which, empty for all, and `rules` who may."""

    name: str
    id: str
    namespace: str
    labels: tuple[tuple[str, str], ...]
    created: datetime | None
    uid: str
    exporters: str
    rules: tuple[Rule, ...]


def row(message: Any) -> Row:
    policy = message if isinstance(message, lab_pb2.AccessPolicy) else lab_pb2.AccessPolicy()
    return Row(
        name=message.name,
        id=id_of(message.name),
        namespace=namespace_of(message.name),
        labels=tuple(sorted(getattr(message, "labels", {}).items())),
        created=moments.from_timestamp(message.create_time),
        uid=getattr(message, "uid", ""),
        exporters=selector(policy.exporter_selector),
        rules=tuple(_rule(rule) for rule in policy.policies),
    )


def _rule(rule: lab_pb2.AccessRule) -> Rule:
    longest = rule.maximum_duration
    return Rule(
        description=rule.description,
        priority=rule.priority,
        clients=tuple(selector(one.client_selector) or "every client" for one in getattr(rule, "from")),
        longest=lab_forms.brief(timedelta(seconds=longest.seconds))
        if rule.HasField("maximum_duration")
        else "",
        spot=rule.spot_access,
    )


def selector(found: LabelSelector) -> str:
    """As people write it; empty when it chooses everything."""
    return ",".join(_requirements(found))


def _requirements(found: LabelSelector) -> Iterable[str]:
    for key, value in sorted(found.match_labels.items()):
        yield f"{key}={value}"
    for one in found.match_expressions:
        values = ",".join(one.values)
        yield {
            "In": f"{one.key} in ({values})",
            "NotIn": f"{one.key} notin ({values})",
            "Exists": one.key,
            "DoesNotExist": f"!{one.key}",
        }.get(one.operator, f"{one.key} {one.operator} ({values})")
