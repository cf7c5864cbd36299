"""Tokens of the SQL-like filter language (docs/filters.md, "Words")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import InvalidArgument

TokenKind = Literal["path", "string", "operator", "number", "punctuation", "end"]

# No pattern here lets a character be taken in two ways, so none goes back over what it read.
_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]|--[^\n]*)+")
_SEGMENT: Final = r"[A-Za-z_][A-Za-z0-9_/-]*"
_TOKENS: Final = re.compile(
    rf"(?P<path>{_SEGMENT}(?:\\?\.{_SEGMENT})*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\[^\n])*\")"
    r"|(?P<operator>[<>=!]+)"
    r"|(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<punctuation>[()\[\]{},:|+])"
)
OPERATORS: Final = {"=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([\"\\/abfnrtv]))"
)
_SINGLE: Final = dict(zip('"\\/abfnrtv', b'"\\/\a\b\f\n\r\t\v', strict=True))
# What a user is likely to want who writes a key that is no path.
_OTHER_KEYS: Final = 'in a path a letter or "_" follows a dot; test other map keys with CONTAINS'


@dataclass(frozen=True, slots=True)
class Token:
    """`text` as written, but for a string's, which is what it means. `position` counts characters
    from the start."""

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
        found.append(_token(match, position, text))
        position = match.end()
    return [*found, Token("end", "", len(text))]


def _token(match: re.Match[str], position: int, whole: str) -> Token:
    kind, text = match.lastgroup, match[0]
    if kind == "string":
        return Token("string", _unquoted(text[1:-1], position + 1), position)
    if kind == "operator" and text not in OPERATORS:
        raise wrong(f"{text!r} is no operator; use one of {' '.join(OPERATORS)}", position)
    if kind == "number" and not _JSON_NUMBER.fullmatch(text):
        path = text.startswith(".") and whole[position - 1 : position].isalnum()
        raise wrong(_OTHER_KEYS if path else f"{text!r} is no number", position)
    return Token(kind, text, position)  # type: ignore[arg-type]


def _unknown(text: str, position: int) -> str:
    character = text[position]
    if character == "'":
        return "texts stand in double quotes"
    if character == '"':
        return "the text that begins here has no end; a line break inside is written \\n"
    if text.startswith("\\.", position):
        return _OTHER_KEYS
    return f"{character!r} is not expected here"


def _unquoted(inner: str, position: int) -> str:
    """What a quoted text means. Escapes are JSON's and Go's; `\\x` and octal ones are bytes of UTF-8."""
    if "\\" not in inner:
        return inner
    parts: list[bytes] = []
    end = 0
    while (at := inner.find("\\", end)) >= 0:
        match = _ESCAPE.match(inner, at)
        if match is None:
            raise wrong(f"the escape {inner[at : at + 2]!r} is not known or not complete", position + at)
        parts += [inner[end:at].encode(), _meant(match, position + at)]
        end = match.end()
    parts.append(inner[end:].encode())
    try:
        # By way of UTF-16, which joins the halves of a pair that stand in two escapes.
        halves = b"".join(parts).decode(errors="surrogatepass").encode("utf-16-le", "surrogatepass")
        return halves.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise wrong("the escapes in this text are no characters together", position - 1) from error


def _meant(escape: re.Match[str], position: int) -> bytes:
    byte, octal, short, long, single = escape.groups()
    if single is not None:
        return bytes([_SINGLE[single]])
    if byte is not None or octal is not None:
        return bytes([int(byte, 16) if byte else int(octal, 8)])
    number = int(short or long, 16)
    if number > 0x10FFFF:
        raise wrong(f"there is no character {escape[0]}", position)
    return chr(number).encode(errors="surrogatepass")
