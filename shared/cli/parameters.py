"""Options that several commands have, and kinds of values that options and arguments take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import click

from shared.service.config import duration

FILTER: Final = click.option(
    "--filter", "filter_", default="", help="In the kind's own language; see docs/command-line.md."
)
SELECTOR: Final = click.option(
    "-l", "--selector", default="", help="Labels, for example board=rpi4,!broken; of kinds that have any."
)


class Duration(click.ParamType):
    """`30m`, `24h`, `400d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return duration(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class Pair(click.ParamType):
    """Two texts, as a tuple, that `separator` joins; none is empty."""

    name = "pair"

    def __init__(self, separator: str, form: str) -> None:
        self._separator = separator
        self._form = form

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        left, found, right = str(value).partition(self._separator)
        if not (left and found and right):
            self.fail(f"{value!r} is not {self._form}", param, ctx)
        return left, right
