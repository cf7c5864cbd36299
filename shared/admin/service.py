"""roundhouse.admin.v1.AdminService: reads, writes, history and watches of any kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from shared.admin import manifest, objects, scope
from shared.admin.plan import Plan, Planner
from shared.errors import Aborted, FailedPrecondition, InvalidArgument, PermissionDenied
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.query import page_token
from shared.query.ast import EVERYTHING, And, Node
from shared.query.dialects import selector
from shared.query.evaluate import compile
from shared.query.pushdown import narrow
from shared.resource.collection import Collection, PageRequest
from shared.resource.definition import CLAIM, Definition
from shared.rpc.method import Call
from shared.storage.errors import Compacted, Conflict, Exists
from shared.storage.port import AuditEntry, Author, Check, Query, Store
from shared.watch.stateless import Chunk, Start, Watch
from shared.watch.tailer import Tailer

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AdminService"]
_TRIES: Final = 8
# Characters; larger manifests are read one at a time, for each takes up to a gigabyte meanwhile.
_SMALL_MANIFEST: Final = 65_536
_LIST_KEYS: Final = page_token.CURSOR_KEYS | {"q"}
_BEFORE_KEYS: Final = frozenset({"r", "q"})
# A page of the audit trail reads so many commits at once, and so often, until it is full.
_AUDIT_BATCH: Final = 500
_AUDIT_READS: Final = 40
# Each of them is a comparison for each commit that is looked at.
_EXCLUDED: Final = 50
# Where kinds have their labels, those that have any.
_LABELS: Final = ("labels", "metadata.labels")


class AdminService:
    """`collections` are the kinds of this process, `access` the store of users and tokens with the
    kinds of it that people may see in the audit trail."""

    def __init__(
        self,
        store: Store,
        tailer: Tailer,
        collections: Sequence[Collection],
        *,
        access: Store,
        access_kinds: frozenset[str],
    ) -> None:
        self._store = store
        self._tailer = tailer
        self._collections: Mapping[str, Collection] = {c.definition.kind: c for c in collections}
        self._planner = Planner(store, self._collections)
        self._turn = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._audited = {
            "": (store, frozenset(self._collections)),
            "access": (access, access_kinds),
        }

    async def ListKinds(self, request: pb.ListKindsRequest, call: Call) -> pb.ListKindsResponse:
        return pb.ListKindsResponse(
            kinds=[
                pb.Kind(
                    kind=d.kind,
                    plural=d.plural,
                    message=d.message.DESCRIPTOR.full_name,
                    fields=d.schema.names,
                    writable=d.strategy is not None,
                )
                for d in (c.definition for c in self._collections.values())
            ]
        )

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.Object:
        collection = self._collection(request.kind)
        definition = collection.definition
        record = await collection.record(_named(request.name))
        scope.of(definition, call.identity).check(definition.parse(record.body))
        return objects.shown(definition, record)

    async def List(self, request: pb.ListRequest, call: Call) -> pb.ListResponse:
        collection = self._collection(request.kind)
        definition = collection.definition
        allowed = scope.of(definition, call.identity)
        filter = allowed.within(_wanted(definition, request))
        ordering = definition.ordering(request.order_by)
        query = page_token.fingerprint(
            definition.kind, request.filter, request.selector, str(ordering), allowed.text
        )
        cursor = None
        if request.page_token:
            payload = page_token.decode(request.page_token, _LIST_KEYS)
            if payload["q"] != query:
                raise InvalidArgument.at("page_token", "is of another query; start again without it")
            cursor = page_token.cursor(payload, ordering)
        size = _size(request.page_size, default=100, most=1000)
        page = await collection.page(PageRequest(size, ordering, filter, cursor=cursor, total=True))
        tokens = [
            page_token.encode({**side.payload(), "q": query}) if side is not None else ""
            for side in (page.next, page.previous)
        ]
        return pb.ListResponse(
            objects=[objects.shown(definition, record) for record in page.records],
            next_page_token=tokens[0],
            prev_page_token=tokens[1],
            total_size=page.total,
            revision=page.revision,
        )

    async def Apply(self, request: pb.ApplyRequest, call: Call) -> pb.ApplyResponse:
        if request.revision < 0:
            raise InvalidArgument.at("revision", "must not be negative")
        items = await self._read(request.manifest)
        unchanged = [Check(kind, None, request.revision) for kind in items] if request.revision else []

        async def plan() -> Plan:
            made = await self._planner.apply(
                items, prune=request.prune, scope_of=lambda definition: scope.of(definition, call.identity)
            )
            made.checks += unchanged
            return made

        by = call.author("manifest:apply")
        made, revision = await self._carry_out(plan, by, request.dry_run, tries=1 if unchanged else _TRIES)
        return pb.ApplyResponse(differences=made.differences, unchanged=made.unchanged, revision=revision)

    async def _read(self, text: str) -> dict[str, list[manifest.Item]]:
        if len(text) <= _SMALL_MANIFEST:
            return await asyncio.to_thread(manifest.read, text, self._collections)
        async with self._reading:
            return await asyncio.to_thread(manifest.read, text, self._collections)

    async def Delete(self, request: pb.DeleteRequest, call: Call) -> pb.DeleteResponse:
        collection = self._collection(request.kind)
        if collection.definition.strategy is None:
            raise FailedPrecondition(
                f"{request.kind} cannot be deleted through this API: see that of its service, or the console",
                kind=request.kind,
            )
        if request.revision < 0:
            raise InvalidArgument.at("revision", "must not be negative")
        name, allowed = _named(request.name), scope.of(collection.definition, call.identity)

        async def plan() -> Plan:
            return await self._planner.removal(collection, name, request.revision or None, allowed)

        _, revision = await self._carry_out(plan, call.author(f"{request.kind}:delete"), False)
        return pb.DeleteResponse(revision=revision)

    async def _carry_out(
        self, plan: Callable[[], Awaitable[Plan]], by: Author, dry_run: bool, *, tries: int = _TRIES
    ) -> tuple[Plan, int]:
        """Plan and commit, anew when someone wrote in between; answers the revision, too. Whoever was
        too late once waits for its turn: of many callers at once all get on."""
        for attempt in range(tries):
            async with self._turn if attempt else contextlib.nullcontext():
                done = await self._attempt(plan, by, dry_run)
            if done is not None:
                return done
        if tries == 1:
            raise Aborted("someone wrote in between; nothing was written, look at the difference again")
        raise Aborted("others write the same objects too fast; nothing was written, try again")

    async def _attempt(
        self, plan: Callable[[], Awaitable[Plan]], by: Author, dry_run: bool
    ) -> tuple[Plan, int] | None:
        """None when someone wrote in between."""
        known = await self._store.head()
        try:
            made = await plan()
            if dry_run:
                return made, known
            if not made.changes:
                return made, await self._store.head()
            commit = await self._store.commit(made.changes, checks=made.checks, by=by)
        except Exists as error:
            if error.kind == CLAIM.name and error.actual <= known:
                raise self._taken(made, error) from error
            return None
        except (Conflict, Compacted):
            return None
        return made, commit.revision

    def _taken(self, plan: Plan, error: Exists) -> Exception:
        """What is said of a claim that something holds which the manifest leaves as it is."""
        for difference in plan.differences:
            collection = self._collections[difference.kind]
            new = collection.definition.parse(difference.after.value)
            if error.name in collection.claims(new):
                return collection.conflict(error, new)
        raise error

    async def Export(self, request: pb.ExportRequest, call: Call) -> AsyncGenerator[pb.Object, None]:
        wanted = [self._collection(kind, "kinds") for kind in dict.fromkeys(request.kinds)] or list(
            self._collections.values()
        )
        at = await self._store.head()
        for collection in wanted:
            definition = collection.definition
            allowed = scope.of(definition, call.identity).filter
            async with aclosing(collection.scan(filter=allowed, at=at)) as records:
                async for record in records:
                    yield objects.shown(definition, record)

    async def History(self, request: pb.HistoryRequest, call: Call) -> pb.HistoryResponse:
        definition = self._collection(request.kind).definition
        query = page_token.fingerprint("history", definition.kind, _named(request.name))
        size = _size(request.page_size, default=50, most=500)
        found = await self._store.history(
            definition.kind, request.name, before=_before(request.page_token, query), limit=size + 1
        )
        allowed = scope.of(definition, call.identity)
        for version in found:
            images = (version.change.before, version.change.after)
            allowed.check(*(definition.parse(image) for image in images if image is not None))
        return pb.HistoryResponse(
            versions=[objects.version(definition, version) for version in found[:size]],
            next_page_token=_next(found[size - 1].revision, query) if len(found) > size else "",
        )

    async def ListAudit(self, request: pb.ListAuditRequest, call: Call) -> pb.ListAuditResponse:
        audited = self._audited.get(request.store)
        if audited is None:
            raise InvalidArgument.at("store", f"{request.store!r} is neither empty nor 'access'")
        store, kinds = audited
        excluded = sorted(set(request.excluded_actions))
        if len(excluded) > _EXCLUDED:
            raise InvalidArgument.at("excluded_actions", f"holds {len(excluded)}; at most {_EXCLUDED} may be")
        query = page_token.fingerprint(
            "audit", request.store, request.kind, request.name, request.subject, *excluded
        )
        size = _size(request.page_size, default=50, most=500)
        before, limit = _before(request.page_token, query), size + 1
        shown: list[AuditEntry] = []
        for _ in range(_AUDIT_READS):
            found = await store.audit(
                before=before,
                limit=limit,
                kind=request.kind or None,
                name=request.name or None,
                subject=request.subject or None,
                excluded_actions=excluded,
            )
            shown += (entry for entry in found if _tells(entry, kinds))
            # A page that is not full in the end is not the last: the next one goes on behind it.
            before = found[-1].revision if len(found) == limit else None
            if before is None or len(shown) > size:
                break
            limit = _AUDIT_BATCH
        if len(shown) > size:
            before = shown[size - 1].revision
        return pb.ListAuditResponse(
            entries=[objects.audit(entry, kinds) for entry in shown[:size]],
            next_page_token=_next(before, query) if before is not None else "",
        )

    async def Watch(self, request: pb.WatchRequest, call: Call) -> AsyncGenerator[pb.WatchResponse, None]:
        definition = self._collection(request.kind).definition
        if request.resume_token and request.from_now:
            raise InvalidArgument.at("from_now", "cannot be combined with resume_token")
        namespaces = call.identity.namespaces
        allowed = scope.of(definition, call.identity)
        filter = allowed.within(_wanted(definition, request))
        test = compile(filter, definition.schema)
        watch = Watch(
            self._store,
            self._tailer,
            Query(definition.kind, where=narrow(filter, definition.schema).conditions),
            (lambda body: True) if filter == EVERYTHING else (lambda body: test(definition.parse(body))),
            page_token.fingerprint("watch", definition.kind, request.filter, request.selector, allowed.text),
        )
        async with aclosing(watch.run(Start(request.resume_token, now=request.from_now))) as chunks:
            async for chunk in chunks:
                if definition.namespace and call.identity.namespaces != namespaces:
                    raise PermissionDenied("the namespaces that you may touch have changed; watch again")
                yield self._shown(chunk)

    def _shown(self, chunk: Chunk) -> pb.WatchResponse:
        response = pb.WatchResponse(
            is_current=chunk.is_current,
            resume_token=chunk.token,
            # A soft reset is amid a snapshot, which is all that the client holds then.
            is_hard_reset=chunk.is_hard_reset or chunk.is_soft_reset,
            revision=chunk.revision,
        )
        for record in chunk.current:
            definition = self._collections[record.kind].definition
            response.changes.add(current=objects.shown(definition, record))
        for name in chunk.removed:
            response.changes.add(removed=name)
        return response

    def _collection(self, kind: str, parameter: str = "kind") -> Collection:
        found = self._collections.get(kind)
        if found is None:
            known = ", ".join(sorted(self._collections))
            raise InvalidArgument.at(parameter, f"{kind!r} is no kind of this service; it has {known}")
        return found


def _wanted(definition: Definition, request: pb.ListRequest | pb.WatchRequest) -> Node:
    """What meets the filter and the selector. Raises InvalidArgument."""
    filter = definition.parse_filter(request.filter)
    if not request.selector:
        return filter
    for path in _LABELS:
        field = definition.schema.find(path)
        if field is not None and field.type == "map":
            chosen = selector.parse(request.selector, parameter="selector").node(path)
            return chosen if filter == EVERYTHING else And((filter, chosen))
    raise InvalidArgument.at("selector", f"{definition.plural} have no labels to choose by; use filter")


def _named(name: str) -> str:
    if not name:
        raise InvalidArgument.at("name", "must not be empty")
    return name


def _size(asked: int, *, default: int, most: int) -> int:
    if asked < 0:
        raise InvalidArgument.at("page_size", f"must not be negative; {asked} is")
    return min(asked or default, most)


def _tells(entry: AuditEntry, kinds: frozenset[str]) -> bool:
    """Not one that wrote only what a service keeps for itself, such as a controller's sign of life."""
    return not entry.changes or any(change.kind in kinds for change in entry.changes)


def _next(revision: int, query: str) -> str:
    return page_token.encode({"r": revision, "q": query})


def _before(token: str, query: str) -> int | None:
    """The revision below which the next page begins."""
    if not token:
        return None
    payload = page_token.decode(token, _BEFORE_KEYS)
    if payload["q"] != query or type(payload["r"]) is not int or not 0 < payload["r"] < 2**63:
        raise InvalidArgument.at("page_token", "is of another query; start again without it")
    return payload["r"]
