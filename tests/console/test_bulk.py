"""Writes to many at once: a result for each, and a way back."""

from __future__ import annotations

import pytest

from tests.console.harness import Console, client_of
from tests.console.test_experiments import some


@pytest.fixture
async def operator(console: Console) -> Console:
    await console.sign_in("operator")
    return console


def operation_of(text: str) -> str:
    return "/operations/" + text.partition("/operations/")[2].partition('"')[0].partition("/")[0]


async def test_archive_returns_to_the_list_with_undo_for_all(operator: Console):
    ids = await some(operator, 4)
    page = await operator.post(
        "/experiments/bulk/archive", {"id": ids[:3], "return_to": "/experiments?q=exp"}
    )
    assert page.url == "/experiments?q=exp"
    assert "Archived 3 experiments" in page.words
    assert page.rows() == ["exp-03"]
    undone = await operator.post(f"{operation_of(page.text)}/undo")
    assert "Restored 3 experiments" in undone.words
    assert len(undone.rows()) == 4


async def test_one_that_fails_is_named_beside_those_that_did_not(operator: Console):
    ids = await some(operator, 3)
    async with client_of(operator.service) as client:
        await client.delete(ids[1])
    page = await operator.post(
        "/experiments/bulk/archive", {"id": ids, "return_to": "/experiments?page_size=50"}
    )
    assert page.url.startswith("/operations/")
    assert "Archived 2 of 3 experiments" in page.words
    assert "exp-00" in page.words and "exp-02" in page.words
    assert f"{ids[1]} Failed It is not there" in page.words
    assert page.dom.link("Back to the list") == "/experiments?page_size=50"
    # Undo concerns what was done only.
    undone = await operator.post(f"{page.url}/undo")
    assert "Restored 2 experiments" in undone.words


async def test_delete_asks_first_and_names_each(operator: Console):
    ids = await some(operator, 3)
    asked = await operator.post("/experiments/bulk/delete", {"id": ids[:2], "return_to": "/experiments"})
    assert "Delete 2 experiments?" in asked.words and "exp-00 exp-01" in asked.words
    async with client_of(operator.service) as client:
        assert len(await client.names()) == 3
    form = {e.attrs["name"]: e.attrs["value"] for e in asked.dom.find("input", type="hidden")} | {
        "id": ids[:2]
    }
    done = await operator.post("/experiments/bulk/delete", form)
    assert "Deleted 2 experiments" in done.words
    assert done.rows() == ["exp-02"]
    assert (await operator.post(f"{operation_of(done.text)}/undo")).status == 404


async def test_all_that_match_are_counted_confirmed_and_done_on_every_page(operator: Console):
    await some(operator, 25)
    await some(operator, 2, prefix="other")
    back = "/experiments?q=exp&page_size=10"
    page = await operator.get(back)
    assert "all 25 that match" in page.words
    asked = await operator.post("/experiments/bulk/archive", {"scope": "all", "return_to": back})
    assert "Archive 25 experiments?" in asked.words and "name contains “exp”" in asked.words
    form = {e.attrs["name"]: e.attrs["value"] for e in asked.dom.find("input", type="hidden")}
    done = await operator.post("/experiments/bulk/archive", form)
    assert "Archived 25 experiments" in done.words
    assert done.rows() == []
    assert len((await operator.get("/experiments")).rows()) == 2


async def test_nothing_selected_is_told(operator: Console):
    page = await operator.post("/experiments/bulk/archive", {"return_to": "/experiments?q=a"})
    assert page.url == "/experiments?q=a"
    assert "Nothing was selected" in page.words


async def test_an_operation_is_its_owners(operator: Console):
    ids = await some(operator, 2)
    page = await operator.post("/experiments/bulk/archive", {"id": ids})
    operation = operation_of(page.text)
    assert (await operator.get(operation)).status == 200
    async with operator.stranger() as other:
        await other.sign_in("admin")
        assert (await other.get(operation)).status == 404
        assert (await other.post(f"{operation}/undo")).status == 404


async def test_a_result_page_leads_back_to_our_own_list_only(operator: Console):
    ids = await some(operator, 1)
    page = await operator.post("/experiments/bulk/archive", {"id": ids, "return_to": "https://evil.example/"})
    assert page.url == "/experiments"
