"""The commit log in MongoDB: one document a commit, whose insertion is the commit point.

A commit over `LARGEST_ENTRY` keeps its changes in chunk documents, written before it. Revisions are
contiguous because `_id` is the revision and is unique: of several writers of one revision, one wins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.storage.errors import StoreError, StoreFull, StoreUnavailable, TooLarge
from shared.storage.mongo_driver import Database, Document
from shared.storage.mongo_fields import author_document, author_of
from shared.storage.mongo_state import State
from shared.storage.port import Author
from shared.storage.values import Encoded

Op = Literal["create", "update", "delete"]

LARGEST_ENTRY = 8 * 2**20
# Between two attempts at a server that does not answer, in seconds.
PAUSE = 0.05
# What a change takes beside its texts and bytes, and an index value beside its own, generously.
_OVERHEAD = 512
_VALUE_OVERHEAD = 96


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """What a commit did to one record. `body` None: deleted. `values` are encoded, under escaped
    names; `version` is the version of the kind that they were made by."""

    kind: str
    name: str
    parent: str
    previous: int
    op: Op
    body: bytes | None
    values: dict[str, Encoded]
    version: int

    @property
    def size(self) -> int:
        """Bytes that it takes in a document, at most."""
        texts = [self.kind, self.name, self.parent, *(v for v in self.values.values() if isinstance(v, str))]
        letters = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        return len(self.body or b"") + letters + _VALUE_OVERHEAD * len(self.values) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit as it stands in the log. `commit_id` tells whose it is."""

    revision: int
    commit_id: str
    at: int
    by: Author
    changes: tuple[LoggedChange, ...]


