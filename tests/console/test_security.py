"""What keeps other sites and other people out."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from admin_ui import session
from admin_ui.routes import ROUTES
from admin_ui.security import safe_next
from shared.service.config import Config
from tests.console.harness import Console, client_of, console_of

ALL_PAGES = ("/", "/experiments", "/experiments/new", "/activity", "/access", "/-/patterns", "/preferences")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "/experiments\n",
        "javascript:alert(1)",
        "experiments",
        "",
        None,
        "/sign-out",
        "/sign-in?next=/sign-in",
        "///evil.example",
        "/a\\b",
    ],
)
def test_next_never_leaves_the_console(target):
    assert safe_next(target) == "/"


@pytest.mark.parametrize("target", ["/", "/experiments?q=a%2Fb&state=all", "/experiments/x/raw?format=json"])
def test_next_keeps_a_path_of_ours(target):
    assert safe_next(target) == target


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "SELF"},
    ],
    ids=lambda headers: ",".join(f"{k}={v}" for k, v in headers.items()) or "neither header",
)
async def test_a_write_from_elsewhere_is_refused_and_does_nothing(console: Console, headers):
    await console.sign_in("admin")
    headers = {k: console.base if v == "SELF" else v for k, v in headers.items()}
    answer = await console.post("/experiments", {"display_name": "forged"}, headers=headers)
    assert answer.status == 403
    assert "did not come from this console" in answer.words
    assert (await console.get("/experiments?state=all")).rows() == []


@pytest.mark.parametrize("headers", [{"Origin": "SELF"}, {"Sec-Fetch-Site": "same-origin"}])
async def test_a_write_from_our_own_page_is_done(console: Console, headers):
    headers = {k: console.base if v == "SELF" else v for k, v in headers.items()}
    await console.sign_in("operator")
    answer = await console.post("/experiments", {"display_name": "own"}, headers=headers)
    assert answer.status == 200
    assert (await console.get("/experiments")).rows() == ["own"]


async def test_behind_a_proxy_the_public_origin_is_ours_and_cookies_are_for_https(pipelines, tmp_path: Path):
    async with console_of(pipelines, tmp_path / "c", public_url="https://yard.example") as console:
        answer = await console.post(
            "/sign-in",
            {"token": pipelines.tokens["viewer"]},
            headers={"Origin": "https://yard.example"},
            allow_redirects=False,
        )
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-roundhouse_")
        assert "Secure" in cookie


async def test_the_session_cookie_is_closed_to_scripts_and_other_sites(console: Console):
    answer = await console.post(
        "/sign-in", {"token": console.service.tokens["viewer"]}, allow_redirects=False
    )
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
    assert console.service.tokens["viewer"] not in cookie


async def test_pages_forbid_inline_scripts_framing_and_caching_and_hold_none(console: Console):
    async with client_of(console.service) as other:
        id = await other.create("one", "two")
    await console.sign_in("admin")
    for path in (*ALL_PAGES, f"/experiments/{id}", f"/experiments/{id}/delete", "/nothing"):
        page = await console.get(path)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page.text), path
        for element in page.dom.elements:
            for name in ("src", "href", "action", "formaction"):
                assert element.attrs.get(name, "/").startswith(("/", "#", "?")), (path, element)
        assert all(e.attrs.get("src") and not e.text for e in page.dom.find("script"))


async def test_every_page_wants_a_session_except_the_public_ones(console: Console):
    public = {route.path for route in ROUTES if route.permission in ("open", "public")}
    for route in ROUTES:
        path = route.path.replace("{form}", "yaml").replace("{file}", "console.css")
        path = re.sub(r"\{[a-z]+\}", "x", path)
        if route.path in public:
            continue
        answer = await (
            console.get(path, allow_redirects=False)
            if route.method == "GET"
            else console.post(path, allow_redirects=False)
        )
        assert answer.status == 303, route
        assert answer.headers["Location"].startswith("/sign-in"), route


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/static/console.css", "/favicon.ico"])
async def test_probes_and_files_need_no_session(console: Console, path):
    answer = await console.get(path)
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e%2fapp.py", "nothing.css", "..%5capp.py"])
async def test_only_our_own_files_are_served(console: Console, name):
    assert (await console.get(f"/static/{name}")).status == 404


async def test_a_cookie_of_another_key_is_no_session(console: Console, tmp_path: Path):
    await console.sign_in("admin")
    async with console_of(console.service, tmp_path / "other") as other:
        jar = {c.key: c.value for c in console.http.cookie_jar}
        async with console.http.get(f"{other.base}/", cookies=jar, allow_redirects=False) as answer:
            assert answer.status == 303


def test_the_cookie_key_is_made_once_and_private(tmp_path: Path):
    key = session.load_key(tmp_path / "keys")
    assert session.load_key(tmp_path / "keys") == key
    assert (tmp_path / "keys" / session.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / "keys").iterdir()] == [session.KEY_FILE]


def test_two_consoles_of_one_host_have_two_cookies():
    names = {session.cookie_name(Config.load({}, base_port=port)) for port in ("8700", "9700")}
    assert len(names) == 2


async def test_a_session_ends_with_its_time_though_the_token_is_good(pipelines, tmp_path: Path):
    hours = 0.0
    async with console_of(
        pipelines, tmp_path / "c", clock=lambda: time.time() + hours * 3600, console_session="30m"
    ) as console:
        await console.sign_in("viewer")
        assert (await console.get("/experiments?q=a", allow_redirects=False)).status == 200
        hours = 0.51
        answer = await console.get("/experiments?q=a", allow_redirects=False)
        assert answer.status == 303
        assert answer.headers["Location"] == "/sign-in?next=%2Fexperiments%3Fq%3Da&ended=1"
