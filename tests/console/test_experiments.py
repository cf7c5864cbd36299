"""Experiments, one at a time: list, create, look at, archive, restore, delete."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
import yaml

from services.pipelines.service import SERVICE
from shared.service.testing import started
from tests.console.harness import Console, client_of, console_of


@pytest.fixture
async def admin(console: Console) -> Console:
    await console.sign_in("admin")
    return console


async def some(console: Console, count: int, prefix: str = "exp") -> list[str]:
    async with client_of(console.service) as client:
        return [await client.create(f"{prefix}-{number:02}", f"about {number}") for number in range(count)]


async def test_an_empty_list_says_what_to_do_next(admin: Console):
    page = await admin.get("/experiments")
    assert "No experiments yet" in page.words
    assert page.dom.link("New experiment") == "/experiments/new"


async def test_created_in_the_form_it_is_shown_and_listed(admin: Console):
    page = await admin.post(
        "/experiments", {"display_name": "Müller & <b>Söhne</b>", "description": "a\r\nb"}
    )
    assert page.status == 200
    assert "Created “Müller & <b>Söhne</b>”" in page.words
    assert "<b>Söhne" not in page.text
    raw = yaml.safe_load((await admin.get(f"{page.url}/download.yaml")).text)
    assert raw["description"] == "a\nb"
    assert (await admin.get("/experiments")).rows() == ["Müller & <b>Söhne</b>"]


async def test_a_name_that_is_wrong_is_told_at_its_field_and_nothing_typed_is_lost(admin: Console):
    for name in ("", "x" * 129):
        page = await admin.post("/experiments", {"display_name": name, "description": "kept text"})
        assert page.status == 400
        field = page.dom.find("input", id="display_name")[0]
        assert (field.attrs["aria-invalid"], field.attrs["value"]) == ("true", name)
        assert page.dom.find("p", id="display_name-error")
        assert "kept text" in page.text


async def test_a_name_that_is_taken_leads_to_who_has_it(admin: Console):
    async with client_of(admin.service) as client:
        await client.archive(await client.create("taken & gone"))
    page = await admin.post("/experiments", {"display_name": "taken & gone"})
    assert page.status == 409
    assert "already exists" in page.words
    assert (await admin.get(page.dom.link("Find the experiment"))).rows() == ["taken & gone"]


async def test_paging_by_links_walks_all_rows_and_back_again(admin: Console):
    await some(admin, 23)
    seen, urls = [], []
    page = await admin.get("/experiments?page_size=10&order_by=display_name+asc")
    while True:
        urls.append(page.url)
        seen += page.rows()
        following = page.dom.find("a", rel="next")
        if not following:
            break
        page = await admin.get(following[0].attrs["href"])
    assert seen == [f"exp-{number:02}" for number in range(23)]
    assert "21–23 of 23" in page.words
    for url in reversed(urls[:-1]):
        page = await admin.get(page.dom.find("a", rel="prev")[0].attrs["href"])
        assert page.rows() == (await admin.get(url)).rows()
    assert not page.dom.find("a", rel="prev")


async def test_search_state_order_and_size_stand_in_the_address(admin: Console):
    ids = await some(admin, 12)
    async with client_of(admin.service) as client:
        await client.create("EXP_100%")
        for id in ids[:3]:
            await client.archive(id)
    found = await admin.get("/experiments?q=Exp_100%25")
    assert found.rows() == ["EXP_100%"]
    assert "Active experiments whose name contains “Exp_100%”." in found.words
    assert sorted((await admin.get("/experiments?q=exp-&state=archived")).rows()) == [
        "exp-00",
        "exp-01",
        "exp-02",
    ]
    page = await admin.get("/experiments?q=exp-&state=all&order_by=display_name+desc&page_size=10")
    assert page.rows() == [f"exp-{n:02}" for n in range(11, 1, -1)]
    # Every link that changes one thing keeps the others.
    assert "page_size=10" in page.dom.link("Archived") and "order_by=display_name+desc" in page.dom.link(
        "Active"
    )
    assert "order_by=display_name+asc" in page.dom.link("Name") and "state=all" in page.dom.link("Name")
    hidden = {e.attrs["name"]: e.attrs["value"] for e in page.dom.find("input", type="hidden")}
    assert (hidden["state"], hidden["order_by"]) == ("all", "display_name desc")


async def test_typed_predicates_are_added_to_the_rest(admin: Console):
    await some(admin, 3)
    predicates = {"predicates": [{"operation": "EQUALS", "key": "description", "string_value": "about 1"}]}
    page = await admin.get(f"/experiments?q=exp&filter={quote(json.dumps(predicates))}")
    assert page.rows() == ["exp-01"]
    assert "match your predicates" in page.words


@pytest.mark.parametrize(
    "typed",
    [
        "{",
        "[]",
        '{"x": 1}',
        '{"predicates": 5}',
        '{"predicates": [{"operation": "NO", "key": "name"}]}',
        '{"predicates": [{"operation": "EQUALS", "key": "nope", "string_value": "x"}]}',
    ],
)
async def test_predicates_that_are_wrong_keep_the_text_and_show_the_services_words(
    admin: Console, typed: str
):
    page = await admin.get(f"/experiments?q=exp&filter={quote(typed)}")
    assert page.status == 400
    area = page.dom.find("textarea", id="filter")[0]
    assert (area.text, area.attrs["aria-invalid"]) == (typed, "true")
    said = next(e.text for e in page.dom.find("p", id="filter-error"))
    assert len(said) > 10
    # It is about what was typed, not about what the page added.
    assert "IS_SUBSTRING" not in said


@pytest.mark.parametrize("token", ["forged", "eyJ2IjoxfQ", "%00"])
async def test_a_page_that_is_gone_is_the_first_page_with_a_notice(admin: Console, token: str):
    await some(admin, 2)
    page = await admin.get(f"/experiments?page_token={token}&page=4&q=exp")
    assert (page.status, page.url) == (200, "/experiments?q=exp")
    assert "no longer there" in page.words
    assert len(page.rows()) == 2


async def test_a_token_of_another_filter_is_the_first_page_too(admin: Console):
    await some(admin, 12)
    following = (await admin.get("/experiments?page_size=10")).dom.find("a", rel="next")[0].attrs["href"]
    page = await admin.get(f"{following}&q=exp-0")
    assert (page.status, len(page.rows())) == (200, 10)
    assert "no longer there" in page.words


async def test_an_order_that_there_is_not_is_told(admin: Console):
    page = await admin.get("/experiments?order_by=colour")
    assert (page.status, page.url) == (200, "/experiments")
    assert "cannot be sorted by “colour”" in page.words


async def test_archive_and_restore_ask_nothing_and_offer_undo(admin: Console):
    [id] = await some(admin, 1)
    page = await admin.post(f"/experiments/{id}/archive", {"return_to": "/experiments?q=exp"})
    assert page.url == "/experiments?q=exp"
    assert "Archived “exp-00”" in page.words
    undo = next(
        e.attrs["action"] for e in page.dom.find("form") if e.attrs.get("action", "").endswith("/unarchive")
    )
    async with client_of(admin.service) as client:
        assert await client.state(id) == "ARCHIVED"
        await admin.post(undo)
        assert await client.state(id) == "AVAILABLE"
    # A flash is shown once.
    await admin.get("/experiments")
    assert "Restored “" not in (await admin.get("/experiments")).words


async def test_delete_asks_on_a_page_that_names_it_with_cancel_first(admin: Console):
    [id] = await some(admin, 1)
    page = await admin.get(f"/experiments/{id}/delete")
    assert "Delete “exp-00”?" in page.words and "cannot be undone" in page.words
    controls = [e for e in page.dom.elements if "data-autofocus" in e.attrs]
    assert [e.text for e in controls] == ["Cancel"]
    done = await admin.post(f"/experiments/{id}/delete")
    assert "Deleted “exp-00”" in done.words
    assert done.rows() == []
    again = await admin.post(f"/experiments/{id}/delete")
    assert "was already gone" in again.words


async def test_a_deleted_one_still_shows_who_deleted_it(admin: Console):
    [id] = await some(admin, 1)
    await admin.post(f"/experiments/{id}/delete")
    page = await admin.get(f"/experiments/{id}")
    assert page.status == 404
    assert "This experiment was deleted" in page.words
    assert "Deleted by admin" in page.words and "Created by operator" in page.words


async def test_an_unknown_one_is_not_there(admin: Console):
    page = await admin.get("/experiments/nothing")
    assert page.status == 404
    assert "It is not there" in page.words and "NOT_FOUND" in page.words
    assert page.headers["x-request-id"] in page.text


async def test_the_history_shows_what_each_write_changed(admin: Console):
    [id] = await some(admin, 1)
    await admin.post(f"/experiments/{id}/archive")
    page = await admin.get(f"/experiments/{id}")
    assert [e.text for e in page.dom.find("del")] == ["AVAILABLE"]
    assert [e.text for e in page.dom.find("ins")] == ["ARCHIVED"]
    assert "Archived by admin" in page.words and "Created by operator" in page.words


async def test_raw_is_the_whole_message_to_read_copy_and_download(admin: Console):
    [id] = await some(admin, 1)
    page = await admin.get(f"/experiments/{id}/raw?format=json")
    shown = next(e.text for e in page.dom.find("pre"))
    assert json.loads(shown)["experiment_id"] == id
    assert next(e for e in page.dom.find("button") if "data-copy" in e.attrs).attrs["data-copy"] == shown
    download = await admin.get(f"/experiments/{id}/download.yaml")
    assert yaml.safe_load(download.text)["display_name"] == "exp-00"
    assert download.headers["Content-Disposition"] == f'attachment; filename="{id}.yaml"'
    assert (await admin.get(f"/experiments/{id}/download.exe")).status == 404


async def test_commands_are_complete_and_quoted(admin: Console):
    async with client_of(admin.service) as client:
        await client.create("it's; $(rm)")
    page = await admin.get("/experiments?q=it%27s%3B%20%24%28rm%29")
    curl = next(e.text for e in page.dom.find("code") if e.text.startswith("curl"))
    assert "'\"'\"'" in curl and "--data-urlencode" in curl
    [id] = await some(admin, 1)
    words = (await admin.get(f"/experiments/{id}/commands")).words
    for tool in ("grpcurl -plaintext", "kfp.Client", f"roundhouse get experiment {id}"):
        assert tool in words


async def test_a_default_page_is_small(admin: Console):
    async with client_of(admin.service) as client:
        for number in range(25):
            await client.create(f"{number:03}-{'n' * 60}", "d" * 300)
    page = await admin.get("/experiments")
    assert len(page.rows()) == 20
    assert len(page.text.encode()) < 60_000


async def test_in_multi_user_mode_a_namespace_is_chosen_shown_and_kept(tmp_path):
    async with (
        started(SERVICE, tmp_path / "data", multi_user=True) as service,
        console_of(service, tmp_path / "c") as console,
    ):
        await console.sign_in("admin")
        page = await console.get("/experiments?q=x")
        assert "Choose a namespace" in page.words
        made = await console.post("/experiments", {"display_name": "mine", "namespace": "team-a"})
        assert "team-a" in made.words
        assert (await console.get("/experiments?namespace=team-a")).rows() == ["mine"]
        assert (await console.get("/experiments?namespace=team-b")).rows() == []
        # The last one is offered again.
        again = await console.get("/experiments")
        assert again.dom.find("input", name="namespace")[0].attrs["value"] == "team-b"
        page = await console.post("/experiments", {"display_name": "nowhere", "namespace": ""})
        assert page.status == 400
        home = await console.get("/")
        assert home.status == 200 and "Choose one" in home.words
