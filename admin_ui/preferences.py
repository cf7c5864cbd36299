"""What a browser remembers without a session: theme, time zone, keyboard shortcuts."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from functools import cache
from typing import Final, Self
from urllib.parse import parse_qs, urlencode

from aiohttp import web

COOKIE: Final = "roundhouse_preferences"
YEAR: Final = 365 * 24 * 3600
THEMES: Final = {"auto": "Follow the system", "light": "Light", "dark": "Dark"}


@cache
def zones() -> tuple[str, ...]:
    """UTC first, then the names of places."""
    places = (name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
    return ("UTC", *sorted(places))


@dataclass(frozen=True, slots=True)
class Preferences:
    theme: str = "auto"
    zone: str = "UTC"
    shortcuts: bool = True

    @classmethod
    def of(cls, request: web.Request) -> Self:
        """From the cookie; what it says wrongly is the default."""
        given = parse_qs(request.cookies.get(COOKIE, ""))
        return cls.parse({name: values[-1] for name, values in given.items()})

    @classmethod
    def parse(cls, given: dict[str, str]) -> Self:
        theme, zone = given.get("theme", "auto"), given.get("zone", "UTC")
        return cls(
            theme if theme in THEMES else "auto",
            zone if zone in zones() else "UTC",
            given.get("shortcuts", "on") == "on",
        )

    def store(self, response: web.StreamResponse, *, secure: bool) -> None:
        response.set_cookie(
            COOKIE,
            urlencode(
                {"theme": self.theme, "zone": self.zone, "shortcuts": "on" if self.shortcuts else "off"}
            ),
            max_age=YEAR,
            path="/",
            httponly=True,
            secure=secure,
            samesite="Lax",
        )
