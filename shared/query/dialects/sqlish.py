"""SPEKTRA Edge's SQL-like filter language (docs/filters.md has its grammar and examples).

Precedence, tightest first: NOT (the next operand only), AND (which may be left out), OR.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from shared.query.ast import (
    EVERYTHING,
    And,
    Comparison,
    Has,
    HasEntries,
    In,
    IsNan,
    IsNull,
    Like,
    Node,
    Not,
    Or,
)
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish_lexer import OPERATORS, Token, tokens, wrong
from shared.query.dialects.sqlish_values import Written, comparison, entries, scalar
from shared.query.path import UnknownPath
from shared.query.schema import Field

MAX_BYTES: Final = 8192
MAX_DEPTH: Final = 32
MAX_CONDITIONS: Final = 200
MAX_LIST: Final = 100
_HAS: Final = frozenset({"CONTAINS", "CONTAIN", "HAS", "HAVE"})
_CLOSING: Final = {"(": ")", "[": "]"}
_EMPTY: Final = [("punctuation", "("), ("punctuation", ")")]


class Sqlish:
    """The dialect for the fields of one message."""

    def __init__(self, schema: DescriptorSchema) -> None:
        self._schema = schema
        self._cached = lru_cache(256)(self._parse)

    def parse(self, text: str) -> Node:
        """The tree of a filter; empty text and `()` match everything. An AND holds no AND and an
        OR no OR.

        Raises InvalidArgument for the field `filter`, with the position of what is wrong.
        """
        return self._cached(text)

    def _parse(self, text: str) -> Node:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise wrong("this is half of a character", error.start) from error
        if len(data) > MAX_BYTES:
            fits = len(data[:MAX_BYTES].decode(errors="ignore"))
            raise wrong(f"a filter has at most {MAX_BYTES} bytes", fits)
        found = tokens(text)
        if [(token.kind, token.text) for token in found[:-1]] in ([], _EMPTY):
            return EVERYTHING
        parser = _Parser(self._schema, found)
        node = parser.disjunction(0)
        if parser.here.kind != "end":
            raise wrong(f"{parser.here} is not expected here", parser.here.position)
        return node


class _Parser:
    def __init__(self, schema: DescriptorSchema, found: list[Token]) -> None:
        self._schema = schema
        self._tokens = found
        self._next = 0
        self._conditions = 0

    @property
    def here(self) -> Token:
        return self._tokens[self._next]

    def disjunction(self, depth: int) -> Node:
        items = [self._conjunction(depth)]
        while self._take_word("OR") or self._take("|"):
            items.append(self._conjunction(depth))
        return _joined(Or, items)

    def _conjunction(self, depth: int) -> Node:
        items = [self._unary(depth)]
        while True:
            if self._take_word("AND") or self._take("+") or self._starts_operand():
                items.append(self._unary(depth))
            else:
                return _joined(And, items)

    def _starts_operand(self) -> bool:
        if self.here.kind == "path":
            return not self._is_word("OR")
        return self.here.kind == "punctuation" and self.here.text == "("

    def _unary(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise wrong(f"conditions are nested deeper than {MAX_DEPTH}", self.here.position)
        if self._take_word("NOT"):
            return Not(self._unary(depth + 1))
        if self._take("("):
            inner = self.disjunction(depth + 1)
            self._expect(")")
            return inner
        return self._condition()

    def _condition(self) -> Node:
        field = self._field()
        operator = self.here
        if operator.kind == "operator":
            self._next += 1
            meant: Comparison = OPERATORS[operator.text]  # type: ignore[assignment]
            return comparison(field, meant, self._value(), operator.position)
        if self._take_word("IS"):
            negated = self._take_word("NOT")
            return _negated(self._is(field), negated)
        negated = self._take_word("NOT")
        if self._take_word("IN"):
            return _negated(self._in(field, operator.position), negated)
        if negated:
            raise wrong("after a field NOT is followed by IN; elsewhere NOT stands first", operator.position)
        if self._take_word(*_HAS):
            return self._has(field, operator.position)
        if self._take_word("LIKE"):
            return self._like(field, operator.position)
        raise wrong(
            f"an operator is expected, not {operator}: = != < <= > >= IS, IN, NOT IN, CONTAINS or LIKE",
            operator.position,
        )

    def _field(self) -> Field:
        token = self.here
        if token.kind != "path":
            raise wrong(f"a field or '(' is expected, not {token}", token.position)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise wrong(f"a filter has at most {MAX_CONDITIONS} conditions", token.position)
        self._next += 1
        try:
            return self._schema.resolve(token.text)
        except UnknownPath as error:
            raise wrong(str(error), token.position + error.offset) from error

    def _is(self, field: Field) -> Node:
        if self._take_word("NULL"):
            return IsNull(field.name)
        if self._take_word("NAN"):
            return IsNan(field.name)
        raise wrong(f"NULL or NAN is expected after IS, not {self.here}", self.here.position)

    def _in(self, field: Field, position: int) -> Node:
        if field.repeated or field.type in ("message", "map"):
            raise wrong(f"{field.name} is not a single value; use CONTAINS or =", position)
        return In(field.name, tuple(scalar(field, written) for written in self._list()))

    def _has(self, field: Field, position: int) -> Node:
        if not field.many and field.type != "map":
            raise wrong(f"{field.name} is neither a list nor a map; use =", position)

        def one(written: Written) -> Node:
            if field.type == "map":
                return HasEntries(field.name, entries(field, written))
            return Has(field.name, scalar(field, written))

        if self._take_word("ANY"):
            return _joined(Or, [one(written) for written in self._list()])
        if self._take_word("ALL"):
            return _joined(And, [one(written) for written in self._list()])
        self._take_word("VALUE")
        return one(self._value())

    def _like(self, field: Field, position: int) -> Node:
        if field.type not in ("text", "name") or field.repeated:
            raise wrong(f"{field.name} is no text", position)
        token = self.here
        if token.kind != "string":
            raise wrong(f"LIKE takes a quoted text, not {token}", token.position)
        self._next += 1
        return Like(field.name, token.text)

    def _list(self) -> list[Written]:
        opening = self.here
        if opening.text not in _CLOSING or opening.kind != "punctuation":
            raise wrong(f"a list such as (1, 2) is expected, not {opening}", opening.position)
        self._next += 1
        values = [self._value()]
        while self._take(","):
            if len(values) == MAX_LIST:
                raise wrong(f"a list has at most {MAX_LIST} entries", self.here.position)
            values.append(self._value())
        self._expect(_CLOSING[opening.text])
        return values

    def _value(self, depth: int = 0) -> Written:
        token = self.here
        if token.kind == "string" or token.kind == "number":
            self._next += 1
            return Written(token.kind, token.text, token.position)
        if self._take_word("NULL"):
            return Written("null", None, token.position)
        if self._take_word("TRUE"):
            return Written("bool", True, token.position)
        if self._take_word("FALSE"):
            return Written("bool", False, token.position)
        if self._take("{"):
            if depth == MAX_DEPTH:
                raise wrong(f"values are nested deeper than {MAX_DEPTH}", token.position)
            return Written("map", self._pairs(depth + 1), token.position)
        raise wrong(f"a value is expected, not {token}; texts stand in double quotes", token.position)

    def _pairs(self, depth: int) -> list[tuple[Written, Written]]:
        """A map behind its brace. Colons and commas may be left out."""
        found: list[tuple[Written, Written]] = []
        while not self._take("}"):
            if found:
                self._take(",")
            key = self._value(depth)
            self._take(":")
            found.append((key, self._value(depth)))
        return found

    def _is_word(self, *words: str) -> bool:
        return self.here.kind == "path" and self.here.text.upper() in words

    def _take_word(self, *words: str) -> bool:
        taken = self._is_word(*words)
        self._next += taken
        return taken

    def _take(self, text: str) -> bool:
        taken = self.here.kind == "punctuation" and self.here.text == text
        self._next += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise wrong(f"{text!r} is expected, not {self.here}", self.here.position)


def _negated(node: Node, negated: bool) -> Node:
    return Not(node) if negated else node


def _joined(kind: type[And] | type[Or], items: list[Node]) -> Node:
    """One node of several: what is of the same kind already is taken apart."""
    flat: list[Node] = []
    for item in items:
        if isinstance(item, kind):
            flat.extend(item.items)
        else:
            flat.append(item)
    return flat[0] if len(flat) == 1 else kind(tuple(flat))
