"""Kubernetes label selectors (jumpstarter contract, section 2.2; docs/apis/jumpstarter.md).

selector    := [ requirement { "," requirement } ]        empty matches everything
requirement := KEY | "!" KEY | KEY ("=" | "==" | "!=") [VALUE]
             | KEY ("in" | "notin") "(" [VALUE] { "," [VALUE] } ")"
             | KEY (">" | "<") INTEGER
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal

from shared.errors import InvalidArgument, Violation
from shared.query.ast import And, EntryOrder, HasEntries, Node, Not, Or
from shared.query.labels import integer, key_fault, value_fault

Operator = Literal["=", "in", "notin", "exists", "!exists", ">", "<"]
Test = Callable[[Mapping[str, str]], bool]

MAX_CHARACTERS: Final = 65_536
MAX_REQUIREMENTS: Final = 200
MAX_VALUES: Final = 1000
# Longer selectors are parsed each time, so that a thousand of them are not kept.
_REMEMBERED_CHARACTERS: Final = 512
_TOKENS: Final = re.compile(r"[ \t\r\n]*(?:(?P<sign>==|!=|[=!<>(),])|(?P<word>[^=!<>(), \t\r\n]+)|$)")
_OPERATORS: Final = "one of = == != in notin > <"
# Of messages, as matchExpressions spell them.
_EXPRESSIONS: Final[dict[str, Operator]] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!exists",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """`values`: one of "=", one integer of ">" and "<", some of "in" and "notin", else none."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!exists":
                return f"!{self.key}"
            case "in" | "notin":
                # Nothing between the parentheses would be an empty list, not an empty value.
                listed = "," if self.values == ("",) else ",".join(self.values)
                return f"{self.key} {self.operator} ({listed})"
        return f"{self.key}{self.operator}{self.values[0]}"

    def test(self) -> Test:
        """Whether labels meet it."""
        key = self.key
        match self.operator:
            case "=":
                wanted = self.values[0]
                return lambda labels: labels.get(key) == wanted
            case "in":
                some = frozenset(self.values)
                return lambda labels: labels.get(key) in some
            case "notin":
                none = frozenset(self.values)
                return lambda labels: labels.get(key) not in none
            case "exists":
                return lambda labels: key in labels
            case "!exists":
                return lambda labels: key not in labels
            case ">":
                bound = int(self.values[0])
                return lambda labels: (found := integer(labels.get(key, ""))) is not None and found > bound
            case "<":
                bound = int(self.values[0])
                return lambda labels: (found := integer(labels.get(key, ""))) is not None and found < bound

    def node(self, field: str) -> Node:
        """The same over a map of texts of the shared tree."""
        key = self.key
        match self.operator:
            case "=" | "in":
                return _one_of(field, key, self.values)
            case "notin":
                return Not(_one_of(field, key, self.values))
            case "exists":
                return HasEntries(field, ((key, None),))
            case "!exists":
                return Not(HasEntries(field, ((key, None),)))
            case ">" | "<" as operator:
                return EntryOrder(field, key, operator, int(self.values[0]))


@dataclass(frozen=True)
class Selector:
    """Requirements that must all be met, in canonical form: sorted by key, none twice, those of
    "notin" on one key merged. Equal selectors have equal texts."""

    requirements: tuple[Requirement, ...] = ()
    # Whether labels match.
    matches: Test = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        canonical = tuple(_canonical(self.requirements))
        object.__setattr__(self, "requirements", canonical)
        object.__setattr__(self, "matches", _all(tuple(item.test() for item in canonical)))

    def __str__(self) -> str:
        """The canonical text, which parses to this selector."""
        return ",".join(map(str, self.requirements))

    def node(self, field: str) -> Node:
        """The tree over `field`, a map of texts."""
        nodes = tuple(item.node(field) for item in self.requirements)
        return nodes[0] if len(nodes) == 1 else And(nodes)

    @property
    def equalities(self) -> dict[str, str]:
        """What the requirements of "=" ask for."""
        return {item.key: item.values[0] for item in self.requirements if item.operator == "="}

    def prefixed(self, prefix: str, *, parameter: str = "filter") -> Selector:
        """The same about other keys: `prefix` before each. Raises InvalidArgument naming `parameter`
        for a key that cannot have it."""
        found = tuple(replace(item, key=prefix + item.key) for item in self.requirements)
        for before, after in zip(self.requirements, found, strict=True):
            if key_fault(after.key):
                raise InvalidArgument.at(parameter, f"the key {before.key!r} cannot follow {prefix!r}")
        return Selector(found)


