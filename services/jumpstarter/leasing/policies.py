"""Who may lease which exporters, for how long and before whom (jumpstarter contract, section 3.1).

What a client may have for a duration is worked out once, as grants that are then cheap to look up
among many exporters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from services.jumpstarter import selectors
from services.jumpstarter.names import id_of
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.dialects.selector import Selector


@dataclass(frozen=True, slots=True)
class Grant:
    """The exporters that a client may have, and how it stands among others. `policy` is the name of
    the one that says so; empty where a namespace has none."""

    exporters: Selector
    priority: int = 0
    spot: bool = False
    policy: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule of a policy, its selectors compiled. `longest`: nanoseconds."""

    description: str
    grant: Grant
    clients: tuple[Selector, ...]
    longest: int | None

    def admits(self, labels: Mapping[str, str]) -> bool:
        return any(clients.matches(labels) for clients in self.clients)

    def allows(self, duration: int) -> bool:
        return self.longest is None or duration <= self.longest


_ANYTHING: Final = (Grant(Selector()),)


def grants(
    policies: Collection[pb.AccessPolicy], client: Mapping[str, str], duration: int
) -> Sequence[Grant]:
    """What a client with these labels may have for `duration` nanoseconds, best first: without spot
    access, then the greatest priority. `policies` are those of its namespace; without any, everyone
    may have everything."""
    if not policies:
        return _ANYTHING
    rules = (rule for policy in policies for rule in _rules(policy))
    found = [rule.grant for rule in rules if rule.allows(duration) and rule.admits(client)]
    found.sort(key=lambda grant: (grant.spot, -grant.priority, grant.policy))
    best: dict[Selector, Grant] = {}
    for grant in found:
        best.setdefault(grant.exporters, grant)
    return list(best.values())


def refusals(
    policies: Iterable[pb.AccessPolicy], client: Mapping[str, str], duration: int, exporter: Mapping[str, str]
) -> list[str]:
    """Why a client with these labels may not have an exporter with those: what each rule about it
    is for, and which of them wants a shorter lease."""
    found: dict[str, None] = {}
    for policy in sorted(policies, key=lambda policy: policy.name):
        for rule in _rules(policy):
            if not rule.grant.exporters.matches(exporter):
                continue
            if not rule.admits(client):
                found[rule.description] = None
            elif not rule.allows(duration):
                found[f"{rule.description} (at most {_span(rule.longest or 0)})"] = None
    return list(found)


def _rules(policy: pb.AccessPolicy) -> tuple[_Rule, ...]:
    return _compiled(policy.SerializeToString(deterministic=True))


@lru_cache(1024)
def _compiled(serialized: bytes) -> tuple[_Rule, ...]:
    policy = pb.AccessPolicy.FromString(serialized)
    exporters = selectors.of(policy.exporter_selector)
    return tuple(
        _Rule(
            rule.description or id_of(policy.name),
            Grant(exporters, rule.priority, rule.spot_access, policy.name),
            tuple(selectors.of(client.client_selector) for client in getattr(rule, "from")),
            rule.maximum_duration.ToNanoseconds() if rule.HasField("maximum_duration") else None,
        )
        for rule in policy.policies
    )


def _span(nanoseconds: int) -> str:
    """1:30:00"""
    return str(timedelta(microseconds=nanoseconds // 1000))
