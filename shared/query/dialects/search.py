"""StackRox's search language (pods contract, section 3): `Label:value,value+Label:value`.

Pairs are joined by AND, the values of a pair by OR. There is no syntax error: what is no pair, or
names no known label, is left out, and with nothing left everything matches. A value can be wrong:
an expression that does not compile, an id that is none, a map or a time of no known form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from shared.errors import InvalidArgument, Violation
from shared.query import regex
from shared.query.ast import (
    EVERYTHING,
    And,
    Compare,
    EntryMatch,
    In,
    Node,
    Not,
    Or,
    Pattern,
    TextMatch,
)
from shared.query.dialects import search_time

MAX_CHARACTERS: Final = 65_536
# Each is tried on every record that the others leave.
MAX_EXPRESSIONS: Final = 32
NOTHING: Final = Or(())
_UUID_LENGTH: Final = 36


@dataclass(frozen=True, slots=True)
class Label:
    """A name of the language and the field that it stands for. `joined` fields are not of the records
    themselves but of what they belong to."""

    name: str
    kind: Literal["text", "id", "map", "time"]
    field: str
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a query asks of the records, and of what they belong to; None: nothing at all."""

    own: Node
    joined: Node | None


class Search:
    """The language over `labels`. Labels that are not among them count as unknown."""

    def __init__(self, labels: Iterable[Label], *, parameter: str = "query") -> None:
        self._labels: Mapping[str, Label] = {label.name.lower(): label for label in labels}
        self._parameter = parameter

    def find(self, name: str) -> Label | None:
        return self._labels.get(name.strip().lower())

    @property
    def names(self) -> list[str]:
        return [label.name for label in self._labels.values()]

    def parse(self, text: str, now: int) -> Parsed:
        """`now`: nanoseconds since 1970, for times counted from it. Raises InvalidArgument, with the
        position of the value that is wrong."""
        if len(text) > MAX_CHARACTERS:
            raise self._wrong(f"a query has at most {MAX_CHARACTERS} characters")
        own: list[Node] = []
        joined: list[Node] = []
        budget = _Budget()
        try:
            for name, values in _placed(text).items():
                label = self._labels.get(name.lower())
                if label is not None:
                    (joined if label.joined else own).append(_pair(label, values, now, budget))
        except _WrongValue as error:
            raise self._wrong(str(error), error.position) from error
        return Parsed(_all(own), _all(joined) if joined else None)

    def _wrong(self, text: str, position: int | None = None) -> InvalidArgument:
        return InvalidArgument(text, [Violation(self._parameter, text)], position=position)


class _WrongValue(Exception):
    """`position`: characters from the start of the query to the value."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def pairs(text: str) -> dict[str, list[str]]:
    """Labels as they were written, each with its values; the last pair of a spelling counts."""
    return {label: [value for _, value in values] for label, values in _placed(text).items()}


def _placed(text: str) -> dict[str, list[tuple[int, str]]]:
    """The same, each value behind its position."""
    found: dict[str, list[tuple[int, str]]] = {}
    for start, piece in _split(text):
        label, _, values = piece.partition(":")
        if values.strip():
            blanks = len(values) - len(values.lstrip())
            found[label.strip()] = _values(values.strip(), start + len(label) + 1 + blanks)
    return found


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Pairs, each behind its position. One ends at the last `+` before the next colon. Nothing between
    quotes separates."""
    start, plus, quoted = 0, -1, False
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character == "+":
            plus = index
        elif character == ":" and plus >= start:
            yield start, text[start:plus]
            start = plus + 1
    yield start, text[start:]


def _values(text: str, at: int) -> list[tuple[int, str]]:
    """`at`: the position of `text`."""
    found, start, quoted = [], 0, False
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append((at + start, text[start:index]))
            start = index + 1
    return [*found, (at + start, text[start:])]


class _Budget:
    """Counts the expressions of a query."""

    def __init__(self) -> None:
        self._left = MAX_EXPRESSIONS

    def pattern(self, value: str) -> Pattern:
        """The test that a value writes. Raises ValueError."""
        if value.startswith("!!") and len(value) > 2:
            raise ValueError(f"value {_quoted(value)} in search query: '!!' is reserved")
        negated = value.startswith("!") and len(value) > 1
        rest = value[1:] if negated else value
        if rest.startswith("r/") and len(rest) > 2:
            return Pattern("regex", self._expression(rest[2:].lower()), negated)
        if len(rest) >= 2 and rest[0] == rest[-1] == '"':
            return Pattern("equal", rest[1:-1], negated)
        return Pattern("prefix", rest, negated)

    def _expression(self, text: str) -> str:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"a query has at most {MAX_EXPRESSIONS} regular expressions")
        try:
            regex.compiled(text)
        except ValueError as error:
            raise ValueError(f"invalid regexp {_quoted(text)} in search query: {error}") from None
        return text


