"""Filters of the SQL-like language for people: where a mistake is, and what a filter says in words.

The service alone decides what a filter means; nothing here is asked whether one is right.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# Characters that are shown on each side of a mistake.
BEFORE: Final = 32
AFTER: Final = 40

_TOKENS: Final = re.compile(
    r"(?P<skipped>\s+|--[^\n]*)"
    r'|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_/-]*(?:\\?\.[A-Za-z_][A-Za-z0-9_/-]*)*)"
    r"|(?P<operator>[<>=!]+)"
    r"|(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_OPERATORS: Final = {
    "=": "is", "==": "is", "!=": "is not", "<": "is below", "<=": "is at most",
    ">": "is above", ">=": "is at least",
}  # fmt: skip
_WORDS: Final = {
    "AND": "and", "OR": "or", "NOT": "not", "IN": "is one of", "LIKE": "is like", "CONTAINS": "has",
    "CONTAIN": "has", "HAS": "has", "HAVE": "has", "ANY": "any of", "ALL": "all of", "VALUE": "",
    "IS": "is", "NULL": "unset", "NAN": "no number", "TRUE": "true", "FALSE": "false",
}  # fmt: skip
# What ends a condition: the next word then begins another, AND between them or not.
_ENDS: Final = frozenset({"string", "number", ")", "]", "}", "NULL", "NAN", "TRUE", "FALSE"})
_MAPS: Final = {"labels": "label", "annotations": "annotation", "shards": "shard"}


@dataclass(frozen=True, slots=True)
class Caret:
    """A mistake in a text: the line around it, and a line with a caret below it. `start`: where it is
    as browsers count, in UTF-16."""

    line: str
    marker: str
    start: int


def caret(text: str, position: int) -> Caret:
    """`position` counts characters from the start; beyond the end is the end."""
    position = min(max(position, 0), len(text))
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line, column = text[begin : end if end >= 0 else len(text)], position - begin
    left = max(0, column - BEFORE)
    shown = line[left : column + AFTER]
    lead = "…" if left else ""
    tail = "…" if column + AFTER < len(line) else ""
    return Caret(
        f"{lead}{shown}{tail}",
        "".join(_blank(character) for character in f"{lead}{shown}"[: len(lead) + column - left]) + "^",
        len(text[:position].encode("utf-16-le", "surrogatepass")) // 2,
    )


def _blank(character: str) -> str:
    """As wide as `character` is."""
    if character == "\t":
        return "\t"
    if unicodedata.combining(character):
        return ""
    return "\u3000" if unicodedata.east_asian_width(character) in "WF" else " "


def sentence(nouns: str, text: str, *, within: str = "") -> str:
    """What a list of `nouns` shows: `regions whose title is “EU West”`."""
    start = f"{nouns} {within}".strip()
    told = in_words(text)
    return f"{start} whose {told}" if told else start


def in_words(text: str) -> str:
    """A filter that the service accepted, in words; empty when it matches everything."""
    words: list[str] = []
    last = ""
    for match in _TOKENS.finditer(text):
        kind, token = match.lastgroup or "", match[0]
        if kind == "skipped":
            continue
        if ((kind == "word" and token.upper() not in _WORDS) or token == "(") and last in _ENDS:
            words.append("and")
        words.append(_word(kind, token))
        last = _kind(kind, token)
    told = re.sub(r"([(\[{]) ", r"\1", " ".join(filter(None, words)))
    told = re.sub(r" ([)\]},:])", r"\1", told)
    told = told.replace("is not unset", "is set").replace(" not is one of", " is none of")
    return "" if told in ("", "()") else told


def _kind(kind: str, token: str) -> str:
    """What the next token is to know of this one."""
    if kind == "word":
        return token.upper() if token.upper() in _WORDS else "path"
    return token if kind == "other" else kind


def _word(kind: str, token: str) -> str:
    if kind == "string":
        return f"“{token[1:-1]}”"
    if kind == "operator":
        return _OPERATORS.get(token, token)
    if kind == "word":
        return _WORDS[token.upper()] if token.upper() in _WORDS else _path(token)
    return {"+": "and", "|": "or"}.get(token, token)


def _path(token: str) -> str:
    """`metadata.labels.env` as `label env`, `location.city` as `location city`."""
    parts = re.split(r"(?<!\\)\.", token)
    if parts[0] == "metadata" and len(parts) > 1:
        parts = parts[1:]
        if parts[0] in _MAPS and len(parts) > 1:
            parts[0] = _MAPS[parts[0]]
            return " ".join(parts).replace("\\.", ".")
    return " ".join(part.replace("_", " ") for part in parts).replace("\\.", ".")
