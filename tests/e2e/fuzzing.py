"""Random requests for every method of a process: sensible ones, slightly wrong ones, and noise.

All randomness comes from the generator that is given, so a seed names a request.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shared.rpc.method import HttpRule, http_rules

_TEXTS = (
    "",
    "a",
    "Default",
    "x" * 129,
    "y" * 5000,
    "100%",
    "a+b",
    "%zz",
    "../..",
    "a/b:archive",
    "\0",
    "\n",
    "\t",
    "{}",
    "[]",
    "null",
    "true",
    "-1",
    "1e999",
    "NaN",
    "'",
    '"',
    "\\",
    ";--",
    "$where",
    "\N{ROCKET}",
    "\u202e",
    "e\u0301",
    "\ufeff",
    "\U0010ffff",
    "\x7f",
    "experiment",
    "experiments",
    "viewer",
    "admin",
    "name",
    "name desc",
    "created_at",
    "access",
    "sort_by=name",
    "0",
    "9" * 400,
    "bearer x",
    "a\0b",
    " ",
    "\u2028",
)
_NUMBERS = (
    0,
    1,
    -1,
    2,
    19,
    200,
    201,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    10**400,
)
_KEYS = ("name", "display_name", "created_at", "storage_state", "id", "description", "namespace", "size", "")
_OPERATIONS = ("EQUALS", "NOT_EQUALS", "IN", "IS_SUBSTRING", "LESS_THAN", "UNKNOWN", 1, 4, 9, 99, None)
_VALUES: tuple[dict[str, Any], ...] = (
    {"string_value": "a"},
    {"stringValue": "ARCHIVED"},
    {"int_value": 5},
    {"long_value": "5"},
    {"timestamp_value": "2020-01-01T00:00:00Z"},
    {"int_values": {"values": [1, 2]}},
    {"string_values": {"values": ["a"]}},
    {},
    {"string_value": None},
    {"value": 1},
)
_MANIFESTS = (
    "experiments: [{display_name: a}]",
    "experiments: [{display_name: a, description: b}, {display_name: c}]",
    "experiments: []",
    "experiments:\n- display_name: x\n  storage_state: ARCHIVED\n",
    "{experiments: [{experiment_id: abc, display_name: q, created_at: '2020-01-01T00:00:00Z'}]}",
)


@dataclass(frozen=True)
class Rpc:
    """One method as it is called over gRPC and, by its rules, over REST."""

    path: str
    request: type[Message]
    streams: bool
    rules: Sequence[HttpRule]


@dataclass(frozen=True)
class RestRequest:
    verb: str
    target: str
    body: bytes
    headers: dict[str, str]


def rpcs(services: Sequence[ServiceDescriptor]) -> list[Rpc]:
    return [
        Rpc(
            f"/{service.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            method.server_streaming,
            http_rules(method),
        )
        for service in services
        for method in service.methods
    ]


class Fuzzer:
    """`tokens` are page and resume tokens of the server, to start from. `usual` adds to, and replaces,
    what fields of a name usually hold."""

    usual: Mapping[str, Callable[[Fuzzer], str]] = {}
    # What stands in paths.
    variables: Mapping[str, str] = {"kind": "experiment"}

    def __init__(self, source: random.Random, tokens: Sequence[str]) -> None:
        self._random = source
        self._tokens = tokens

    def grpc(self, rpc: Rpc) -> bytes:
        """The bytes of a request."""
        if self._chance(0.1):
            return self._random.randbytes(self._random.randrange(80))
        data = self.message(rpc.request()).SerializeToString()
        return self._mutated(data) if self._chance(0.4) else data

    def rest(self, rpc: Rpc) -> RestRequest:
        rule = self._random.choice(rpc.rules)
        message = self.message(rpc.request())
        verb = (
            rule.verb
            if self._chance(0.95)
            else self._random.choice(("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"))
        )
        target = self._path(rule.path)
        if self._chance(0.6):
            target += "?" + "&".join(self._parameter(message) for _ in range(self._random.randrange(5)))
        headers = {}
        if self._chance(0.1):
            headers = self._random.choice(
                (
                    {"Accept": "text/event-stream"},
                    {"Accept-Encoding": "gzip;q=x, *"},
                    {"Content-Encoding": "gzip"},
                    {"Content-Encoding": "deflate"},
                    {"Last-Event-ID": "x", "Accept": "text/event-stream"},
                    {"X-Request-Id": "\u00e9"},
                    {"Content-Type": "multipart/form-data; boundary=x"},
                    {"x-goog-authenticated-user-email": "accounts.google.com:x"},
                )
            )
        return RestRequest(verb, target, self._body(message, rule) if self._chance(0.8) else b"", headers)

    def message(self, message: Message, depth: int = 0) -> Message:
        """`message` with some fields set to something."""
        for field in message.DESCRIPTOR.fields:
            if not self._chance(0.6 if depth == 0 else 0.4) or depth > 4:
                continue
            if field.message_type is not None and field.is_repeated:
                for _ in range(self._random.randrange(3)):
                    self.message(getattr(message, field.name).add(), depth + 1)
            elif field.message_type is not None:
                self.message(getattr(message, field.name), depth + 1)
                getattr(message, field.name).SetInParent()
            elif field.is_repeated:
                getattr(message, field.name).extend(
                    self._value(field) for _ in range(self._random.randrange(3))
                )
            else:
                setattr(message, field.name, self._value(field))
        return message

    def _value(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            made = self.usual.get(field.name) or _TEXTS_OF.get(field.name)
            text = made(self) if made is not None and self._chance(0.8) else self._text()
            return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._chance(0.5)
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self._random.choice([value.number for value in field.enum_type.values] + [77])
        bits = 31 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 63
        return self._random.choice([number for number in _NUMBERS if -(2**bits) <= number < 2**bits])

    def _text(self) -> str:
        return self._random.choice(_TEXTS)

    def token(self) -> str:
        """One of the server's, or one that was opened, changed and sealed again."""
        text = self._random.choice(self._tokens)
        if self._chance(0.4):
            return text
        if self._chance(0.4):
            at = self._random.randrange(len(text))
            return text[:at] + self._random.choice("Aa0_-=! ") + text[at + self._random.randrange(3) :]
        payload = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        key = self._random.choice([*payload, "z"])
        payload[key] = self._random.choice(
            (None, [], {}, 1, -1, "x", "", True, 2**70, 1.5, [None], [[]], "\ud800", ["x", 1])
        )
        return base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()

    def filter(self) -> str:
        spelled = self._random.choice(("op", "operation"))
        predicates = [
            {
                spelled: self._random.choice(_OPERATIONS),
                "key": self._random.choice(_KEYS),
                **self._random.choice(_VALUES),
            }
            for _ in range(self._random.randrange(3))
        ]
        return self._text_mutated(json.dumps({"predicates": predicates}))

    def manifest(self) -> str:
        return self._text_mutated(self._random.choice(_MANIFESTS))

    def _text_mutated(self, text: str) -> str:
        if self._chance(0.6):
            return text
        at = self._random.randrange(len(text) + 1)
        return text[:at] + self._text() + text[at + self._random.randrange(4) :]

    def _mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            at = self._random.randrange(len(changed) + 1)
            match self._random.randrange(4):
                case 0:
                    changed[at : at + 1] = self._random.randbytes(1)
                case 1:
                    del changed[at : at + self._random.randrange(8)]
                case 2:
                    changed[at:at] = self._random.randbytes(self._random.randrange(8))
                case _:
                    changed += changed[at : at + 20]
        return bytes(changed)

    def _path(self, template: str) -> str:
        parts = []
        for part in template.split("/")[1:]:
            while "{" in part:
                before, _, rest = part.partition("{")
                variable, _, after = rest.partition("}")
                usual = self.variables.get(variable)
                text = usual if usual and self._chance(0.7) else self._text() or "x"
                part = before + (text if self._chance(0.1) else quote(text, safe="")) + after
            parts.append(part)
        path = "/" + "/".join(parts)
        if self._chance(0.05):
            path += self._random.choice(("/", "//", ":x", "%2f", "/..", "%", ";a=b"))
        # What no client can send: blanks and control characters end the request line.
        return "".join(
            c if c.isprintable() and c.isascii() and c not in " ?#" else quote(c, safe="") for c in path
        )

    def _parameter(self, message: Message) -> str:
        field = self._random.choice(list(message.DESCRIPTOR.fields) or [None])
        name = field.name if field is not None and self._chance(0.9) else self._text()
        if field is not None and field.message_type is not None:
            name += "." + self._random.choice(["id", "type", "seconds", "x"])
            value = self._text()
        elif field is not None and field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            value = str(self._value(field))
        else:
            value = self._random.choice((str(self._random.choice(_NUMBERS)), self._text(), "5", "true"))
        if self._chance(0.05):
            return f"{quote(name)}=%{self._random.choice(('', 'z', 'zz', 'f', 'ff', 'c3', 'ed%a0%80'))}"
        return f"{quote(name, safe='.')}={quote(value, safe='')}"

    def _body(self, message: Message, rule: HttpRule) -> bytes:
        try:
            whole = json_format.MessageToDict(message, preserving_proto_field_name=self._chance(0.5))
        except (ValueError, OverflowError, json_format.Error):
            whole = {"created_at": "9999999-01-01T00:00:00Z"}  # a time that JSON cannot say
        value = whole.get(rule.body, whole) if rule.body not in ("", "*") else whole
        if self._chance(0.3):
            value = self._spoiled(value)
        text = json.dumps(value)
        if self._chance(0.2):
            text = self._text_mutated(text)
        data = text.encode("utf-8", "replace")
        return self._mutated(data) if self._chance(0.1) else data

    def _spoiled(self, value: Any) -> Any:
        """`value` with something in it of another type."""
        if isinstance(value, dict) and value and self._chance(0.8):
            key = self._random.choice(list(value))
            return {**value, key: self._spoiled(value[key])}
        return self._random.choice(
            (None, 5, -1.5, True, "x", [], {}, [[]], {"a": None}, ["x"], {"": {}}, 10**30)
        )

    def _chance(self, of: float) -> bool:
        return self._random.random() < of


# What a field of that name usually holds.
_TEXTS_OF: dict[str, Callable[[Fuzzer], str]] = {
    "page_token": lambda fuzzer: fuzzer.token(),
    "resume_token": lambda fuzzer: fuzzer.token(),
    "filter": lambda fuzzer: fuzzer.filter(),
    "manifest": lambda fuzzer: fuzzer.manifest(),
    "kind": lambda fuzzer: "experiment",
    "kinds": lambda fuzzer: "experiment",
    "sort_by": lambda fuzzer: fuzzer._random.choice(("name", "created_at desc", "ID ASC", "size", "name x")),
    "order_by": lambda fuzzer: fuzzer._random.choice(("name", "created_at desc", "", "size")),
    "role": lambda fuzzer: fuzzer._random.choice(("viewer", "operator", "king")),
}
