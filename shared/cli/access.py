"""`token create|list|revoke`, `sign-in`: who may call, through AccessService."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from google.protobuf.message import Message

from shared.cli import jumpstarter, render, suite
from shared.cli.parameters import Duration
from shared.cli.yard import CommandError, Yard, run, where
from shared.errors import InvalidArgument
from shared.pb.roundhouse.admin.v1 import access_pb2, access_pb2_grpc
from shared.rpc.client import CallFailed
from shared.service.config import CONSOLE

Access = access_pb2_grpc.AccessServiceStub


async def call(yard: Yard, method: str, request: Message) -> Any:
    """From whichever service answers: all open the same store of users and tokens."""
    last: CallFailed | None = None
    for service in yard.targets():
        async with yard.client(service) as client:
            try:
                return await client.call(Access, method, request)
            except CallFailed as error:
                if error.failure.code.name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    raise
                last = error
    if last is None:
        raise CommandError("no service is part of this set; see --only")
    raise last


@click.group("token")
def token() -> None:
    """Create, list and revoke tokens."""


@token.command("create")
@click.option("--subject", required=True, help="Whom the token names.")
@click.option("--role", required=True, help="viewer, operator or admin.")
@click.option("--ttl", type=Duration(), help="How long it lasts, for example 24h.  [default: 30d]")
@where
def create(yard: Yard, subject: str, role: str, ttl: timedelta | None) -> None:
    """Print a new token, alone. It is shown this once."""
    request = access_pb2.CreateTokenRequest(subject=subject, role=role)
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    click.echo(run(call(yard, "CreateToken", request)).value)


@token.command("list")
@click.option("--subject", default="", help="Only those of this user.")
@click.option("--all", "all_", is_flag=True, help="Expired and revoked ones, too.")
@where
def list_(yard: Yard, subject: str, all_: bool) -> None:
    """List tokens: who, until when, made by whom. Never the tokens themselves."""
    request = access_pb2.ListTokensRequest(subject=subject, only_active=not all_)

    async def work() -> list[access_pb2.Token]:
        found: list[access_pb2.Token] = []
        while True:
            page = await call(yard, "ListTokens", request)
            found += page.tokens
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    header = ["id", "subject", "role", "created", "expires", "revoked", "by"]
    rows = [
        [
            found.id,
            found.subject,
            found.role,
            _time(found, "create_time"),
            _time(found, "expire_time"),
            _time(found, "revoke_time"),
            found.creator,
        ]
        for found in run(work())
    ]
    click.echo("\n".join(render.table(header, rows)))


def _time(found: access_pb2.Token, name: str) -> str:
    return getattr(found, name).ToJsonString() if found.HasField(name) else ""


@token.command("revoke")
@click.argument("id_", metavar="ID")
@where
def revoke(yard: Yard, id_: str) -> None:
    """Revoke the token of that id: no call with it succeeds any more."""
    found = run(call(yard, "RevokeToken", access_pb2.RevokeTokenRequest(id=id_)))
    click.echo(f"revoked {found.id} of {found.subject}")


token.add_command(jumpstarter.token)


async def sign_in_link(yard: Yard, *, subject: str, role: str, ttl: timedelta | None = None) -> str:
    """A URL of the console that signs one person in, once, within minutes."""
    request = access_pb2.CreateSignInCodeRequest(subject=subject, role=role)
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    code = (await call(yard, "CreateSignInCode", request)).code
    url = yard.config.public_url.rstrip("/") or suite.base_url(yard.config, CONSOLE)
    return f"{url}/sign-in?code={code}"


@click.command("sign-in")
@click.option("--subject", help="Who signs in.  [default: whom the token names]")
@click.option("--role", help="viewer, operator or admin.  [default: the token's]")
@click.option("--ttl", type=Duration(), help="How long the link works, at most 1h.  [default: 10m]")
@where
def sign_in(yard: Yard, subject: str | None, role: str | None, ttl: timedelta | None) -> None:
    """Print a link that signs one person in to the console, once."""
    if ttl is not None and ttl > timedelta(hours=1):
        raise InvalidArgument.at("--ttl", "at most 1h")

    async def work() -> str:
        me = await call(yard, "WhoAmI", access_pb2.WhoAmIRequest())
        return await sign_in_link(yard, subject=subject or me.subject, role=role or me.role, ttl=ttl)

    click.echo(run(work()))