def _pair(label: Label, values: Sequence[tuple[int, str]], now: int, budget: _Budget) -> Node:
    """Raises _WrongValue."""
    nodes: list[Node] = []
    equal: list[str] = []
    for position, value in values:
        try:
            found = _value(label, value, now, budget)
        except ValueError as error:
            raise _WrongValue(str(error), position) from error
        match found if label.kind in ("id", "text") else None:
            case Compare(_, "=", str(id)):
                equal.append(id)
            case TextMatch(_, Pattern("equal", text, False)):
                equal.append(text)
            case _:
                nodes.append(found)
    if len(equal) == 1:
        one = Compare(label.field, "=", equal[0])
        nodes.append(one if label.kind == "id" else TextMatch(label.field, Pattern("equal", equal[0])))
    elif equal:
        nodes.append(In(label.field, tuple(dict.fromkeys(equal))))
    return _any(nodes)


def _value(label: Label, value: str, now: int, budget: _Budget) -> Node:
    """Raises ValueError."""
    match label.kind:
        case "map":
            return _map(label.field, value, budget)
        case "time":
            return search_time.parse(label.field, value, now)
        case "id":
            return _id(label.field, value, budget)
        case "text":
            return _text(label.field, value, budget)


def _text(field: str, value: str, budget: _Budget) -> Node:
    if value == "*":
        return TextMatch(field, Pattern("prefix", ""))
    return NOTHING if value == "-" else TextMatch(field, budget.pattern(value))


def _id(field: str, value: str, budget: _Budget) -> Node:
    """Ids are stored in lower case; an empty one is null, which no test accepts."""
    some = Compare(field, "!=", "")
    if value == "*":
        return some
    if value == "-":
        return Compare(field, "=", "")
    pattern = budget.pattern(value)
    if pattern.form == "regex":
        return And((some, TextMatch(field, pattern)))
    id = _uuid(pattern.text)
    return And((some, Compare(field, "!=", id))) if pattern.negated else Compare(field, "=", id)


def _uuid(text: str) -> str:
    """In its one form. Raises ValueError."""
    found = uuid(text)
    if found is None:
        raise ValueError(f"value {_quoted(text)} in search query must be valid UUID")
    return found


def uuid(text: str) -> str | None:
    """A UUID of any letter case in lower case; None for anything else."""
    lowered = text.lower()
    if len(text) != _UUID_LENGTH:
        return None
    try:
        return lowered if str(UUID(lowered)) == lowered else None
    except ValueError:
        return None


def _map(field: str, value: str, budget: _Budget) -> Node:
    """`key=value`, either side left out or a test; `key=` asks for that key, `!key=` for its absence."""
    if value == "*":
        return EVERYTHING
    if value == "-":
        return NOTHING
    key, sign, content = _partition(value)
    if sign and key and not content:
        if key == "!":
            raise _unsupported(value, "names no key")
        wanted = budget.pattern(key)
        # A plain key is that key, not the start of one.
        form = "equal" if wanted.form == "prefix" else wanted.form
        found = EntryMatch(field, Pattern(form, wanted.text), None)
        return Not(found) if wanted.negated else found
    if key.startswith("!"):
        raise _unsupported(value, "cannot negate key and specify non-empty value")
    return EntryMatch(
        field, budget.pattern(key) if key else None, budget.pattern(content) if content else None
    )


def _partition(value: str) -> tuple[str, str, str]:
    """At the first `=` that is not between quotes."""
    quoted = False
    for index, character in enumerate(value):
        if character == '"':
            quoted = not quoted
        elif character == "=" and not quoted:
            return value[:index], "=", value[index + 1 :]
    return value, "", ""


def _unsupported(value: str, reason: str) -> ValueError:
    return ValueError(f"unsupported map query {_quoted(value)} in search query: {reason}")


def _quoted(value: str) -> str:
    return '"' + (value if len(value) <= 100 else value[:99] + "…") + '"'


def _all(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _any(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))
