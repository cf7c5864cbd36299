"""Resource names: slash-separated, with variables: `regions/{region}/deployments/{deployment}`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.errors import InvalidArgument

_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Pattern:
    """`ids` maps a variable to the regular expression of its values; `[^/]+` where it has none."""

    template: str
    ids: dict[str, str] = field(default_factory=dict, hash=False)
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        parts: list[str] = []
        end = 0
        for match in _VARIABLE.finditer(self.template):
            parts.append(re.escape(self.template[end : match.start()]))
            parts.append(f"(?P<{match[1]}>{self.ids.get(match[1], '[^/]+')})")
            end = match.end()
        parts.append(re.escape(self.template[end:]))
        object.__setattr__(self, "_regex", re.compile("".join(parts), re.ASCII))

    def parse(self, name: str, *, parameter: str = "name") -> dict[str, str]:
        """The values of the variables. Raises InvalidArgument naming `parameter`."""
        match = self._regex.fullmatch(name)
        if match is None:
            raise InvalidArgument.at(parameter, f"{name!r} is not of the form {self.template}")
        return match.groupdict()

    def accepts(self, name: str) -> bool:
        """A name of this form in which `-` may stand for any id."""
        parts, own = name.split("/"), self.template.split("/")
        return len(parts) == len(own) and all(map(self._fits, own, parts))

    def _fits(self, place: str, part: str) -> bool:
        variable = _VARIABLE.fullmatch(place)
        if variable is None:
            return part == place
        return part == "-" or re.fullmatch(self.ids.get(variable[1], "[^/]+"), part, re.ASCII) is not None

    def matches(self, name: str) -> bool:
        return self._regex.fullmatch(name) is not None

    def format(self, **values: str) -> str:
        """The name with these values. Raises InvalidArgument for a value that does not fit."""
        name = _VARIABLE.sub(lambda match: values[match[1]], self.template)
        self.parse(name)
        return name
