"""Tokens of the SQL-like filter language (docs/filters.md, "Words")."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import InvalidArgument

TokenKind = Literal["path", "string", "operator", "number", "punctuation", "end"]

_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]+|--[^\n]*)+")
# Map keys may hold dots, written `\.`; they never start with a digit here.
_SEGMENT: Final = r"[A-Za-z_](?:[A-Za-z0-9_/-]|\\\.)*"
_TOKENS: Final = re.compile(
    rf"(?P<path>{_SEGMENT}(?:\.{_SEGMENT})*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\[^\n])*\")"
    r"|(?P<operator>[<>=!]+)"
    r"|(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?|[+-]?[0-9.]*[0-9][0-9.]*)"
    r"|(?P<punctuation>[()\[\]{},:|+])"
)
OPERATORS: Final = {"=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPES: Final = {"a": "\a", "v": "\v", "'": "'"}
_GO_ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|U([0-9A-Fa-f]{8})|([0-7]{3})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """`text` as written, but for a string's, which is what it means."""

    kind: TokenKind
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def wrong(description: str, position: int) -> InvalidArgument:
    """The error of this language: where (characters from the start) and what."""
    return InvalidArgument.at("filter", f"at position {position}: {description}", position=position)


def tokens(text: str) -> list[Token]:
    """All tokens, the end last. Raises InvalidArgument with the position."""
    found: list[Token] = []
    position = 0
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position = skipped.end()
            continue
        match = _TOKENS.match(text, position)
        if match is None:
            raise wrong(_unknown(text, position), position)
        found.append(_token(match, position))
        position = match.end()
    return [*found, Token("end", "", len(text))]


def _token(match: re.Match[str], position: int) -> Token:
    kind, text = match.lastgroup, match[0]
    if kind == "string":
        return Token("string", _unquoted(text, position), position)
    if kind == "operator" and text not in OPERATORS:
        raise wrong(f"{text!r} is no operator; use one of {' '.join(OPERATORS)}", position)
    if kind == "number" and text == "+":
        return Token("punctuation", text, position)
    if kind == "number" and not _JSON_NUMBER.fullmatch(text):
        raise wrong(f"{text!r} is no number", position)
    return Token(kind, text, position)  # type: ignore[arg-type]


def _unknown(text: str, position: int) -> str:
    character = text[position]
    if character == "'":
        return "texts stand in double quotes"
    if character == '"':
        return "the text that begins here has no end; a line break inside is written \\n"
    return f"{character!r} is not expected here"


def _unquoted(text: str, position: int) -> str:
    """What a quoted text means: the escapes of JSON and Go."""
    try:
        found = json.loads(text, strict=False) if "\\" not in text else _decoded(text[1:-1])
    except ValueError as error:
        raise wrong(f"{text} has an escape that is not known: {error}", position) from error
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise wrong(f"{text!r} holds half of a character pair", position)
    return str(found)


def _decoded(inner: str) -> str:
    def plain(match: re.Match[str]) -> str:
        byte, wide, octal, single = match.groups()
        if byte is not None:
            return chr(int(byte, 16))
        if wide is not None:
            return chr(int(wide, 16))
        if octal is not None:
            return chr(int(octal, 8))
        return _ESCAPES.get(single, match[0])

    # What is JSON's already stays for json.loads; quotes and control characters are made safe for it.
    parts: list[str] = []
    end = 0
    for match in _GO_ESCAPE.finditer(inner):
        parts.append(json.dumps(inner[end : match.start()])[1:-1])
        meant = plain(match)
        parts.append(meant if meant == match[0] else json.dumps(meant)[1:-1])
        end = match.end()
    parts.append(json.dumps(inner[end:])[1:-1])
    return str(json.loads(f'"{"".join(parts)}"'))
