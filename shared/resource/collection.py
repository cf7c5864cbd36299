"""All resources of one kind: point reads, pages and writes, the same for every API."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from shared.errors import Aborted, AlreadyExists, InvalidArgument, NotFound, Unavailable
from shared.query.ast import EVERYTHING, Node
from shared.query.evaluate import Predicate, compile
from shared.query.order_by import Ordering
from shared.query.page_token import Cursor
from shared.query.pushdown import narrow, pinned
from shared.resource.counter import Counter
from shared.resource.definition import CLAIM, Definition, Strategy
from shared.storage.errors import Compacted, Conflict, Exists, Missing
from shared.storage.port import Author, Check, Delete, Expect, Position, Put, Query, Record, Store, Value

T = TypeVar("T", bound=Message)
# Where a record stands in an order: its values there, and its name.
Place = tuple[tuple[Value | None, ...], str]

# A conflict means that another caller got on, so few tries are ever needed.
_TRIES = 32
_ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`cursor` None is the first page. `total` asks for the number of all matches too, `offset` for
    the number before the first row, `exact` for rows that are all of `Page.revision`. A page closes
    early once its bodies reach `max_bytes`, but holds one row at least."""

    size: int
    ordering: Ordering
    filter: Node = EVERYTHING
    parent: str | None = None
    cursor: Cursor | None = None
    total: bool = False
    offset: bool = False
    exact: bool = False
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in list order, whatever direction they were read in. `next` and `previous` are where
    the neighbours begin, None where there are none."""

    records: list[Record]
    next: Cursor | None
    previous: Cursor | None
    total: int
    revision: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A resource with the revision it was read or written at."""

    resource: T
    revision: int


def _cut(rows: tuple[list[Record], bool], most: int | None) -> tuple[list[Record], bool]:
    """`rows` without those that exceed `most` bytes together, but with the first."""
    records, more = rows
    if most is None:
        return rows
    size = 0
    for index, record in enumerate(records):
        size += len(record.body)
        if size > most and index:
            return records[:index], True
    return records, more


