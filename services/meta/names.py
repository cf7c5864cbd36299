"""Names of the catalogue's resources: what is accepted on input, and what may be stored."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from shared.resource.name import Pattern

# Accepted on input: what lenient clients send. (meta contract, section 4.)
_REGION: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DEPLOYMENT: Final = r"[A-Za-z0-9_.-]{1,128}"
_SERVICE: Final = r"[A-Za-z0-9.-]{1,128}"
_RESOURCE: Final = r"[A-Za-z]{1,128}"
_IDS: Final = {"region": _REGION, "deployment": _DEPLOYMENT, "service": _SERVICE, "resource": _RESOURCE}
# What stored ids must be, where that is less; `-` alone is the wildcard and never an id.
_STORED: Final = {"region": r"[a-z][a-z0-9-]{0,28}[a-z0-9]"}


@dataclass(frozen=True)
class NamePattern:
    """One form of name. `ids` are the variables of its template in order."""

    pattern: Pattern
    ids: tuple[str, ...] = field(default=())

    @property
    def template(self) -> str:
        return self.pattern.template

    def accepts(self, text: str) -> bool:
        """Of this form, `-` standing for any id."""
        return self.pattern.accepts(text)

    def qualified(self, text: str) -> bool:
        """Of this form, without a wildcard."""
        return self.pattern.matches(text) and "-" not in text.split("/")[1::2]

    def storable(self, text: str) -> str:
        """What keeps the name from being stored; empty when nothing does."""
        if not self.qualified(text):
            return f"{text!r} is not of the form {self.template}"
        for name, value in self.pattern.parse(text).items():
            if name in _STORED and not re.fullmatch(_STORED[name], value):
                return f"{value!r}: a {name} id is 2 to 30 of a-z, 0-9 and '-', a letter first, no '-' last"
        return ""


def _pattern(template: str, *ids: str) -> NamePattern:
    return NamePattern(Pattern(template, {name: _IDS[name] for name in ids}), ids)


REGION: Final = _pattern("regions/{region}", "region")
DEPLOYMENT: Final = _pattern("regions/{region}/deployments/{deployment}", "region", "deployment")
SERVICE: Final = _pattern("services/{service}", "service")
RESOURCE: Final = _pattern("services/{service}/resources/{resource}", "service", "resource")


def parent_of(name: str) -> str:
    """The name without its last collection and id; empty for a top-level resource."""
    return "/".join(name.split("/")[:-2])
