"""The five read methods of one type, built from its descriptors: the four types differ in names only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.meta import page_tokens
from services.meta.kinds import MetaKind
from shared.errors import InvalidArgument
from shared.pb.goten_sdk.types import watch_type_pb2
from shared.query import order_by
from shared.query.ast import EVERYTHING, Node
from shared.query.dialects import sqlish_print
from shared.query.evaluate import compile
from shared.query.order_by import Ordering
from shared.query.page_token import fingerprint
from shared.query.pushdown import narrow
from shared.resource.answers import Answers
from shared.resource.collection import Collection, Page, PageRequest
from shared.resource.projection import Projection
from shared.rpc import frames
from shared.rpc.method import Call
from shared.storage.errors import StoreError
from shared.storage.port import Query
from shared.watch import single, stateful
from shared.watch.memo import Memo
from shared.watch.stateful import Move, StatefulWatch
from shared.watch.stateless import Chunk, Start, Step, Watch
from shared.watch.tailer import Tailer

V = TypeVar("V")
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_BATCH: Final = 1000
MAX_CHUNK: Final = 100
MAX_STATEFUL_PAGE: Final = 500
MAX_WHOLE: Final = 10_000
# Default gRPC clients refuse answers above 4 MiB.
MAX_PAGE_BYTES: Final = 3 << 20
_FUTURE: Final = 60 * 10**9
# What says "no size here": clients take 0 for a real one.
NO_SIZE: Final = -1


@dataclass(frozen=True)
class Limits:
    """`heartbeat` and `bookmark`: seconds between messages of a silent stateless watch. `whole`: rows
    of a stateful watch without pages."""

    heartbeat: float = 30.0
    bookmark: float = 60.0
    whole: int = MAX_WHOLE


class MetaServicer:
    """Has GetX, BatchGetXs, ListXs, WatchX and WatchXs of `kind`."""

    def __init__(
        self,
        kind: MetaKind,
        service: ServiceDescriptor,
        collection: Collection[Any],
        tailer: Tailer,
        *,
        clock: Any,
        limits: Limits = Limits(),
    ) -> None:
        self._kind = kind
        self._collection = collection
        self._tailer = tailer
        self._clock = clock
        self._limits = limits
        answers = {m.name: GetMessageClass(m.output_type) for m in service.methods}
        one, many = kind.title, f"{kind.title}s"
        self._watch_answer = answers[f"Watch{one}"]
        self._watch_many_answer = answers[f"Watch{many}"]
        self._selection = lru_cache(256)(partial(_Selection.of, kind))
        self._changes = f"{kind.kind}_changes"
        self._lists = Answers(collection.store)
        # What requests without a mask are shown, by view.
        self._unmasked = {view: kind.views.projection(kind.message, view, ()) for view in kind.views.fields}
        # What watches of the same query are told, worked out once and serialized once.
        self._steps: Memo[Step] = Memo()
        self._moves: Memo[Move] = Memo()
        self._serialized: Memo[tuple[object, tuple[bytes, ...]]] = Memo()
        for name, handler in (
            (f"Get{one}", self.get),
            (f"BatchGet{many}", self.batch_get),
            (f"List{many}", self.list_page),
            (f"Watch{one}", self.watch_one),
            (f"Watch{many}", self.watch_many),
        ):
            setattr(self, name, handler)

    # -- reads

    async def get(self, request: Any, call: Call) -> bytes:
        projection = self._projection(request)
        self._qualified(request.name, "name")
        record = await self._collection.record(request.name)
        return projection.bytes(record.body)

    async def batch_get(self, request: Any, call: Call) -> bytes:
        projection = self._projection(request)
        if len(request.names) > MAX_BATCH:
            raise InvalidArgument.at(
                "names", f"has {len(request.names)} entries; at most {MAX_BATCH} are allowed"
            )
        names = list(dict.fromkeys(request.names))
        for index, name in enumerate(names):
            self._qualified(name, f"names[{index}]")
        found = await self._collection.store.get_many(self._kind.kind, names)
        there = [projection.bytes(found[name].body) for name in names if name in found]
        missing = [name.encode() for name in names if name not in found]
        # xs = 1, missing = 2
        return frames.messages(1, there) + frames.messages(2, missing)

    async def list_page(self, request: Any, call: Call) -> bytes:
        if request.include_paging_info:
            # May lack its numbers for once, and must not be remembered so.
            return await self._list(request)
        return await self._lists.get(request.SerializeToString(), lambda: self._list(request))

    async def _list(self, request: Any) -> bytes:
        projection = self._projection(request)
        if request.page_size < 0:
            raise InvalidArgument.at("page_size", f"must not be negative; {request.page_size} is")
        query = self._query(request)
        page_request = query.request(min(request.page_size or DEFAULT_PAGE, MAX_PAGE), request.page_token)
        page, total, offset = await self._page(page_request, request.include_paging_info)
        # xs = 1, prev_page_token = 3, next_page_token = 4, current_offset = 5, total_results_count = 6
        return (
            frames.messages(1, [projection.bytes(record.body) for record in page.records])
            + frames.text(3, page_tokens.encode(page.previous, query.fingerprint))
            + frames.text(4, page_tokens.encode(page.next, query.fingerprint))
            + frames.integer(5, offset)
            + frames.integer(6, total)
        )

    async def _page(self, request: PageRequest, counted: bool) -> tuple[Page, int, int]:
        """The page with its numbers; 0 and 0 when only the counting fails."""
        if not counted:
            return await self._collection.page(request), 0, 0
        try:
            page = await self._collection.page(
                PageRequest(
                    request.size,
                    request.ordering,
                    request.filter,
                    request.parent,
                    request.cursor,
                    total=True,
                    offset=True,
                    max_bytes=request.max_bytes,
                )
            )
        except StoreError:
            return await self._collection.page(request), 0, 0
        return page, page.total, page.offset

    # -- watches

    async def watch_one(self, request: Any, call: Call) -> AsyncGenerator[Message, None]:
        projection = self._projection(request)
        self._qualified(request.name, "name")
        record = await self._collection.record(request.name)
        changes = single.watch(self._collection.store, self._tailer, record, projection.bytes)
        async with aclosing(changes) as found:
            async for change in found:
                answer: Any = self._watch_answer()
                part = getattr(answer.change, change.kind)
                part.SetInParent()
                if change.kind != "added":
                    part.name = request.name
                if change.body is not None:
                    self._put(part, projection, change.body)
                yield answer

    def watch_many(self, request: Any, call: Call) -> AsyncGenerator[Message | bytes, None]:
        projection = self._projection(request)
        if not 0 <= request.max_chunk_size <= MAX_CHUNK:
            raise InvalidArgument.at(
                "max_chunk_size", f"must be 0 to {MAX_CHUNK}, not {request.max_chunk_size}"
            )
        if request.page_size < 0:
            raise InvalidArgument.at("page_size", f"must not be negative; {request.page_size} is")
        if request.type == watch_type_pb2.STATELESS:
            return self._stateless(request, projection)
        if request.type == watch_type_pb2.STATEFUL:
            return self._stateful(request, projection)
        raise InvalidArgument.at("type", f"there is no watch type {request.type}")

    async def _stateless(
        self, request: Any, projection: Projection[Any]
    ) -> AsyncGenerator[Message | bytes, None]:
        for name in ("page_size", "page_token", "order_by"):
            if getattr(request, name):
                raise InvalidArgument.at(name, "must not be set with type STATELESS")
        query = self._query(request)
        start = self._start(request)
        matches = query.matches()
        watch = Watch(
            self._collection.store,
            self._tailer,
            Query(self._kind.kind, query.parent, narrow(query.filter, self._kind.schema).conditions),
            matches,
            fingerprint("watch", query.fingerprint, str(projection)),
            request.max_chunk_size or MAX_CHUNK,
            shown=projection.bytes,
            bookmark_revisions=1,
            bookmark_seconds=self._limits.bookmark,
            heartbeat=self._limits.heartbeat,
            steps=self._steps,
        )
        async with aclosing(watch.run(start)) as chunks:
            async for chunk in chunks:
                if chunk.shared:
                    (answer,) = self._once(chunk, lambda c: (self._chunk(c, projection),))
                    yield answer
                else:
                    yield self._chunk(chunk, projection)

    def _once(self, told: V, answers: Callable[[V], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """The answers that say what other watches are told too, who see as much of it."""
        known = self._serialized.get(id(told))
        if known is None or known[0] is not told:
            known = (told, answers(told))
            # Holding what is told keeps its id from being another's.
            self._serialized.keep(id(told), known, 500 + sum(map(len, known[1])))
        return known[1]

    def _start(self, request: Any) -> Start:
        if not request.HasField("starting_time"):
            return Start(request.resume_token)
        if request.resume_token:
            raise InvalidArgument.at("starting_time", "cannot be combined with resume_token")
        try:
            at = request.starting_time.ToNanoseconds()
        except ValueError as error:
            raise InvalidArgument.at("starting_time", str(error)) from error
        now = self._clock()
        if at > now + _FUTURE:
            raise InvalidArgument.at("starting_time", "is more than a minute in the future")
        return Start(time=min(at, now))

    def _chunk(self, chunk: Chunk, projection: Projection[Any]) -> bytes:
        answer: Any = self._watch_many_answer(
            is_current=chunk.is_current,
            resume_token=chunk.token,
            snapshot_size=NO_SIZE if chunk.size is None else chunk.size,
            is_soft_reset=chunk.is_soft_reset,
            is_hard_reset=chunk.is_hard_reset,
        )
        changes = getattr(answer, self._changes)
        for record in chunk.current:
            self._put(changes.add().current, projection, record.body)
        for name in chunk.removed:
            changes.add().removed.name = name
        data: bytes = answer.SerializeToString()
        return data

    async def _stateful(
        self, request: Any, projection: Projection[Any]
    ) -> AsyncGenerator[Message | bytes, None]:
        if request.resume_token:
            raise InvalidArgument.at("resume_token", "must not be set with type STATEFUL")
        if request.HasField("starting_time"):
            raise InvalidArgument.at("starting_time", "must not be set with type STATEFUL")
        query = self._query(request)
        # A token asks for a page.
        whole = not request.page_size and not request.page_token and bool(request.max_chunk_size)
        if whole:
            page = query.request(self._limits.whole, "", max_bytes=None)
        else:
            size = min(request.page_size or DEFAULT_PAGE, MAX_STATEFUL_PAGE)
            page = query.request(size, request.page_token)
        watch = StatefulWatch(
            self._collection,
            self._tailer,
            page,
            projection.bytes,
            lambda page: (
                page_tokens.encode(page.previous, query.fingerprint),
                page_tokens.encode(page.next, query.fingerprint),
            ),
            whole,
            fingerprint(
                *("page", query.fingerprint, str(projection), str(page.size)),
                *(request.page_token, str(request.max_chunk_size)),
            ),
            self._moves,
        )
        async with aclosing(watch.run()) as sets:
            async for changes in sets:
                chunks = self._once(
                    changes, lambda c: self._row_changes(c, projection, request.max_chunk_size)
                )
                for answer in chunks:
                    yield answer

    def _row_changes(
        self, found: stateful.RowChanges, projection: Projection[Any], size: int
    ) -> tuple[bytes, ...]:
        size = size or max(1, len(found.changes))
        pieces = [found.changes[i : i + size] for i in range(0, len(found.changes), size)] or [()]
        answers: list[Any] = []
        for piece in pieces:
            answer: Any = self._watch_many_answer(snapshot_size=NO_SIZE)
            for change in piece:
                self._row_change(getattr(answer, self._changes).add(), change, projection)
            answers.append(answer)
        answers[-1].is_current = True
        if found.tokens is not None:
            change = answers[-1].page_token_change
            change.SetInParent()
            change.prev_page_token, change.next_page_token = found.tokens
        return tuple(answer.SerializeToString() for answer in answers)

    def _row_change(self, target: Any, change: stateful.RowChange, projection: Projection[Any]) -> None:
        match change:
            case stateful.Added(record, index):
                self._put(target.added, projection, record.body)
                target.added.view_index = index
            case stateful.Modified(record, previous, index):
                self._put(target.modified, projection, record.body)
                target.modified.name = record.name
                target.modified.previous_view_index = previous
                target.modified.view_index = index
            case stateful.Removed(name, index):
                target.removed.name = name
                target.removed.view_index = index

    # -- requests

    def _projection(self, request: Any) -> Projection[Any]:
        view: int = request.view
        if not request.HasField("field_mask") and view in self._unmasked:
            return self._unmasked[view]
        return self._kind.views.projection(self._kind.message, view, request.field_mask.paths)

    def _qualified(self, name: str, path: str) -> None:
        if self._kind.pattern.qualified(name):
            return
        if self._kind.pattern.accepts(name):
            raise InvalidArgument.at(path, f"{name!r} is not fully qualified: '-' names no single resource")
        raise InvalidArgument.at(path, f"{name!r} is not of the form {self._kind.pattern.template}")

    def _query(self, request: Any) -> _Selection:
        parent = request.parent if self._kind.parent is not None else ""
        return self._selection(parent, request.filter, request.order_by)

    def _put(self, target: Any, projection: Projection[Any], body: bytes) -> None:
        getattr(target, self._kind.kind).MergeFromString(projection.bytes(body))


@dataclass(frozen=True)
class _Selection:
    """What a request selects, in which order. Tokens are bound to `fingerprint`."""

    kind: MetaKind
    parent: str | None
    filter: Node
    ordering: Ordering
    fingerprint: str

    @classmethod
    def of(cls, kind: MetaKind, parent: str, filter: str, order: str) -> _Selection:
        """`parent` is that of a request, which kinds without parents do not have. Raises
        InvalidArgument."""
        below = _parent(kind, parent) if kind.parent is not None else None
        node = kind.dialect.parse(filter)
        ordering = order_by.parse(order, kind.schema)
        text = sqlish_print.text(node, kind.schema)
        return cls(kind, below, node, ordering, fingerprint(kind.kind, below or "-", text, str(ordering)))

    def request(self, size: int, token: str, *, max_bytes: int | None = MAX_PAGE_BYTES) -> PageRequest:
        cursor = page_tokens.decode(token, self.fingerprint, self.ordering) if token else None
        return PageRequest(size, self.ordering, self.filter, self.parent, cursor, max_bytes=max_bytes)

    def matches(self) -> Any:
        """A test of bodies."""
        if self.filter == EVERYTHING:
            return lambda body: True
        test, parse = compile(self.filter, self.kind.schema), self.kind.message.FromString
        return lambda body: test(parse(body))


def _parent(kind: MetaKind, parent: str) -> str | None:
    """None for every parent. An unknown one selects nothing."""
    assert kind.parent is not None
    if not kind.parent.accepts(parent):
        raise InvalidArgument.at("parent", f"{parent!r} is not of the form {kind.parent.template}")
    return parent if kind.parent.qualified(parent) else None
