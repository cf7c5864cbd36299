"""What a pod has written, as lines for people. Whatever bytes it wrote: they only show."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Bytes of a line that are shown as one; a longer one is shown in pieces.
LONGEST: Final = 8192
# Escape sequences of terminals (ECMA-48): control sequences, strings with their ends, and the rest.
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]"
)
# Turn text round, or end lines where the log has none.
_TURNS: Final = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_SHOWN: Final[dict[int, str | int]] = {
    **{code: 0x2400 + code for code in range(0x20) if code != 0x09},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **{code: f"\\u{code:04x}" for code in _TURNS},
}


# Where a line says how bad it is: near its beginning, as most programs have it.
_HEAD: Final = 120
_LEVEL: Final = re.compile(
    r"\b(?P<bad>ERROR|FATAL|CRITICAL|PANIC|SEVERE|Traceback)\b|\b(?P<warn>WARN|WARNING)\b"
    r"|\blevel\W{1,3}(?:(?P<bad2>error|fatal|critical|panic)|(?P<warn2>warn|warning))\b"
)


@dataclass(frozen=True, slots=True)
class Line:
    """`at`: the offset of its first byte. `goes_on`: its end is not in `text`: it is too long, or not
    written yet."""

    at: int
    text: str
    goes_on: bool = False

    @property
    def tone(self) -> str:
        """`bad`, `warn` or empty: how bad it says that it is."""
        found = _LEVEL.search(self.text, 0, _HEAD)
        return (found.lastgroup or "").removesuffix("2") if found else ""


def clean(data: bytes) -> str:
    """The text of one line. What would move a cursor or colour a terminal is left out, other control
    characters become their pictures, what is no UTF-8 becomes U+FFFD."""
    text = data.removesuffix(b"\r").decode(errors="replace")
    if text.isprintable():
        return text
    return _ESCAPES.sub("", text).translate(_SHOWN)


class Lines:
    """Cuts what comes in pieces into lines. Holds one line at most."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._rest = b""

    @property
    def next(self) -> int:
        """Where to read on from so that nothing is lost: the line that has no end yet comes again."""
        return self._at

    @property
    def end(self) -> int:
        """The offset behind all that came."""
        return self._at + len(self._rest)

    @property
    def open(self) -> Line | None:
        """What came of a line that has no end yet."""
        return Line(self._at, clean(self._rest), goes_on=True) if self._rest else None

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are complete now, `data` being what follows."""
        found: list[Line] = []
        buffer = self._rest + data
        begin = 0
        while True:
            end = buffer.find(b"\n", begin, begin + LONGEST + 1)
            if end >= 0:
                found.append(Line(self._at + begin, clean(buffer[begin:end])))
                begin = end + 1
            elif len(buffer) - begin > LONGEST:
                end = _between(buffer, begin + LONGEST)
                found.append(Line(self._at + begin, clean(buffer[begin:end]), goes_on=True))
                begin = end
            else:
                break
        self._at += begin
        self._rest = buffer[begin:]
        return found

    def skip(self, at: int) -> Line | None:
        """What follows begins at `at`: whatever was between is gone. Answers the line that lost its end."""
        lost = self.open
        self._at, self._rest = at, b""
        return lost


def _between(data: bytes, at: int) -> int:
    """The last place between two characters of UTF-8 up to `at`."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at


def split(at: int, data: bytes) -> list[Line]:
    """All lines of `data`, the last one whether or not it has an end."""
    lines = Lines(at)
    found = lines.feed(data)
    return [*found, lines.open] if lines.open else found


# -- searching


def pattern(text: str) -> re.Pattern[str] | None:
    """Finds `text` as it is, capital or not; None for an empty one."""
    return re.compile(re.escape(text), re.IGNORECASE) if text else None


def marked(text: str, wanted: re.Pattern[str] | None) -> list[tuple[str, bool]]:
    """`text` in pieces: (piece, whether it is what is wanted)."""
    if wanted is None:
        return [(text, False)]
    pieces: list[tuple[str, bool]] = []
    last = 0
    for found in wanted.finditer(text):
        pieces += [(text[last : found.start()], False), (found[0], True)]
        last = found.end()
    return [piece for piece in (*pieces, (text[last:], False)) if piece[0]]


def packed(lines: Iterable[Line]) -> list[tuple[int, str, bool, str]]:
    """For scripts: [offset, text, whether it goes on, its tone]."""
    return [(line.at, line.text, line.goes_on, line.tone) for line in lines]


def size(count: int) -> str:
    """`812 B`, `4.2 kB`, `18 MB`."""
    if count < 1000:
        return f"{count} B"
    value, name = (count / 1000, "kB") if count < 1_000_000 else (count / 1_000_000, "MB")
    return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
