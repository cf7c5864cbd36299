"""What the search language means, read off its contract in the simplest way: the oracle of the
property tests. It shares nothing with the dialect, the tree or the evaluator.

Its regular expressions are those of `re`; tests write only such as mean the same in RE2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# label -> (kind, values of a record)
Fields = Mapping[str, tuple[str, Callable[[Any], list[str]]]]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Wrong(Exception):
    """A value that is none."""


def mask(text: str) -> str:
    """The same text with everything between quotes, quotes included, made harmless."""
    out, quoted = [], False
    for character in text:
        if character == '"':
            quoted = not quoted
            out.append("Q")
        else:
            out.append("Q" if quoted else character)
    return "".join(out)


def cut(query: str) -> list[tuple[str, list[str]]]:
    """(label, values), in order, from the end of the text backwards."""
    pieces: list[str] = []
    rest = query
    while True:
        seen = mask(rest)
        colon = seen.rfind(":")
        # The colon that opens the last pair: the first one behind the last '+' that has one behind it.
        plus = seen.rfind("+", 0, colon) if colon >= 0 else -1
        if plus < 0:
            pieces.insert(0, rest)
            break
        pieces.insert(0, rest[plus + 1 :])
        rest = rest[:plus]
    found = []
    for piece in pieces:
        piece = piece.strip()
        if ":" not in piece or (piece.endswith(":") and piece.count(":") == 1):
            continue
        label, values = piece.split(":", 1)
        values = values.strip()
        commas = [i for i, c in enumerate(mask(values)) if c == ","]
        starts, ends = [0, *(i + 1 for i in commas)], [*commas, len(values)]
        found.append((label.strip(), [values[a:b] for a, b in zip(starts, ends, strict=True)]))
    return found


def matches(query: str, record: Any, fields: Fields) -> bool:
    """Raises Wrong."""
    last: dict[str, list[str]] = {}
    for label, values in cut(query):
        last[label] = values
    answers = []
    for label, values in last.items():
        for known, (kind, read) in fields.items():
            if known.lower() == label.lower():
                answers.append([_one(kind, value, read(record)) for value in values])
    return all(any(answer) for answer in answers)


def _one(kind: str, value: str, found: list[str]) -> bool:
    if kind == "id":
        found = [text for text in found if text]
        if value in ("*", "-"):
            return bool(found) == (value == "*")
    elif value == "*":
        return bool(found)
    elif value == "-":
        return False
    negated = len(value) > 1 and value[0] == "!"
    if negated and len(value) > 2 and value[1] == "!":
        raise Wrong("reserved")
    rest = value[1:] if negated else value
    return any(_fits(kind, rest, text) != negated for text in found)


def matches_map(value: str, entries: Mapping[str, str]) -> bool:
    """Of a map's entries. Raises Wrong."""
    if value in ("*", "-"):
        return value == "*"
    at = mask(value).find("=")
    key, content = (value, "") if at < 0 else (value[:at], value[at + 1 :])
    negated = key.startswith("!")
    if at >= 0 and key and not content:
        # Whether that very key is there.
        if key == "!" or (key.startswith("!!") and len(key) > 2):
            raise Wrong("no key")
        wanted = key[1:] if negated else key
        plain = not (wanted.startswith("r/") and len(wanted) > 2) and not _is_quoted(wanted)
        there = any(_fits("text", f'"{wanted}"' if plain else wanted, name) for name in entries)
        return there != negated
    if negated:
        raise Wrong("a negated key")
    opposite = content.startswith("!") and len(content) > 1
    if content.startswith("!!") and len(content) > 2:
        raise Wrong("reserved")
    rest = content[1:] if opposite else content
    return any(
        (not key or _fits("text", key, name)) and (not content or _fits("text", rest, text) != opposite)
        for name, text in entries.items()
    )


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == '"'


def _fits(kind: str, rest: str, text: str) -> bool:
    if len(rest) > 2 and rest[:2] == "r/":
        try:
            return re.search(rest[2:].lower(), text, re.IGNORECASE) is not None
        except re.error as error:
            raise Wrong(str(error)) from None
    quoted = _is_quoted(rest)
    if kind == "id":
        wanted = rest[1:-1] if quoted else rest
        if not _UUID.fullmatch(wanted):
            raise Wrong("no UUID")
        return wanted.lower() == text.lower()
    if quoted:
        return text == rest[1:-1]
    return text.lower()[: len(rest)] == rest.lower()
