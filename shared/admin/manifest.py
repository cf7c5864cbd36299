"""Declarative manifests: YAML lists named by kind, in proto field names.

A plan compares what a manifest owns with what is stored, after the kinds' own rules. Committing it
is one revision; a plan without changes commits nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from shared.admin import document
from shared.errors import InvalidArgument, Violation
from shared.resource.collection import Collection

# Violations after which nobody needs to know of more.
_ENOUGH = 100


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
