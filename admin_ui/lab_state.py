"""The lists of a lab as their addresses say them. Every address names its namespace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from admin_ui.list_state import ForwardQuery

# Words of addresses.
FREE: Final = "free"
NOT_READY: Final = "not-ready"
LEASED: Final = "leased"
OFFLINE: Final = "offline"
DISABLED: Final = "disabled"
STATES: Final = (FREE, LEASED, NOT_READY, OFFLINE, DISABLED)


@dataclass(frozen=True, slots=True)
class LabState(ForwardQuery):
    """Any list of one namespace."""

    namespace: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        return {**ForwardQuery.given(query), "namespace": query.get("namespace", "").strip()}


@dataclass(frozen=True, slots=True)
class BoardState(LabState):
    """The availability board. `state`: one of STATES, empty for all."""

    CHOICES = ("filter", "state")

    state: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        state = query.get("state", "")
        return {**LabState.given(query), "state": state if state in STATES else ""}


@dataclass(frozen=True, slots=True)
class LeaseState(LabState):
    """`whose`: "mine", or "" for everyone's. `show`: "all" has those that have ended, too. `client`
    and `exporter` are ids, empty for any."""

    CHOICES = ("filter", "tags", "client", "exporter", "whose")

    whose: str = ""
    show: str = ""
    tags: str = ""
    client: str = ""
    exporter: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        plain = {name: query.get(name, "").strip() for name in ("tags", "client", "exporter")}
        return {
            **LabState.given(query),
            **plain,
            "whose": "mine" if query.get("whose") == "mine" else "",
            "show": "all" if query.get("show") == "all" else "",
        }
