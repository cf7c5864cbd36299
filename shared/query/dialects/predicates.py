"""Kubeflow Pipelines' Filter JSON (docs/apis/pipelines.md, "Filters").

`{"predicates": [{"op": "EQUALS", "key": "name", "string_value": "x"}]}`, read with proto3 JSON
rules. Predicates are AND-ed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from shared.errors import InvalidArgument
from shared.query.ast import EVERYTHING, And, Compare, Comparison, In, Node, Substring
from shared.query.schema import Field, Schema
from shared.storage.port import Value

MAX_CHARACTERS = 65_536
MAX_PREDICATES = 100
# Longer filters are parsed each time, so that a thousand of them are not kept.
_REMEMBERED_CHARACTERS = 2_048
_COMPARISONS: dict[str, Comparison] = {
    "EQUALS": "=",
    "NOT_EQUALS": "!=",
    "GREATER_THAN": ">",
    "GREATER_THAN_EQUALS": ">=",
    "LESS_THAN": "<",
    "LESS_THAN_EQUALS": "<=",
}
_ARRAYS = frozenset({"int_values", "long_values", "string_values"})


class Predicates:
    """The dialect of one API version: `message` is its Filter, `operation` its field of the
    operation. `spellings` maps values of a field, as clients of either version write them, to the
    stored one."""

    def __init__(
        self,
        message: type[Message],
        operation: str,
        schema: Schema,
        spellings: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self._message = message
        self._operation = operation
        self._schema = schema
        self._spellings = spellings or {}
        self._parse = lru_cache(1024)(self._parse_text)

    def parse(self, text: str) -> Node:
        """The tree of a filter; empty text matches everything. Raises InvalidArgument.

        Text that is no JSON as it stands is percent-decoded once more, for the web UI encodes
        twice; decoding always would break names that hold `+` or `%`.
        """
        if not text:
            return EVERYTHING
        return self._parse(text) if len(text) <= _REMEMBERED_CHARACTERS else self._parse_text(text)

    def _parse_text(self, text: str) -> Node:
        if len(text) > MAX_CHARACTERS:
            raise InvalidArgument.at("filter", f"is longer than {MAX_CHARACTERS} characters")
        filter_ = self._message()
        try:
            json_format.ParseDict(_load(text), filter_, max_recursion_depth=16)
        except (json_format.Error, ValueError, OverflowError, TypeError, AttributeError) as error:
            raise InvalidArgument.at("filter", f"{error}; in {text[:200]!r}") from error
        predicates = filter_.predicates  # type: ignore[attr-defined]
        if len(predicates) > MAX_PREDICATES:
            raise InvalidArgument.at("filter.predicates", f"has more than {MAX_PREDICATES} entries")
        return And(tuple(self._node(p, f"filter.predicates[{i}]") for i, p in enumerate(predicates)))

    def _node(self, predicate: Any, path: str) -> Node:
        field = self._schema.find(predicate.key)
        if field is None:
            raise InvalidArgument.at(
                f"{path}.key", f"{predicate.key!r} is none of {', '.join(self._schema.names)}"
            )
        values = predicate.DESCRIPTOR.fields_by_name[self._operation].enum_type.values_by_number
        number = getattr(predicate, self._operation)
        name = values[number].name if number in values else str(number)
        given = predicate.WhichOneof("value")
        if given is None:
            raise InvalidArgument.at(path, "has no value; set for example string_value")
        if name in _COMPARISONS:
            if given in _ARRAYS:
                raise InvalidArgument.at(f"{path}.{given}", f"{name} takes one value, not an array")
            value = self._value(field, given, getattr(predicate, given), path)
            return Compare(field.name, _COMPARISONS[name], value)
        if name == "IN":
            if given not in _ARRAYS:
                raise InvalidArgument.at(f"{path}.{given}", "IN takes an array, for example string_values")
            items = getattr(predicate, given).values
            return In(field.name, tuple(self._value(field, given, item, path) for item in items))
        if name == "IS_SUBSTRING":
            if given != "string_value" or field.type != "text":
                raise InvalidArgument.at(f"{path}.{given}", "IS_SUBSTRING takes a string_value, a text key")
            text = self._value(field, given, predicate.string_value, path)
            return Substring(field.name, str(text))
        raise InvalidArgument.at(f"{path}.{self._operation}", f"{name!r} is no operation")

    def _value(self, field: Field, given: str, value: Any, path: str) -> Value:
        kind = given.removesuffix("s").removesuffix("_value")
        if field.type == "text" and kind == "string":
            return self._spellings.get(field.name, {}).get(value, value)
        if field.type == "int" and kind in ("int", "long"):
            return int(value)
        if field.type == "timestamp" and kind in ("int", "long"):
            return int(value)
        if field.type == "timestamp" and kind == "timestamp":
            return int(value.seconds)
        takes = {"text": "string_value", "int": "long_value", "timestamp": "timestamp_value"}[field.type]
        raise InvalidArgument.at(f"{path}.{given}", f"{field.name} is compared with {takes}")


def _load(text: str) -> Any:
    """The JSON in `text`, or in `text` percent-decoded."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as first:
        try:
            found = orjson.loads(unquote_plus(text))
        except orjson.JSONDecodeError:
            raise first from None
    if not isinstance(found, dict):
        raise ValueError("a filter is a JSON object")
    return found
