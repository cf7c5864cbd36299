"""`token jumpstarter`, `jumpstarter config`: tokens and files for clients and exporters of a lab."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import click
import yaml

from shared.cli import render
from shared.cli.parameters import Duration, Pair
from shared.cli.yard import CommandError, Yard, run, where
from shared.pb.roundhouse.lab.v1 import lab_service_pb2, lab_service_pb2_grpc

Command = TypeVar("Command", bound=Callable[..., Any])

SERVICE: Final = "jumpstarter"
CLIENT: Final = "client"
EXPORTER: Final = "exporter"


def _object(command: Command) -> Command:
    """Adds what says for whom a token is: the kind, NAMESPACE/NAME and --ttl."""
    command = click.option("--ttl", type=Duration(), help="How long the token lasts.  [default: 365d]")(
        command
    )
    name = Pair("/", "NAMESPACE/NAME, for example default/bench-1")
    command = click.argument("name", type=name, metavar="NAMESPACE/NAME")(command)
    return click.argument("kind", type=click.Choice([CLIENT, EXPORTER]))(command)


async def _issue(
    yard: Yard, kind: str, name: tuple[str, str], ttl: timedelta | None
) -> lab_service_pb2.IssueTokenResponse:
    if SERVICE not in yard.targets():
        raise CommandError("the jumpstarter service is not part of this set; see --only")
    request = lab_service_pb2.IssueTokenRequest(name=f"namespaces/{name[0]}/{kind}s/{name[1]}")
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    async with yard.client(SERVICE) as client:
        return await client.call(lab_service_pb2_grpc.LabServiceStub, "IssueToken", request)


@click.command("jumpstarter")
@_object
@where
def token(yard: Yard, kind: str, name: tuple[str, str], ttl: timedelta | None) -> None:
    """Print a new token for a client or an exporter, alone. Earlier ones stay good."""
    click.echo(run(_issue(yard, kind, name, ttl)).token)


@click.group("jumpstarter")
def jumpstarter() -> None:
    """Connect clients and exporters of a lab."""


@jumpstarter.command("config")
@_object
@click.option(
    "--driver",
    "drivers",
    type=Pair("=", "NAME=TYPE, for example power=jumpstarter_driver_power.driver.MockPower"),
    multiple=True,
    metavar="NAME=TYPE",
    help="A device that the exporter offers and the type of its driver; may be repeated.",
)
@where
def config(
    yard: Yard,
    kind: str,
    name: tuple[str, str],
    ttl: timedelta | None,
    drivers: tuple[tuple[str, str], ...],
) -> None:
    """Print the file for jmp, with a new token in it."""
    if drivers and kind != EXPORTER:
        raise click.UsageError("--driver is for exporters")
    text = run(_issue(yard, kind, name, ttl)).config
    if drivers:
        content = yaml.safe_load(text)
        content["export"] = {device: {"type": driver} for device, driver in drivers}
        text = render.to_yaml(content)
    click.echo(text.rstrip("\n"))
