"""Pages of no service: preferences, help, and every component at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from admin_ui import preferences as prefs
from admin_ui import render
from admin_ui.list_state import ListState
from admin_ui.presenters import experiments, failures, history, lab
from admin_ui.presenters.history import Entry, FieldChange
from admin_ui.security import safe_next
from admin_ui.session import is_secure
from shared.pb.roundhouse.lab.v1 import lab_service_pb2

# Of exporters, for the pattern of a bar.
SAMPLE: Final = {
    lab_service_pb2.FREE: 5,
    lab_service_pb2.LEASED: 3,
    lab_service_pb2.NOT_READY: 1,
    lab_service_pb2.OFFLINE: 2,
    lab_service_pb2.DISABLED: 1,
}


async def preferences(request: web.Request) -> web.Response:
    values = {"zones": prefs.zones(), "next": safe_next(request.query.get("next"), "/preferences")}
    return await render.page(request, "preferences.html", values)


async def save_preferences(request: web.Request) -> web.StreamResponse:
    """Saves what the form names; what it does not name stays."""
    data = await request.post()
    now = prefs.Preferences.of(request)
    given = {
        "theme": str(data.get("theme", now.theme)),
        "zone": str(data.get("zone", now.zone)),
        "shortcuts": str(data.get("shortcuts", "on" if now.shortcuts else "off")),
    }
    response = render.redirect(safe_next(str(data.get("next", "")), "/preferences"))
    prefs.Preferences.parse(given).store(response, secure=is_secure(request.app[render.CONFIG]))
    return response


async def help(request: web.Request) -> web.Response:
    return await render.page(request, "help.html")


async def patterns(request: web.Request) -> web.Response:
    """Every component in every state, for eyes and for tests."""
    now = datetime.now(UTC)
    rows = [
        experiments.Experiment(
            id=f"0b9c{index}f34-5a1e-4c6e-9d6f-3f0d4b1f2a{index}0",
            name=name,
            description=description,
            namespace="",
            state=state,
            archived=state.label == "Archived",
            created=now - age,
            last_run=None,
        )
        for index, (name, description, state, age) in enumerate(
            (
                ("churn-model-2026", "Weekly retraining with drift checks", _state(1), timedelta(minutes=4)),
                ("a" * 128, "A name of 128 characters without a blank", _state(1), timedelta(hours=7)),
                ("Müller & Söhne <b>+</b> 100 %", "", _state(2), timedelta(days=3)),
                ("unknown state", "From a newer service", experiments.UNKNOWN_STATE, timedelta(days=80)),
            )
        )
    ]
    entries = [
        Entry(42, now - timedelta(minutes=2), *history.VERBS["archive"], "ada", "gRPC", "9f2c", (
            FieldChange("storage_state", "AVAILABLE", "ARCHIVED"),
        )),
        Entry(17, now - timedelta(days=2), *history.VERBS["create"], "grace", "REST", "77aa"),
    ]  # fmt: skip
    values = {
        "rows": rows,
        "entries": entries,
        "list": ListState(),
        "counts": lab.counts(
            lab_service_pb2.Count(state=state, count=count) for state, count in SAMPLE.items()
        ),
        "soon": now + timedelta(minutes=29, seconds=5),
        "here": "/experiments",
        "explanations": [*failures.EXPLANATIONS.values(), *failures.PLAIN.values()],
    }
    return await render.page(request, "patterns.html", values)


def _state(number: int) -> experiments.State:
    return experiments.STATES[number]
