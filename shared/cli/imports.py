"""`import pods|inventory`: JSON lines, such as the export writes, fed to the pods service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, BinaryIO, Final

import click
import grpc

from shared.cli import suite
from shared.cli.yard import CommandError, Yard, run, where
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2_grpc import PodFeedServiceStub

_SERVICE: Final = "pods"
# Pods that are under way before an answer is waited for: a batch of the service.
_WINDOW: Final = 1000
_SHOWN: Final = 5


@click.command("import")
@click.argument("what", type=click.Choice(["inventory", "pods"]))
@click.argument("file", type=click.File("rb"))
@click.option("--replace", is_flag=True, help="Pods: store each exactly as it is; deletes nothing.")
@click.option("--source", default="", help="Pods: whose they are from now on.  [default: import]")
@where
def import_(yard: Yard, what: str, file: BinaryIO, replace: bool, source: str) -> None:
    """Read pods, or clusters and deployments, from FILE (- is standard input), a JSON object a line."""
    if what == "inventory" and (replace or source):
        raise click.UsageError("--replace and --source are for pods")
    if not suite.exists(_SERVICE):
        raise CommandError(f"the {_SERVICE} service is not part of this version")
    if what == "inventory":
        result = run(_put(yard, _items(file)))
        click.echo(f"{result.stored} stored, {result.unchanged} unchanged, revision {result.revision}")
        return
    pushed = run(_push(yard, _events(file, pb.REPLACE if replace else pb.UPSERT, source)))
    click.echo(f"{pushed.stored} stored, {pushed.unchanged} unchanged, revision {pushed.revision}")
    if pushed.refused:
        named = [f"{one.id} is of {one.source!r}" for one in pushed.refusals[:_SHOWN]]
        more = f" and {pushed.refused - len(named)} more" if pushed.refused > len(named) else ""
        raise CommandError(f"{pushed.refused} belong to another source: {', '.join(named)}{more}")


def _events(file: BinaryIO, action: Any, source: str) -> Iterator[pb.PodEvent]:
    """Raises InvalidArgument naming the line."""
    from services.pods import faults, ndjson

    for number, line in _lines(file):
        pod = ndjson.pod(number, line)
        faults.check_pod(pod, f"{ndjson.place(number)}: ")
        yield pb.PodEvent(action=action, pod=pod, source=source)


def _items(file: BinaryIO) -> Iterator[pb.InventoryItem]:
    from services.pods import ndjson

    for number, line in _lines(file):
        yield ndjson.inventory_item(number, line)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, line


async def _push(yard: Yard, events: Iterator[pb.PodEvent]) -> pb.PushResult:
    """Raises CallFailed; what was answered before is stored."""
    async with yard.client(_SERVICE) as client:
        call = PodFeedServiceStub(client.channel).Push(metadata=client.metadata)
        result, sent = pb.PushResult(), 0
        try:
            for event in events:
                await call.write(event)
                sent += 1
                while sent % _WINDOW == 0 and _answered(result) < sent:
                    result = await call.read()
            await call.done_writing()
            # grpc-stubs lacks the name.
            while (more := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                result = more
        except grpc.RpcError as error:
            raise client.failed(error) from error
        finally:
            call.cancel()
        return result


def _answered(result: pb.PushResult) -> int:
    return result.stored + result.unchanged + result.removed + result.refused


async def _put(yard: Yard, items: Iterator[pb.InventoryItem]) -> pb.PutResult:
    """Raises CallFailed; nothing was stored then."""
    read = list(items)

    async def sent() -> AsyncIterator[pb.InventoryItem]:
        for item in read:
            yield item

    async with yard.client(_SERVICE) as client:
        try:
            stub = PodFeedServiceStub(client.channel)
            return await stub.PutInventory(sent(), metadata=client.metadata)
        except grpc.RpcError as error:
            raise client.failed(error) from error
