"""A manifest's text as plain values: one YAML or JSON document in which nothing is lost in silence.

YAML is read with libyaml, which is fast and would follow nesting until the process dies; so a first
pass over its events refuses what manifests have no use for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from shared.errors import InvalidArgument

MAX_CHARACTERS: Final = 8 << 20
MAX_DEPTH: Final = 32
_TEXT_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """The value that `text` holds: dicts with text as keys, lists, text, numbers, booleans and None.
    Raises InvalidArgument naming `manifest`, also for a key that stands twice, for aliases (which can
    grow without bound), for tags, and for nesting beyond MAX_DEPTH."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument.at("manifest", f"is longer than {MAX_CHARACTERS} characters")
    try:
        return _plain(_json(text) if text.lstrip()[:1] == "{" else _yaml(text), MAX_DEPTH)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArgument.at("manifest", f"cannot be read: {error}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        return _yaml(text)  # it has braces as well


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _yaml(text: str) -> Any:
    depth = 0
    for event in yaml.parse(text, _Base):
        if isinstance(event, yaml.AliasEvent):
            raise _at(event, "aliases are not supported")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _at(event, f"is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag not in _TEXT_TAGS:
            raise _at(event, f"tags such as {tag} are not supported")
    return yaml.load(text, _Loader)


def _at(event: Any, problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _plain(value: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        found = {_key(key): _plain(item, depth - 1) for key, item in value.items()}
        if len(found) < len(value):
            raise ValueError("a key stands twice in one mapping, as text and as another value")
        return found
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return _text(value) if isinstance(value, str) else value


def _key(key: Any) -> str:
    """The key of a map as JSON spells it."""
    return _text(key) if isinstance(key, str) else json.dumps(key)


def _text(text: str) -> str:
    """Raises ValueError for half a surrogate pair, which is no text."""
    if not text.isascii():
        text.encode()
    return text


class _Loader(_Base):
    """Plain words are text unless JSON, too, has another meaning for them: `no` is a name, not False,
    and 12:30 is no number in base 60."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            seen: set[Hashable] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key!r} stands twice in one mapping", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return found


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """By first character. A subset of what YAML 1.1 reads as other than text, so that whatever a 1.1
    writer leaves unquoted as text is read as text here."""
    found: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
        ("float", r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?", list("-+0123456789")),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
    ):
        for character in first:
            found.setdefault(character, []).append(
                (f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"))
            )
    return found


_Loader.yaml_implicit_resolvers = _resolvers()
