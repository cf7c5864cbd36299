"""`watch`: the objects of one kind, and then every change of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import click
from grpc import StatusCode

from shared.cli import kinds as kinds_module
from shared.cli import render
from shared.cli.parameters import FILTER, SELECTOR
from shared.cli.yard import Yard, run, where
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc
from shared.rpc.client import CallFailed, Client

Admin = admin_pb2_grpc.AdminServiceStub
# Seconds before asking again after the service went away: the first, and the longest.
_RETRY: Final = (0.2, 5.0)


@click.command("watch")
@click.argument("kind")
@FILTER
@SELECTOR
@click.option("--from-now", is_flag=True, help="Leave out what is there already.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@where
def watch(yard: Yard, kind: str, filter_: str, selector: str, from_now: bool, output: str) -> None:
    """Follow the objects of a kind: + new, ~ changed, - gone. JSON is one object a line.

    With --from-now the first change of an object that was there already shows as +.
    Goes on by itself when the service comes back after a restart; Ctrl-C ends it.
    """

    async def work() -> None:
        place = (await kinds_module.ask(yard)).find(kind)
        request = admin_pb2.WatchRequest(
            kind=place.kind.kind, filter=filter_, selector=selector, from_now=from_now
        )
        printer = _Printer(as_json=output == "json")
        async with yard.client(place.service) as client:
            async for answer in _follow(client, request):
                printer.show(answer)

    run(work())


async def _follow(client: Client, request: admin_pb2.WatchRequest) -> AsyncIterator[admin_pb2.WatchResponse]:
    """The answers, resumed after the last complete change set when the service went away."""
    delay, longest = _RETRY
    answered = False
    while True:
        try:
            async for answer in client.stream(Admin, "Watch", request):
                answered, delay = True, _RETRY[0]
                if answer.resume_token:
                    request.resume_token = answer.resume_token
                    request.from_now = False
                yield answer
        except CallFailed as error:
            if error.failure.code is StatusCode.OUT_OF_RANGE and request.resume_token:
                # What was missed is compacted away: start over with a snapshot.
                request.resume_token = ""
                yield admin_pb2.WatchResponse(is_hard_reset=True)
                continue
            if error.failure.code is not StatusCode.UNAVAILABLE or not answered:
                raise
            click.echo(f"connection lost: {error.failure.message}; trying again", err=True)
        await asyncio.sleep(delay)
        delay = min(delay * 2, longest)


class _Printer:
    """Prints changes; remembers names, since a change does not say whether it is the first."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._known: set[str] = set()

    def show(self, answer: admin_pb2.WatchResponse) -> None:
        if answer.is_hard_reset:
            self._known.clear()
            click.echo(render.to_json({"change": "reset"}, indent=None) if self._as_json else "= start over")
        for change in answer.changes:
            if change.WhichOneof("change") == "removed":
                self._known.discard(change.removed)
                self._line("-", change.removed, None)
            else:
                found = change.current
                mark = "~" if found.name in self._known else "+"
                self._known.add(found.name)
                self._line(mark, found.name, found)

    def _line(self, mark: str, name: str, found: admin_pb2.Object | None) -> None:
        if self._as_json:
            word = {"+": "added", "~": "changed", "-": "removed"}[mark]
            value: dict[str, Any] = {"change": word, "name": name}
            if found is not None:
                value |= {"revision": found.revision, "body": render.fields(found.body)}
            click.echo(render.to_json(value, indent=None))
            return
        text = f"{mark} {name}"
        if found is not None:
            names = render.columns([found])
            pairs = zip(names, render.cells(found, names), strict=True)
            text += "".join(f"  {key}={cell}" for key, cell in pairs if cell)
        click.echo(text)
