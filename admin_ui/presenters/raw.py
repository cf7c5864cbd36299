"""Messages as text: YAML or JSON, in the names of their proto."""

from __future__ import annotations

import json
from typing import Any, Final

import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

FORMS: Final = ("yaml", "json")
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def value(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def to_yaml(found: Any) -> str:
    return str(yaml.dump(found, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def to_json(found: Any) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def text(message: Message, form: str) -> str:
    return to_json(value(message)) if form == "json" else to_yaml(value(message))
