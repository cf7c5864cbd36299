"""What applying a manifest, or removing an object, would write.

A plan compares what a manifest owns with what is stored, after the kinds' own rules, and checks what
must hold between resources afterwards. Committing it is one revision; a plan without changes commits
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from shared.admin import objects
from shared.admin.manifest import Item
from shared.admin.scope import Scope
from shared.errors import Aborted, ApiError, FailedPrecondition, InvalidArgument, Violation
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.resource import field_mask
from shared.resource.collection import Collection
from shared.resource.definition import CLAIM, Definition, Strategy
from shared.storage.port import Check, Delete, Expect, Put, Store

# Entries after which the event loop gets its turn.
_BREATH = 64
# Violations after which nobody needs to know of more.
_ENOUGH = 100
ScopeOf = Callable[[Definition[Any]], Scope]


@dataclass
class Plan:
    """`checks` are what it relies on: entries that stay as they are, and kinds whose relations were
    looked at."""

    changes: list[Put | Delete] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    differences: list[pb.Difference] = field(default_factory=list)
    unchanged: int = 0


@dataclass
class _Sources:
    """Where in the manifest things stand, for what is said of them."""

    # (kind, name) -> path of the entry.
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    # Entries that break a rule of their own. What they mean counts as there.
    refused: list[tuple[Collection, Item]] = field(default_factory=list)

    def refused_bodies(self) -> dict[tuple[str, str], bytes]:
        return {
            (c.definition.kind, c.definition.name(item.message)): item.message.SerializeToString()
            for c, item in self.refused
        }


class Planner:
    """Plans against the present of one store, whose kinds are `collections`."""

    def __init__(self, store: Store, collections: Mapping[str, Collection]) -> None:
        self._store = store
        self._collections = collections

    async def apply(self, items: Mapping[str, list[Item]], *, prune: bool, scope_of: ScopeOf) -> Plan:
        """Raises InvalidArgument with the first hundred violations, and PermissionDenied when an item
        is out of scope."""
        made, sources, wrong = Plan(), _Sources(), list[Violation]()
        head = await self._store.head()
        for kind, entries in items.items():
            collection = self._collections[kind]
            scope = scope_of(collection.definition)
            named = await self._plan_items(made, sources, collection, entries, scope, wrong)
            if prune and not wrong:
                await self._plan_removals(made, collection, named, scope, wrong)
        if not wrong:
            made.changes = _merged(made.changes)
        made.checks = list(dict.fromkeys(made.checks)) if prune else []
        if len(wrong) < _ENOUGH:
            wrong += await self._relations(made, head, sources)
        if not wrong:
            wrong += await self._held(made, sources)
        if wrong:
            raise InvalidArgument.of(wrong)
        return made

    async def removal(self, collection: Collection, name: str, revision: int | None, scope: Scope) -> Plan:
        """Of one object, which must still be at `revision` if that is given. Raises NotFound,
        PermissionDenied, Aborted, and FailedPrecondition when something that stays needs it."""
        head = await self._store.head()
        record = await collection.record(name)
        kind = collection.definition.kind
        old = collection.definition.parse(record.body)
        scope.check(old)
        if revision is not None and record.revision != revision:
            raise Aborted(
                f"{name} is at revision {record.revision} now, not at {revision}; read it again",
                kind=kind,
                name=name,
            )
        guards = await _strategy(collection).guard_removal(old, self._store)
        made = Plan(collection.removal(old, record.revision), list(guards))
        made.differences.append(objects.difference(collection.definition, name, old, None))
        wrong = await self._relations(made, head, _Sources())
        if wrong:
            text = "; ".join(f"{violation.field}: {violation.description}" for violation in wrong[:5])
            raise FailedPrecondition(f"{name} is still needed: {text}", kind=kind, name=name)
        return made

    async def _plan_items(
        self,
        made: Plan,
        sources: _Sources,
        collection: Collection,
        entries: Sequence[Item],
        scope: Scope,
        wrong: list[Violation],
    ) -> set[str]:
        """The names that the items mean."""
        named: dict[str, str] = {}
        claimed: dict[str, str] = {}
        kind, strategy = collection.definition.kind, _strategy(collection)
        for index, item in enumerate(entries):
            await _breathe(index)
            if len(wrong) >= _ENOUGH:
                break
            try:
                name, new = await _plan_item(made, collection, item, scope)
            except InvalidArgument as error:
                sources.refused.append((collection, item))
                wrong.extend(
                    Violation(f"{item.path}.{v.field}".rstrip("."), v.description)
                    for v in error.violations or [Violation("", error.message)]
                )
                continue
            sources.paths.setdefault((kind, name), item.path)
            first = named.setdefault(name, item.path)
            if first != item.path:
                wrong.append(Violation(item.path, f"is the same {kind} as {first}"))
                continue
            for claim in collection.claims(new):
                first = claimed.setdefault(claim, item.path)
                if first != item.path:
                    same = f"{strategy.taken(claim, new)}:" if strategy.related else f"is the same {kind} as"
                    wrong.append(Violation(item.path, f"{same} {first}"))
        return set(named)

    async def _plan_removals(
        self, made: Plan, collection: Collection, kept: set[str], scope: Scope, wrong: list[Violation]
    ) -> None:
        definition = collection.definition
        at = await self._store.head()
        async with aclosing(collection.scan(filter=scope.filter, at=at)) as records:
            index = 0
            async for record in records:
                index += 1
                await _breathe(index)
                if record.name in kept:
                    continue
                old = definition.parse(record.body)
                try:
                    made.checks += await _strategy(collection).guard_removal(old, self._store)
                except ApiError as error:
                    wrong.append(Violation(definition.plural, f"lacks what must stay: {error.message}"))
                    continue
                made.changes += collection.removal(old, record.revision)
                made.differences.append(objects.difference(definition, record.name, old, None))

    # -- between resources

    async def _relations(self, made: Plan, head: int, sources: _Sources) -> list[Violation]:
        """What would be wrong between resources. Decided on the kinds as of `head`, which the commit
        checks once more."""
        related = [c for c in self._collections.values() if _strategy(c).related]
        if not related or not (made.changes or sources.refused):
            return []
        made.checks += [Check(c.definition.kind, None, head) for c in related]
        written = {
            (change.kind, change.name): change.body for change in made.changes if isinstance(change, Put)
        }
        removed = {(change.kind, change.name) for change in made.changes} - written.keys()
        planned: dict[tuple[str, str], bytes | None] = {**written, **dict.fromkeys(removed)}
        planned |= sources.refused_bodies()

        async def after(kind: str, name: str) -> bytes | None:
            if (kind, name) in planned:
                return planned[kind, name]
            record = await self._store.get(kind, name)
            return None if record is None else record.body

        wrong: list[Violation] = []
        for collection, item in sources.refused:
            found = await _strategy(collection).relations(item.message, after)
            wrong += [Violation(f"{item.path}.{v.field}", v.description) for v in found]
        for collection in related:
            everything = bool(removed) or _strategy(collection).entangled
            async for name, resource in self._after(collection, written, planned, everything=everything):
                place = sources.paths.get((collection.definition.kind, name))
                for v in await _strategy(collection).relations(resource, after):
                    path = f"{place}.{v.field}" if place else f"{name}: {v.field}"
                    wrong.append(Violation(path, v.description))
        return wrong

    async def _held(self, made: Plan, sources: _Sources) -> list[Violation]:
        """Claims of related kinds that something holds which the plan leaves as it is."""
        wrong: list[Violation] = []
        for change in made.changes:
            collection = self._collections.get(change.kind)
            if collection is None or not isinstance(change, Put) or not _strategy(collection).related:
                continue
            resource = collection.definition.parse(change.body)
            for claim in collection.claims(resource):
                wanted = any(c.name == claim and _is_new_claim(c) for c in made.changes)
                held = await self._store.get(CLAIM.name, claim) if wanted else None
                if held is not None:
                    path = sources.paths.get((change.kind, change.name), change.name)
                    said = f"{_strategy(collection).taken(claim, resource)}: {held.body.decode()}"
                    wrong.append(Violation(path, said))
        return wrong

    async def _after(
        self,
        collection: Collection,
        written: Mapping[tuple[str, str], bytes],
        planned: Mapping[tuple[str, str], bytes | None],
        *,
        everything: bool,
    ) -> Any:
        """(name, resource) of what is written, and with `everything` of what stays as well: a removal
        can break what nobody touched."""
        definition = collection.definition
        for (kind, name), body in written.items():
            if kind == definition.kind:
                yield name, definition.parse(body)
        if not everything:
            return
        async with aclosing(collection.scan(at=await self._store.head())) as records:
            async for record in records:
                if (definition.kind, record.name) not in planned:
                    yield record.name, definition.parse(record.body)


async def _plan_item(made: Plan, collection: Collection, item: Item, scope: Scope) -> tuple[str, Message]:
    definition, strategy = collection.definition, _strategy(collection)
    submitted = list(strategy.submitted(item.message))
    name = await strategy.locate(item.message, collection.store)
    record = await collection.store.get(definition.kind, name) if name else None
    old = None if record is None else definition.parse(record.body)
    new = definition.message()
    try:
        if record is None or old is None:
            new.CopyFrom(item.message)
            changes = collection.creation(new)
        else:
            new.CopyFrom(old)
            field_mask.merge(item.message, new, item.owned)
            scope.check(old)
            changes = collection.replacement(new, old, record.revision)
    except InvalidArgument as error:
        raise InvalidArgument.of([*submitted, *error.violations]) from error
    if submitted:
        raise InvalidArgument.of(submitted)
    scope.check(new)
    name = definition.name(new)
    if record is not None and new == old:
        made.unchanged += 1
        made.checks.append(Check(definition.kind, name, record.revision))
    else:
        made.changes += changes
        made.differences.append(objects.difference(definition, name, old, new))
    return name, new


async def _breathe(index: int) -> None:
    """Reads may answer without ever waiting, so a long plan lets others run now and then."""
    if index % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _is_new_claim(change: Put | Delete) -> bool:
    return change.kind == CLAIM.name and isinstance(change, Put) and change.expect is Expect.ABSENT


def _strategy(collection: Collection) -> Strategy[Any]:
    return collection.definition.strategy or Strategy()


def _merged(changes: list[Put | Delete]) -> list[Put | Delete]:
    """One change a record: a claim that one item lets go of and another takes changes hands."""
    found: dict[tuple[str, str], Put | Delete] = {}
    for change in changes:
        key = (change.kind, change.name)
        other = found.get(key)
        if other is None:
            found[key] = change
            continue
        put = other if isinstance(other, Put) else change
        assert change.kind == CLAIM.name and isinstance(put, Put) and type(other) is not type(change)
        found[key] = Put(put.kind, put.name, put.body, put.parent, Expect.PRESENT)
    return list(found.values())
