"""Starting, stopping and restarting many pods of one job: each by itself, with a result of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import grpc
from aiohttp import web

from admin_ui import render
from admin_ui.job_pods import PodListState, Pods
from admin_ui.operations import RESTART, START, STOP, Item, Verb
from admin_ui.presenters.job_pods import number
from admin_ui.views import bulk
from admin_ui.views.bulk import Many, Preview, Selection
from admin_ui.views.job_pods import sentence
from shared.errors import Violation
from shared.rpc.client import CallFailed, Failure

_PERMISSIONS: Final = {verb.name: f"pods.{verb.name}" for verb in (START, STOP, RESTART)}


class Instances(Many):
    """Of the job that the list they were selected in is of. Restarts keep to the job's SLA."""

    noun = "instance"
    titles = "Instances"
    template = "job_pods/_bulk.html"
    everything = True

    def __init__(self, request: web.Request) -> None:
        self._pods = Pods(render.caller(request))
        self.home = render.url(request.app, "jobs.list")

    def permission(self, verb: Verb) -> str:
        return _PERMISSIONS[verb.name]

    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        acts: dict[str, Callable[[Item], Awaitable[object]]] = {
            START.name: lambda item: self._pods.start(item.id),
            STOP.name: lambda item: self._pods.stop(item.id),
            RESTART.name: lambda item: self._pods.restart(item.id, check_sla=True),
        }
        return acts[verb.name]

    async def preview(self, verb: Verb, selection: Selection) -> Preview:
        state, job = _list(selection)
        values = {"sentence": sentence(state)}
        if not selection.all:
            return Preview(len(selection.items), [item async for item in self.named(selection)], values)
        try:
            answer = await self._pods.page(state.replace(page_size=10).request(job))
        except ValueError as error:
            raise _refused(error) from error
        return Preview(answer.total_size, values=values)

    async def named(self, selection: Selection) -> AsyncIterator[Item]:
        for item in selection.items:
            yield Item(item.id, f"instance {number(item.id)}")

    async def matching(self, selection: Selection) -> AsyncIterator[Item]:
        state, job = _list(selection)
        try:
            async for item in self._pods.matching(state, job):
                yield item
        except ValueError as error:
            raise _refused(error) from error


def _list(selection: Selection) -> tuple[PodListState, str]:
    """The list that they were selected in, and its job."""
    parts = urlsplit(selection.back)
    job = parts.path.removeprefix("/jobs/").partition("/")[0]
    return PodListState.parse(dict(parse_qsl(parts.query))), job


def _refused(error: ValueError) -> CallFailed:
    violations = (Violation("instances", str(error)),)
    return CallFailed(Failure(grpc.StatusCode.INVALID_ARGUMENT, str(error), violations))


async def start(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Instances(request), START)


async def stop(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Instances(request), STOP)


async def restart(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, Instances(request), RESTART)
