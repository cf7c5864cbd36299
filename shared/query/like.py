"""LIKE patterns: `%` is any run, `_` one character, a backslash takes the next as it is.

A test takes time in proportion to the text, whatever the pattern: each run of characters between
two `%` takes its leftmost fit, found without going back in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

# Any character; a pattern's own characters are one code point long, so none is empty.
_ANY: Final = ""
_Piece = tuple[str, ...]


def matcher(pattern: str) -> Callable[[str], bool]:
    """A test of whole texts, letter case counting."""
    pieces = _pieces(pattern)
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return lambda text: len(text) == len(first) and _stands(first, text, 0)
    searches = [_search(piece) for piece in pieces[1:-1] if piece]

    def test(text: str) -> bool:
        if not _stands(first, text, 0):
            return False
        end = len(first)
        for search in searches:
            end = search(text, end)
            if end < 0:
                return False
        start = len(text) - len(last)
        return start >= end and _stands(last, text, start)

    return test


def split(pattern: str) -> tuple[str, str]:
    """The text that every fit begins with, and the rest of the pattern, which begins with `%` or `_`
    or is empty: then that text alone fits."""
    fixed: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in "%_":
            return "".join(fixed), character + "".join(characters)
        fixed.append(_literal(character, characters))
    return "".join(fixed), ""


def _pieces(pattern: str) -> list[_Piece]:
    """The runs between the `%`s."""
    found: list[list[str]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            found.append([])
        elif character == "_":
            found[-1].append(_ANY)
        else:
            found[-1].append(_literal(character, characters))
    return [tuple(piece) for piece in found]


def _literal(character: str, following: Iterator[str]) -> str:
    """The character that stands for itself: the next one behind a backslash, if there is one."""
    return next(following, "\\") if character == "\\" else character


def _stands(piece: _Piece, text: str, start: int) -> bool:
    """`piece` fits the text at `start`."""
    if len(text) - start < len(piece):
        return False
    return all(wanted in ("", text[start + offset]) for offset, wanted in enumerate(piece))


def _search(piece: _Piece) -> Callable[[str, int], int]:
    """A function of a text and where to begin: where the leftmost fit ends, -1 for none."""
    if _ANY not in piece:
        literal = "".join(piece)

        def find(text: str, start: int) -> int:
            found = text.find(literal, start)
            return found if found < 0 else found + len(literal)

        return find
    return _shift_and(piece)


def _shift_and(piece: _Piece) -> Callable[[str, int], int]:
    """Follows all beginnings at once, a bit each (the Shift-And algorithm)."""
    anywhere = sum(1 << index for index, wanted in enumerate(piece) if wanted == _ANY)
    places = {wanted: anywhere for wanted in piece if wanted != _ANY}
    for index, wanted in enumerate(piece):
        if wanted != _ANY:
            places[wanted] |= 1 << index
    whole = 1 << (len(piece) - 1)

    def find(text: str, start: int) -> int:
        fits = 0
        for end in range(start, len(text)):
            fits = (fits << 1 | 1) & places.get(text[end], anywhere)
            if fits & whole:
                return end + 1
        return -1

    return find
