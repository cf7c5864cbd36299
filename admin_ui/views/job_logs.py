"""Logs of a pod: a page of one output of one run, and the pieces by which the page grows."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import log_stream, render
from admin_ui.clients import JOBS
from admin_ui.job_logs import SEARCHES, STDERR, STDOUT, Found, Logs, Source, Window
from admin_ui.jobs import POD
from admin_ui.presenters import job_pods as presenter
from admin_ui.presenters import logs
from admin_ui.presenters.job_pods import Run
from admin_ui.views import common, job_pods, jobs
from shared.rpc.client import CallFailed, Failure

# Lines of a first screen, and of each further step.
SCREEN: Final = 500
# Matches that a page without scripts names.
LISTED: Final = 100
LONGEST_SEARCH: Final = 200
_EMPTY: Final = Window((), 0, 0, first=True, last=True)


def _logs(request: web.Request) -> Logs:
    return Logs(render.caller(request))


def _stream(request: web.Request) -> str:
    return STDERR if request.query.get("stream") == STDERR else STDOUT


def _offset(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _wanted(request: web.Request) -> tuple[str, re.Pattern[str] | None]:
    """What is searched for, and its pattern."""
    text = request.query.get("q", "")[:LONGEST_SEARCH]
    return text, logs.pattern(text)


# --- the page -----------------------------------------------------------------------------------


async def page(request: web.Request) -> web.StreamResponse:
    """The last lines, or with `at` or `before` those around or before an offset."""
    values = await job_pods.load_pod(request)
    shown: Run = values["shown"]
    source = Source(values["name"], shown.id, _stream(request))
    window = await common.attempt(_window(request, source, SCREEN))
    text, wanted = _wanted(request)
    found = await common.attempt(_search(request, source, wanted)) if wanted else None
    values |= {
        "tab": "logs",
        "stream": source.stream,
        "streams": (STDOUT, STDERR),
        "q": text,
        "wrap": request.query.get("wrap") != "off",
        "place": {name: request.query[name] for name in ("at", "before") if request.query.get(name)},
        "window": _EMPTY if isinstance(window, Failure) else window,
        "problem": window if isinstance(window, Failure) else None,
        "found": found,
        "hits": found.lines[-LISTED:][::-1] if isinstance(found, Found) else (),
        "marked": lambda line: logs.marked(line.text, wanted),
        "size": logs.size,
        "where": where(found) if isinstance(found, Found) else "",
        "failed": lambda value: isinstance(value, Failure),
        "commands": presenter.commands_for_log(jobs.endpoint(request), source.pod, source.run, source.stream),
    }
    return await render.page(request, "job_pods/logs.html", values)


async def _window(request: web.Request, source: Source, count: int) -> Window:
    """The lines that the address asks for. Raises CallFailed."""
    found = _logs(request)
    for name, ask in (("at", found.around), ("before", found.before), ("after", found.after)):
        offset = _offset(request.query.get(name, ""))
        if offset is not None:
            return await ask(source, offset, count)
    return await found.tail(source, count)


async def _search(request: web.Request, source: Source, wanted: re.Pattern[str]) -> Found:
    async with request.app[SEARCHES].turn:
        return await _logs(request).search(source, wanted)


# --- pieces -------------------------------------------------------------------------------------


def _source(request: web.Request) -> Source:
    """Of an address that names a run. Raises HTTPNotFound for one that names none."""
    _, name = job_pods.place(request)
    run = request.query.get("run", "")
    if _offset(run) is None:
        raise web.HTTPNotFound
    return Source(name, f"{name}-{run}", _stream(request))


async def lines(request: web.Request) -> web.StreamResponse:
    """For scripts: the lines of `at`, `before` or `after` an offset, or the last ones."""
    window = await _window(request, _source(request), SCREEN)
    told = {name: getattr(window, name) for name in ("start", "end", "first", "last")}
    return _json({**told, "lines": logs.packed(window.lines)})


async def search(request: web.Request) -> web.StreamResponse:
    """For scripts: how many lines of the log have `q`, and the offsets of the newest ones."""
    _, wanted = _wanted(request)
    found = await _search(request, _source(request), wanted) if wanted else Found()
    return _json(
        {
            "count": found.count,
            "lines": [line.at for line in found.lines],
            "where": where(found),
        }
    )


def where(found: Found) -> str:
    """What was searched, in words."""
    return "the whole log" if found.whole else f"the last {logs.size(found.size)}"


def _json(value: Any) -> web.Response:
    response = web.json_response(value)
    response.enable_compression()
    return response


async def download(request: web.Request) -> web.StreamResponse:
    """The bytes as they were written."""
    source = _source(request)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{source.run}.{source.stream}.txt"',
        }
    )
    async with aclosing(_logs(request).download(source)) as pieces:
        # Before anything is sent a failure is a page.
        first = await anext(pieces, b"")
        await response.prepare(request)
        try:
            await response.write(first)
            async for data in pieces:
                await response.write(data)
        except (CallFailed, ConnectionResetError):
            # It must not look whole.
            if request.transport is not None:
                request.transport.abort()
            return response
    await response.write_eof()
    return response


# --- live ---------------------------------------------------------------------------------------


async def live(request: web.Request) -> web.StreamResponse:
    source = _source(request)
    offset = _offset(request.headers.get("Last-Event-ID", "")) or _offset(request.query.get("offset", ""))
    feeds = common.feeds(request, JOBS, POD)

    async def look() -> log_stream.Outlook:
        values = await job_pods.load_pod(request)
        shown = next((run for run in values["runs"] if run.id == source.run), None)
        if shown is None:
            gone = Failure(grpc.StatusCode.NOT_FOUND, "the run is gone")
            raise CallFailed(gone)
        newer = values["now"].number > shown.number
        html = render.part(
            request, "job_pods/_over.html", {**values, "shown": shown, "stream": source.stream}
        )
        return log_stream.Outlook(html, newer)

    return await log_stream.stream(request, source, offset or 0, look, feeds)
