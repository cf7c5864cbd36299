"""Manifests: resources as people edit them, and what applying a text would change."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.protobuf.message import Message

from admin_ui.presenters import history, raw
from admin_ui.presenters.history import Entry, FieldChange
from shared.admin.stated import OF_LAB_SERVER, stated
from shared.errors import InvalidArgument
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb

# Differences that a page shows in full, and lines of each.
SHOWN: Final = 100
MAX_LINES: Final = 400

Tone = Literal["added", "removed", "same", "gap"]


@dataclass(frozen=True, slots=True)
class Line:
    tone: Tone
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `cut`: it has more lines than are shown."""

    kind: str
    name: str
    operation: str
    title: str
    icon: str
    tone: str
    lines: tuple[Line, ...]
    cut: bool
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a dry run answered. `digest`: equal for what would change the same things the same way."""

    changes: tuple[Change, ...]
    hidden: int
    created: int
    updated: int
    deleted: int
    unchanged: int
    revision: int
    digest: str

    @property
    def count(self) -> int:
        return self.created + self.updated + self.deleted


_WORDS: Final = {
    pb.Difference.CREATE: ("create", "Create", "plus", "ok"),
    pb.Difference.UPDATE: ("update", "Change", "edit", "info"),
    pb.Difference.DELETE: ("delete", "Delete", "trash", "bad"),
}
_ORDER: Final = (pb.Difference.DELETE, pb.Difference.UPDATE, pb.Difference.CREATE)


def preview(answer: pb.ApplyResponse) -> Preview:
    """Takes a while for thousands of differences: call it in a thread."""
    # What is lost stands first.
    found = sorted(
        (d for d in answer.differences if d.action in _WORDS), key=lambda d: (_ORDER.index(d.action), d.kind)
    )
    counts = {action: sum(d.action == action for d in found) for action in _WORDS}
    return Preview(
        changes=tuple(_change(difference) for difference in found[:SHOWN]),
        hidden=max(0, len(found) - SHOWN),
        created=counts[pb.Difference.CREATE],
        updated=counts[pb.Difference.UPDATE],
        deleted=counts[pb.Difference.DELETE],
        unchanged=answer.unchanged,
        revision=answer.revision,
        digest=_digest(found),
    )


def _change(difference: pb.Difference) -> Change:
    operation, title, icon, tone = _WORDS[difference.action]
    before, after = history.unpack(difference.before), history.unpack(difference.after)
    lines = list(_lines(before, after))
    return Change(
        difference.kind,
        difference.name,
        operation,
        title,
        icon,
        tone,
        tuple(lines[:MAX_LINES]),
        len(lines) > MAX_LINES,
        history.field_changes(before, after, difference.paths) if operation == "update" else (),
    )


def _lines(before: Message | None, after: Message | None) -> Iterable[Line]:
    """As YAML, three lines of it around each difference."""
    old, new = [raw.to_yaml(editable(m)).splitlines() if m is not None else [] for m in (before, after)]
    tones: dict[str, Tone] = {"+": "added", "-": "removed", " ": "same"}
    for index, line in enumerate(list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]):
        if line.startswith("@@"):
            if index:
                yield Line("gap", "⋯")
        else:
            yield Line(tones[line[0]], line[1:])


def _digest(differences: Iterable[pb.Difference]) -> str:
    found = hashlib.sha256()
    for difference in differences:
        found.update(f"{difference.action} {difference.kind} {difference.name}\n".encode())
        for packed in (difference.before, difference.after):
            message = history.unpack(packed)
            body = b"" if message is None else stated(message).SerializeToString(deterministic=True)
            found.update(b"%d\n%b" % (len(body), body))
    return found.hexdigest()


def editable(message: Message) -> dict[str, Any]:
    """The message as a manifest says it."""
    return raw.value(stated(message))


# --- one resource, edited ---------------------------------------------------------------------


def touched(base: Mapping[str, Any], typed: Mapping[str, Any], descriptor: Any) -> dict[str, Any]:
    """What `typed` changes of `base`, as a manifest says it: a field that is gone is null there.

    Only these fields are sent, so that what others write to the rest stays theirs. Raises
    InvalidArgument for a field that is given in two spellings."""
    found: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for key, value in typed.items():
        name = _spelled(key, descriptor)
        if name in said:
            raise InvalidArgument.at(name, "is given twice, in two spellings")
        said[name] = value
    typed = said
    for key in dict.fromkeys([*typed, *base]):
        old, new = base.get(key), typed.get(key)
        if old == new:
            continue
        field = descriptor.fields_by_name.get(key)
        if _looked_into(field) and isinstance(old, dict) and isinstance(new, dict):
            inner = touched(old, new, field.message_type)
            if inner:
                found[key] = inner
        else:
            found[key] = new
    return found


def _spelled(key: str, descriptor: Any) -> str:
    """A field's own name for its name in JSON."""
    if key in descriptor.fields_by_name:
        return key
    field = descriptor.fields_by_camelcase_name.get(key)
    return field.name if field is not None else key


def _looked_into(field: Any) -> bool:
    return field is not None and field.message_type is not None and not field.is_repeated


# --- what others did meanwhile ------------------------------------------------------------------


def by_people(entries: Iterable[Entry]) -> list[Entry]:
    """Without those that changed nothing but what only the server sets."""
    return [
        entry
        for entry in entries
        if not entry.changes
        or any(change.path.split(".")[0] not in OF_LAB_SERVER for change in entry.changes)
    ]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A field that both changed: what it was, what it is now, and what the edit would make of it."""

    path: str
    base: str
    now: str
    yours: str


def overlaps(theirs: Sequence[Entry], mine: Iterable[FieldChange]) -> list[Overlap]:
    """`theirs`: newest first."""
    was: dict[str, str] = {}
    for entry in reversed(theirs):
        for change in entry.changes:
            was.setdefault(change.path, change.before)
    return [
        Overlap(change.path, was[change.path], change.before, change.after)
        for change in mine
        if change.path in was
    ]
