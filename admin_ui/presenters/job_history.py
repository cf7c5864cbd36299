"""What people did to a job, and what became of it, out of the many writes of its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from admin_ui.presenters import history, jobs
from admin_ui.presenters.history import Entry, FieldChange
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored

# Fields whose changes mean something to people. The rest is counts, times and notes of the controller.
TOLD: Final = frozenset(
    {
        "name", "owner", "owning_team", "description", "labels", "instance_count", "respool_id", "sla",
        "configuration", "state", "desired_state", "workflow_status.state",
    }
)  # fmt: skip
_WORDS: Final = {"workflow_status.state": "workflow", "desired_state": "goal"}
_TONES: Final = {"failed": "bad", "succeeded": "ok", "running": "ok", "rolled back": "warn"}
# Of every roll-out: what it was made by says more.
_BEGINNINGS: Final = (("workflow", "initialized"), ("workflow", "rolling forward"))
_CONTROLLER: Final = "controller"
# As the pages of jobs call them.
_STATES: Final = {"killed": "stopped", "killing": "stopping"}
_PREFIXES: Final = ("JOB_STATE_", "WORKFLOW_STATE_")


def entries(versions: Iterable[admin_pb2.Version]) -> list[Entry]:
    """Newest first, as they come, without what says nothing to people."""
    found = []
    for version in versions:
        entry = history.of_version(version, lambda path: _field(path) in TOLD)
        if not (version.before.type_url and version.after.type_url):
            found.append(entry)
            continue
        told = tuple(map(_told, entry.changes))
        told = tuple(change for change in told if (change.path, change.after) not in _BEGINNINGS)
        if told:
            title, icon, tone = _title(entry, told)
            source = "" if entry.subject == _CONTROLLER else entry.source
            found.append(replace(entry, changes=told, title=title, icon=icon, tone=tone, source=source))
    return found


def _field(path: str) -> str:
    """The path without what follows a list or a map."""
    return path if path in TOLD else path.split(".")[0]


def _told(change: FieldChange) -> FieldChange:
    return replace(
        change,
        path=_WORDS.get(change.path, change.path),
        before=_word(change.before),
        after=_word(change.after),
    )


def _word(text: str) -> str:
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            word = text.removeprefix(prefix).lower().replace("_", " ")
            return _STATES.get(word, word)
    return text


def _title(entry: Entry, told: Sequence[FieldChange]) -> tuple[str, str, str]:
    """With an icon and a tone. What the controller did is told by what became of it."""
    words = {change.path: change.after for change in told}
    if words.get("goal") == "deleted":
        return "Deletion asked for", "trash", "bad"
    for path, what in (("workflow", "Workflow"), ("state", "Job")):
        if entry.subject == _CONTROLLER and path in words:
            return f"{what} {words[path]}", "activity", _TONES.get(words[path], "info")
    return entry.title, entry.icon, entry.tone


def since(versions: Iterable[admin_pb2.Version], version: str) -> tuple[list[Entry], bool]:
    """Those after the write that brought the job to that entity version, newest first, and whether that
    write is among them."""
    newer: list[admin_pb2.Version] = []
    for one in versions:
        if version_after(one) == version:
            return entries(newer), True
        newer.append(one)
    return entries(newer), False


def version_after(version: admin_pb2.Version) -> str:
    """The entity version of the job once that was written; empty where it was deleted."""
    found = history.unpack(version.after)
    return jobs.version_of(found) if isinstance(found, stored.Job) else ""
