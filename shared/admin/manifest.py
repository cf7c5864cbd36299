"""Declarative manifests: YAML lists named by kind, in proto field names.

A plan compares what a manifest owns with what is stored, after the kinds' own rules. Committing it
is one revision; a plan without changes commits nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.message import Message

from shared.errors import InvalidArgument, Violation
from shared.resource.collection import Collection

MAX_CHARACTERS = 8 << 20


@dataclass(frozen=True)
class Item:
    """One entry of a list: where it stands, what it says, and the paths it owns."""

    path: str
    message: Message
    owned: tuple[str, ...]


def read(text: str, collections: Mapping[str, Collection]) -> dict[str, list[Item]]:
    """The items by kind. Raises InvalidArgument with everything that is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument.at("manifest", f"is longer than {MAX_CHARACTERS} characters")
    try:
        lists = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArgument.at("manifest", f"is no YAML: {error}") from error
    if not isinstance(lists, dict):
        raise InvalidArgument.at("manifest", "must be a mapping from a list's name to the list")
    by_plural = {c.definition.plural: c for c in collections.values() if c.definition.strategy is not None}
    wrong: list[Violation] = []
    found: dict[str, list[Item]] = {}
    for plural, entries in lists.items():
        collection = by_plural.get(plural) if isinstance(plural, str) else None
        if collection is None:
            known = ", ".join(sorted(by_plural)) or "none"
            wrong.append(Violation(str(plural), f"is no list of this service; it has {known}"))
        elif not isinstance(entries, list):
            wrong.append(Violation(plural, "must be a list"))
        else:
            items = found.setdefault(collection.definition.kind, [])
            for index, entry in enumerate(entries):
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
        json_format.ParseDict(_jsonable(entry), message)
    except (json_format.Error, ValueError, TypeError, OverflowError, AttributeError) as error:
        wrong.append(Violation(path, str(error)))
        return None
    return Item(path, message, tuple(_owned(entry, definition.message.DESCRIPTOR)))


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


def _jsonable(value: Any) -> Any:
    """YAML's values as JSON has them; keys of maps become text."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key): _jsonable(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        return _joined(value)
    if isinstance(value, datetime | date):
        raise ValueError(f"{value} reads as a date in YAML; put it in quotes")
    return value


def _joined(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, which YAML reads one by one. Raises
    ValueError for a half that stands alone."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ValueError("half of a surrogate pair stands alone: this is no Unicode text") from error


class _Loader(yaml.SafeLoader):
    """Times stay text, as JSON has them; aliases are refused, for they can grow without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not supported")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
