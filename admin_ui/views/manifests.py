"""Writes by manifest, to the catalogue or to the lab: one resource edited as YAML, and whole manifests.

Nothing is written before a preview. What is applied is what was shown: applying looks again, at one
revision, and shows the new differences instead when they are others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from aiohttp import web
from aiohttp.web_request import FileField
from multidict import MultiDictProxy

from admin_ui import render, session, sse
from admin_ui.catalogue import CatalogueKind, address, short
from admin_ui.presenters import catalogue, failures, manifests, raw
from admin_ui.presenters.history import Entry, unpack
from admin_ui.presenters.manifests import Preview
from admin_ui.records import Records
from admin_ui.shelves import CATALOGUE, LAB, SKELETONS, Shelf
from admin_ui.views import common
from admin_ui.views.catalogue import endpoint, kind_of, records
from shared.admin import document
from shared.errors import InvalidArgument, Violation
from shared.rpc.client import CallFailed, Failure

# Times that applying looks again because somebody wrote in that very moment.
TRIES: Final = 4
# Objects of a preview whose recent writes are looked up.
LOOKED_UP: Final = 20
# Of the present catalogue: resources that a download has, and characters that the editor takes.
MAX_PRESENT: Final = 20_000
MAX_EDITED: Final = 400_000
TOO_MUCH: Final = "The {noun} is too large for this page. In a terminal: roundhouse export"


def _shelf(request: web.Request) -> Shelf:
    return LAB if request[render.ROUTE].startswith(LAB.route) else CATALOGUE


def _shelf_of(kind: CatalogueKind) -> Shelf:
    return LAB if kind.floor == LAB.floor else CATALOGUE


@dataclass(frozen=True, slots=True)
class Typed:
    """What a form says. `digest` and `seen`: of the preview that it shows, empty before the first."""

    text: str
    apply: bool
    digest: str
    seen: int
    prune: bool = False
    base: str = ""
    revision: int = 0

    @classmethod
    def of(cls, data: MultiDictProxy[Any], text: str) -> Typed:
        return cls(
            text=text,
            apply=data.get("action") == "apply",
            digest=str(data.get("digest", "")),
            seen=_number(data.get("seen")),
            prune=data.get("prune") == "on",
            base=_lines(data.get("base")),
            revision=_number(data.get("revision")),
        )


def _number(value: Any) -> int:
    text = str(value or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _lines(value: Any) -> str:
    """Browsers send line ends as CRLF."""
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`applied`: it was written, or (`preview.count` 0) all was so already. Else the preview to show;
    `other`: it is not the one that was agreed to."""

    preview: Preview
    applied: bool = False
    other: bool = False
    revision: int = 0


async def carry_out(found: Records, manifest: str, typed: Typed) -> Outcome:
    """Raises CallFailed. Writes only when `typed` says so, and only what its digest stands for."""
    for _ in range(TRIES):
        answer = await found.apply(manifest, prune=typed.prune, dry_run=True)
        preview = await asyncio.to_thread(manifests.preview, answer)
        if not typed.apply:
            return Outcome(preview)
        if not preview.count:
            return Outcome(preview, applied=True)
        if preview.digest != typed.digest:
            return Outcome(preview, other=True)
        try:
            done = await found.apply(manifest, prune=typed.prune, revision=preview.revision)
        except CallFailed as error:
            if error.failure.code is not grpc.StatusCode.ABORTED:
                raise
            continue
        return Outcome(preview, applied=True, revision=done.revision)
    return Outcome(preview, other=True)


# --- whole manifests ----------------------------------------------------------------------------


async def new(request: web.Request) -> web.StreamResponse:
    """The editor: empty, with a skeleton of one kind, or with the present catalogue."""
    kind = request.query.get("kind", "")
    text = SKELETONS[kind] if kind in _shelf(request).kinds else ""
    note = ""
    if "present" in request.query:
        found = await _present(request)
        if found is None or len(found) > MAX_EDITED:
            note = TOO_MUCH.format(noun=_shelf(request).noun)
        else:
            text = found
    return await _page(request, Typed(text, apply=False, digest="", seen=0), note=note)