class Collection(Generic[T]):
    """Reads and writes of one kind over a store."""

    def __init__(self, store: Store, definition: Definition[T]) -> None:
        self.store = store
        self.definition = definition
        self._counter = Counter(store)
        self._strategy: Strategy[T] = definition.strategy or Strategy()

    # -- reading

    async def record(self, name: str, *, at: int | None = None) -> Record:
        """Raises NotFound."""
        found = await self.store.get(self.definition.kind, name, at=at)
        if found is None:
            raise self._not_found(name)
        return found

    async def get(self, name: str, *, at: int | None = None) -> T:
        """Raises NotFound."""
        return self.definition.parse((await self.record(name, at=at)).body)

    async def page(self, request: PageRequest) -> Page:
        """One page, and the total at the same revision."""
        at: int | None = None
        while True:
            revision = await self.store.head() if at is None else at
            try:
                records, more = _cut(await self._rows(request, at), request.max_bytes)
                if not (request.total or request.offset or request.exact):
                    return self._page(request, records, more, 0, revision)
                if at is None and await self.store.head() != revision:
                    # Someone wrote in between: read once more, everything as of one revision.
                    at = await self.store.head()
                    continue
                total = await self._total(request, revision) if request.total else 0
                page = self._page(request, records, more, total, revision)
                if not request.offset or not page.records:
                    return page
                return replace(page, offset=await self._before(request, page.records[0], revision))
            except Compacted:
                at = None

    async def scan(
        self,
        *,
        filter: Node = EVERYTHING,
        ordering: Ordering | None = None,
        parent: str | None = None,
        at: int,
    ) -> AsyncGenerator[Record, None]:
        """Every match at revision `at`, in a store order or by name."""
        request = PageRequest(0, ordering or Ordering(), filter, parent)
        async with aclosing(self._candidates(request, at)) as candidates:
            matches = self._predicate(filter)
            async for record in candidates:
                if matches is None or matches(self.definition.parse(record.body)):
                    yield record

    def _predicate(self, filter: Node) -> Predicate | None:
        return None if filter == EVERYTHING else compile(filter, self.definition.schema)

    def _query(self, request: PageRequest) -> Query:
        conditions = narrow(request.filter, self.definition.schema).conditions
        return Query(self.definition.kind, request.parent, conditions)

    def _pinned(self, request: PageRequest) -> tuple[str, ...] | None:
        return pinned(request.filter, self.definition.schema)

    async def _named(
        self, names: tuple[str, ...], parent: str | None, at: int | None
    ) -> AsyncGenerator[Record, None]:
        """The records of these names, by name."""
        found = await self.store.get_many(self.definition.kind, names, at=at)
        for name in sorted(found):
            if parent is None or found[name].parent == parent:
                yield found[name]

    def _candidates(
        self, request: PageRequest, at: int | None, limit: int | None = None
    ) -> AsyncGenerator[Record, None]:
        ordering, cursor = request.ordering, request.cursor
        names = self._pinned(request)
        if names is not None and cursor is None and ordering == Ordering():
            return self._named(names, request.parent, at)
        after = None if cursor is None else Position(cursor.values, cursor.name, cursor.inclusive)
        query = replace(
            self._query(request),
            order=ordering.store_order(),
            name_descending=ordering.name_descending,
            after=after,
            backward=cursor is not None and cursor.backward,
            limit=limit,
        )
        return self.store.scan(query, at=at)

    async def _rows(self, request: PageRequest, at: int | None) -> tuple[list[Record], bool]:
        """Up to `size` matches in reading order, and whether there is one more."""
        wanted = request.size + 1
        if not request.ordering.indexed or self._pinned(request) is not None:
            records = await self._sorted(request, at, wanted)
        elif request.filter == EVERYTHING:
            records = [record async for record in self._candidates(request, at, wanted)]
        else:
            matches = compile(request.filter, self.definition.schema)
            records = []
            async with aclosing(self._candidates(request, at)) as candidates:
                async for record in candidates:
                    if matches(self.definition.parse(record.body)):
                        records.append(record)
                        if len(records) == wanted:
                            break
        return records[: request.size], len(records) == wanted

    async def _sorted(self, request: PageRequest, at: int | None, wanted: int) -> list[Record]:
        """The first matches in an order that the store does not keep: reads all, holds few."""
        cursor = request.cursor
        backward = cursor is not None and cursor.backward
        key = request.ordering.sort_key(backward)
        matches = self._predicate(request.filter)
        bound = None if cursor is None else key((cursor.values, cursor.name))

        unordered = replace(request, ordering=Ordering(), cursor=None)
        kept: list[tuple[Place, Record]] = []
        async with aclosing(self._candidates(unordered, at)) as candidates:
            async for record in candidates:
                message = self.definition.parse(record.body)
                if matches is not None and not matches(message):
                    continue
                place = (request.ordering.values(message), record.name)
                if bound is not None and cursor is not None:
                    here = key(place)
                    if here < bound or (here == bound and not cursor.inclusive):
                        continue
                kept.append((place, record))
                if len(kept) > 4 * wanted + 256:
                    kept = heapq.nsmallest(wanted, kept, key=lambda entry: key(entry[0]))
        return [record for _, record in heapq.nsmallest(wanted, kept, key=lambda entry: key(entry[0]))]

    async def _total(self, request: PageRequest, revision: int) -> int:
        matches = self._predicate(request.filter)
        parent, parse, parent_of = request.parent, self.definition.parse, self.definition.parent

        def holds(body: bytes) -> bool:
            message = parse(body)
            if parent is not None and parent_of(message) != parent:
                return False
            return matches is None or matches(message)

        if narrow(request.filter, self.definition.schema).exact:
            return await self._counter.count(self._query(request), holds, revision)
        total = 0
        async with aclosing(self.scan(filter=request.filter, parent=parent, at=revision)) as found:
            async for _ in found:
                total += 1
        return total

    async def _before(self, request: PageRequest, first: Record, revision: int) -> int:
        """How many matches stand before `first` in list order."""
        cursor = replace(self._cursor(request.ordering, first), backward=True)
        earlier = replace(request, cursor=cursor)
        if not request.ordering.indexed:
            return len(await self._sorted(earlier, revision, _ALL))
        matches, count = self._predicate(request.filter), 0
        async with aclosing(self._candidates(earlier, revision)) as candidates:
            async for record in candidates:
                count += matches is None or matches(self.definition.parse(record.body))
        return count

    def _page(
        self, request: PageRequest, records: list[Record], more: bool, total: int, revision: int
    ) -> Page:
        backward = request.cursor is not None and request.cursor.backward
        rows = records[::-1] if backward else records
        after = before = None
        if backward:
            # The page is "up to the cursor": what follows it is the other side of the same cursor.
            assert request.cursor is not None
            after = replace(request.cursor, backward=False, inclusive=not request.cursor.inclusive)
            if more:
                before = replace(self._cursor(request.ordering, rows[0]), backward=True)
        else:
            if more:
                after = self._cursor(request.ordering, rows[-1])
            if request.cursor is not None:
                before = replace(request.cursor, backward=True, inclusive=not request.cursor.inclusive)
        return Page(rows, after, before, total, revision)

    def _cursor(self, ordering: Ordering, record: Record) -> Cursor:
        return Cursor(ordering.values(self.definition.parse(record.body)), record.name)

    # -- writing

    async def create(
        self, resource: T, by: Author, *, checks: Sequence[Check] = (), also: Sequence[Put | Delete] = ()
    ) -> Stored[T]:
        """Store a new resource. Raises InvalidArgument with all violations, or AlreadyExists when
        the name or a claim is taken."""
        changes = self.creation(resource)
        try:
            commit = await self.store.commit([*changes, *also], checks=checks, by=by)
        except Exists as error:
            raise self._exists(error, resource) from error
        return Stored(resource, commit.revision)

    async def update(
        self,
        name: str,
        change: Callable[[T], None],
        by: Author,
        *,
        also: Callable[[T], Sequence[Put | Delete]] = lambda new: (),
    ) -> Stored[T]:
        """Apply `change` to the current resource and store it, with the changes that `also` derives
        from it; nothing is written when all stays the same. Never works on a stale copy.
        Raises NotFound, InvalidArgument, AlreadyExists, Aborted."""
        for _ in range(_TRIES):
            record = await self.record(name)
            old = self.definition.parse(record.body)
            new = self.definition.parse(record.body)
            change(new)
            changes = [*self.replacement(new, old, record.revision), *also(new)]
            try:
                commit = await self.store.commit(changes, by=by)
            except Exists as error:
                raise self._exists(error, new) from error
            except Conflict:
                continue
            return Stored(new, commit.revision if commit.changes else record.revision)
        raise Aborted(f"{name} changes too fast; try again", kind=self.definition.kind, name=name)

    async def delete(self, name: str, by: Author, *, revision: int | None = None) -> int:
        """Remove it and free its claims; answers the revision of the removal. With `revision` it
        must still be at that one, else Aborted. Raises NotFound."""
        for _ in range(_TRIES):
            record = await self.record(name)
            if revision is not None and record.revision != revision:
                raise Aborted(
                    f"{name} is at revision {record.revision} now, not at {revision}; read it again",
                    kind=self.definition.kind,
                    name=name,
                )
            resource = self.definition.parse(record.body)
            checks = await self._strategy.guard_removal(resource, self.store)
            changes = self.removal(resource, record.revision)
            try:
                return (await self.store.commit(changes, checks=checks, by=by)).revision
            except Conflict:
                continue
        raise Unavailable(f"{name} changes too fast; try again")

    def creation(self, resource: T) -> list[Put | Delete]:
        """The changes that create `resource`, after its rules. Raises InvalidArgument."""
        self._rules(resource, None)
        return [*self._claim(resource), self._put(resource, Expect.ABSENT)]

    def replacement(self, new: T, old: T, revision: int) -> list[Put | Delete]:
        """The changes that turn `old`, stored at `revision`, into `new`. Raises InvalidArgument."""
        self._rules(new, old)
        held, wanted = set(self._strategy.claims(old)), set(self._strategy.claims(new))
        changes: list[Put | Delete] = [Delete(CLAIM.name, claim) for claim in sorted(held - wanted)]
        return [*changes, *self._claim(new, sorted(wanted - held)), self._put(new, revision)]

    def removal(self, resource: T, revision: int) -> list[Put | Delete]:
        """The changes that remove `resource`, stored at `revision`."""
        claims = [Delete(CLAIM.name, claim) for claim in self._strategy.claims(resource)]
        return [*claims, Delete(self.definition.kind, self.definition.name(resource), revision)]

    def claims(self, resource: T) -> frozenset[str]:
        """The names that `resource` holds beside its own."""
        return frozenset(self._strategy.claims(resource))

    def conflict(self, error: Conflict, resource: T) -> Exception:
        """What a caller is told whose commit failed on `error`."""
        if isinstance(error, Exists):
            return self._exists(error, resource)
        if isinstance(error, Missing):
            return self._not_found(error.name)
        return Aborted(f"{error.name} was changed meanwhile; read it again", kind=error.kind, name=error.name)

    def _rules(self, new: T, old: T | None) -> None:
        self._strategy.prepare(new, old)
        violations = self._strategy.validate(new, old)
        if violations:
            raise InvalidArgument.of(violations)
        self._strategy.canonicalize(new)

    def _claim(self, resource: T, claims: Iterable[str] | None = None) -> list[Put | Delete]:
        holder = self.definition.name(resource).encode()
        wanted = self._strategy.claims(resource) if claims is None else claims
        return [Put(CLAIM.name, claim, holder, expect=Expect.ABSENT) for claim in wanted]

    def _put(self, resource: T, expect: Expect | int) -> Put:
        definition = self.definition
        body = resource.SerializeToString(deterministic=True)
        return Put(definition.kind, definition.name(resource), body, definition.parent(resource), expect)

    def _exists(self, error: Exists, resource: T) -> AlreadyExists:
        name = self.definition.name(resource)
        message = self._strategy.taken(error.name, resource) if error.kind == CLAIM.name else f"{name} exists"
        return AlreadyExists(message, kind=self.definition.kind, name=name)

    def _not_found(self, name: str) -> NotFound:
        return NotFound(f"{self.definition.kind} {name!r} not found", kind=self.definition.kind, name=name)
