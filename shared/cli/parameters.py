"""Kinds of values that options and arguments take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from shared.service.config import duration


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
