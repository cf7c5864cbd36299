"""MongoDB: the log is the store, and any number of processes write and read one database.

A commit is one document of the collection `log`, and inserting it is the commit point. Whatever is
read comes from versions derived of it, in one collection a kind: they show their records at a
revision R as `revision <= R < until`, so that appliers disturb no reader. Plain operations only: a
stand-alone server, a replica set and mongomock behave alike. docs/storage.md explains it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from shared.storage.errors import FormatError, StoreFull, StoreUnavailable
from shared.storage.mongo_driver import Database, Document, connect, disconnect
from shared.storage.mongo_fields import OPEN, author_of, escaped
from shared.storage.mongo_query import Selection, of_names, of_query
from shared.storage.mongo_session import Session
from shared.storage.port import (
    AuditChange,
    AuditEntry,
    Author,
    Capabilities,
    Change,
    Check,
    Commit,
    Delete,
    Group,
    Kind,
    Put,
    Query,
    Record,
    Store,
    Version,
)
from shared.storage.rules import (
    kind_of,
    validate_commit,
    validate_groups,
    validate_query,
    verify_readable,
)
from shared.storage.values import decode_group

# Records that a scan reads at a time, names that are looked up at a time, and commits of a feed.
BATCH = 256
_NAMES = 1_000
_COMMITS = 64


class MongoStore(Store):
    """A store in `database` of a server (a `mongodb://` URL, whose client is this object's own) or
    of a client, which stays the caller's.

    An own client writes and reads with majority concern and the journal, whatever the URL says; one
    that is passed in must be configured so. A commit is retried for `patience` seconds through lost
    connections and elections. `readable_documents` keeps each message beside its bytes as a plain
    document, for people and their tools.
    """

    capabilities = Capabilities(survives_restart=True, many_processes=True)

    def __init__(
        self,
        client_or_url: Any,
        database: str,
        kinds: Sequence[Kind],
        *,
        clock: Callable[[], int] = time.time_ns,
        readable_documents: bool = True,
        patience: float = 10.0,
    ) -> None:
        super().__init__(kinds)
        self.client_or_url = client_or_url
        self.database = database
        self._clock = clock
        self._readable = readable_documents
        self._patience = patience
        self._owns_client = isinstance(client_or_url, str)
        self._client: Any = None
        self._session: Session | None = None

    # -- life ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._session is not None:
            return
        client = connect(self.client_or_url) if self._owns_client else self.client_or_url
        session = Session(
            Database(client, self.database),
            self.kinds,
            clock=self._clock,
            announce=self._announce,
            readable_documents=self._readable,
            patience=self._patience,
        )
        try:
            await session.prepare()
        except BaseException:
            await self._let_go(client)
            raise
        self._session, self._client = session, client

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.committer.drain()
            await self._let_go(self._client)

    async def _let_go(self, client: Any) -> None:
        if self._owns_client:
            await disconnect(client)

    async def ping(self) -> None:
        session = self._ready()
        await session.database.ping()
        await session.state.read()

    def _ready(self) -> Session:
        if self._session is None:
            raise StoreUnavailable("the store is closed")
        return self._session

    # -- reads ---------------------------------------------------------------------------------------

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None:
        return (await self.get_many(kind, [name], at=at)).get(name)

    async def get_many(self, kind: str, names: Sequence[str], *, at: int | None = None) -> dict[str, Record]:
        kind_of(self.kinds, kind)
        session = self._ready()

        async def run(revision: int, complete: bool) -> list[Document]:
            found = []
            for start in range(0, len(names), _NAMES):
                selection = of_names(names[start : start + _NAMES])
                found += await session.versions.select(kind, selection, revision, complete=complete)
            return found

        return {d["name"]: _record(kind, d) for d in await session.view.read(at, run)}

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        selection = of_query(validate_query(self.kinds, query), query)
        rest = query.limit
        while rest is None or rest > 0:
            size = BATCH if rest is None or selection.rest else min(BATCH, rest)
            page = await self._page(query.kind, selection, size, at)
            for document in page:
                if rest == 0:
                    return
                if selection.holds(document):
                    rest = None if rest is None else rest - 1
                    yield _record(query.kind, document)
            if len(page) < size:
                return
            selection = selection.from_place(selection.place_of(page[-1]))

    async def _page(self, kind: str, selection: Selection, size: int, at: int | None) -> list[Document]:
        session = self._ready()

        async def run(revision: int, complete: bool) -> list[Document]:
            return await session.versions.select(kind, selection, revision, complete=complete, limit=size)

        return await session.view.read(at, run)

    async def count(self, query: Query, *, at: int | None = None) -> int:
        kind = validate_query(self.kinds, query)
        selection = of_query(kind, query).unordered()
        session = self._ready()

        async def run(revision: int, complete: bool) -> int:
            if not complete and not selection.rest:
                return await session.versions.count(kind.name, selection)
            found = await session.versions.select(
                kind.name, selection, revision, complete=complete, fields=("name", "values")
            )
            return sum(selection.holds(document) for document in found)

        return await session.view.read(at, run)

    async def tally(self, query: Query, by: Sequence[str]) -> dict[Group, int]:
        kind = validate_query(self.kinds, query)
        indexes = validate_groups(kind, by)
        selection = of_query(kind, query).unordered()
        session = self._ready()

        async def run(revision: int, complete: bool) -> dict[Group, int]:
            if not complete and not selection.rest:
                rows = await session.versions.tally(kind.name, selection, by)
                return {decode_group(indexes, values): count for values, count in rows}
            found = await session.versions.select(
                kind.name, selection, revision, complete=complete, fields=("name", "values")
            )
            values = (document["values"] for document in found if selection.holds(document))
            return Counter(decode_group(indexes, [one[escaped(name)] for name in by]) for one in values)

        return await session.view.read(None, run)

    # -- writes --------------------------------------------------------------------------------------

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        validate_commit(self.kinds, changes, checks)
        return await self._ready().committer.commit(changes, checks, by)

    # -- the log -------------------------------------------------------------------------------------

    async def changes(self, after: int, limit: int) -> Sequence[Commit]:
        session = self._ready()
        head = await self.head()
        verify_readable(after, (await session.state.read()).floor, head)
        commits: list[Commit] = []
        while len(commits) < limit and after + len(commits) < head:
            position = after + len(commits)
            size = min(limit - len(commits), _COMMITS, head - position)
            entries = await session.log.read(position, size)
            commits += await session.commits_of(entries or [])
            # Read after the entries and their images: compaction raises it before it takes any.
            verify_readable(after, (await session.state.read()).floor, head)
            if not entries:
                raise FormatError(f"the commit after revision {position}, or a part of it, is gone")
        return commits

    async def history(
        self, kind: str, name: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Version]:
        kind_of(self.kinds, kind)
        session = self._ready()
        marks = await session.view.refresh()
        below = min(before if before is not None else OPEN, session.view.applied + 1)
        if limit <= 0:
            return []
        filter = {"name": name, "revision": {"$lt": below}, "until": {"$gt": marks.floor}}
        documents = await session.versions.of(kind).find(filter, sort=[("revision", -1)], limit=limit + 1)
        steps = _steps(kind, documents, below)[:limit]
        heads = await session.heads([revision for revision, _ in steps])
        unknown = AuditEntry(0, 0, Author(""), ())
        return [
            Version(revision, heads.get(revision, unknown).at, heads.get(revision, unknown).by, change)
            for revision, change in steps
        ]

    async def audit(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        kind: str | None = None,
        name: str | None = None,
        subject: str | None = None,
        excluded_actions: Sequence[str] = (),
    ) -> Sequence[AuditEntry]:
        session = self._ready()
        if limit <= 0:
            return []
        await session.view.refresh()
        below = min(before if before is not None else OPEN, session.view.applied + 1)
        parts: list[Document] = [{"_id": {"$lt": below}}]
        if subject is not None:
            parts.append({"by.subject": subject})
        if excluded_actions:
            parts.append({"by.action": {"$nin": list(excluded_actions)}})
        wanted = {key: value for key, value in (("kind", kind), ("name", name)) if value is not None}
        if wanted:
            parts.append({"changes": {"$elemMatch": wanted}})
        found = await session.versions.audit.find({"$and": parts}, sort=[("_id", -1)], limit=limit)
        return [_audit_entry(document) for document in found]

    async def head(self) -> int:
        view = self._ready().view
        try:
            return await view.newest()
        except StoreFull:
            # What could not be applied was not acknowledged either; reads go on.
            return view.applied

    async def floor(self) -> int:
        return (await self._ready().state.read()).floor

    async def epoch(self) -> str:
        return (await self._ready().state.read()).epoch

    async def compact(self, to: int) -> int:
        session = self._ready()
        async with session.view.lock:
            await session.view.catch_up()
        head = session.view.applied
        await session.state.raise_floor(min(to, head))
        marks = await session.view.refresh()
        gone = await session.versions.sweep(marks)
        # The newest entry stays, so that the next revision is known.
        await session.log.sweep(min(marks.floor, head - 1))
        return gone

    async def trim_audit(self, older_than: int) -> int:
        session = self._ready()
        floor = (await session.state.read()).floor
        return await session.versions.audit.delete({"_id": {"$lte": floor}, "at": {"$lt": older_than}})


def _record(kind: str, document: Document) -> Record:
    return Record(
        kind,
        document["name"],
        document["parent"],
        document["revision"],
        document["previous"],
        document["body"],
    )


def _steps(kind: str, documents: Sequence[Document], below: int) -> list[tuple[int, Change]]:
    """What happened to a record below a revision, newest first: a version each, and a deletion where
    one was closed and not by the next."""
    bodies = {document["revision"]: document["body"] for document in documents}
    steps = []
    for d in documents:
        name, parent, revision, until = d["name"], d["parent"], d["revision"], d["until"]
        if until < below and until not in bodies:
            steps.append((until, Change(kind, name, parent, d["body"], None, revision)))
        before = bodies.get(d["previous"])
        steps.append((revision, Change(kind, name, parent, before, d["body"], d["previous"])))
    return steps


def _audit_entry(document: Document) -> AuditEntry:
    changes = tuple(AuditChange(**change) for change in document["changes"])
    return AuditEntry(document["_id"], document["at"], author_of(document["by"]), changes)
