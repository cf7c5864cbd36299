"""Query parameters to the fields of a request message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shared.errors import Violation
from shared.rest import descriptors, json_reader, scalars
from shared.rest.descriptors import STRINGS, WRAPPERS
from shared.rest.json_reader import Reading
from shared.rest.path_template import decode

MAX_PARAMETERS: Final = 1000
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}
# Messages that one parameter can carry.
_TEXTUAL: Final = STRINGS | WRAPPERS
# Resolved names are kept; how many there are is up to the callers only for recursive messages.
_MAX_KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class _Parameter:
    """Where a parameter's values go: the proto path of its field, and the field's descriptors."""

    path: str
    parents: tuple[FieldDescriptor, ...]
    field: FieldDescriptor


def parse(query: str) -> tuple[list[tuple[str, str]], list[Violation]]:
    """The (name, value) pairs of a raw query string and what cannot be decoded."""
    pairs, errors = [], []
    for number, piece in enumerate(query.split("&") if query else ()):
        if not piece:
            continue
        if number >= MAX_PARAMETERS:
            errors.append(Violation("query", f"has more than {MAX_PARAMETERS} parameters"))
            break
        name, _, value = piece.replace("+", " ").partition("=")
        try:
            name = decode(name)
        except ValueError as error:
            errors.append(Violation("query", f"the parameter name {scalars.quoted(name)} {error}"))
            continue
        try:
            pairs.append((name, decode(value)))
        except ValueError as error:
            errors.append(Violation(scalars.quoted(name)[1:-1] or "query", str(error)))
    return pairs, errors


class QueryReader:
    """For one route. Fields at or under `bound`, which come from the path or the body, are not
    taken from the query: they count as unknown. Compiled as names come."""

    def __init__(
        self, descriptor: Descriptor, bound: Iterable[str], unknown: Literal["ignore", "refuse"]
    ) -> None:
        self._descriptor = descriptor
        self._bound = tuple(bound)
        self._unknown = unknown
        self._known: dict[str, _Parameter] = {}

    def read(self, message: Message, pairs: list[tuple[str, str]], reading: Reading) -> set[str]:
        """Sets what the parameters name and returns its proto paths. An empty value is no value."""
        values: dict[str, list[str]] = {}
        found: dict[str, _Parameter] = {}
        for name, value in pairs:
            parameter = self._known.get(name) or self._resolve(name)
            if parameter is None or self._is_bound(parameter.path):
                if self._unknown == "refuse":
                    reading.fail(scalars.quoted(name)[1:-1] or "query", "is not a parameter of this method")
            elif value:
                found[parameter.path] = parameter
                values.setdefault(parameter.path, []).append(value)
        taken: dict[tuple[str, str], str] = {}
        for path, parameter in found.items():
            self._set(message, parameter, values[path], reading, taken)
        return set(found)

    def _is_bound(self, path: str) -> bool:
        return any(path == b or b == "*" or path.startswith(f"{b}.") for b in self._bound)

    def _resolve(self, name: str) -> _Parameter | None:
        """Through singular messages to a field that text can set, or to one that nothing can."""
        descriptor: Descriptor | None = self._descriptor
        chain: list[FieldDescriptor] = []
        for part in name.split("."):
            field = descriptors.fields_of(descriptor).get(part) if descriptor is not None else None
            if field is None:
                return None
            chain.append(field)
            opens = descriptors.is_message(field) and not field.is_repeated
            descriptor = descriptors.message_of(field) if opens and not _is_textual(field) else None
        if len(chain) > json_reader.MAX_DEPTH:
            return None
        parameter = _Parameter(".".join(f.name for f in chain), tuple(chain[:-1]), chain[-1])
        if len(self._known) < _MAX_KEPT:
            self._known[name] = parameter
        return parameter

    def _set(
        self,
        message: Message,
        parameter: _Parameter,
        values: list[str],
        reading: Reading,
        taken: dict[tuple[str, str], str],
    ) -> None:
        field, path = parameter.field, parameter.path
        if descriptors.is_message(field) and (field.is_repeated or not _is_textual(field)):
            reading.fail(path, "cannot be given as a query parameter")
            return
        if len(values) > 1 and not field.is_repeated:
            reading.fail(path, "has too many values: it may be given once")
            return
        at = ""
        for step in (*parameter.parents, field):
            if not self._claim(step, at, path, reading, taken):
                return
            at = f"{at}{step.name}."
        for parent in parameter.parents:
            message = getattr(message, parent.name)
        message.ClearField(field.name)
        if field.is_repeated:
            _extend(message, field, values, reading, path)
        elif descriptors.is_message(field):
            _set_message(getattr(message, field.name), values[0], reading, path)
        else:
            try:
                setattr(message, field.name, scalar_of(field, values[0]))
            except ValueError as error:
                reading.fail(path, str(error))

    @staticmethod
    def _claim(
        step: FieldDescriptor, at: str, path: str, reading: Reading, taken: dict[tuple[str, str], str]
    ) -> bool:
        """False and a violation when another parameter set another member of `step`'s oneof."""
        oneof = step.containing_oneof
        if oneof is None:
            return True
        other = taken.setdefault((at, oneof.name), step.name)
        if other != step.name:
            reading.fail(path, f"cannot be set beside {at}{other}")
        return other == step.name


def _is_textual(field: FieldDescriptor) -> bool:
    return descriptors.type_name(field) in _TEXTUAL


def scalar_of(field: FieldDescriptor, text: str) -> object:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"must be true or false, not {scalars.quoted(text)}")
        return _BOOLEANS[text.lower()]
    return json_reader.scalar(field)(text)


def _extend(message: Message, field: FieldDescriptor, values: list[str], reading: Reading, path: str) -> None:
    items = getattr(message, field.name)
    for value in values:
        try:
            items.append(scalar_of(field, value))
        except ValueError as error:
            reading.fail(path, str(error))


def _set_message(message: Any, text: str, reading: Reading, path: str) -> None:
    if message.DESCRIPTOR.full_name not in WRAPPERS:
        json_reader.read_message(message, text, reading, path)
        return
    try:
        message.value = scalar_of(message.DESCRIPTOR.fields_by_name["value"], text)
        message.SetInParent()
    except ValueError as error:
        reading.fail(path, str(error))
