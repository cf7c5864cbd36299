"""Declarative manifests: YAML lists named by kind, in proto field names.

A plan compares what a manifest owns with what is stored, after the kinds' own rules. Committing it
is one revision; a plan without changes commits nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from shared.admin import document, objects
from shared.admin.scope import Scope
from shared.errors import ApiError, InvalidArgument, Violation
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.resource import field_mask
from shared.resource.collection import Collection
from shared.resource.definition import CLAIM, Definition
from shared.storage.port import Check, Delete, Expect, Put

# Entries after which the event loop gets its turn.
_BREATH = 64
# Violations after which nobody needs to know of more.
_ENOUGH = 100


@dataclass
class Plan:
    """What applying a manifest would do."""

    changes: list[Put | Delete] = field(default_factory=list)
    # What removals rely on: entries that stay as they are, and what else let them go.
    checks: list[Check] = field(default_factory=list)
    differences: list[pb.Difference] = field(default_factory=list)
    unchanged: int = 0


@dataclass(frozen=True)
class Item:
    """One entry of a list: where it stands, what it says, and the paths it owns."""

    path: str
    message: Message
    owned: tuple[str, ...]


def read(text: str, collections: Mapping[str, Collection]) -> dict[str, list[Item]]:
    """The items by kind. Raises InvalidArgument with the first hundred things that are wrong. Takes
    seconds for megabytes: call it in a thread."""
    lists = document.load(text)
    if not isinstance(lists, dict):
        raise InvalidArgument.at("manifest", "must be a mapping from a list's name to the list")
    by_plural = {c.definition.plural: c for c in collections.values() if c.definition.strategy is not None}
    wrong: list[Violation] = []
    found: dict[str, list[Item]] = {}
    for plural, entries in lists.items():
        if len(wrong) >= _ENOUGH:
            break
        collection = by_plural.get(plural)
        if collection is None:
            known = ", ".join(sorted(by_plural)) or "none"
            wrong.append(Violation(plural, f"is no list of this service; it has {known}"))
        elif not isinstance(entries, list):
            wrong.append(Violation(plural, "must be a list"))
        else:
            items = found.setdefault(collection.definition.kind, [])
            for index, entry in enumerate(entries):
                if len(wrong) >= _ENOUGH:
                    break
                item = _item(collection, f"{plural}[{index}]", entry, wrong)
                if item is not None:
                    items.append(item)
    if wrong:
        raise InvalidArgument.of(wrong)
    return found


async def plan(
    items: Mapping[str, list[Item]],
    collections: Mapping[str, Collection],
    *,
    prune: bool,
    scope_of: Callable[[Definition], Scope],
) -> Plan:
    """Compare with the store. Raises InvalidArgument with the first hundred violations, and
    PermissionDenied when an item is out of scope."""
    made = Plan()
    wrong: list[Violation] = []
    for kind, entries in items.items():
        collection = collections[kind]
        scope = scope_of(collection.definition)
        named: dict[str, str] = {}
        claimed: dict[str, str] = {}
        for index, item in enumerate(entries):
            await _breathe(index)
            if len(wrong) >= _ENOUGH:
                break
            try:
                name, new = await _plan_item(made, collection, item, scope)
            except InvalidArgument as error:
                wrong.extend(
                    Violation(f"{item.path}.{v.field}".rstrip("."), v.description)
                    for v in error.violations or [Violation("", error.message)]
                )
                continue
            same = [named.setdefault(name, item.path)]
            same += [claimed.setdefault(claim, item.path) for claim in collection.claims(new)]
            others = [path for path in same if path != item.path]
            if others:
                wrong.append(Violation(item.path, f"is the same {kind} as {others[0]}"))
        if prune and not wrong:
            await _plan_removals(made, collection, named.keys(), scope, wrong)
    if wrong:
        raise InvalidArgument.of(wrong)
    made.changes = _merged(made.changes)
    made.checks = list(dict.fromkeys(made.checks)) if prune else []
    return made


async def _breathe(index: int) -> None:
    """Reads may answer without ever waiting, so a long plan lets others run now and then."""
    if index % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


async def _plan_item(made: Plan, collection: Collection, item: Item, scope: Scope) -> tuple[str, Message]:
    definition = collection.definition
    assert definition.strategy is not None
    name = await definition.strategy.locate(item.message, collection.store)
    record = await collection.store.get(definition.kind, name) if name else None
    if record is None:
        new = definition.message()
        new.CopyFrom(item.message)
        changes = collection.creation(new)
        scope.check(new)
        made.changes += changes
        name = definition.name(new)
        made.differences.append(objects.difference(definition, name, None, new))
        return name, new
    old, new = definition.parse(record.body), definition.parse(record.body)
    field_mask.merge(item.message, new, item.owned)
    scope.check(old)
    changes = collection.replacement(new, old, record.revision)
    scope.check(new)
    if new == old:
        made.unchanged += 1
        made.checks.append(Check(definition.kind, name, record.revision))
    else:
        made.changes += changes
        made.differences.append(objects.difference(definition, name, old, new))
    return name, new


async def _plan_removals(
    made: Plan, collection: Collection, kept: Iterable[str], scope: Scope, wrong: list[Violation]
) -> None:
    definition, keep = collection.definition, frozenset(kept)
    assert definition.strategy is not None
    at = await collection.store.head()
    async with aclosing(collection.scan(filter=scope.filter, at=at)) as records:
        index = 0
        async for record in records:
            index += 1
            await _breathe(index)
            if record.name in keep:
                continue
            old = definition.parse(record.body)
            try:
                made.checks += await definition.strategy.guard_removal(old, collection.store)
            except ApiError as error:
                wrong.append(Violation(definition.plural, f"lacks what must stay: {error.message}"))
                continue
            made.changes += collection.removal(old, record.revision)
            made.differences.append(objects.difference(definition, record.name, old, None))


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


def _item(collection: Collection, path: str, entry: object, wrong: list[Violation]) -> Item | None:
    definition = collection.definition
    if not isinstance(entry, dict):
        wrong.append(Violation(path, "must be a mapping of fields"))
        return None
    message = definition.message()
    try:
        json_format.ParseDict(entry, message)
    except (json_format.Error, ValueError, TypeError, OverflowError, AttributeError) as error:
        wrong.append(Violation(path, str(error)))
        return None
    owned = tuple(_owned(entry, definition.message.DESCRIPTOR))
    twice = sorted({field for field in owned if owned.count(field) > 1})
    if twice:
        wrong.append(Violation(f"{path}.{twice[0]}", "is given twice, in two spellings"))
        return None
    return Item(path, message, owned)


def _owned(entry: Mapping[str, Any], descriptor: Any, prefix: str = "") -> Iterable[str]:
    """Paths of what an entry sets: through messages, but lists and maps are owned whole."""
    for key, value in entry.items():
        spec = descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name[key]
        nested = spec.message_type if not spec.is_repeated else None
        ours = nested is not None and not nested.full_name.startswith("google.protobuf.")
        if ours and isinstance(value, dict) and value:
            yield from _owned(value, nested, f"{prefix}{spec.name}.")
        else:
            yield f"{prefix}{spec.name}"
