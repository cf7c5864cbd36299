"""`history audit`: who wrote what, when."""

from __future__ import annotations

import click

from shared.cli import kinds as kinds_module
from shared.cli import render
from shared.cli.yard import CommandError, Yard, run, where
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc
from shared.service.steps import STEPS

Admin = admin_pb2_grpc.AdminServiceStub


@click.command("history")
@click.argument("kind")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@where
def history(yard: Yard, kind: str, name: str, limit: int) -> None:
    """Show the versions of one object, newest first."""

    async def work() -> admin_pb2.HistoryResponse:
        place = (await kinds_module.ask(yard)).find(kind)
        request = admin_pb2.HistoryRequest(kind=place.kind.kind, name=name, page_size=limit)
        async with yard.client(place.service) as client:
            answer = await client.call(Admin, "History", request)
        if not answer.versions:
            raise CommandError(
                f"{place.service} has no version of {place.kind.kind} {name!r}; "
                f"`roundhouse list {place.kind.kind} -o name` shows what there is"
            )
        return answer

    rows = [
        [
            str(version.revision),
            version.time.ToJsonString(),
            version.author.subject,
            version.author.action,
            "deleted" if not version.HasField("after") else ", ".join(version.paths) or "created",
        ]
        for version in run(work()).versions
    ]
    click.echo("\n".join(render.table(["revision", "time", "who", "action", "changed"], rows)))


@click.command("audit")
@click.option("--kind", default="", help="Only what touched this kind.")
@click.option("--name", default="", help="Only what touched this object; needs --kind.")
@click.option("--subject", default="", help="Only what this user wrote.")
@click.option("--access", is_flag=True, help="Who changed users and tokens instead.")
@click.option(
    "--no-steps", is_flag=True, help="Leave out what services do by themselves, such as pods' steps."
)
@click.option(
    "--exclude-action",
    "excluded",
    multiple=True,
    metavar="ACTION",
    help="Leave out what was written as this action, a word of the output; may be repeated.",
)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@where
def audit(
    yard: Yard,
    kind: str,
    name: str,
    subject: str,
    access: bool,
    no_steps: bool,
    excluded: tuple[str, ...],
    limit: int,
) -> None:
    """Show who wrote what, newest first, service by service."""
    if access and kind:
        raise click.UsageError("--access goes without --kind")
    if name and not kind:
        raise click.UsageError("--name needs --kind")

    async def work() -> list[list[str]]:
        known = await kinds_module.ask(yard)
        place = known.find(kind) if kind else None
        rows: list[list[str]] = []
        services = [place.service] if place else known.services()
        # All services share one store of users and tokens: any of them can tell.
        for service in services[:1] if access else services:
            request = admin_pb2.ListAuditRequest(
                page_size=limit,
                kind=place.kind.kind if place else "",
                name=name,
                subject=subject,
                store="access" if access else "",
                excluded_actions={*excluded, *(STEPS.get(service, ()) if no_steps else ())},
            )
            async with yard.client(service) as client:
                answer = await client.call(Admin, "ListAudit", request)
            rows += [_audit_row("access" if access else service, found) for found in answer.entries]
        return rows

    header = ["time", "service", "revision", "who", "action", "changes"]
    click.echo("\n".join(render.table(header, run(work()))))


def _audit_row(service: str, found: admin_pb2.AuditEntry) -> list[str]:
    changes = [f"{render.MARKS[change.action]} {change.kind} {change.name}" for change in found.changes[:3]]
    if len(found.changes) > 3:
        changes.append(f"and {len(found.changes) - 3} more")
    author = found.author
    return [
        found.time.ToJsonString(),
        service,
        str(found.revision),
        author.subject,
        author.action,
        ", ".join(changes),
    ]
