"""Pages of no service, preferences, and the components."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from admin_ui.catalogue import KINDS
from admin_ui.lab_kinds import KINDS as LAB
from admin_ui.middleware import Metrics
from admin_ui.presenters.moments import duration, moment
from admin_ui.routes import ROUTES
from tests.console.harness import Console
from tests.console.test_experiments import some

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "ago,text",
    [
        (timedelta(seconds=2), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=44), "44 d ago"),
        (timedelta(days=50), "10 Jan 2026"),
        (timedelta(minutes=-5), "in 5 min"),
    ],
)
def test_times_are_told_from_now(ago: timedelta, text: str):
    assert moment(NOW - ago, now=NOW).relative == text


def test_the_exact_time_is_of_the_chosen_zone():
    told = moment(NOW, now=NOW, zone="Europe/Berlin")
    assert told.exact == "2026-03-01 13:00:00 CET"
    assert told.iso == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    "span,text", [(0.0123, "12 ms"), (12.34, "12.3 s"), (245, "4 min 5 s"), (12000, "3 h 20 min")]
)
def test_durations_are_short(span: float, text: str):
    assert duration(timedelta(seconds=span)) == text


async def test_preferences_work_before_sign_in_and_stay(console: Console):
    page = await console.get("/sign-in")
    assert 'data-theme="auto"' in page.text
    page = await console.post("/preferences", {"theme": "dark", "next": "/help"})
    assert page.url == "/help" and 'data-theme="dark"' in page.text
    # What a form does not name stays.
    page = await console.post("/preferences", {"zone": "Asia/Tokyo", "shortcuts": "off"})
    assert 'data-theme="dark"' in page.text and 'data-shortcuts="off"' in page.text
    await some(console, 1)
    await console.sign_in("viewer")
    page = await console.get("/experiments")
    assert page.dom.find("time")[0].attrs["title"].endswith("JST")


async def test_preferences_that_are_wrong_are_the_defaults(console: Console):
    page = await console.post(
        "/preferences", {"theme": "<b>", "zone": "../etc/passwd", "next": "//evil.example"}
    )
    assert (page.status, page.url) == (200, "/preferences")
    assert 'data-theme="auto"' in page.text


async def test_every_template_has_a_heading_a_title_and_labels(console: Console):
    [id] = await some(console, 1)
    await console.sign_in("admin")
    paths = [
        "/",
        "/experiments",
        "/experiments/new",
        f"/experiments/{id}",
        f"/experiments/{id}/raw",
        f"/experiments/{id}/commands",
        f"/experiments/{id}/delete",
        "/activity",
        "/access",
        "/access/users",
        "/preferences",
        "/help",
        "/-/patterns",
        "/nothing",
    ]
    # Deep links can be told apart in a history.
    assert len(await titles(console, paths)) == len(paths) - 3


async def test_every_page_of_the_catalogue_has_a_heading_a_title_and_labels(catalogue: Console):
    await catalogue.sign_in("admin")
    ones = ("/regions/jp", "/services/jobs.example.com", "/services/jobs.example.com/resources/Job")
    pages = ("", "/history", "/raw", "/commands", "/edit", "/delete")
    lists = ["/", "/regions", "/regions/-/connectivity", "/services", "/resources", "/deployments"]
    paths = [*lists, "/regions?filter=x", "/manifest", *(f"{one}{page}" for one in ones for page in pages)]
    assert len(await titles(catalogue, paths)) == len(paths) - 1 - 3 * len(ones)


async def titles(console: Console, paths: list[str]) -> set[str]:
    """The titles of these pages, each of which is checked."""
    found = set()
    for path in paths:
        page = await console.get(path)
        found.add(page.dom.find("title")[0].text)
        assert page.dom.find("h1"), path
        assert page.dom.find("a", href="#main"), path
        labelled = {e.attrs["for"] for e in page.dom.find("label") if "for" in e.attrs}
        ids = [e.attrs["id"] for e in page.dom.elements if "id" in e.attrs]
        assert len(ids) == len(set(ids)), path
        for element in page.dom.elements:
            if element.tag in ("input", "select", "textarea") and element.attrs.get("type") != "hidden":
                wrapped = any(parent.tag == "label" for parent in element.inside)
                named = element.attrs.get("id") in labelled or "aria-label" in element.attrs
                assert named or wrapped, (path, element)
            if element.tag == "button":
                assert (
                    element.text.strip() or element.attrs.get("id") == "pending" or "hidden" in element.attrs
                )
    return found


async def test_unknown_addresses_and_methods_are_pages(console: Console):
    await console.sign_in("viewer")
    for answer, status in (
        (await console.get("/nothing/at/all"), 404),
        (await console.post("/"), 405),
        (await console.get("/operations/x"), 404),
    ):
        assert answer.status == status
        assert answer.headers["x-request-id"] in answer.text
        assert answer.dom.link("Home") == "/"


async def test_a_form_that_is_too_large_is_told(console: Console):
    await console.sign_in("operator")
    page = await console.post("/experiments", {"display_name": "x", "description": "y" * 1_100_000})
    assert page.status == 413
    assert "That is too large" in page.words


async def test_metrics_count_pages_by_route(console: Console):
    await console.get("/sign-in")
    await console.get("/nothing")
    text = (await console.get("/metrics")).text
    assert 'roundhouse_console_requests_total{method="GET",route="sign-in",status="200"} 1.0' in text
    assert 'route="none",status="404"' in text
    assert "roundhouse_console_streams 0.0" in text


def test_every_page_and_metric_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "console.md").read_text()
    pages = {
        route.path
        for route in ROUTES
        if route.method == "GET" and not route.path.endswith("/live") and route.permission != "open"
    }
    # What each resource of the catalogue and of the lab has is told once.
    ones = {kind.pattern for kind in (*KINDS.values(), *LAB.values())}
    told = {f"{one}{page}" for one in ones for page in re.findall(r"`…(/[a-z.{}]+)`", text)}
    missing = [path for path in pages - {"/sign-in"} - told if f"`{path}`" not in text]
    assert missing == []
    names = [family.name for family in Metrics().registry.collect() if family.name.startswith("roundhouse")]
    assert [name for name in names if name not in text] == []
