"""`get list delete export`: objects of any kind, through AdminService."""

from __future__ import annotations

from typing import Any

import click

from shared.cli import kinds as kinds_module
from shared.cli import render
from shared.cli.kinds import Place
from shared.cli.parameters import FILTER, SELECTOR
from shared.cli.yard import Yard, run, where
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc

Admin = admin_pb2_grpc.AdminServiceStub

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="`name` is what `get` and `delete` take, one a line.",
)


@click.command("get")
@click.argument("kind")
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@where
def get(yard: Yard, kind: str, name: str, output: str) -> None:
    """Show one object."""

    async def work() -> admin_pb2.Object:
        place = (await kinds_module.ask(yard)).find(kind)
        async with yard.client(place.service) as client:
            return await client.call(Admin, "Get", admin_pb2.GetRequest(kind=place.kind.kind, name=name))

    found = run(work())
    if output == "json":
        click.echo(render.to_json(render.entry(found)))
    else:
        click.echo(render.to_yaml(render.fields(found.body)))


@click.command("list")
@click.argument("kind")
@FILTER
@SELECTOR
@click.option("--order-by", default="", help="Fields, each followed by `desc` if so, between commas.")
@click.option("--page-size", type=click.IntRange(1, 1000), default=500, help="Objects fetched at a time.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many.")
@OUTPUT
@where
def list_(
    yard: Yard,
    kind: str,
    filter_: str,
    selector: str,
    order_by: str,
    page_size: int,
    limit: int | None,
    output: str,
) -> None:
    """List the objects of a kind. YAML can be given back to `apply`; JSON has everything."""

    async def work() -> tuple[Place, list[admin_pb2.Object]]:
        place = (await kinds_module.ask(yard)).find(kind)
        request = admin_pb2.ListRequest(
            kind=place.kind.kind, filter=filter_, selector=selector, order_by=order_by
        )
        request.page_size = min(page_size, limit or page_size)
        found: list[admin_pb2.Object] = []
        async with yard.client(place.service) as client:
            while limit is None or len(found) < limit:
                page = await client.call(Admin, "List", request)
                found += page.objects
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token
        return place, found[:limit]

    place, found = run(work())
    if output == "json":
        click.echo(render.to_json([render.entry(item) for item in found]))
    elif output == "yaml":
        click.echo(render.to_yaml({place.kind.plural: [render.manifest(item) for item in found]}))
    elif output == "name":
        for item in found:
            click.echo(item.name)
    else:
        names = render.columns(found)
        rows = [[item.name, str(item.revision), *render.cells(item, names)] for item in found]
        # The first column is what `get` and `delete` take; a field may have the same name.
        titles = [f"{place.kind.kind} name" if name == "name" else name for name in names]
        click.echo("\n".join(render.table(["name", "revision", *titles], rows)))


@click.command("delete")
@click.argument("kind")
@click.argument("name")
@click.option("--revision", type=click.IntRange(1), help="Only if the object is still at this revision.")
@where
def delete(yard: Yard, kind: str, name: str, revision: int | None) -> None:
    """Delete one object."""

    async def work() -> tuple[str, int]:
        place = (await kinds_module.ask(yard)).find(kind)
        request = admin_pb2.DeleteRequest(kind=place.kind.kind, name=name, revision=revision or 0)
        async with yard.client(place.service) as client:
            return place.kind.kind, (await client.call(Admin, "Delete", request)).revision

    singular, at = run(work())
    click.echo(f"- {singular} {name} (revision {at})")


@click.command("export")
@click.argument("kinds", nargs=-1)
@where
def export(yard: Yard, kinds: tuple[str, ...]) -> None:
    """Write all objects (of KINDS) as a manifest that `apply` takes back.

    Without KINDS: those that `apply` may write. Each service is exported at one revision.
    """

    async def work() -> dict[str, list[dict[str, Any]]]:
        known = await kinds_module.ask(yard)
        if not kinds and known.down:
            raise next(iter(known.down.values()))
        places = [known.find(kind) for kind in kinds] or [p for p in known.places if p.kind.writable]
        manifest: dict[str, list[dict[str, Any]]] = {place.kind.plural: [] for place in places}
        for service in dict.fromkeys(place.service for place in places):
            request = admin_pb2.ExportRequest(kinds=[p.kind.kind for p in places if p.service == service])
            async with yard.client(service) as client:
                async for found in client.stream(Admin, "Export", request):
                    manifest[known.plural(found.kind)].append(render.manifest(found))
        return manifest

    click.echo(render.to_yaml(run(work())))
