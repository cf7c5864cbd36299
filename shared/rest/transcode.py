"""Path, query and body of an HTTP request to the request message of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shared.errors import InvalidArgument
from shared.rest import descriptors, json_reader, query, scalars
from shared.rest.json_reader import Reading
from shared.rest.path_template import Found, Template, Variable
from shared.rest.style import Style
from shared.rpc.method import HttpRule

_MASK: Final = "google.protobuf.FieldMask"
# So many query strings are remembered, of at most so many characters.
_KEPT: Final = 256
_KEPT_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class _Binding:
    """A variable of the path and the field that it sets."""

    variable: Variable
    parents: tuple[str, ...]
    name: str
    read: Callable[[str], Any]

    @classmethod
    def of(cls, descriptor: Descriptor, variable: Variable) -> _Binding:
        """Raises ValueError when the field does not exist or cannot be a text."""
        *parents, field = _field_at(descriptor, variable.field)
        if field.is_repeated or descriptors.is_message(field):
            raise ValueError(f"a path cannot hold {variable.field!r}")
        return cls(variable, tuple(f.name for f in parents), field.name, query.reader_of(field))

    def set(self, message: Message, parts: list[str]) -> None:
        value = self.read(self.variable.text(parts))
        for parent in self.parents:
            message = getattr(message, parent)
        setattr(message, self.name, value)


class Transcoder:
    """For one rule of one method. Raises ValueError at once when the rule names a field that the
    request does not have."""

    def __init__(self, request: type[Message], rule: HttpRule, template: Template, style: Style) -> None:
        self._request = request
        # Query strings and the requests that they mean, serialized.
        self._asked: dict[str, bytes] = {}
        self._style = style
        descriptor = descriptors.of(request)
        self._bindings = [_Binding.of(descriptor, variable) for variable in template.variables]
        self._body: FieldDescriptor | None = None
        if rule.body not in ("", "*"):
            self._body, *deeper = _field_at(descriptor, rule.body)
            if deeper:
                raise ValueError(f"a body is one field of the request, not {rule.body!r}")
        self._whole = rule.body == "*"
        self._bound = {variable.field for variable in template.variables}
        bound = {*self._bound, rule.body} - {""}
        self._query = query.QueryReader(descriptor, bound, style.unknown_query)
        self._mask = self._mask_field(rule)

    @property
    def reads_body(self) -> bool:
        """False when a body would change nothing."""
        return self._whole or self._body is not None or self._style.unbound_body == "merge"

    def read(self, found: Found[Any], query_string: str, body: bytes, resume_token: str = "") -> Message:
        """The request. Path wins over query, query over a body that no rule binds.

        `resume_token` is set on the field of that name. Raises InvalidArgument naming every field
        that is wrong, with "body" and "query" for what belongs to none."""
        if body or found.parts or resume_token or not 0 < len(query_string) <= _KEPT_LENGTH:
            return self._read(found, query_string, body, resume_token)
        # Lists: whoever polls asks the same again and again.
        known = self._asked.get(query_string)
        if known is not None:
            return self._request.FromString(known)
        message = self._read(found, query_string, body, resume_token)
        self._asked[query_string] = message.SerializeToString()
        if len(self._asked) > _KEPT:
            del self._asked[next(iter(self._asked))]
        return message

    def parameters(self, query_string: str) -> list[tuple[str, str]]:
        """The query's parameters, for methods that read them themselves. Raises InvalidArgument."""
        pairs, errors = query.parse(query_string)
        if errors:
            raise InvalidArgument.of(errors[: json_reader.MAX_VIOLATIONS])
        return _without_pretty(pairs, self._style)

    def _read(self, found: Found[Any], query_string: str, body: bytes, resume_token: str) -> Message:
        message = self._request()
        reading = Reading(self._style.unknown_body)
        loaded = self._read_body(message, body, reading) if body and self.reads_body else None
        taken: set[str] = set()
        if query_string:
            pairs, errors = query.parse(query_string)
            reading.errors += errors
            taken = self._query.read(message, _without_pretty(pairs, self._style), reading)
        if self._body is not None and descriptors.is_message(self._body) and not self._body.is_repeated:
            getattr(message, self._body.name).SetInParent()
        for binding in self._bindings:
            try:
                binding.set(message, found.parts)
            except ValueError as error:
                reading.fail(binding.variable.field, str(error))
        if self._mask is not None and self._mask not in taken and isinstance(loaded, dict):
            self._derive_mask(message, loaded)
        if resume_token:
            message.resume_token = resume_token  # type: ignore[attr-defined]
        if reading.errors:
            raise InvalidArgument.of(reading.errors[: json_reader.MAX_VIOLATIONS])
        return message

    def _read_body(self, message: Message, body: bytes, reading: Reading) -> Any:
        if not body.strip():
            return None
        try:
            value = json_reader.loads(body)
        except ValueError as error:
            reading.fail("body", str(error))
            return None
        if self._body is None:
            json_reader.read_message(message, value, reading)
        elif value is None or not _is_shaped(self._body, value):
            reading.fail("body", f"must be a JSON object, not {scalars.kind_of(value)}")
        else:
            json_reader.read_field(message, self._body, value, reading, self._body.name)
        return value

    def _mask_field(self, rule: HttpRule) -> str | None:
        """The field that lists what a PATCH changes, when the request has one and the body is a message."""
        found = descriptors.of(self._request).fields_by_name.get("update_mask")
        patches = rule.verb == "PATCH" and self._body is not None and descriptors.is_message(self._body)
        return found.name if patches and found is not None and descriptors.type_name(found) == _MASK else None

    def _derive_mask(self, message: Message, body: dict[str, Any]) -> None:
        """A PATCH without a mask changes the fields that its body has."""
        assert self._body is not None
        bound = {path.partition(".")[2] for path in self._bound}
        paths = [path for path in _paths(descriptors.message_of(self._body), body) if path not in bound]
        getattr(message, "update_mask").paths.extend(paths)  # noqa: B009


def _is_shaped(field: FieldDescriptor, value: Any) -> bool:
    """Whether a body can be read into a message field: its own type says what is wrong inside."""
    special = descriptors.type_name(field) in descriptors.SPECIAL
    return not descriptors.is_message(field) or field.is_repeated or special or isinstance(value, dict)


def _field_at(descriptor: Descriptor, path: str) -> tuple[FieldDescriptor, ...]:
    """The descriptors along a field path."""
    chain: list[FieldDescriptor] = []
    of: Descriptor | None = descriptor
    for name in path.split("."):
        found = of.fields_by_name.get(name) if of is not None else None
        if found is None:
            raise ValueError(f"{descriptor.full_name} has no field {path!r}")
        chain.append(found)
        of = descriptors.message_of(found) if descriptors.is_message(found) else None
    return tuple(chain)


def _paths(descriptor: Descriptor, body: dict[str, Any], prefix: str = "") -> list[str]:
    """The mask of the fields that a JSON object has, nested messages by their own fields."""
    found: list[str] = []
    names = descriptors.fields_of(descriptor)
    for key, value in body.items():
        field = names.get(key)
        if field is None:
            continue
        path = prefix + field.name
        plain = descriptors.is_message(field) and not field.is_repeated
        nested = plain and descriptors.type_name(field) not in descriptors.SPECIAL
        if nested and isinstance(value, dict) and value:
            found += _paths(descriptors.message_of(field), value, f"{path}.")
        else:
            found.append(path)
    return found


def _without_pretty(pairs: list[tuple[str, str]], style: Style) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] != "pretty"] if style.pretty else pairs
