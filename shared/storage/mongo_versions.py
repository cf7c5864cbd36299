"""The versions, derived from the log: a document each, in one collection a kind, and the audit trail.

Any process may apply any entry, also twice and late, and none can spoil what another did. A version
is inserted pending, which no reader sees, under the mark of whoever inserts it. Only after reading
that the floor is still below its revision, so that compaction cannot have swept it before, is it
opened, and by that mark only. A late applier therefore opens nothing that was swept; what it left
pending it takes away again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from shared.storage.mongo_driver import Collection, Database, Document
from shared.storage.mongo_fields import (
    LARGEST_DOCUMENT,
    OPEN,
    PENDING,
    author_document,
    escaped,
    readable,
    version_id,
)
from shared.storage.mongo_log import Entry, LoggedChange
from shared.storage.mongo_query import Selection
from shared.storage.mongo_state import Marks, State
from shared.storage.port import Kind
from shared.storage.values import Encoded, encode

T = TypeVar("T")

# A change with its revision before it.
_Step = tuple[int, LoggedChange]
# Ids and revisions of pending versions, by the token that they stand under.
_Pending = dict[str, list[tuple[str, int]]]

# The fields that a record is made of.
RECORD = ("name", "parent", "revision", "previous", "body", "values")
_PREFIX = "kind."
# Operations of one step that are under way at a time.
_AT_ONCE = 16
# Ids named in one request.
_BATCH = 1_000
# Versions that are reindexed at a time.
_REINDEXED = 256


class Versions:
    """Writes, reads and sweeps the versions of all kinds."""

    def __init__(
        self, database: Database, state: State, kinds: Mapping[str, Kind], *, readable_documents: bool
    ) -> None:
        self._database = database
        self._state = state
        self._kinds = kinds
        self._readable = readable_documents
        self.audit = database["audit"]

    def of(self, kind: str) -> Collection:
        """Where the versions of a kind are."""
        return self._database[f"{_PREFIX}{escaped(kind)}"]

    async def prepare(self) -> None:
        """Create the indexes: every order that lists use, below equality with `until`."""
        await self.audit.index(["by.subject", "_id"])
        await self.audit.index(["changes.name", "_id"])
        for kind in self._kinds.values():
            collection = self.of(kind.name)
            await collection.index(["name", "revision"])
            orders: list[tuple[str, ...]] = [(), ("parent",)]
            orders += [(f"values.{escaped(index.name)}",) for index in kind.indexes]
            orders += [tuple(f"values.{escaped(name)}" for name in names) for names in kind.composites]
            for order in orders:
                await collection.index(["until", *order, "name"])

    # -- applying ------------------------------------------------------------------------------------

    async def apply(self, entries: Sequence[Entry]) -> Marks:
        """Write the versions of contiguous `entries`, the first of which follows what is applied.

        Answers the marks as they were read after inserting and before opening: entries at or below
        that floor were left alone.
        """
        by_kind: dict[str, list[_Step]] = defaultdict(list)
        for entry in entries:
            for change in entry.changes:
                by_kind[change.kind].append((entry.revision, change))
        token = uuid.uuid4().hex
        inserted = await _all(self._insert(kind, steps, token) for kind, steps in by_kind.items())
        pending = dict(zip(by_kind, inserted, strict=True))
        marks = await self._state.begin(entries[-1].revision)
        live = [entry for entry in entries if entry.revision > marks.floor]
        if len(live) < len(entries):
            swept = {"until": PENDING, "token": token, "revision": {"$lte": marks.floor}}
            await _all(self.of(kind).delete(swept) for kind in by_kind)
        if not live:
            return marks
        await _all(self._open(kind, token, theirs, marks.floor) for kind, theirs in pending.items())
        await _all(self._close(kind, steps, marks.floor) for kind, steps in by_kind.items())
        await self.audit.insert([_head_of(entry) for entry in live], ordered=False)
        latest = {kind: steps[-1][0] for kind, steps in by_kind.items()}
        await self._state.raise_applied(live[-1].revision, latest)
        return marks

    async def _insert(self, kind: str, steps: Sequence[_Step], token: str) -> _Pending:
        """Insert what is not there. Answers what of it is there and pending, by its token."""
        documents = [self._document(revision, c, token) for revision, c in steps if c.body is not None]
        pending: _Pending = defaultdict(list)
        if not documents:
            return pending
        collection = self.of(kind)
        inserted = await collection.insert(documents, ordered=False)
        for ids in _batches([documents[position]["_id"] for position in inserted.duplicates]):
            half_done = {"_id": {"$in": ids}, "until": PENDING}
            for document in await collection.find(half_done, fields=["revision", "token"]):
                pending[document["token"]].append((document["_id"], document["revision"]))
        return pending

    def _document(self, revision: int, change: LoggedChange, token: str) -> Document:
        kind = self._kinds.get(change.kind)
        body = change.body or b""
        values, version = change.values, change.version
        if kind is not None and kind.version != version:
            values, version = values_of(kind, body), kind.version
        document: Document = {
            "_id": version_id(revision, change.name),
            "name": change.name,
            "parent": change.parent,
            "revision": revision,
            "previous": change.previous,
            "until": PENDING,
            "token": token,
            "values": values,
            "version": version,
            "body": body,
        }
        shown = readable(kind, body, room=LARGEST_DOCUMENT - change.size) if self._readable else None
        return document if shown is None else {**document, "document": shown}

    async def _open(self, kind: str, token: str, theirs: _Pending, floor: int) -> None:
        """Open what we inserted, and of what peers did that which was there before the floor was
        read: what they insert now may be late."""
        collection, opened = self.of(kind), {"$set": {"until": OPEN}}
        ours = {"until": PENDING, "token": token, "revision": {"$gt": floor}}
        await collection.update(ours, opened)
        for their_token, places in theirs.items():
            for ids in _batches([id for id, revision in places if revision > floor]):
                await collection.update({"_id": {"$in": ids}, "until": PENDING, "token": their_token}, opened)

    async def _close(self, kind: str, steps: Sequence[_Step], floor: int) -> None:
        closed: dict[int, list[str]] = defaultdict(list)
        for revision, change in steps:
            if change.previous and revision > floor:
                closed[revision].append(version_id(change.previous, change.name))
        await _all(
            self.of(kind).update({"_id": {"$in": ids}, "until": OPEN}, {"$set": {"until": revision}})
            for revision, all_ids in closed.items()
            for ids in _batches(all_ids)
        )

    # -- reading -------------------------------------------------------------------------------------

    async def select(
        self,
        kind: str,
        selection: Selection,
        at: int,
        *,
        complete: bool,
        limit: int = 0,
        fields: Sequence[str] = RECORD,
    ) -> list[Document]:
        """The versions that revision `at` shows, in the selection's order, at most `limit` (0: all).

        Without `complete` it is what is current, which is the same as long as there is no later
        revision, and simpler. Closed after open: a version that is closed meanwhile is met in one.
        """
        collection = self.of(kind)
        if not complete:
            current = selection.filter_of({"until": OPEN})
            return await collection.find(current, fields=fields, sort=selection.keys, limit=limit)
        old = {"revision": {"$lte": at}}
        current = selection.filter_of({"until": OPEN}, old)
        found = await collection.find(current, fields=fields, sort=selection.keys, limit=limit)
        closed = selection.filter_of({"until": {"$gt": at, "$lt": OPEN}}, old)
        found += await collection.find(closed, fields=fields, sort=selection.keys, limit=limit)
        return selection.in_order(found)[: limit or None]

    async def count(self, kind: str, selection: Selection) -> int:
        """How many `select` would answer without `complete`."""
        return await self.of(kind).count(selection.filter_of({"until": OPEN}))

    async def tally(
        self, kind: str, selection: Selection, names: Sequence[str]
    ) -> list[tuple[list[Encoded], int]]:
        """The same by the encoded values of the indexes `names`."""
        paths = [f"values.{escaped(name)}" for name in names]
        return await self.of(kind).tally(selection.filter_of({"until": OPEN}), paths)

    async def bodies(self, wanted: Mapping[str, Iterable[str]]) -> dict[tuple[str, str], bytes]:
        """The bodies of versions by (kind, version id); leaves out those that are gone."""
        found: dict[tuple[str, str], bytes] = {}
        for kind, all_ids in wanted.items():
            for ids in _batches(list(all_ids)):
                for document in await self.of(kind).find({"_id": {"$in": ids}}, fields=["body"]):
                    found[kind, document["_id"]] = document["body"]
        return found

    # -- upkeep --------------------------------------------------------------------------------------

    async def sweep(self, marks: Marks) -> int:
        """Forget the versions closed at or below the floor. Answers how many went."""
        gone = 0
        for kind in marks.latest:
            collection = self._database[f"{_PREFIX}{kind}"]
            gone += await collection.delete({"until": {"$gt": PENDING, "$lte": marks.floor}})
            # All up to the floor was opened long ago: these were left behind by late appliers.
            await collection.delete({"until": PENDING, "revision": {"$lte": marks.floor}})
        return gone

    async def reindex(self, kind: Kind) -> None:
        """Bring the index values of every version to those of `kind.version`."""
        collection = self.of(kind.name)
        while True:
            outdated = {"version": {"$ne": kind.version}}
            documents = await collection.find(outdated, fields=["body"], limit=_REINDEXED)
            if not documents:
                return
            await _all(
                collection.update_one(
                    {"_id": document["_id"]},
                    {"$set": {"values": values_of(kind, document["body"]), "version": kind.version}},
                )
                for document in documents
            )


def values_of(kind: Kind, body: bytes) -> dict[str, Encoded]:
    """The encoded index values of a body, under escaped names. Raises what `Kind.values` raises."""
    values = kind.values(body)
    return {escaped(index.name): encode(index, values.get(index.name)) for index in kind.indexes}


def _head_of(entry: Entry) -> Document:
    return {
        "_id": entry.revision,
        "commit_id": entry.commit_id,
        "at": entry.at,
        "by": author_document(entry.by),
        "changes": [{"kind": c.kind, "name": c.name, "op": c.op} for c in entry.changes],
    }


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))


async def _all(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all, a few at a time. When one fails, the error comes after those with it have ended."""
    results: list[T] = []
    waiting = iter(steps)
    while group := list(islice(waiting, _AT_ONCE)):
        outcomes = await asyncio.gather(*group, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                for left in waiting:
                    left.close()
                raise outcome
            results.append(outcome)
    return results
