"""Names of the lab's resources (jumpstarter contract, section 2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidArgument
from shared.resource.name import Pattern

MAX_LENGTH: Final = 253
# Kubernetes' DNS-1123 subdomain: it bounds the whole, not the parts between the dots.
_PART: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_WHOLE: Final = re.compile(rf"{_PART}(?:\.{_PART})*", re.ASCII)


def id_fault(text: str) -> str:
    """What is wrong with an id; "" when nothing is."""
    if len(text) <= MAX_LENGTH and _WHOLE.fullmatch(text):
        return ""
    return (
        f"{text[:300]!r} is no DNS-1123 subdomain: 1 to {MAX_LENGTH} of a-z, 0-9, '-' and '.', "
        "with a letter or digit around each dot and at both ends"
    )


@dataclass(frozen=True)
class Collection:
    """The names `namespaces/{namespace}/<plural>/{<singular>}`."""

    plural: str
    singular: str
    pattern: Pattern

    def parse(self, name: str, parameter: str = "name") -> tuple[str, str]:
        """The namespace and the id. Raises InvalidArgument naming `parameter`."""
        parts = name.split("/")
        expected = self.pattern.template
        if len(parts) != 4:
            raise InvalidArgument.at(
                parameter, f"{name!r} has {len(parts)} segments; 4 are expected, as in {expected}"
            )
        for index, word in ((0, "namespaces"), (2, self.plural)):
            if parts[index] != word:
                raise InvalidArgument.at(
                    parameter, f"segment {index + 1} of {name!r} is {parts[index]!r}; {word!r} is expected"
                )
        for part in (parts[1], parts[3]):
            if fault := id_fault(part):
                raise InvalidArgument.at(parameter, fault)
        return parts[1], parts[3]

    def name(self, namespace: str, id: str) -> str:
        return f"namespaces/{namespace}/{self.plural}/{id}"


def _collection(plural: str, singular: str) -> Collection:
    return Collection(plural, singular, Pattern(f"namespaces/{{namespace}}/{plural}/{{{singular}}}"))


EXPORTERS: Final = _collection("exporters", "exporter")
LEASES: Final = _collection("leases", "lease")
CLIENTS: Final = _collection("clients", "client")
POLICIES: Final = _collection("accessPolicies", "policy")


def parse_parent(parent: str, parameter: str = "parent") -> str:
    """The namespace of `namespaces/{namespace}`. Raises InvalidArgument naming `parameter`."""
    parts = parent.split("/")
    if len(parts) != 2:
        raise InvalidArgument.at(
            parameter, f"{parent!r} has {len(parts)} segments; 2 are expected, as in namespaces/{{namespace}}"
        )
    if parts[0] != "namespaces":
        raise InvalidArgument.at(
            parameter, f"segment 1 of {parent!r} is {parts[0]!r}; 'namespaces' is expected"
        )
    if fault := id_fault(parts[1]):
        raise InvalidArgument.at(parameter, fault)
    return parts[1]


def parent(namespace: str) -> str:
    return f"namespaces/{namespace}"


def namespace_of(name: str) -> str:
    """Of a well-formed name."""
    return name.split("/", 2)[1]


def id_of(name: str) -> str:
    """Of a well-formed name; "" of none."""
    return name.rpartition("/")[2]