async def submit(request: web.Request) -> web.StreamResponse:
    data = await request.post()
    try:
        text = _uploaded(data.get("file")) or _lines(data.get("text"))
    except UnicodeDecodeError:
        note = "That file is no text in UTF-8."
        return await _page(request, Typed.of(data, _lines(data.get("text"))), note=note, status=400)
    typed = Typed.of(data, text)
    if not text.strip():
        return await _page(request, typed, note="There is nothing to apply yet.", status=400)
    try:
        outcome = await carry_out(records(request, _shelf(request).floor), text, typed)
    except CallFailed as error:
        return await _page(request, typed, **_refused(error))
    if outcome.applied:
        await _told(request, outcome)
        known = _shelf(request).kinds
        places = [known[c.kind].home(c.name) for c in outcome.preview.changes if c.kind in known]
        return render.redirect((places or [next(iter(known.values())).home("")])[0])
    theirs = await _meanwhile(request, outcome, typed) if outcome.other else ()
    status = 409 if outcome.other else 200
    return await _page(request, typed, outcome=outcome, theirs=theirs, status=status)


def _uploaded(file: Any) -> str:
    """The text of an uploaded file; empty when there is none. Raises UnicodeDecodeError."""
    return file.file.read().decode("utf-8-sig") if isinstance(file, FileField) else ""


def _refused(error: CallFailed) -> dict[str, Any]:
    """What the page says of a manifest that the service did not take. Nothing typed is lost."""
    failure = error.failure
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise error
    invalid = failure.code is grpc.StatusCode.INVALID_ARGUMENT and failure.violations
    return {
        "wrong": failure.violations if invalid else (),
        "problem": None if invalid else failure,
        "status": failures.explain(failure).status,
    }


async def _meanwhile(request: web.Request, outcome: Outcome, typed: Typed) -> Sequence[tuple[str, Entry]]:
    """(name, write) of what others wrote to the previewed objects since the preview, newest first."""
    if not typed.seen:
        return ()
    found: list[tuple[str, Entry]] = []
    for change in outcome.preview.changes[:LOOKED_UP]:
        asked = records(request, _shelf(request).floor).since(change.kind, change.name, typed.seen)
        told = await common.attempt(asked)
        if not isinstance(told, Failure):
            found += [(change.name, entry) for entry in told]
    return sorted(found, key=lambda pair: -pair[1].revision)


async def _page(
    request: web.Request,
    typed: Typed,
    *,
    outcome: Outcome | None = None,
    theirs: Sequence[tuple[str, Entry]] = (),
    wrong: Sequence[Violation] = (),
    problem: Failure | None = None,
    note: str = "",
    status: int = 200,
) -> web.Response:
    shelf = _shelf(request)
    values = {
        "typed": typed,
        "shelf": shelf,
        "kinds": shelf.kinds.values(),
        "outcome": outcome,
        "preview": outcome.preview if outcome else None,
        "theirs": theirs,
        "wrong": wrong,
        "problem": problem,
        "note": note,
        "commands": catalogue.commands_for_apply(endpoint(request, shelf.floor), prune=typed.prune),
    }
    return await render.page(request, "catalogue/manifest.html", values, status=status)


async def _told(request: web.Request, outcome: Outcome) -> None:
    preview = outcome.preview
    if not preview.count:
        await session.flash(request, "Nothing was written: everything is so already.", tone="info")
        return
    counts = ((preview.created, "created"), (preview.updated, "changed"), (preview.deleted, "deleted"))
    told = ", ".join(f"{count} {word}" for count, word in counts if count)
    await session.flash(request, f"Applied as revision {outcome.revision}: {told}.")


async def present(request: web.Request) -> web.StreamResponse:
    """The present catalogue as a file that `apply` takes back."""
    text = await _present(request)
    if text is None:
        await session.flash(request, TOO_MUCH.format(noun=_shelf(request).noun), tone="warn")
        return render.redirect(render.url(request.app, _shelf(request).route))
    return common.attachment(text, _shelf(request).noun, "yaml")


async def _present(request: web.Request) -> str | None:
    """None when there is more than one page should hold."""
    shelf = _shelf(request)
    lists: dict[str, list[Any]] = {kind.plural: [] for kind in shelf.kinds.values()}
    count = 0
    async with contextlib.aclosing(records(request, shelf.floor).export(list(shelf.kinds))) as objects:
        async for found in objects:
            count += 1
            if count > MAX_PRESENT:
                return None
            message = unpack(found.body)
            if message is not None:
                lists[shelf.kinds[found.kind].plural].append(manifests.editable(message))
    return await asyncio.to_thread(raw.to_yaml, lists)


# --- one resource -------------------------------------------------------------------------------


