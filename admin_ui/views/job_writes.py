"""What is done to one job besides giving it another spec: start, stop, restart, its roll-out, deletion.

Every change names the version that the person saw; when somebody was faster, nothing is done and the
page says what they did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.jobs import is_stale
from admin_ui.presenters import failures, job_forms, job_workflows
from admin_ui.presenters.history import Entry
from admin_ui.security import safe_next
from admin_ui.views import jobs
from admin_ui.views.job_past import meanwhile
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.rpc.client import CallFailed

RESTART_FIELDS: Final = ("ranges", "batch_size", "in_place")


# --- done at once -------------------------------------------------------------------------------


async def start(request: web.Request) -> web.StreamResponse:
    return await _at_once(request, jobs.jobs(request).start, "It is to run.")


async def pause(request: web.Request) -> web.StreamResponse:
    text = "Paused. What has begun is finished, nothing else begins."
    return await _at_once(request, jobs.jobs(request).pause, text)


async def resume(request: web.Request) -> web.StreamResponse:
    return await _at_once(request, jobs.jobs(request).resume, "The roll-out goes on.")


async def refresh(request: web.Request) -> web.StreamResponse:
    """Names no version: it changes nothing that anybody asked for."""
    id = request.match_info["id"]
    try:
        await jobs.jobs(request).refresh(id)
    except CallFailed as error:
        return await _failed(request, error)
    await session.flash(request, "The service has read it anew and looked at every pod.")
    return render.redirect(_home(request))


async def _at_once(
    request: web.Request, act: Callable[[str, str], Awaitable[str]], told: str
) -> web.StreamResponse:
    data = await request.post()
    try:
        await act(request.match_info["id"], str(data.get("version", "")))
    except CallFailed as error:
        if is_stale(error):
            entries = await meanwhile(request, str(data.get("version", "")))
            return await _back(request, f"Nothing was done: {_by(entries)}. Look, then decide again.", "warn")
        return await _failed(request, error)
    return await _back(request, told, "ok")


def _by(entries: Sequence[Entry]) -> str:
    """What others did, in one line."""
    people = [entry for entry in entries if entry.subject != "controller"]
    if not people:
        return "the job was changed meanwhile"
    return f"meanwhile {people[0].subject or 'somebody'} changed the job ({people[0].title.lower()})"


# --- asked first --------------------------------------------------------------------------------


async def confirm_stop(request: web.Request) -> web.StreamResponse:
    return await _ask(request, "stop")


async def stop(request: web.Request) -> web.StreamResponse:
    return await _agreed(request, "stop", jobs.jobs(request).stop, "It is being stopped.")


async def confirm_abort(request: web.Request) -> web.StreamResponse:
    return await _ask(request, "abort")


async def abort(request: web.Request) -> web.StreamResponse:
    text = "Aborted. Instances that it had not come to stay as they are."
    return await _agreed(request, "abort", jobs.jobs(request).abort, text)


async def _agreed(
    request: web.Request, page: str, act: Callable[[str, str], Awaitable[str]], told: str
) -> web.StreamResponse:
    """Somebody who was faster makes the page ask again, with what they did."""
    data = await request.post()
    version = str(data.get("version", ""))
    try:
        await act(request.match_info["id"], version)
    except CallFailed as error:
        if is_stale(error):
            return await _ask(request, page, since=version)
        return await _failed(request, error)
    return await _back(request, told, "ok")


async def _ask(
    request: web.Request,
    page: str,
    *,
    since: str = "",
    errors: dict[str, str] | None = None,
    typed: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    values = await jobs.load_detail(request)
    job = values["job"]
    values |= {
        "rollout": job_workflows.roll_out(values["answer"].workflow_info),
        "theirs": await meanwhile(request, since) if since else [],
        "moved": bool(since),
        "errors": errors or {},
        "typed": {"typed": "", "force": "", **(typed or {})},
        "grace": values["spec"].default_spec.kill_grace_period_seconds or 30,
        "name_to_type": job.name.strip() or job.id,
        "return_to": safe_next(request.query.get("return_to"), ""),
    }
    return await render.page(request, f"jobs/{page}.html", values, status=409 if since else status)


# --- restart ------------------------------------------------------------------------------------


async def confirm_restart(request: web.Request) -> web.StreamResponse:
    typed = {name: request.query.get(name, "") for name in RESTART_FIELDS}
    return await _ask(request, "restart", typed={**typed, "batch_size": typed["batch_size"] or "1"})


async def restart(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    typed = {name: str(data.get(name, "")).strip() for name in RESTART_FIELDS}
    version, how = str(data.get("version", "")), stateless.RestartSpec(in_place=typed["in_place"] == "on")
    errors: dict[str, str] = {}
    try:
        how.ranges.extend(job_forms.ranges_of(typed["ranges"]))
    except ValueError as error:
        errors["ranges"] = str(error)
    batch = typed["batch_size"] or "0"
    if batch.isascii() and batch.isdigit() and len(batch) < 10:
        how.batch_size = int(batch)
    else:
        errors["batch_size"] = f"“{batch[:40]}” is no whole number from 0"
    if not errors and how.ranges:
        count = (await jobs.jobs(request).summary(request.match_info["id"])).instance_count
        if not any(getattr(bounds, "from") < count for bounds in how.ranges):
            # The service would take this for all of them.
            errors["ranges"] = f"the job has none of these: its instances are 0 to {count - 1}"
    if errors:
        return await _ask(request, "restart", errors=errors, typed=typed, status=400)
    try:
        await jobs.jobs(request).restart(request.match_info["id"], version, how)
    except CallFailed as error:
        if is_stale(error):
            return await _ask(request, "restart", since=version, typed=typed)
        return await _failed(request, error)
    return await _back(request, "The restart has begun.", "ok")


# --- delete -------------------------------------------------------------------------------------


async def confirm_delete(request: web.Request) -> web.StreamResponse:
    return await _ask(request, "delete")


async def delete(request: web.Request) -> web.StreamResponse:
    """The name must be typed; of a job that is not stopped `force` as well."""
    data = await request.post()
    version, force = str(data.get("version", "")), data.get("force") == "on"
    typed, name = str(data.get("typed", "")).strip(), ""
    calls, id = jobs.jobs(request), request.match_info["id"]
    try:
        summary = await calls.summary(id)
        name = summary.name.strip() or id
        errors = {}
        if typed != name:
            errors["typed"] = f"type {name} to say that you mean this one"
        if summary.status.state != stateless.JOB_STATE_KILLED and not force:
            errors["force"] = "it is not stopped: stop it first, or say that its pods may be ended"
        if errors:
            given = {"typed": typed, "force": "on" if force else ""}
            return await _ask(request, "delete", errors=errors, typed=given, status=400)
        await calls.delete(id, version, force=force)
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.NOT_FOUND:
            await session.flash(request, f"{name or id} was deleted already.", tone="info")
            return render.redirect(jobs.BASE)
        if is_stale(error):
            return await _ask(request, "delete", since=version)
        return await _failed(request, error)
    await session.flash(request, f"{name} is being deleted.")
    return render.redirect(jobs.BASE)


# --- shared -------------------------------------------------------------------------------------


def _home(request: web.Request) -> str:
    return render.url(request.app, "jobs.detail", id=request.match_info["id"])


async def _failed(request: web.Request, error: CallFailed) -> web.Response:
    """What the service said, on the job's own page."""
    failure = error.failure
    shown = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION)
    if failure.code not in shown:
        raise error
    return await _back(request, f"{failures.explain(failure).title}: {failure.message}", "bad")


async def _back(request: web.Request, text: str, tone: str) -> web.Response:
    await session.flash(request, text, tone=tone)
    return render.redirect(_home(request))
