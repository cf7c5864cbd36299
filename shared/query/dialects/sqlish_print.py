"""A tree as text of the SQL-like filter language: canonical, for fingerprints and for people.

Paths are spelled as in the proto files, AND is written out, and parentheses stand only where they
change the meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from shared.query.ast import (
    And,
    Compare,
    EntryMatch,
    EntryOrder,
    Has,
    HasEntries,
    In,
    IsNan,
    IsNull,
    Like,
    NameMatches,
    Node,
    Not,
    Or,
    Substring,
    TextMatch,
)
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import MAX_LIST
from shared.query.schema import Field

# How tightly the surroundings bind: an OR inside an AND needs parentheses, an AND inside a NOT.
_OR, _AND, _NOT = range(3)
_LISTS: Final = {Or: "ANY", And: "ALL"}


def text(node: Node, schema: DescriptorSchema) -> str:
    """The filter that parses to `node`, which is a tree that the dialect of `schema` made. It may be
    longer than the dialect takes. Equal trees have equal texts."""
    return _Printer(schema).text(node, _OR)


class _Printer:
    def __init__(self, schema: DescriptorSchema) -> None:
        self._schema = schema

    def text(self, node: Node, around: int) -> str:
        match node:
            case Or(items):
                return self._joined(Or, items, _OR, around)
            case And(items):
                return self._joined(And, items, _AND, around)
            case Not(item):
                return self._negation(item) or f"NOT {self.text(item, _NOT)}"
            case Compare(name, operator, value):
                return f"{name} {operator} {_value(self._schema[name], value)}"
            case NameMatches(name, pattern):
                return f"{name} = {_quoted(pattern)}"
            case In(name, values):
                return f"{name} IN {self._list(name, values)}"
            case Like(name, pattern):
                return f"{name} LIKE {_quoted(pattern)}"
            case IsNull(name):
                return f"{name} IS NULL"
            case IsNan(name):
                return f"{name} IS NAN"
            case Has(name) | HasEntries(name):
                return f"{name} CONTAINS {self._element(node)}"
            case Substring() | EntryOrder() | TextMatch() | EntryMatch():
                raise ValueError(f"this language has no {type(node).__name__}")

    def _negation(self, node: Node) -> str:
        """Of the conditions that have a form of their own for it; empty for the others."""
        match node:
            case NameMatches(name, pattern):
                return f"{name} != {_quoted(pattern)}"
            case In(name, values):
                return f"{name} NOT IN {self._list(name, values)}"
            case IsNull(name):
                return f"{name} IS NOT NULL"
            case IsNan(name):
                return f"{name} IS NOT NAN"
        return ""

    def _joined(self, kind: type[And] | type[Or], items: Iterable[Node], level: int, around: int) -> str:
        parts = list(self._parts(kind, items, level))
        joined = f" {'OR' if kind is Or else 'AND'} ".join(parts)
        return f"({joined})" if len(parts) > 1 and around > level else joined

    def _parts(self, kind: type[And] | type[Or], items: Iterable[Node], level: int) -> Iterator[str]:
        """The operands. Neighbours that look for something in the same list or map become one."""
        for name, run in groupby(items, _container):
            nodes = list(run)
            if not name or len(nodes) == 1:
                yield from (self.text(node, level + 1) for node in nodes)
                continue
            for start in range(0, len(nodes), MAX_LIST):
                elements = ", ".join(map(self._element, nodes[start : start + MAX_LIST]))
                yield f"{name} CONTAINS {_LISTS[kind]} ({elements})"

    def _element(self, node: Node) -> str:
        if isinstance(node, Has):
            return _value(self._schema[node.field], node.value)
        assert isinstance(node, HasEntries)
        if len(node.entries) == 1:
            key, value = node.entries[0]
            if value is None:
                return _quoted(key)
            if ":" not in key:
                return _quoted(f"{key}:{value}")
        return _map(dict(node.entries))

    def _list(self, name: str, values: Iterable[Any]) -> str:
        field = self._schema[name]
        return f"({', '.join(_value(field, value) for value in values)})"


def _container(node: Node) -> str:
    return node.field if isinstance(node, Has | HasEntries) else ""


def _value(field: Field, value: Any) -> str:
    match field.type:
        case "bool":
            return "TRUE" if value else "FALSE"
        case "enum":
            return _quoted(field.descriptor.values_by_number[value].name)
        case "timestamp":
            instant = Timestamp()
            instant.FromNanoseconds(value)
            return _quoted(instant.ToJsonString())
        case "duration":
            duration = Duration()
            duration.FromNanoseconds(value)
            return _quoted(duration.ToJsonString())
        case "message":
            message = GetMessageClass(field.descriptor).FromString(value)
            return _map(json_format.MessageToDict(message, preserving_proto_field_name=True))
        case "map":
            return _map(dict(sorted(value.items())))
    return _literal(value)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return _map(value)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return str(value)


def _map(entries: dict[str, Any]) -> str:
    return f"{{{', '.join(f'{_quoted(key)}: {_literal(value)}' for key, value in entries.items())}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
