"""LIKE patterns: `%` is any run, `_` one character, a backslash takes the next as it is.

Matching takes the leftmost fit of each piece between `%`s, so no pattern makes it backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def matcher(pattern: str) -> Callable[[str], bool]:
    """A test of whole texts, letter case counting."""
    pieces = _pieces(pattern)
    first, rest = re.compile(pieces[0], re.DOTALL), pieces[1:]
    if not rest:
        return lambda text: first.fullmatch(text) is not None
    middle = [re.compile(piece, re.DOTALL) for piece in rest[:-1] if piece]
    last = re.compile(f"(?:{rest[-1]})\\Z", re.DOTALL)
    width = _width(rest[-1])

    def test(text: str) -> bool:
        match = first.match(text)
        for piece in middle:
            if match is None:
                return False
            match = piece.search(text, match.end())
        if match is None or len(text) - width < match.end():
            return False
        return last.match(text, len(text) - width) is not None

    return test


def _pieces(pattern: str) -> list[str]:
    """Regular expressions without repetition, one for each run between `%`s."""
    found = [""]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            found.append("")
        elif character == "_":
            found[-1] += "."
        else:
            found[-1] += re.escape(next(characters, "\\") if character == "\\" else character)
    return found


def _width(piece: str) -> int:
    """Characters that a piece matches: each escape and each dot is one."""
    return len(re.sub(r"\\.", "x", piece, flags=re.DOTALL))
