"""Deleting one resource of the catalogue: asked on a page that names it and what still needs it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.catalogue import REGION, SERVICE, Catalogue, CatalogueKind, address, short
from admin_ui.clients import JUMPSTARTER
from admin_ui.lab import Lab
from admin_ui.lab_kinds import CLIENT, EXPORTER, namespace_of, parent_of
from admin_ui.presenters import catalogue, failures
from admin_ui.presenters.history import unpack
from admin_ui.records import Records
from admin_ui.security import safe_next
from admin_ui.views import common
from admin_ui.views.catalogue import kind_of, records
from shared.pb.roundhouse.lab.v1 import lab_service_pb2
from shared.rpc.client import CallFailed, Failure

# Dependants that are named, of each kind; of the others the number is told.
NAMED: Final = 20


async def confirm(request: web.Request) -> web.StreamResponse:
    return await _page(request, safe_next(request.query.get("return_to"), ""))


async def delete(request: web.Request) -> web.StreamResponse:
    """Deletes what the page showed: a resource that was changed since is asked about again."""
    kind, data = kind_of(request), await request.post()
    name = kind.name(request.match_info)
    back = safe_next(str(data.get("return_to", "")), "")
    revision = str(data.get("revision", ""))
    seen = int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 19 else 0
    try:
        await records(request, kind.floor).delete(kind.kind, name, seen)
        await session.flash(request, f"Deleted {kind.title.lower()} {short(name)}.")
    except CallFailed as error:
        code = error.failure.code
        if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED):
            return await _page(request, back, problem=error.failure, seen=seen)
        if code is not grpc.StatusCode.NOT_FOUND:
            raise
        await session.flash(request, f"{kind.title} {short(name)} was already gone.", tone="info")
    # Where it was shown there is nothing any more.
    gone = not back or back.startswith(address(name))
    return render.redirect(kind.home(name) if gone else back)


async def _page(
    request: web.Request, back: str, *, problem: Failure | None = None, seen: int = 0
) -> web.Response:
    kind = kind_of(request)
    name = kind.name(request.match_info)
    found = records(request, kind.floor)
    stored, needing = await asyncio.gather(found.get(kind.kind, name), dependants(request, kind, name))
    message: Any = unpack(stored.body)
    values = {
        "kind": kind,
        "one": catalogue.thing(kind, message),
        "revision": stored.revision,
        "dependants": needing,
        "needed": any(isinstance(group, Failure) or group["total"] for group in needing),
        "failed": lambda value: isinstance(value, Failure),
        "return_to": back,
        "problem": problem,
        "theirs": await _since(found, kind, name, seen),
    }
    status = failures.explain(problem).status if problem else 200
    return await render.page(request, "catalogue/delete.html", values, status=status)


async def _since(found: Records, kind: CatalogueKind, name: str, seen: int) -> Any:
    told = await common.attempt(found.since(kind.kind, name, seen)) if seen else []
    return [] if isinstance(told, Failure) else told


async def dependants(request: web.Request, kind: CatalogueKind, name: str) -> list[Any]:
    """What refers to the resource, which cannot go before them: a Failure or a group for each kind."""
    found = Catalogue(render.caller(request))
    if kind.floor == JUMPSTARTER:
        return await _leases_of(request, kind, name)
    if kind is REGION:
        asked = {
            "deployments": found.deployments_of(name, NAMED),
            "regions": found.linking_to(name, NAMED),
        }
    elif kind is SERVICE:
        asked = {
            "resources": found.resources_of(name, NAMED),
            "deployments": found.deployments_of(name, NAMED),
        }
    else:
        return []
    answers = await asyncio.gather(*map(common.attempt, asked.values()))
    return [_group(name, plural, answer) for plural, answer in zip(asked, answers, strict=True)]


async def _leases_of(request: web.Request, kind: CatalogueKind, name: str) -> list[Any]:
    """Active ones: of a client, and of an exporter the one that holds it."""
    if kind not in (CLIENT, EXPORTER):
        return []
    asked = lab_service_pb2.ListLeasesRequest(
        parent=parent_of(namespace_of(name)), only_active=True, page_size=NAMED, **{kind.kind: name}
    )
    answer = await common.attempt(Lab(render.caller(request)).leases(asked))
    if isinstance(answer, Failure):
        return [answer]
    names = [lease.name for lease in answer.leases]
    return [{"plural": "leases", "names": names, "total": answer.total_size}]


def _group(name: str, plural: str, answer: Any) -> Any:
    if isinstance(answer, Failure):
        return answer
    names = [message.name for message in getattr(answer, plural)]
    # A region may have a score for itself.
    own = name in names
    return {
        "plural": plural,
        "names": [other for other in names if other != name],
        "total": answer.total_results_count - own,
    }
