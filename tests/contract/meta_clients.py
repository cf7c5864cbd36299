"""Clients of watches that fold what they are sent as docs/apis/meta.md tells them to, and look at
every message for what each kind of message may and may not hold."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.contract.meta_yard import changes_of, resource_of, told

DEFAULT_CHUNK = 100
NO_SIZE = -1


def revision_of(token: str) -> int:
    """Clients must not, tests may."""
    return int(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))["r"])


class Stateless:
    """`held` is name -> resource, serialized, as of the last complete change set."""

    def __init__(self, chunk: int = DEFAULT_CHUNK) -> None:
        self.chunk = chunk
        self.held: dict[str, bytes] = {}
        self.token = ""
        self.sets = self.soft_resets = self.hard_resets = self.heartbeats = 0
        self._pending: list[Any] = []

    @property
    def revision(self) -> int:
        return revision_of(self.token)

    def reconnect(self) -> None:
        """What came since the last is_current is dropped."""
        self._pending = []

    def take(self, message: Any) -> bool:
        """Whether a change set is complete now."""
        assert not message.HasField("page_token_change")
        changes = changes_of(message)
        if message.is_hard_reset or message.is_soft_reset:
            assert len(message.ListFields()) == 2, "a reset says nothing else but that it is no heartbeat"
            assert message.snapshot_size == NO_SIZE
            if message.is_hard_reset:
                self.held, self.token = {}, ""
                self.hard_resets += 1
            else:
                assert self._pending, "there is something to drop"
                self.soft_resets += 1
            self._pending = []
            return False
        if message.snapshot_size >= 0:
            assert not changes and not message.is_current and not message.resume_token
            assert self.token and not self._pending, "between change sets only"
            assert message.snapshot_size == len(self.held)
            self.heartbeats += 1
            return False
        assert message.snapshot_size == NO_SIZE
        assert len(changes) <= self.chunk
        assert message.is_current == bool(message.resume_token)
        assert changes or message.is_current, "only the last message of a change set may be empty"
        self._pending += changes
        if not message.is_current:
            return False
        self._apply(message.resume_token)
        return True

    def _apply(self, token: str) -> None:
        names = [told(change)[1] for change in self._pending]
        assert len(names) == len(set(names)), "one change a resource in a change set"
        for change in self._pending:
            kind, name = told(change)
            if kind == "removed":
                assert change.removed.view_index == 0
                assert self.token, "nothing is removed before the first is_current or after a reset"
                assert name in self.held, "only what is held is removed"
                del self.held[name]
            else:
                assert kind == "current"
                body = resource_of(change.current).SerializeToString(deterministic=True)
                assert self.held.get(name) != body, "nothing is sent twice"
                self.held[name] = body
        assert not self.token or revision_of(token) >= self.revision, "revisions never go back"
        self._pending, self.token = [], token
        self.sets += 1


class Stateful:
    """`rows` is the page, `tokens` its previous and next page token."""

    def __init__(self, chunk: int = 0) -> None:
        self.chunk = chunk
        self.rows: list[tuple[str, bytes]] = []
        self.tokens = ("", "")
        self.sets = 0
        self._pending: list[Any] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.rows]

    def take(self, message: Any) -> bool:
        """Whether a change set is complete now."""
        changes = changes_of(message)
        assert message.snapshot_size == NO_SIZE
        assert not (message.resume_token or message.is_hard_reset or message.is_soft_reset)
        assert not self.chunk or len(changes) <= self.chunk
        assert changes or message.is_current
        self._pending += changes
        if not message.is_current:
            assert self.chunk, "without a chunk size a change set is one message"
            assert not message.HasField("page_token_change")
            return False
        self._apply()
        if message.HasField("page_token_change"):
            change = message.page_token_change
            found = (change.prev_page_token, change.next_page_token)
            assert found != self.tokens, "tokens are sent when they change"
            self.tokens = found
        return True

    def _apply(self) -> None:
        names = [told(change)[1] for change in self._pending]
        assert len(names) == len(set(names)), "one change a resource in a change set"
        for number, change in enumerate(self._pending):
            kind, name = told(change)
            if not self.sets:
                assert (kind, change.added.view_index) == ("added", number)
            if kind == "removed":
                assert self.rows.pop(change.removed.view_index)[0] == name
                continue
            part = getattr(change, kind)
            row = (name, resource_of(part).SerializeToString(deterministic=True))
            if kind == "added":
                assert name not in self.names
                assert 0 <= part.view_index <= len(self.rows)
            else:
                assert kind == "modified"
                assert part.name == name and not part.HasField("field_mask")
                assert self.rows.pop(part.previous_view_index)[0] == name
            self.rows.insert(part.view_index, row)
        self._pending = []
        self.sets += 1
