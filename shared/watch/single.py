"""A watch of one resource: what it is now, then each change of what is shown of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal

from shared.storage.errors import Compacted
from shared.storage.port import Record, Store
from shared.watch.tailer import Tailer

_BATCH = 256


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """`body` is None when the resource was removed."""

    kind: Literal["added", "modified", "removed"]
    body: bytes | None


async def watch(
    store: Store, tailer: Tailer, first: Record, shown: Callable[[bytes], bytes]
) -> AsyncGenerator[ResourceChange, None]:
    """Changes for ever, from `first` on, which was read a moment ago. Changes of what is not shown are
    left out, and several at once may be told as one. Raises StoreUnavailable when the process stops."""
    yield ResourceChange("added", first.body)
    held: bytes | None = shown(first.body)
    at = first.revision
    while True:
        target = await tailer.wait(at)
        try:
            touched, at = await _touched(tailer, first, at, target)
        except Compacted:
            touched, at = True, await store.head()
        if not touched:
            continue
        record = await store.get(first.kind, first.name)
        now = None if record is None else shown(record.body)
        if now == held:
            continue
        kind: Literal["added", "modified", "removed"] = "removed"
        if record is not None:
            kind = "added" if held is None else "modified"
        yield ResourceChange(kind, None if record is None else record.body)
        held = now


async def _touched(tailer: Tailer, first: Record, after: int, target: int) -> tuple[bool, int]:
    """Whether a commit after `after` has the resource, and how far that was looked for."""
    commits = await tailer.changes(after, min(_BATCH, target - after))
    for commit in commits:
        if any(change.kind == first.kind and change.name == first.name for change in commit.changes):
            return True, commits[-1].revision
    return False, commits[-1].revision if commits else target
