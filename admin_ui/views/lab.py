"""What all pages of a lab share: its namespaces, and how things are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import grpc
from aiohttp import web

from admin_ui import render, session
from admin_ui.clients import JUMPSTARTER, Endpoint
from admin_ui.lab import Lab
from admin_ui.lab_kinds import CLIENT, DEFAULT_NAMESPACE, LabKind, id_of
from admin_ui.lab_state import LabState
from admin_ui.records import Records
from admin_ui.views import common
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import CallFailed, Failure

# What a session remembers: the namespace looked at last.
NAMESPACE: Final = "lab"
# Times that something new is made because somebody wrote in that very moment.
TRIES: Final = 4
# Clients that a form offers.
OFFERED: Final = 200

S = TypeVar("S", bound=LabState)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the person may act, and as which client (its id) when naming none."""

    namespaces: Sequence[str]
    client: str


# What the person's standing was found to be.
STANDING: Final = web.RequestKey("standing", Standing)


def lab(request: web.Request) -> Lab:
    return Lab(render.caller(request))


def records(request: web.Request) -> Records:
    return Records(render.caller(request), JUMPSTARTER)


def endpoint(request: web.Request) -> Endpoint:
    return request.app[render.CLIENTS].endpoint(JUMPSTARTER)


def now() -> datetime:
    return datetime.now(UTC)


async def standing(request: web.Request) -> Standing:
    """Asked once for a request. Raises CallFailed."""
    if STANDING not in request:
        found = await lab(request).standing()
        request[STANDING] = Standing(list(found.namespaces), found.client)
    return request[STANDING]


async def place(request: web.Request, found: Standing, given: str) -> str:
    """The namespace that an address means which names none: where the person was last, `default`, or
    the first that the person may touch. Empty: there is none."""
    if given:
        await session.remember(request, NAMESPACE, given)
        return given
    last = await session.recall(request, NAMESPACE)
    for wanted in (last, DEFAULT_NAMESPACE):
        if wanted in found.namespaces:
            return wanted
    return found.namespaces[0] if found.namespaces else ""


async def settled(request: web.Request, state: S) -> S | web.StreamResponse:
    """The state with its namespace, or where the address leads that names none. Raises CallFailed."""
    found = await standing(request)
    namespace = await place(request, found, state.namespace)
    if not namespace:
        return await render.page(request, "lab/nowhere.html", {"client": found.client}, status=403)
    if state.namespace or namespace == DEFAULT_NAMESPACE:
        return state.replace(
            namespace=namespace, page_token=state.page_token, trail=state.trail, page=state.page
        )
    return render.redirect(f"{request.path}{state.query(namespace=namespace)}")


def frame(request: web.Request, state: LabState) -> dict[str, Any]:
    """What every list of a lab needs, whatever is in its table."""
    found = request.get(STANDING)
    known = list(found.namespaces) if found else []
    if state.namespace and state.namespace not in known:
        known.append(state.namespace)
    return {"namespaces": known, "own": found.client if found else ""}


async def client_ids(request: web.Request, namespace: str) -> list[str]:
    """Of clients of a namespace, to choose from: a help for people, so none when they cannot be known."""
    if not render.person(request).may("admin.read"):
        return []
    within = f"namespace = {json.dumps(namespace)}"
    asked = admin_pb2.ListRequest(kind=CLIENT.kind, page_size=OFFERED, filter=within)
    found = await common.attempt(records(request).page(asked))
    return [] if isinstance(found, Failure) else [id_of(one.name) for one in found.objects]


async def create(request: web.Request, kind: LabKind, name: str, fields: Mapping[str, Any]) -> None:
    """Makes something new by a manifest of its own. Raises CallFailed, ALREADY_EXISTS when the name is
    taken."""
    found = records(request)
    manifest = json.dumps({kind.plural: [{"name": name, **fields}]}, ensure_ascii=False)
    for attempt in range(TRIES):
        looked = await found.apply(manifest, dry_run=True)
        if [difference.action for difference in looked.differences] != [admin_pb2.Difference.CREATE]:
            taken = f"{kind.title} {name.rpartition('/')[2]} exists already"
            raise CallFailed(Failure(grpc.StatusCode.ALREADY_EXISTS, taken))
        try:
            await found.apply(manifest, revision=looked.revision)
            return
        except CallFailed as error:
            if error.failure.code is not grpc.StatusCode.ABORTED or attempt == TRIES - 1:
                raise


async def change(request: web.Request, kind: LabKind, name: str, fields: Mapping[str, Any]) -> None:
    """Changes some fields of something that there is. Raises CallFailed, NOT_FOUND when it is gone."""
    found = records(request)
    await found.get(kind.kind, name)
    await found.apply(json.dumps({kind.plural: [{"name": name, **fields}]}, ensure_ascii=False))
