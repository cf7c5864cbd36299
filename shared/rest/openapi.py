"""An OpenAPI 3.1 document of the routes that a gateway serves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from shared.rest import descriptors, scalars
from shared.rest.descriptors import STRINGS, WRAPPERS
from shared.rest.gateway import Api
from shared.rest.path_template import ANY_VERB, DEEP, STAR, Template, parse
from shared.rest.style import Style
from shared.rpc.method import PUBLIC, HttpRule, Method

Schema = dict[str, Any]
# How deep into nested messages query parameters are listed.
_QUERY_DEPTH: Final = 3
_VERBS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
_FORMATS: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": 'Seconds, such as "1.5s".'},
    "google.protobuf.FieldMask": {"type": "string", "description": "Comma-separated field paths."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
}


def document(title: str, version: str, apis: Sequence[Api]) -> dict[str, Any]:
    """The whole document. Each API's schemas stand under names of its own style."""
    paths: dict[str, Schema] = {}
    schemas: dict[str, Schema] = {}
    operations: set[str] = set()
    for number, (methods, style) in enumerate(apis):
        writer = _Writer(style, f"error{number}", schemas)
        for method in methods:
            for rule in method.rules:
                path, parameters = path_of(parse(rule.path))
                operation = writer.operation(method, rule, parameters)
                operation["operationId"] = _unique(f"{method.service}.{method.name}", operations)
                for verb in _VERBS if rule.verb == ANY_VERB else {rule.verb}:
                    paths.setdefault(path, {})[verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def path_of(template: Template) -> tuple[str, list[Schema]]:
    """The OpenAPI path of a template and its parameters: one for each wildcard segment."""
    parts = list(template.segments)
    parameters: list[Schema] = []
    for index, part in enumerate(template.segments):
        if part not in (STAR, DEEP):
            continue
        owner = next(
            (v for v in template.variables if v.start <= index and (v.end or index + 1) > index), None
        )
        whole = owner is not None and len(template.segments[owner.start : owner.end]) == 1
        if owner is not None and whole:
            name = owner.field
        else:
            # Named after the collection, so that methods that share a path share its names.
            name = template.segments[index - 1].removesuffix("s") if index else "path"
        name = _unique(name, {parameter["name"] for parameter in parameters})
        parts[index] = f"{{{name}}}"
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        if owner is not None and not whole:
            pattern = "/".join(template.segments[owner.start : owner.end])
            parameter["description"] = f"Part of `{owner.field}`: `{pattern}`."
        parameters.append(parameter)
    return "/" + "/".join(parts) + (f":{template.verb}" if template.verb else ""), parameters


class _Writer:
    """Describes methods in one style, adding to shared `schemas`."""

    def __init__(self, style: Style, error_name: str, schemas: dict[str, Schema]) -> None:
        self._style = style
        self._schemas = schemas
        self._suffix = "" if style.names == "json" else ".proto_names"
        schemas[error_name] = dict(style.error_schema)
        self._error = {
            "description": "The call failed.",
            "content": {"application/json": {"schema": _reference(error_name)}},
        }

    def operation(self, method: Method, rule: HttpRule, parameters: list[Schema]) -> Schema:
        request = descriptors.of(method.request)
        bound = {variable.field for variable in parse(rule.path).variables}
        found: Schema = {
            "tags": [method.service],
            "summary": re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", method.name),
            "parameters": list(parameters),
            "responses": {"200": self._answer(method), "default": self._error},
        }
        if method.permission == PUBLIC:
            found["security"] = []
        else:
            found["description"] = f"Needs permission `{method.permission}`."
        if rule.body == "*":
            found["requestBody"] = _content(self._message(request), required=False)
            return found
        if rule.body:
            found["requestBody"] = _content(self._field(request.fields_by_name[rule.body]), required=True)
            bound.add(rule.body)
        found["parameters"] += self._query(request, bound)
        return found

    def _answer(self, method: Method) -> Schema:
        if method.response is HttpBody:
            return {"description": "The bytes as they come.", "content": {"*/*": {}}}
        message = self._message(descriptors.of(method.response))
        if not method.server_streaming:
            return {"description": "OK", "content": {"application/json": {"schema": message}}}
        line = {"type": "object", "properties": {"result": message, "error": self._error_schema()}}
        return {
            "description": "One JSON object a line as they come; events for clients that accept them.",
            "content": {"application/json": {"schema": line}, "text/event-stream": {"schema": message}},
        }

    def _error_schema(self) -> Schema:
        if self._style.stream_error is not None:
            return {"type": "object"}
        return self._error["content"]["application/json"]["schema"]  # type: ignore[index]

    def _query(
        self, message: Descriptor, bound: set[str], at: str = "", shown: str = "", depth: int = 1
    ) -> list[Schema]:
        """Parameters for the fields under the proto path `at`, which this style writes `shown`."""
        found: list[Schema] = []
        for field in message.fields:
            path, name = f"{at}{field.name}", f"{shown}{self._name(field)}"
            kind = descriptors.type_name(field)
            textual = kind in STRINGS | WRAPPERS
            if path in bound:
                continue
            if not descriptors.is_message(field) or (textual and not field.is_repeated):
                found.append({"name": name, "in": "query", "schema": self._field(field)})
            elif not field.is_repeated and depth < _QUERY_DEPTH and kind not in _WELL_KNOWN:
                inner = descriptors.message_of(field)
                found += self._query(inner, bound, f"{path}.", f"{name}.", depth + 1)
        return found

    def _name(self, field: FieldDescriptor) -> str:
        return field.json_name if self._style.names == "json" else field.name

    def _field(self, field: FieldDescriptor) -> Schema:
        if descriptors.is_map(field):
            value = descriptors.message_of(field).fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._one(value)}
        one = self._one(field)
        if field.is_repeated:
            return {"type": "array", "items": one}
        return one

    def _one(self, field: FieldDescriptor) -> Schema:
        if descriptors.is_message(field):
            return self._message(descriptors.message_of(field))
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return self._enum(descriptors.enum_of(field))
        if field.cpp_type in scalars.RANGES:
            wide = field.cpp_type in scalars.INT64S
            unsigned = scalars.RANGES[field.cpp_type][0] == 0
            bits = f"{'u' if unsigned else ''}int{64 if wide else 32}"
            return {"type": "string" if wide else "integer", "format": bits}
        return dict(_FORMATS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        if enum.full_name not in self._schemas:
            names = [value.name for value in enum.values]
            self._schemas[enum.full_name] = {"type": "string", "enum": names}
        return _reference(enum.full_name)

    def _message(self, message: Descriptor) -> Schema:
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if message.full_name in WRAPPERS:
            return self._one(message.fields_by_name["value"])
        name = message.full_name + self._suffix
        if name not in self._schemas:
            # Registered first: a message may hold itself.
            schema: Schema = {"type": "object"}
            self._schemas[name] = schema
            properties = {self._name(field): self._field(field) for field in message.fields}
            if properties:
                schema["properties"] = properties
        return _reference(name)


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: Schema, *, required: bool) -> Schema:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}.{number}", number + 1
    taken.add(found)
    return found
