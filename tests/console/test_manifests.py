"""Writes to the catalogue: a preview first, then exactly that; others' writes are told, text is kept."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import grpc
import pytest
import yaml

from shared.rpc.client import CallFailed
from tests.console.catalogue import catalogue_client, manifest
from tests.console.harness import Console, Page


@pytest.fixture
async def operator(catalogue: Console) -> Console:
    await catalogue.sign_in("operator")
    return catalogue


def text_of(page: Page, id: str = "text") -> str:
    """What the editor holds: a browser drops the line end after the tag."""
    return page.dom.find("textarea", id=id)[0].text.removeprefix("\n")


def fields(page: Page) -> dict[str, str]:
    """What the page's own form would send, without a button."""
    found = {e.attrs["name"]: e.attrs.get("value", "") for e in page.dom.find("input", type="hidden")}
    for area in page.dom.find("textarea"):
        if area.attrs.get("name") in ("text", "base"):
            found[area.attrs["name"]] = area.text.removeprefix("\n")
    if any("checked" in e.attrs for e in page.dom.find("input", id="prune")):
        found["prune"] = "on"
    return found


async def send(console: Console, path: str, page: Page | None = None, **data: Any) -> Page:
    """As a browser: line ends of texts are CRLF, and a form with a file is in parts."""
    form = aiohttp.FormData()
    for name, value in {**(fields(page) if page else {}), **data}.items():
        form.add_field(name, value.replace("\n", "\r\n"), content_type="text/plain; charset=utf-8")
    return await console.post(path, form)


def diff(page: Page, tone: str) -> list[str]:
    return [e.text.strip("+− \n") for e in page.dom.find("span", **{"class": tone})]


# --- one resource -------------------------------------------------------------------------------

EDIT = "/regions/eu-west/edit"


async def test_the_editor_has_what_people_may_write_and_no_more(operator: Console):
    page = await operator.get(EDIT)
    shown = yaml.safe_load(text_of(page))
    assert shown["title"] == "EU West" and shown["metadata"] == {"labels": {"cloud": "aws", "env": "prod"}}
    unchanged = await send(operator, EDIT, page, action="preview")
    assert "Nothing is changed yet." in unchanged.words


async def test_an_edit_is_shown_first_and_then_written_by_its_name(operator: Console):
    page = await operator.get(EDIT)
    text = text_of(page).replace("title: EU West", "title: Éire ☘").replace("    env: prod\n", "")
    async with catalogue_client(operator.service) as client:
        before = await client.head()
        preview = await send(operator, EDIT, page, text=text, action="preview")
        assert preview.status == 200 and "What would change" in preview.words
        assert diff(preview, "removed") == ["title: EU West", "env: prod"]
        assert diff(preview, "added") == ["title: Éire ☘"]
        assert text_of(preview) == text
        # Looking writes nothing.
        assert await client.head() == before
        done = await send(operator, EDIT, preview, action="apply")
        assert done.url == "/regions/eu-west"
        assert "Changed eu-west, as revision" in done.words
        stored = await client.get("regions/eu-west")
        assert stored.title == "Éire ☘" and dict(stored.metadata.labels) == {"cloud": "aws"}
        # A field that the text lost is emptied, and one that it never touched is as it was.
        assert stored.domain == "eu-west.example.com" and len(stored.connectivity_scores) == 3


async def test_a_field_or_a_message_that_is_removed_is_emptied(operator: Console):
    page = await operator.get(EDIT)
    shown = yaml.safe_load(text_of(page))
    for name in ("location", "is_default", "connectivity_scores", "metadata"):
        del shown[name]
    preview = await send(operator, EDIT, page, text=yaml.safe_dump(shown), action="preview")
    await send(operator, EDIT, preview, action="apply")
    async with catalogue_client(operator.service) as client:
        stored = await client.get("regions/eu-west")
    assert not stored.HasField("location") and not stored.is_default and not stored.connectivity_scores
    assert not stored.metadata.labels and stored.metadata.uuid and stored.metadata.generation == 2


async def test_nothing_is_written_without_the_preview_of_just_that(operator: Console):
    page = await operator.get(EDIT)
    one = text_of(page).replace("EU West", "One")
    async with catalogue_client(operator.service) as client:
        before = await client.head()
        unseen = await send(operator, EDIT, page, text=one, action="apply")
        assert unseen.status == 409 and "Nothing was written." in unseen.words
        # The text was changed after the preview: what it means now is shown first.
        other = await send(operator, EDIT, unseen, text=one.replace("One", "Two"), action="apply")
        assert other.status == 409 and diff(other, "added") == ["title: Two"]
        assert "This is not the change that the preview showed." in other.words
        assert await client.head() == before
        await send(operator, EDIT, other, action="apply")
        assert (await client.get("regions/eu-west")).title == "Two"


