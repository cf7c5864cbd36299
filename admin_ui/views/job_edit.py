"""New jobs and replacements: a form or YAML, a preview of what follows, and then the very same.

Nothing typed is ever lost: what is wrong stands beside it, and a job that somebody changed meanwhile
shows what changed, so that both can be put together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.clients import JOBS
from admin_ui.jobs import JOB, STALE, Jobs, is_stale
from admin_ui.presenters import job_commands, job_forms, job_pools, job_specs
from admin_ui.presenters import job_workflows as workflows
from admin_ui.presenters import jobs as presenter
from admin_ui.presenters.history import Entry
from admin_ui.views import common, job_draft, jobs
from admin_ui.views.job_draft import FORM, YAML, Draft, Findings, Preview, Stale
from admin_ui.views.job_past import meanwhile
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.rpc.client import CallFailed, Failure

# Like a first job of the documentation.
EXAMPLE: Final = "while date; do sleep 1; done"
# Fields that the page names which the form cannot hold.
NAMED: Final = 3


# --- a new job ----------------------------------------------------------------------------------


async def new(request: web.Request) -> web.StreamResponse:
    """`as=yaml`: as text. `like`: with the spec of that job."""
    form = YAML if request.query.get("as") == YAML else FORM
    known = await jobs.known_pools(request)
    like = request.query.get("like", "")
    if like:
        spec = job_specs.bare((await jobs.jobs(request).get(like)).job_info.spec)
        spec.name = f"{spec.name}-copy" if spec.name else ""
        return await _new_page(request, Draft.from_spec(spec, form), Findings(), known)
    spec = JobSpec(instance_count=1)
    leaves = [pool for pool in known if pool.leaf]
    if leaves:
        spec.respool_id.value = leaves[0].id
    if form == YAML:
        spec.name, spec.owner, spec.instance_count = "clock", render.person(request).subject, 2
        spec.default_spec.containers.add(name="main").entrypoint.value = EXAMPLE
    else:
        spec.owner = render.person(request).subject
    return await _new_page(request, Draft.from_spec(spec, form), Findings(), known)


async def create(request: web.Request) -> web.StreamResponse:
    draft, found = Draft.of(await request.post()), Findings()
    known = await jobs.known_pools(request)
    if draft.action in (FORM, YAML):
        return await _new_page(request, job_draft.turned(draft, found), found, known)
    spec = job_draft.read(draft, found)
    how, wrong = job_forms.create_spec(draft.typed)
    found.errors |= wrong
    if spec is None or not found.good:
        found.status = 400
        return await _new_page(request, draft, found, known)
    calls = jobs.jobs(request)
    faults = job_draft.pool_faults(spec, known)
    checked = await common.attempt(calls.validate(spec))
    if isinstance(checked, Failure) or faults:
        if isinstance(checked, Failure):
            told = job_specs.violations(checked)
            if told:
                faults += [one for one in told if one.field != "respool_id" or not faults]
            else:
                job_draft.refused(found, checked, draft.form)
        if faults:
            found.status = 400
            job_draft.blame(found, faults, draft.form)
        return await _new_page(request, draft, found, known)
    digest = job_specs.digest(spec, how)
    if draft.action == "write" and draft.agreed == digest:
        made = await common.attempt(calls.create(spec, how))
        if not isinstance(made, Failure):
            await session.flash(request, f"Created {spec.name or made.job_id.value}.")
            return render.redirect(render.url(request.app, "jobs.detail", id=made.job_id.value))
        job_draft.refused(found, made, draft.form)
        return await _new_page(request, draft, found, known)
    found.preview = Preview(
        job_specs.text(spec), digest, job_pools.room(spec, known), other=draft.action == "write"
    )
    return await _new_page(request, draft, found, known, spec=spec, how=how)


async def _new_page(
    request: web.Request,
    draft: Draft,
    found: Findings,
    known: Sequence[job_pools.Pool],
    *,
    spec: JobSpec | None = None,
    how: Any = None,
) -> web.Response:
    told = job_commands.for_create(jobs.endpoint(request), spec, how) if spec is not None else []
    values = {**_values(draft, found, known), "commands": told}
    return await render.page(request, "jobs/new.html", values, status=found.status)


def _values(draft: Draft, found: Findings, known: Sequence[job_pools.Pool]) -> dict[str, Any]:
    return {
        "draft": draft,
        "typed": draft.typed,
        "found": found,
        "errors": found.errors,
        "mistakes": job_specs.mistakes(found.wrong, draft.text) if draft.form == YAML else [],
        "preview": found.preview,
        "leaves": [pool for pool in known if pool.leaf],
        "checks": job_forms.CHECKS,
        "amount": job_pools.amount,
    }


# --- a replacement ------------------------------------------------------------------------------


async def edit(request: web.Request) -> web.StreamResponse:
    """`configuration`: begins with the spec of that one, to go back to it. `as`: FORM or YAML; without it
    as a form, where that can hold all of the spec."""
    calls, id = jobs.jobs(request), request.match_info["id"]
    answer = await calls.get(id)
    spec, found = answer.job_info.spec, Findings()
    text = request.query.get("configuration", "")
    if text.isascii() and text.isdigit() and len(text) < 12:
        spec = await calls.spec(id, int(text))
        found.note = f"This is configuration {text}, not the present one. Preview says what going back does."
    form = request.query.get("as", "")
    if form not in (FORM, YAML):
        beyond = job_forms.beyond(spec)
        form = YAML if beyond else FORM
        if beyond:
            found.note = f"{found.note} {_no_field(beyond)}".strip()
    draft = Draft.from_spec(job_specs.bare(spec), form, version=answer.job_info.status.version.value)
    return await _edit_page(request, draft, found, answer, await jobs.known_pools(request))


def _no_field(beyond: Sequence[str]) -> str:
    named, more = ", ".join(beyond[:NAMED]), len(beyond) - NAMED
    return f"This is YAML because the form cannot hold {named}{f' and {more} more' if more > 0 else ''}."


async def edit_live(request: web.Request) -> web.StreamResponse:
    """Says who changed the job while somebody edits it."""
    id, version = request.match_info["id"], request.query.get("version", "")

    told: dict[str, Sequence[Entry]] = {version: ()}

    async def look() -> sse.View:
        now = (await jobs.jobs(request).summary(id)).status.version.value
        if now not in told:
            told[now] = await meanwhile(request, version)
        values = {"theirs": told[now], "moved": now != version}
        return sse.View(parts={"meanwhile": render.part(request, "jobs/_meanwhile.html", values)})

    return await sse.stream(request, look, (), feeds=common.feeds(request, JOBS, JOB))


async def save(request: web.Request) -> web.StreamResponse:
    draft, found = Draft.of(await request.post()), Findings()
    calls, id = jobs.jobs(request), request.match_info["id"]
    try:
        answer, known = await asyncio.gather(calls.get(id), jobs.known_pools(request))
    except CallFailed as error:
        if error.failure.code is grpc.StatusCode.NOT_FOUND:
            return await _lost(request, draft, error)
        raise
    if draft.action in (FORM, YAML):
        return await _edit_page(request, job_draft.turned(draft, found), found, answer, known)
    if draft.action == "merge":
        draft = await _merged(calls, id, draft, found)
    spec = job_draft.read(draft, found) if found.good else None
    how, wrong = job_forms.update_spec(draft.typed)
    found.errors |= wrong
    if spec is None or not found.good:
        found.status = 400
        return await _edit_page(request, draft, found, answer, known)
    now = answer.job_info.status.version.value
    if now != draft.version:
        draft = await _overtaken(request, draft, found, answer, spec)
        return await _edit_page(request, draft, found, answer, known)
    digest = job_specs.digest(spec, how)
    if draft.action == "write" and draft.agreed == digest:
        try:
            version = await calls.replace(id, draft.version, spec, how)
        except CallFailed as error:
            if not is_stale(error):
                job_draft.refused(found, error.failure, draft.form)
                return await _edit_page(request, draft, found, answer, known)
            answer = await calls.get(id)
            draft = await _overtaken(request, draft, found, answer, spec)
            return await _edit_page(request, draft, found, answer, known)
        await session.flash(request, _told(version, draft.version))
        return render.redirect(render.url(request.app, "jobs.detail", id=id))
    await _previewed(calls, id, draft, found, answer, spec, digest, known)
    return await _edit_page(request, draft, found, answer, known, spec=spec, how=how)


def _told(version: str, before: str) -> str:
    if version == before:
        return "Nothing was written: the same roll-out goes on already."
    return f"Replaced. Configuration {presenter.configuration(version)} is rolled out."


async def _previewed(
    calls: Jobs,
    id: str,
    draft: Draft,
    found: Findings,
    answer: Any,
    spec: JobSpec,
    digest: str,
    known: Sequence[job_pools.Pool],
) -> None:
    told = await common.attempt(calls.difference(id, draft.version, spec))
    if isinstance(told, Failure):
        if told.code is grpc.StatusCode.ABORTED and STALE in told.message:
            found.note, found.status = "The job was changed at this very moment. Preview again.", 409
        else:
            job_draft.refused(found, told, draft.form)
        return
    text, now = job_specs.text(spec), job_specs.text(answer.job_info.spec)
    found.preview = Preview(
        text,
        digest,
        job_pools.room(spec, known),
        lines=job_specs.difference(now, text),
        touched=workflows.difference(
            told.instances_added, told.instances_updated, told.instances_removed, told.instances_unchanged
        ),
        other=draft.action == "write",
    )


async def _overtaken(
    request: web.Request, draft: Draft, found: Findings, answer: Any, mine: JobSpec
) -> Draft:
    """The draft at the present version, with what others did since the one that it began from."""
    calls, id = jobs.jobs(request), request.match_info["id"]
    since = draft.since or draft.version
    now, theirs = answer.job_info.status.version.value, answer.job_info.spec
    before, entries = await asyncio.gather(
        common.attempt(calls.spec(id, presenter.configuration(since))), meanwhile(request, since)
    )
    base = theirs if isinstance(before, Failure) else before
    found.status = 409
    found.stale = Stale(
        since,
        now,
        entries,
        job_specs.difference(job_specs.text(base), job_specs.text(theirs)),
        job_specs.overlaps(base, theirs, mine),
    )
    return replace(draft, version=now, since=since)


async def _merged(calls: Jobs, id: str, draft: Draft, found: Findings) -> Draft:
    """What others changed is taken into the draft, which counts from then on as begun there."""
    mine = job_draft.read(draft, found)
    if mine is None or found.errors:
        return draft
    base, theirs = await asyncio.gather(
        calls.spec(id, presenter.configuration(draft.since)),
        calls.spec(id, presenter.configuration(draft.version)),
    )
    put = job_specs.merged(job_specs.bare(base), job_specs.bare(theirs), mine)
    return replace(draft.with_spec(put, draft.form), since="")


async def _lost(request: web.Request, draft: Draft, error: CallFailed) -> web.StreamResponse:
    """The job was deleted meanwhile: the text can make it anew."""
    found = Findings(problem=error.failure, status=404)
    found.note = "The job was deleted meanwhile. Here is your text; as a new job it can run again."
    return await _new_page(
        request, replace(draft, version="", since=""), found, await jobs.known_pools(request)
    )


async def _edit_page(
    request: web.Request,
    draft: Draft,
    found: Findings,
    answer: Any,
    known: Sequence[job_pools.Pool],
    *,
    spec: JobSpec | None = None,
    how: Any = None,
) -> web.Response:
    job, told = presenter.one(answer), []
    if spec is not None and found.preview is not None:
        told = job_commands.for_replace(jobs.endpoint(request), job, spec, how)
    values = {**_values(draft, found, known), "job": job, "commands": told, "theirs": (), "moved": False}
    return await render.page(request, "jobs/edit.html", values, status=found.status)