async def edit(request: web.Request) -> web.StreamResponse:
    kind = kind_of(request)
    found = await records(request, kind.floor).get(kind.kind, kind.name(request.match_info))
    message = unpack(found.body)
    text = raw.to_yaml(manifests.editable(message)) if message is not None else ""
    typed = Typed(text, apply=False, digest="", seen=0, base=text, revision=found.revision)
    return await _editor(request, kind, typed)


async def edit_live(request: web.Request) -> web.StreamResponse:
    """Says who changed the resource while somebody edits it."""
    kind, revision = kind_of(request), _number(request.query.get("revision"))
    name = kind.name(request.match_info)

    async def look() -> sse.View:
        theirs = manifests.by_people(await records(request, kind.floor).since(kind.kind, name, revision))
        return sse.View(parts={"stale": render.part(request, "catalogue/_stale.html", {"theirs": theirs})})

    return await sse.stream(request, look, (), feeds=common.feeds(request, kind.floor, kind.kind))


async def save(request: web.Request) -> web.StreamResponse:
    kind, data = kind_of(request), await request.post()
    name = kind.name(request.match_info)
    typed = Typed.of(data, _lines(data.get("text")))
    try:
        changes = _changes(kind, name, typed)
    except InvalidArgument as error:
        wrong = error.violations or (Violation("", error.message),)
        return await _editor(request, kind, typed, wrong=wrong, status=400)
    if not changes:
        return await _editor(request, kind, typed, note="Nothing is changed yet.")
    found = records(request, kind.floor)
    manifest = json.dumps({kind.plural: [{"name": name, **changes}]}, ensure_ascii=False)
    try:
        # Gone, the manifest would make it anew, out of the changed fields alone.
        await found.get(kind.kind, name)
        outcome = await carry_out(found, manifest, typed)
    except CallFailed as error:
        told = _refused(error)
        told["wrong"] = [
            Violation(violation.field.removeprefix(f"{kind.plural}[0]").lstrip("."), violation.description)
            for violation in told["wrong"]
        ]
        gone = error.failure.code is grpc.StatusCode.NOT_FOUND
        return await _editor(request, kind, typed, gone=gone, **told)
    if outcome.applied:
        if outcome.preview.count:
            await session.flash(request, f"Changed {short(name)}, as revision {outcome.revision}.")
        else:
            await session.flash(request, "Nothing was written: it is so already.", tone="info")
        return render.redirect(address(name))
    return await _editor(request, kind, typed, outcome=outcome, status=409 if outcome.other else 200)


def _changes(kind: CatalogueKind, name: str, typed: Typed) -> dict[str, Any]:
    """The fields that the text changes of what its editor began with. Raises InvalidArgument."""
    value, base = document.load(typed.text), document.load(typed.base)
    if not isinstance(value, dict):
        raise InvalidArgument.at("", "must be a mapping of fields")
    if value.get("name", name) != name:
        raise InvalidArgument.at(
            "name", f"must stay {name}: a resource keeps its name. Apply a manifest to make another one"
        )
    changes = manifests.touched(base if isinstance(base, dict) else {}, value, kind.message.DESCRIPTOR)
    changes.pop("name", None)
    return changes


async def _editor(
    request: web.Request,
    kind: CatalogueKind,
    typed: Typed,
    *,
    outcome: Outcome | None = None,
    wrong: Sequence[Violation] = (),
    problem: Failure | None = None,
    note: str = "",
    gone: bool = False,
    status: int = 200,
) -> web.Response:
    name = kind.name(request.match_info)
    theirs = await common.attempt(records(request, kind.floor).since(kind.kind, name, typed.revision))
    theirs = [] if isinstance(theirs, Failure) else manifests.by_people(theirs)
    mine = outcome.preview.changes[0].fields if outcome and outcome.preview.changes else ()
    values = {
        "kind": kind,
        "shelf": _shelf_of(kind).route,
        "name": name,
        "typed": typed,
        "outcome": outcome,
        "preview": outcome.preview if outcome else None,
        "theirs": theirs,
        "overlaps": manifests.overlaps(theirs, mine),
        "wrong": wrong,
        "problem": problem,
        "note": note,
        "gone": gone,
        "whole": f"{kind.plural}:\n- {typed.text.strip().replace(chr(10), chr(10) + '  ')}\n" if gone else "",
    }
    return await render.page(request, "catalogue/edit.html", values, status=status)