async def test_what_others_change_elsewhere_stays_theirs_and_is_told(operator: Console):
    page = await operator.get(EDIT)
    async with catalogue_client(operator.service, "admin") as client:
        await client.region("eu-west", domain="theirs.example.com")
        text = text_of(page).replace("EU West", "Mine")
        preview = await send(operator, EDIT, page, text=text, action="preview")
        assert "Changed while you edit" in preview.words and "by admin" in preview.words
        assert "theirs.example.com" in preview.words and "Both of you" not in preview.words
        assert diff(preview, "removed") == ["title: EU West"]
        await send(operator, EDIT, preview, action="apply")
        stored = await client.get("regions/eu-west")
        assert (stored.title, stored.domain) == ("Mine", "theirs.example.com")


async def test_what_both_changed_is_shown_three_ways(operator: Console):
    page = await operator.get(EDIT)
    text = text_of(page).replace("EU West", "Mine")
    preview = await send(operator, EDIT, page, text=text, action="preview")
    async with catalogue_client(operator.service, "admin") as client:
        await client.region("eu-west", title="Theirs")
        late = await send(operator, EDIT, preview, action="apply")
        assert late.status == 409
        assert "Somebody changed it after your preview" in late.words and "by admin" in late.words
        assert "Both of you changed this" in late.words and "title EU West Theirs Mine" in late.words
        assert text_of(late) == text
        assert (await client.get("regions/eu-west")).title == "Theirs"
        done = await send(operator, EDIT, late, action="apply")
        assert done.status == 200
        assert (await client.get("regions/eu-west")).title == "Mine"


async def test_a_write_to_something_else_in_between_does_not_ask_again(operator: Console):
    page = await operator.get(EDIT)
    preview = await send(
        operator, EDIT, page, text=text_of(page).replace("EU West", "Mine"), action="preview"
    )
    async with catalogue_client(operator.service) as client:
        await client.region("jp", title="Elsewhere")
        assert (await send(operator, EDIT, preview, action="apply")).url == "/regions/eu-west"
        assert (await client.get("regions/eu-west")).title == "Mine"


async def test_one_that_was_deleted_meanwhile_keeps_the_text_and_offers_a_manifest(operator: Console):
    there = "/regions/jp/deployments/jobs/edit"
    page = await operator.get(there)
    async with catalogue_client(operator.service) as client:
        await client.delete("regions/jp/deployments/jobs")
        gone = await send(
            operator, there, page, text=text_of(page).replace("canary", "blue"), action="preview"
        )
        assert gone.status == 404 and "It was deleted meanwhile, by operator just now" in gone.words
        assert "blue" in text_of(gone)
        hidden = next(e for e in gone.dom.find("textarea") if "Manifest" in e.attrs.get("aria-label", ""))
        whole = hidden.text.removeprefix("\n")
        assert yaml.safe_load(whole)["deployments"][0]["metadata"]["tags"] == ["blue"]
        preview = await send(operator, "/manifest", text=whole, action="preview")
        assert "1 to create" in preview.words
        await send(operator, "/manifest", preview, action="apply")
        assert list((await client.get("regions/jp/deployments/jobs")).metadata.tags) == ["blue"]


@pytest.mark.parametrize(
    "text,told",
    [
        ("title: [", "cannot be read"),
        ("- a\n- b\n", "must be a mapping of fields"),
        ("name: regions/other\n", "must stay regions/eu-west"),
        ("title: a\ntitle: b\n", "stands twice"),
        ("title: &a x\ndomain: *a\n", "aliases"),
        ("name: regions/eu-west\ncolour: red\n", "colour"),
        ("connectivity_scores: [{dest: regions/nowhere, score: 1}]\n", "does not exist"),
        ("metadata: {uuid: mine}\n", "is set by the server"),
        ("isDefault: true\nis_default: false\n", "two spellings"),
    ],
)
async def test_a_text_that_is_wrong_is_told_and_kept(operator: Console, text: str, told: str):
    page = await operator.get(EDIT)
    async with catalogue_client(operator.service) as client:
        before = await client.head()
        for action in ("preview", "apply"):
            answer = await send(operator, EDIT, page, text=text, action=action)
            assert answer.status == 400
            assert told in answer.words
            assert text_of(answer) == text
        assert await client.head() == before


# --- whole manifests ----------------------------------------------------------------------------


