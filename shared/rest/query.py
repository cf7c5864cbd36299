"""Query parameters to the fields of a request message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    """Where a parameter's values go."""

    # Proto path of the field.
    path: str
    # The messages on the way to it.
    parents: tuple[str, ...]
    # (where, oneof, member) for each oneof that setting it decides.
    claims: tuple[tuple[str, str, str], ...]
    # Sets the values on the last of the parents; raises ValueError.
    put: Callable[[Any, list[str]], None]


def parse(query: str) -> tuple[list[tuple[str, str]], list[Violation]]:
    """The (name, value) pairs of a raw query string and what cannot be decoded."""
    pairs, errors = [], []
    for number, piece in enumerate(query.split("&") if query else ()):
        if not piece:
            continue
        if number >= MAX_PARAMETERS:
            errors.append(Violation("query", f"has more than {MAX_PARAMETERS} parameters"))
            break
        name, _, value = (piece.replace("+", " ") if "+" in piece else piece).partition("=")
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
            if parameter is None:
                if self._unknown == "refuse":
                    reading.fail(scalars.quoted(name)[1:-1] or "query", "is not a parameter of this method")
            elif value:
                found[parameter.path] = parameter
                values.setdefault(parameter.path, []).append(value)
        taken: dict[tuple[str, str], str] = {}
        for path, parameter in found.items():
            if parameter.claims and not _claim(parameter, taken, reading):
                continue
            target = message
            for parent in parameter.parents:
                target = getattr(target, parent)
            try:
                parameter.put(target, values[path])
            except ValueError as error:
                reading.fail(path, str(error))
        return set(found)

    def _resolve(self, name: str) -> _Parameter | None:
        """Through singular messages to a field. None: no such field, or it is bound."""
        descriptor: Descriptor | None = self._descriptor
        chain: list[FieldDescriptor] = []
        claims = []
        for part in name.split("."):
            field = descriptors.fields_of(descriptor).get(part) if descriptor is not None else None
            if field is None:
                return None
            if field.containing_oneof is not None:
                at = "".join(f"{f.name}." for f in chain)
                claims.append((at, field.containing_oneof.name, field.name))
            chain.append(field)
            opens = descriptors.is_message(field) and not field.is_repeated
            descriptor = descriptors.message_of(field) if opens and not _is_textual(field) else None
        path = ".".join(f.name for f in chain)
        if len(chain) > json_reader.MAX_DEPTH or self._is_bound(path):
            return None
        parents = tuple(f.name for f in chain[:-1])
        parameter = _Parameter(path, parents, tuple(claims), _put(chain[-1]))
        if len(self._known) < _MAX_KEPT:
            self._known[name] = parameter
        return parameter

    def _is_bound(self, path: str) -> bool:
        return any(bound in ("*", path) or path.startswith(f"{bound}.") for bound in self._bound)


def _claim(parameter: _Parameter, taken: dict[tuple[str, str], str], reading: Reading) -> bool:
    """False and a violation when another parameter set another member of the same oneof."""
    for at, oneof, member in parameter.claims:
        other = taken.setdefault((at, oneof), member)
        if other != member:
            reading.fail(parameter.path, f"cannot be set beside {at}{other}")
            return False
    return True


def _is_textual(field: FieldDescriptor) -> bool:
    return descriptors.type_name(field) in _TEXTUAL


def reader_of(field: FieldDescriptor) -> Callable[[str], Any]:
    """Reads the text of a field that is no message; raises ValueError."""
    return _boolean if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else json_reader.scalar(field)


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"must be true or false, not {scalars.quoted(text)}")
    return _BOOLEANS[text.lower()]


def _put(field: FieldDescriptor) -> Callable[[Any, list[str]], None]:
    """The function that sets a field from the values of its parameter."""
    name = field.name
    if descriptors.is_message(field):
        if field.is_repeated or not _is_textual(field):
            return _put_nothing
        return lambda message, values: _put_message(message, name, _only(values))
    read = reader_of(field)
    if not field.is_repeated:
        return lambda message, values: setattr(message, name, read(_only(values)))

    def put_all(message: Any, values: list[str]) -> None:
        message.ClearField(name)
        getattr(message, name).extend([read(value) for value in values])

    return put_all


def _only(values: list[str]) -> str:
    if len(values) > 1:
        raise ValueError("has too many values: it may be given once")
    return values[0]


def _put_nothing(message: Any, values: list[str]) -> None:
    raise ValueError("cannot be given as a query parameter")


def _put_message(message: Any, name: str, text: str) -> None:
    """A well-known type that is a string in JSON, or a wrapper of a scalar."""
    message.ClearField(name)
    target = getattr(message, name)
    if target.DESCRIPTOR.full_name in WRAPPERS:
        target.value = reader_of(target.DESCRIPTOR.fields_by_name["value"])(text)
        target.SetInParent()
        return
    reading = Reading()
    json_reader.read_message(target, text, reading)
    if reading.errors:
        raise ValueError(reading.errors[0].description)