def parse(text: str, *, parameter: str = "filter") -> Selector:
    """Raises InvalidArgument naming `parameter` and the position of what is wrong."""
    if len(text) <= _REMEMBERED_CHARACTERS:
        return _remembered(text, parameter)
    return Selector(tuple(item for item, _ in _Reader(text, parameter).read()))


def wanted(text: str, *, parameter: str = "lease.selector") -> Selector:
    """What a lease may ask for: without > and <, and one key equal to one value only. Raises
    InvalidArgument as `parse` does."""
    found = _Reader(text, parameter).read()
    equal: dict[str, str] = {}
    for item, position in found:
        if item.operator in ("<", ">"):
            raise _wrong(parameter, f"a lease's selector cannot have {item.operator!r}", position)
        if item.operator == "=" and equal.setdefault(item.key, item.values[0]) != item.values[0]:
            values = f"{equal[item.key]!r} and {item.values[0]!r}"
            raise _wrong(parameter, f"{item.key} cannot be both {values}", position)
    return Selector(tuple(item for item, _ in found))


def of(
    match_labels: Mapping[str, str],
    match_expressions: Iterable[tuple[str, str, Iterable[str]]] = (),
    *,
    parameter: str = "selector",
) -> Selector:
    """Of a LabelSelector message; expressions are key, operator (In, NotIn, Exists, DoesNotExist) and
    values. Raises InvalidArgument with every violation below `parameter`."""
    faults: list[Violation] = []
    found: list[Requirement] = []
    for key, value in match_labels.items():
        for fault in filter(None, (key_fault(key), value_fault(value))):
            faults.append(Violation(f"{parameter}.match_labels[{key[:300]!r}]", fault))
        found.append(Requirement(key, "=", (value,)))
    for index, (key, operator, given) in enumerate(match_expressions):
        path, values = f"{parameter}.match_expressions[{index}]", tuple(given)
        faults += (Violation(f"{path}.{name}", text) for name, text in _expression(key, operator, values))
        found.append(Requirement(key, _EXPRESSIONS.get(operator, "exists"), values))
    if len(found) > MAX_REQUIREMENTS:
        faults.append(Violation(parameter, f"has more than {MAX_REQUIREMENTS} requirements"))
    if faults:
        raise InvalidArgument.of(faults)
    return Selector(tuple(found))


