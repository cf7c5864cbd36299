"""`import pods|inventory`: data of other systems, for the services that take it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from shared.cli import suite
from shared.cli.yard import CommandError, Yard, where

# What can be imported -> the service that takes it.
TAKERS: Final[dict[str, str]] = {"pods": "pods", "inventory": "meta"}


@click.command("import")
@click.argument("what", type=click.Choice(sorted(TAKERS)))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Drop what the file does not have.")
@where
def import_(yard: Yard, what: str, file: Path, replace: bool) -> None:
    """Read pods or an inventory from FILE."""
    service = TAKERS[what]
    if not suite.exists(service):
        raise CommandError(f"the {service} service is not part of this version")
    if not file.is_file():
        raise CommandError(f"{file}: no such file")
    raise CommandError(f"the {service} service of this version takes no import of {what}")
