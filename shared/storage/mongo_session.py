"""The parts of an open MongoDB store, and what it takes to put them together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from shared.storage.mongo_commit import Committer
from shared.storage.mongo_driver import Database
from shared.storage.mongo_fields import author_of, escaped, version_id
from shared.storage.mongo_log import Entry, Log
from shared.storage.mongo_state import State
from shared.storage.mongo_versions import Versions
from shared.storage.mongo_view import REINDEXING, View
from shared.storage.port import AuditEntry, Change, Commit, Kind


class Session:
    """One opening of one database by one process."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Kind],
        *,
        clock: Callable[[], int],
        announce: Callable[[int], None],
        readable_documents: bool,
        patience: float,
    ) -> None:
        self.database = database
        self._kinds = kinds
        self.state = State(database)
        self.log = Log(database, self.state)
        self.versions = Versions(database, self.state, kinds, readable_documents=readable_documents)
        self.view = View(self.log, self.versions, self.state, kinds)
        self.committer = Committer(
            self.log, self.versions, self.view, kinds, clock=clock, announce=announce, patience=patience
        )

    async def prepare(self) -> None:
        """Create what is missing, reindex what changed, and apply what the last writer did not.

        Processes of another version of a kind refuse to write from here on, with FormatError.
        """
        marks = await self.state.prepare()
        await self.log.prepare()
        await self.versions.prepare()
        changed = [k for k in self._kinds.values() if marks.kinds.get(escaped(k.name)) != k.version]
        outdated = [kind for kind in changed if escaped(kind.name) in marks.latest]
        await self.state.declare({kind.name: REINDEXING for kind in outdated})
        for kind in outdated:
            await self.versions.reindex(kind)
        await self.state.declare({kind.name: kind.version for kind in changed})
        for kind in outdated:
            # What a peer was writing when it was told to stop.
            await self.versions.reindex(kind)
        async with self.view.lock:
            await self.view.refresh()
            await self.view.catch_up()

    async def commits_of(self, entries: Sequence[Entry]) -> list[Commit]:
        """Applied entries with their before-images, as far as compaction left them."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            for change in entry.changes:
                if change.previous:
                    wanted[change.kind].append(version_id(change.previous, change.name))
        bodies = await self.versions.bodies(wanted)
        return [
            Commit(
                entry.revision,
                entry.at,
                entry.by,
                tuple(
                    Change(
                        change.kind,
                        change.name,
                        change.parent,
                        bodies.get((change.kind, version_id(change.previous, change.name))),
                        change.body,
                        change.previous,
                    )
                    for change in entry.changes
                ),
            )
            for entry in entries
        ]

    async def heads(self, revisions: Sequence[int]) -> dict[int, AuditEntry]:
        """Author and time of commits by revision, without their changes; leaves out trimmed ones."""
        filter = {"_id": {"$in": list(revisions)}}
        found = await self.versions.audit.find(filter, fields=["at", "by"])
        return {d["_id"]: AuditEntry(d["_id"], d["at"], author_of(d["by"]), ()) for d in found}