async def test_a_manifest_is_one_revision_and_said_before_and_after(operator: Console):
    lists = {
        "regions": [{"name": "regions/za", "title": "ZA"}, {"name": "regions/jp", "title": "Nippon"}],
        "deployments": [
            {"name": "regions/za/deployments/jobs", "service": "services/jobs.example.com"},
            {"name": "regions/jp/deployments/jobs", "service": "services/jobs.example.com"},
        ],
    }  # fmt: skip
    async with catalogue_client(operator.service) as client:
        before = await client.head()
        preview = await send(operator, "/manifest", text=yaml.safe_dump(lists), action="preview")
        assert "1 to change, 2 to create , 1 as they are" in preview.words
        assert await client.head() == before
        done = await send(operator, "/manifest", preview, action="apply")
        assert f"Applied as revision {before + 1}: 2 created, 1 changed." in done.words
        assert await client.head() == before + 1
        again = await send(operator, "/manifest", preview, action="apply")
        assert "Nothing was written: everything is so already." in again.words
        assert await client.head() == before + 1


async def test_prune_warns_names_and_deletes_only_after_that(operator: Console):
    lists = manifest()
    lists["deployments"] = [d for d in lists["deployments"] if not d["name"].startswith("regions/jp/")]
    async with catalogue_client(operator.service) as client:
        kept = await send(operator, "/manifest", text=json.dumps(lists), action="preview")
        assert "Nothing would change" in kept.words
        preview = await send(operator, "/manifest", text=json.dumps(lists), prune="on", action="preview")
        assert "1 to delete" in preview.words and "1 will be deleted" in preview.words
        assert "Delete deployment jp/jobs" in preview.words
        assert preview.dom.button("Apply 1 change, deleting 1").enabled
        assert preview.dom.find("input", id="prune")[0].attrs.get("checked") is not None
        await send(operator, "/manifest", preview, action="apply")
        assert "regions/jp/deployments/jobs" not in await client.names("deployment")
        assert len(await client.names("region")) == 8


async def test_a_manifest_that_another_one_overtook_is_shown_anew_with_who_did_what(operator: Console):
    lists = {
        "regions": [{"name": "regions/jp", "title": "Mine"}, {"name": "regions/uk", "title": "Mine too"}]
    }
    preview = await send(operator, "/manifest", text=json.dumps(lists), action="preview")
    async with catalogue_client(operator.service, "admin") as client:
        await client.region("jp", title="Theirs")
        late = await send(operator, "/manifest", preview, action="apply")
        assert late.status == 409 and "Nothing was written" in late.words
        assert "Changed regions/jp by admin" in late.words
        assert "title: Theirs" in diff(late, "removed")
        assert (await client.get("regions/uk")).title == "United Kingdom"
        assert (await send(operator, "/manifest", late, action="apply")).status == 200
        assert (await client.get("regions/jp")).title == "Mine"


async def test_what_appears_in_a_pruned_list_after_the_preview_is_not_deleted_unseen(operator: Console):
    lists = {"deployments": [d for d in manifest()["deployments"] if "/jp/" not in d["name"]]}
    preview = await send(operator, "/manifest", text=json.dumps(lists), prune="on", action="preview")
    async with catalogue_client(operator.service) as client:
        new = {"name": "regions/uk/deployments/new", "service": "services/jobs.example.com"}
        await client.apply({"deployments": [new]})
        late = await send(operator, "/manifest", preview, action="apply")
        assert late.status == 409 and "2 to delete" in late.words and "uk/new" in late.words
        assert new["name"] in await client.names("deployment")


async def test_a_file_takes_the_place_of_the_text(operator: Console):
    form = aiohttp.FormData({"text": "kept: no", "action": "preview"})
    form.add_field("file", "regions: [{name: regions/za}]".encode("utf-8-sig"), filename="c.yaml")
    preview = await operator.post("/manifest", form)
    assert "1 to create" in preview.words and "regions/za" in text_of(preview)
    form = aiohttp.FormData({"text": "kept: yes", "action": "preview"})
    form.add_field("file", b"\xff\xfe\x00", filename="c.yaml")
    wrong = await operator.post("/manifest", form)
    assert wrong.status == 400 and "no text in UTF-8" in wrong.words and text_of(wrong) == "kept: yes"


async def test_everything_that_is_wrong_is_listed_and_the_text_kept(operator: Console):
    text = "regions:\n- name: regions/EU\n- name: regions/x1\nservices:\n- name: services/a\n"
    answer = await send(operator, "/manifest", text=text, prune="on", action="preview")
    assert answer.status == 400
    assert "regions[0].name" in answer.words and "current_version" in answer.words
    assert (
        text_of(answer) == text and answer.dom.find("input", id="prune")[0].attrs.get("checked") is not None
    )
    unknown = await send(operator, "/manifest", text="planets: []", action="preview")
    assert "is no list of this service" in unknown.words
    empty = await send(operator, "/manifest", text=" \n", action="preview")
    assert empty.status == 400 and "nothing to apply" in empty.words


