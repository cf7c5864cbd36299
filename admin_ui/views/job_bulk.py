"""Writes to many jobs: start, stop, delete. Each is done at the version that it has at its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from admin_ui import render
from admin_ui.job_state import JobListState
from admin_ui.jobs import Jobs, is_stale
from admin_ui.operations import DELETE, STOP, Item, Verb
from admin_ui.presenters import jobs as presenter
from admin_ui.views import bulk
from admin_ui.views.bulk import Many, Preview, Selection
from shared.rpc.client import CallFailed

# How many a confirmation names; of the others it says the number.
NAMED: Final = 20
# Times that one job is read again because somebody changed it in that very moment.
TRIES: Final = 3
# Nothing undoes it: stopping them would stop those, too, that ran before.
START: Final = Verb("start", "Start", "Started", "Starting", "play", harmless=True)


# Of those that a list shows, the ones that a deletion without force takes.
STOPPED: Final = 'state = "JOB_STATE_KILLED"'


class ManyJobs(Many):
    """`verb`: what is about to be done; it matters for all that match a filter."""

    noun = "job"
    titles = "Jobs"
    home = "/jobs"
    template = "jobs/_bulk.html"
    everything = True

    def __init__(self, request: web.Request, verb: Verb | None = None) -> None:
        self._jobs = Jobs(render.caller(request))
        self._verb = verb

    def permission(self, verb: Verb) -> str:
        return f"jobs.{verb.name}"

    def act(self, verb: Verb) -> Callable[[Item], Awaitable[object]]:
        calls: dict[str, Callable[[str, str], Awaitable[object]]] = {
            "start": self._jobs.start,
            "stop": self._jobs.stop,
            "delete": lambda id, version: self._jobs.delete(id, version, force=False),
        }
        return lambda item: self._now(calls[verb.name], item.id)

    async def _now(self, call: Callable[[str, str], Awaitable[object]], id: str) -> None:
        for attempt in range(TRIES):
            version = (await self._jobs.summary(id)).status.version.value
            try:
                await call(id, version)
                return
            except CallFailed as error:
                if not is_stale(error) or attempt == TRIES - 1:
                    raise

    async def preview(self, verb: Verb, selection: Selection) -> Preview:
        """Of a deletion those that are stopped: the others stay until they are."""
        if selection.all:
            told: dict[str, Any] = {
                "sentence": presenter.sentence(_state(selection)),
                "named": [],
                "left": [],
            }
            return Preview(await self._jobs.count(self._filter(selection)), values=told)
        known = await self._jobs.named(selection.ids)
        rows = [presenter.row(known[id]) for id in selection.ids if id in known]
        meant = [row for row in rows if verb is not DELETE or row.stopped]
        left = [row for row in rows if row not in meant]
        values = {"named": meant[:NAMED], "left": left, "pods": sum(row.live for row in meant)}
        return Preview(len(meant), [Item(row.id, row.title) for row in meant], values)

    async def named(self, selection: Selection) -> AsyncIterator[Item]:
        known = await self._jobs.named(selection.ids)
        for id in selection.ids:
            yield Item(id, presenter.row(known[id]).title if id in known else id)

    async def matching(self, selection: Selection) -> AsyncIterator[Item]:
        async for job in self._jobs.every(self._filter(selection)):
            yield Item(job.id, presenter.row(job).title)

    def _filter(self, selection: Selection) -> str:
        chosen = _state(selection).expression()
        if self._verb is not DELETE:
            return chosen
        return f"({chosen}\n) AND {STOPPED}" if chosen else STOPPED


def _state(selection: Selection) -> JobListState:
    """Of the list that they were selected in."""
    return JobListState.parse(dict(parse_qsl(urlsplit(selection.back).query)))


async def start(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, ManyJobs(request, START), START)


async def stop(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, ManyJobs(request, STOP), STOP)


async def delete(request: web.Request) -> web.StreamResponse:
    return await bulk.write(request, ManyJobs(request, DELETE), DELETE)
