"""Tokens, users, links, and the trail of what was done."""

from __future__ import annotations

import re

import pytest

from tests.console.harness import Console, client_of
from tests.console.test_experiments import some


@pytest.fixture
async def admin(console: Console) -> Console:
    await console.sign_in("admin")
    return console


async def test_a_new_token_is_shown_once_and_works(admin: Console):
    page = await admin.post("/access/tokens", {"subject": "ci", "role": "operator", "days": "7"})
    assert page.status == 200
    value = page.dom.find("code", id="token-value")[0].text
    assert "shown this once" in page.words
    again = await admin.get("/access")
    assert value not in again.text and "ci" in again.words
    async with admin.stranger() as ci:
        assert (await ci.post("/sign-in", {"token": value})).url == "/"
        assert (await ci.post("/experiments", {"display_name": "by ci"})).status == 200


async def test_a_link_for_a_colleague_signs_them_in(admin: Console):
    page = await admin.post("/access/sign-in-links", {"subject": "grace", "role": "viewer"})
    link = page.dom.find("code", id="link-value")[0].text
    assert link.startswith(f"{admin.base}/sign-in?code=")
    async with admin.stranger() as grace:
        asked = await grace.get(link.removeprefix(admin.base))
        code = asked.dom.find("input", name="code")[0].attrs["value"]
        home = await grace.post("/sign-in", {"code": code})
        assert "grace" in home.text


@pytest.mark.parametrize("path", ["/access/tokens", "/access/users", "/access/sign-in-links"])
async def test_what_is_wrong_is_told_and_kept(admin: Console, path: str):
    page = await admin.post(path, {"subject": "", "role": "viewer"})
    assert page.status == 400
    assert page.dom.find("p", id="subject-error")
    page = await admin.post(path, {"subject": "somebody", "role": "emperor"})
    assert page.status == 400
    assert page.dom.find("p", id="role-error")
    assert page.dom.find("input", id="subject")[0].attrs["value"] == "somebody"


async def test_users_are_set_disabled_and_enabled(admin: Console):
    page = await admin.post("/access/users", {"subject": "ada", "role": "operator"})
    assert "ada now has the role operator" in page.words
    page = await admin.post("/access/users", {"subject": "ada", "role": "operator", "disabled": "on"})
    assert "ada disabled" in page.words and page.dom.button("Enable").enabled


async def test_a_users_namespaces_stay_when_it_is_disabled(admin: Console):
    given = {"subject": "bea", "role": "operator", "namespaces": "default, ci default"}
    page = await admin.post("/access/users", given)
    assert "ci, default" in page.text
    form = re.search(r'name="subject" value="bea".*?name="namespaces" value="([^"]*)"', page.text)
    assert form is not None
    again = {"subject": "bea", "role": "operator", "disabled": "on", "namespaces": form.group(1)}
    page = await admin.post("/access/users", again)
    assert "ci, default" in page.text


async def test_no_one_locks_themselves_out(admin: Console):
    page = await admin.post("/access/users", {"subject": "admin", "role": "viewer"})
    assert page.status == 409
    assert "you cannot disable yourself" in page.words


async def test_every_write_of_the_console_is_in_the_trail_under_its_request(admin: Console):
    page = await admin.post("/experiments", {"display_name": "trailed"}, allow_redirects=False)
    request_id = page.headers["x-request-id"]
    trail = await admin.get("/activity")
    assert request_id in trail.text
    assert "admin" in trail.words and "Created experiment trailed" in trail.words
    await admin.post("/access/users", {"subject": "ada", "role": "operator"})
    assert "ada" in (await admin.get("/activity?store=access")).words


async def test_the_trail_is_filtered_and_paged(admin: Console):
    await some(admin, 12)
    await admin.post("/experiments", {"display_name": "by admin"})
    page = await admin.get("/activity?subject=operator&page_size=10")
    assert len(page.rows()) == 10 and "by admin" not in page.words
    following = page.dom.find("a", rel="next")[0].attrs["href"]
    assert "subject=operator" in following
    rest = await admin.get(following)
    assert len(rest.rows()) == 2
    assert not rest.dom.find("a", rel="next")
    back = await admin.get(rest.dom.find("a", rel="prev")[0].attrs["href"])
    assert back.rows() == page.rows()
    assert (await admin.get("/activity?kind=nothing")).rows() == []
    gone = await admin.get(following.replace("page_token=", "page_token=x"))
    assert (gone.status, gone.url) == (200, "/activity")


async def test_an_experiments_own_trail_survives_in_its_history(admin: Console):
    async with client_of(admin.service) as client:
        id = await client.create("one")
        await client.archive(id)
    page = await admin.get(f"/activity?name={id}")
    assert page.words.count("Archived") == 1 and page.words.count("Created") == 1