class Log:
    """The entries above the floor, and always the newest one."""

    def __init__(self, database: Database, state: State) -> None:
        self._state = state
        self._entries = database["log"]
        self._chunks = database["log_chunks"]
        self._audit = database["audit"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._chunks.index(["commit_id", "part"])
        await self._chunks.index(["revision"])

    async def reaches_beyond(self, revision: int) -> bool:
        """Whether anything was committed after `revision`: the next entry stands, or is swept."""
        if await self._entries.find_one({"_id": revision + 1}, fields=["_id"]) is not None:
            return True
        return (await self._state.read()).floor > revision

    async def read(self, after: int, limit: int) -> list[Entry] | None:
        """The next entries in order; fewer than `limit` when they are large. None: compaction took
        the chunks of one meanwhile."""
        documents = await self._entries.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=limit)
        entries: list[Entry] = []
        for document in documents:
            changes = document["changes"]
            if document["chunks"]:
                if entries:
                    break  # a large commit is read alone
                found = await self._chunks.find({"commit_id": document["commit_id"]}, sort=[("part", 1)])
                if len(found) != document["chunks"]:
                    return None
                changes = [change for chunk in found for change in chunk["changes"]]
            entries.append(_entry_of(document, changes))
            if document["chunks"]:
                break
        return entries

    async def append(self, entries: Sequence[Entry], *, patience: float) -> int:
        """Commit `entries` in order. Answers how many of them stand in the log now: fewer than all
        when another writer was first at the revision of the next one, or there is no space for it.

        A lost answer is settled by inserting again: what stands there then is ours, or is another's
        and ours can never be. Raises StoreUnavailable after `patience` seconds without an answer,
        with `outcome_unknown` when something may have arrived, and StoreFull or TooLarge when
        nothing of the first entry was written.
        """
        documents = []
        chunked = []
        for entry in entries:
            chunks = _chunks_of(entry)
            await self._insert_chunks(chunks)
            chunked.append(bool(chunks))
            documents.append(_document_of(entry, len(chunks)))
        done = await self._insert(documents, asyncio.get_running_loop().time() + patience)
        left = [entry.commit_id for entry, parts in list(zip(entries, chunked, strict=True))[done:] if parts]
        if left:
            # Chunks that stay behind are swept with the revision they were meant for.
            with contextlib.suppress(StoreError):
                await self._chunks.delete({"commit_id": {"$in": left}})
        return done

    async def _insert_chunks(self, chunks: Sequence[Document]) -> None:
        try:
            for chunk in chunks:
                await self._chunks.insert([chunk], ordered=True)
        except StoreUnavailable as error:
            # Chunks without their entry are no commit.
            raise StoreUnavailable(str(error)) from error

    async def _insert(self, documents: Sequence[Document], deadline: float) -> int:
        done, unknown = 0, False
        while True:
            try:
                try:
                    inserted = await self._entries.insert(documents[done:], ordered=True)
                except (StoreFull, TooLarge) as error:
                    done, _ = await self._ours(documents, done)
                    if done:
                        return done
                    if unknown:
                        raise StoreUnavailable(str(error), outcome_unknown=True) from error
                    raise
                if not inserted.duplicates:
                    return len(documents)
                unknown = True
                done, taken = await self._ours(documents, done + inserted.count)
                if taken or done == len(documents):
                    return done
            except StoreUnavailable as error:
                unknown = unknown or error.outcome_unknown
                if asyncio.get_running_loop().time() >= deadline:
                    raise StoreUnavailable(str(error), outcome_unknown=unknown) from error
                await asyncio.sleep(PAUSE)

    async def _ours(self, documents: Sequence[Document], start: int) -> tuple[int, bool]:
        """The first position from `start` on that is not ours, and whether it is another's."""
        for position in range(start, len(documents)):
            owner = await self.owner(documents[position]["_id"])
            if owner != documents[position]["commit_id"]:
                return position, owner is not None
        return len(documents), False

    async def owner(self, revision: int) -> str | None:
        """The id of the commit that made `revision`; None when there is none yet.

        What stands in the log counts only while the floor, read after it, is below: a late writer
        may have fallen into the hole that compaction left. The audit trail knows then. Where that
        is trimmed too, nobody does: StoreUnavailable with `outcome_unknown`.
        """
        there = await self._entries.find_one({"_id": revision}, fields=["commit_id"])
        if (await self._state.read()).floor >= revision:
            there = await self._audit.find_one({"_id": revision}, fields=["commit_id"])
            if there is None:
                raise StoreUnavailable(f"revision {revision} is compacted", outcome_unknown=True)
        return None if there is None else there["commit_id"]

    async def withdraw(self, entries: Sequence[Entry]) -> None:
        """Remove entries of ours that landed in what compaction had already swept."""
        ids = [entry.commit_id for entry in entries]
        await self._entries.delete(
            {"_id": {"$in": [entry.revision for entry in entries]}, "commit_id": {"$in": ids}}
        )
        await self._chunks.delete({"commit_id": {"$in": ids}})

    async def sweep(self, to: int) -> None:
        """Forget the entries up to revision `to`, and chunks that were left behind there."""
        await self._entries.delete({"_id": {"$lte": to}})
        await self._chunks.delete({"revision": {"$lte": to}})


def _document_of(entry: Entry, chunks: int) -> Document:
    return {
        "_id": entry.revision,
        "commit_id": entry.commit_id,
        "at": entry.at,
        "by": author_document(entry.by),
        "chunks": chunks,
        "changes": [] if chunks else [_change_document(change) for change in entry.changes],
    }


def _chunks_of(entry: Entry) -> list[Document]:
    """The chunk documents of a large entry; none for another."""
    if sum(change.size for change in entry.changes) <= LARGEST_ENTRY:
        return []
    parts: list[list[Document]] = []
    room = 0
    for change in entry.changes:
        if change.size > room:
            parts.append([])
            room = max(LARGEST_ENTRY, change.size)
        parts[-1].append(_change_document(change))
        room -= change.size
    return [
        {
            "_id": f"{entry.commit_id}:{part}",
            "commit_id": entry.commit_id,
            "revision": entry.revision,
            "part": part,
            "changes": changes,
        }
        for part, changes in enumerate(parts)
    ]


def _change_document(change: LoggedChange) -> Document:
    return {
        "kind": change.kind,
        "name": change.name,
        "parent": change.parent,
        "previous": change.previous,
        "op": change.op,
        "body": change.body,
        "values": change.values,
        "version": change.version,
    }


def _entry_of(document: Document, changes: Sequence[Document]) -> Entry:
    return Entry(
        document["_id"],
        document["commit_id"],
        document["at"],
        author_of(document["by"]),
        tuple(LoggedChange(**change) for change in changes),
    )
