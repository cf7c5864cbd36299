"""`user put|list`: what people may do, through AccessService."""

from __future__ import annotations

import click

from shared.cli import render
from shared.cli.access import call
from shared.cli.yard import Yard, run, where
from shared.errors import InvalidArgument
from shared.pb.roundhouse.admin.v1 import access_pb2


async def _users(yard: Yard) -> dict[str, access_pb2.User]:
    """All that are stored, by subject."""
    request, found = access_pb2.ListUsersRequest(), dict[str, access_pb2.User]()
    while True:
        page = await call(yard, "ListUsers", request)
        found |= {user.subject: user for user in page.users}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@click.group("user")
def user() -> None:
    """Store users: their roles and namespaces."""


@user.command("list")
@where
def list_(yard: Yard) -> None:
    """List the stored users."""
    header = ["subject", "role", "namespaces", "disabled"]
    rows = [
        [found.subject, found.role, ",".join(found.namespaces), "yes" if found.disabled else ""]
        for found in run(_users(yard)).values()
    ]
    click.echo("\n".join(render.table(header, rows)))


@user.command("put")
@click.argument("subject")
@click.option("--role", help="viewer, operator or admin: what no token of the user exceeds.")
@click.option("--add-namespace", "added", multiple=True, help="One more to act in; `*` is all of them.")
@click.option("--remove-namespace", "removed", multiple=True, help="One less.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether the user's tokens are refused.")
@where
def put(
    yard: Yard,
    subject: str,
    role: str | None,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    disabled: bool | None,
) -> None:
    """Store a user, or change what is named of one that is stored."""

    async def work() -> access_pb2.User:
        wanted = (await _users(yard)).get(subject)
        if wanted is None:
            if role is None:
                raise InvalidArgument.at("--role", f"is needed: {subject} is not stored yet")
            wanted = access_pb2.User(subject=subject)
        wanted.role = role or wanted.role
        wanted.disabled = wanted.disabled if disabled is None else disabled
        kept = {*wanted.namespaces, *added} - {*removed}
        del wanted.namespaces[:]
        wanted.namespaces.extend(sorted(kept))
        return await call(yard, "PutUser", access_pb2.PutUserRequest(user=wanted))

    found = run(work())
    places = ", ".join(found.namespaces) or "none"
    state = ", disabled" if found.disabled else ""
    click.echo(f"{found.subject}: {found.role}{state}; namespaces: {places}")
