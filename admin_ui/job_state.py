"""The list of jobs as its address says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from admin_ui.jobs import JOB, NEWEST
from admin_ui.list_state import ForwardQuery
from shared.pb.roundhouse.admin.v1 import admin_pb2

# Words of addresses, and the states of the API that each stands for.
STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "running": ("JOB_STATE_RUNNING",),
    "pending": ("JOB_STATE_PENDING", "JOB_STATE_INITIALIZED", "JOB_STATE_UNINITIALIZED"),
    "failed": ("JOB_STATE_FAILED",),
    "succeeded": ("JOB_STATE_SUCCEEDED",),
    "stopped": ("JOB_STATE_KILLED", "JOB_STATE_KILLING"),
}
# Workflows that are neither done nor given up.
GOING: Final = (
    "WORKFLOW_STATE_INITIALIZED",
    "WORKFLOW_STATE_ROLLING_FORWARD",
    "WORKFLOW_STATE_ROLLING_BACKWARD",
    "WORKFLOW_STATE_PAUSED",
)
WORKFLOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "going": GOING,
    "paused": ("WORKFLOW_STATE_PAUSED",),
    "failed": ("WORKFLOW_STATE_FAILED", "WORKFLOW_STATE_ROLLED_BACK"),
}
SEARCHED: Final = ("name", "owner", "owning_team", "description", "labels.key", "labels.value")
# Words of a search: each asks for the same in several spellings.
MOST_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class JobListState(ForwardQuery):
    """`q`: words that a job has. `state` and `workflow`: words of STATES and WORKFLOWS, empty for any.
    `label`: `key=value`. `pool`: the id of one."""

    CHOICES = ("filter", "q", "state", "owner", "label", "pool", "workflow")

    q: str = ""
    state: str = ""
    owner: str = ""
    label: str = ""
    pool: str = ""
    workflow: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        state, workflow = query.get("state", ""), query.get("workflow", "")
        return {
            **ForwardQuery.given(query),
            **{name: query.get(name, "").strip() for name in ("owner", "label", "pool")},
            "q": " ".join(query.get("q", "").split()),
            "state": state if state in STATES else "",
            "workflow": workflow if workflow in WORKFLOWS else "",
        }

    def expression(self) -> str:
        """What the page's controls and the typed expression ask for together."""
        # Behind a comment the line must end; before anything else positions of mistakes stay true.
        parts = [f"{self.filter}\n"] if self.filter else []
        parts += [_any(field_like(word)) for word in self.q.split()[:MOST_WORDS]]
        if self.state:
            parts.append(f"state IN ({_list(STATES[self.state])})")
        if self.workflow:
            parts.append(f"workflow_status.state IN ({_list(WORKFLOWS[self.workflow])})")
        if self.owner:
            parts.append(_any([f"{field} = {_text(self.owner)}" for field in ("owner", "owning_team")]))
        if self.label:
            parts.append(_label(self.label))
        if self.pool:
            parts.append(f"respool_id = {_text(self.pool)}")
        return parts[0].strip() if len(parts) == 1 else " AND ".join(f"({part})" for part in parts)

    def request(self) -> admin_pb2.ListRequest:
        return admin_pb2.ListRequest(
            kind=JOB,
            filter=self.expression(),
            order_by=self.order_by or NEWEST,
            page_size=self.page_size,
            page_token=self.page_token,
        )


def field_like(word: str) -> list[str]:
    """Conditions of which one holds for a job that has the word, in any of the usual letter cases."""
    spellings = dict.fromkeys((word, word.lower(), word.upper(), word.capitalize()))
    patterns = [f"%{_literal(spelling)}%" for spelling in spellings]
    found = [f"{field} LIKE {_text(pattern)}" for field in SEARCHED for pattern in patterns]
    return [*found, f"id LIKE {_text(f'{_literal(word.lower())}%')}"]


def _literal(text: str) -> str:
    """With what LIKE has a meaning of its own for taken as it is."""
    return "".join(f"\\{character}" if character in "%_\\" else character for character in text)


def _label(text: str) -> str:
    key, _, value = text.partition("=")
    return f"labels CONTAINS {_text({'key': key.strip(), 'value': value.strip()})}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _any(parts: list[str]) -> str:
    return " OR ".join(parts)


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words)