def _expression(key: str, operator: str, values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The fields that are wrong in it, and how."""
    if fault := key_fault(key):
        yield "key", fault
    if operator not in _EXPRESSIONS:
        yield "operator", f"{operator[:300]!r} is none of {', '.join(_EXPRESSIONS)}"
    elif operator in ("In", "NotIn") and not values:
        yield "values", f"{operator} needs one value or more"
    elif operator in ("Exists", "DoesNotExist") and values:
        yield "values", f"{operator} takes none"
    if len(values) > MAX_VALUES:
        yield "values", f"has more than {MAX_VALUES} entries"
    for index, value in enumerate(values[:MAX_VALUES]):
        if fault := value_fault(value):
            yield f"values[{index}]", fault


@lru_cache(1024)
def _remembered(text: str, parameter: str) -> Selector:
    return Selector(tuple(item for item, _ in _Reader(text, parameter).read()))


def _wrong(parameter: str, description: str, position: int) -> InvalidArgument:
    return InvalidArgument.at(parameter, f"at position {position}: {description}", position=position)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["sign", "word", "end"]
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text[:300])


class _Reader:
    """One text, from left to right. Words in the place of a key or a value are never operators."""

    def __init__(self, text: str, parameter: str) -> None:
        self._parameter = parameter
        if len(text) > MAX_CHARACTERS:
            raise self._wrong(f"a selector has at most {MAX_CHARACTERS} characters", MAX_CHARACTERS)
        self._tokens = _tokens(text)
        self._here = next(self._tokens)

    def read(self) -> list[tuple[Requirement, int]]:
        """The requirements, each with its position."""
        found: list[tuple[Requirement, int]] = []
        if self._here.kind == "end":
            return found
        while True:
            if len(found) == MAX_REQUIREMENTS:
                raise self._wrong(f"a selector has at most {MAX_REQUIREMENTS} requirements")
            position = self._here.position
            found.append((self._requirement(), position))
            if self._here.kind == "end":
                return found
            self._sign(",", "',' or the end is expected after a requirement")

    def _requirement(self) -> Requirement:
        if self._takes("!"):
            return Requirement(self._key(), "!exists")
        key = self._key()
        if self._here.kind == "end" or self._here.text == ",":
            return Requirement(key, "exists")
        operator = self._next()
        match operator.text:
            case "=" | "==":
                return Requirement(key, "=", (self._value(),))
            case "!=":
                return Requirement(key, "notin", (self._value(),))
            case "in":
                return Requirement(key, "in", self._values())
            case "notin":
                return Requirement(key, "notin", self._values())
            case ">":
                return Requirement(key, ">", (self._integer(),))
            case "<":
                return Requirement(key, "<", (self._integer(),))
        raise self._wrong(f"{operator} is no operator; use {_OPERATORS}", operator.position)

    def _key(self) -> str:
        token = self._next()
        if token.kind != "word":
            raise self._wrong(f"a label key is expected, not {token}", token.position)
        if fault := key_fault(token.text):
            raise self._wrong(fault, token.position)
        return token.text

    def _value(self) -> str:
        """What stands up to a comma, a parenthesis or the end, which may be nothing."""
        if self._here.kind == "end" or self._here.text in (",", ")"):
            return ""
        token = self._next()
        if token.kind != "word":
            raise self._wrong(f"a value is expected, not {token}", token.position)
        if fault := value_fault(token.text):
            raise self._wrong(fault, token.position)
        return token.text

    def _values(self) -> tuple[str, ...]:
        self._sign("(", "'(' is expected before the values")
        if self._here.text == ")":
            raise self._wrong("the list of values is empty")
        found = [self._value()]
        while self._takes(","):
            if len(found) == MAX_VALUES:
                raise self._wrong(f"a list has at most {MAX_VALUES} values")
            found.append(self._value())
        self._sign(")", "',' or ')' is expected after a value")
        return tuple(found)

    def _integer(self) -> str:
        token = self._here
        number = integer(self._value())
        if number is None:
            raise self._wrong(f"an integer is expected, not {token}", token.position)
        return str(number)

    def _sign(self, text: str, otherwise: str) -> None:
        if not self._takes(text):
            raise self._wrong(f"{otherwise}, not {self._here}")

    def _takes(self, text: str) -> bool:
        if self._here.kind == "sign" and self._here.text == text:
            self._next()
            return True
        return False

    def _next(self) -> _Token:
        token = self._here
        if token.kind != "end":
            self._here = next(self._tokens)
        return token

    def _wrong(self, description: str, position: int | None = None) -> InvalidArgument:
        return _wrong(self._parameter, description, self._here.position if position is None else position)


def _tokens(text: str) -> Iterator[_Token]:
    """The end last."""
    for match in _TOKENS.finditer(text):
        if match["word"]:
            yield _Token("word", match["word"], match.start("word"))
        elif match["sign"]:
            yield _Token("sign", match["sign"], match.start("sign"))
    yield _Token("end", "", len(text))


def _canonical(requirements: Iterable[Requirement]) -> list[Requirement]:
    found: set[Requirement] = set()
    unwanted: dict[str, set[str]] = {}
    for item in requirements:
        if item.operator == "notin":
            unwanted.setdefault(item.key, set()).update(item.values)
        else:
            found.add(replace(item, values=tuple(sorted(set(item.values)))))
    found |= {Requirement(key, "notin", tuple(sorted(values))) for key, values in unwanted.items()}
    return sorted(found, key=lambda item: (item.key, item.operator, item.values))


def _all(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 1:
        return tests[0]

    def test(labels: Mapping[str, str]) -> bool:
        for one in tests:  # noqa: SIM110 - half the time of all() with a generator
            if not one(labels):
                return False
        return True

    return test


def _one_of(field: str, key: str, values: tuple[str, ...]) -> Node:
    nodes = tuple(HasEntries(field, ((key, value),)) for value in values)
    return nodes[0] if len(nodes) == 1 else Or(nodes)