async def test_a_manifest_that_breaks_what_is_there_says_what(operator: Console):
    lists = {"services": manifest()["services"][:1]}
    answer = await send(operator, "/manifest", text=json.dumps(lists), prune="on", action="preview")
    assert answer.status == 400 and "services/jobs.example.com does not exist" in answer.words


async def test_the_present_catalogue_can_be_edited_downloaded_and_applied_unchanged(operator: Console):
    page = await operator.get("/manifest?present")
    shown = yaml.safe_load(text_of(page))
    assert {name: len(entries) for name, entries in shown.items()} == {
        "regions": 8, "services": 6, "resources": 20, "deployments": 15,
    }  # fmt: skip
    file = await operator.get("/manifest/catalogue.yaml")
    assert yaml.safe_load(file.text) == shown
    assert file.headers["Content-Disposition"] == 'attachment; filename="catalogue.yaml"'
    preview = await send(operator, "/manifest", text=file.text, prune="on", action="preview")
    assert "Nothing would change , 49 as they are" in preview.words
    for kind in ("region", "service", "resource", "deployment"):
        skeleton = yaml.safe_load(text_of(await operator.get(f"/manifest?kind={kind}")))
        assert list(skeleton) == [f"{kind}s"]


async def test_a_catalogue_that_is_too_large_for_a_page_is_for_the_command_line(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.apply(
            {"regions": [{"name": f"regions/r{n:04}", "title": "t" * 300} for n in range(1300)]}
        )
    page = await operator.get("/manifest?present")
    assert "too large for this page" in page.words and text_of(page) == ""
    assert len(yaml.safe_load((await operator.get("/manifest/catalogue.yaml")).text)["regions"]) == 1308


async def test_many_differences_are_a_page_that_says_how_many_more(operator: Console):
    lists = {"regions": [{"name": f"regions/r{n:04}"} for n in range(250)]}
    preview = await send(operator, "/manifest", text=json.dumps(lists), action="preview")
    assert "250 to create" in preview.words and "and 150 more" in preview.words
    assert "250 created" in (await send(operator, "/manifest", preview, action="apply")).words


# --- deleting -----------------------------------------------------------------------------------


async def test_delete_names_what_still_needs_it_and_then_does_not_offer_itself(operator: Console):
    page = await operator.get("/regions/eu-west/delete")
    assert "It cannot be deleted while these need it" in page.words
    assert "5 deployments" in page.words and "3 regions with a score for it" in page.words
    assert "regions/eu-west/deployments/billing" in page.words
    assert not page.dom.button("Delete region").enabled
    # Tried anyway, the service's own words are shown.
    tried = await operator.post("/regions/eu-west/delete")
    assert tried.status == 409
    assert "regions/eu-west is still needed" in tried.words and "FAILED_PRECONDITION" in tried.words
    service = await operator.get("/services/jobs.example.com/delete")
    assert "3 resources" in service.words and "5 deployments" in service.words


async def test_delete_asks_with_cancel_first_and_leads_back_to_the_list(operator: Console):
    listed = await operator.get("/deployments?parent=jp")
    there = next(e.attrs["href"] for e in listed.dom.find("a") if "/delete" in e.attrs.get("href", ""))
    page = await operator.get(there)
    assert "Delete deployment “jp/jobs”?" in page.words and "Nothing refers to it." in page.words
    assert [e.text for e in page.dom.elements if "data-autofocus" in e.attrs] == ["Cancel"]
    done = await operator.post("/regions/jp/deployments/jobs/delete", fields(page))
    assert done.url == "/deployments?parent=jp" and "Deleted deployment jp/jobs." in done.words
    again = await operator.post("/regions/jp/deployments/jobs/delete", fields(page))
    assert "was already gone" in again.words
    async with catalogue_client(operator.service) as client:
        with pytest.raises(CallFailed) as caught:
            await client.get("regions/jp/deployments/jobs")
        assert caught.value.failure.code is grpc.StatusCode.NOT_FOUND


async def test_one_that_changed_since_is_asked_about_again(operator: Console):
    page = await operator.get("/regions/jp/deployments/jobs/delete")
    async with catalogue_client(operator.service, "admin") as client:
        entry = {
            "name": "regions/jp/deployments/jobs",
            "service": "services/jobs.example.com",
            "metadata": {"tags": ["precious"]},
        }
        await client.apply({"deployments": [entry]})
        late = await operator.post("/regions/jp/deployments/jobs/delete", fields(page))
        assert late.status == 409
        assert "Changed by admin" in late.words and "precious" in late.words
        await operator.post("/regions/jp/deployments/jobs/delete", fields(late))
        assert "regions/jp/deployments/jobs" not in await client.names("deployment")
