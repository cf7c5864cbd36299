"""Many resources of the catalogue deleted at once: each is named with what needs it, and has a result."""

from __future__ import annotations

import pytest

from tests.console.catalogue import catalogue_client
from tests.console.harness import Console, Page

AFRICA = {
    "regions": [
        {"name": "regions/af-one", "title": "Africa One"},
        # Each of the next needs the one before.
        {"name": "regions/af-two", "connectivity_scores": [{"dest": "regions/af-one", "score": 1}]},
        {"name": "regions/af-three", "connectivity_scores": [{"dest": "regions/af-two", "score": 1}]},
        # Two that need each other.
        {"name": "regions/as-one", "connectivity_scores": [{"dest": "regions/as-two", "score": 1}]},
        {"name": "regions/as-two", "connectivity_scores": [{"dest": "regions/as-one", "score": 1}]},
    ]
}
CHAIN = ["regions/af-one", "regions/af-three", "regions/af-two"]
PRICES = [f"services/billing.example.com/resources/{name}" for name in ("Account", "Invoice", "Price")]


@pytest.fixture
async def operator(catalogue: Console) -> Console:
    await catalogue.sign_in("operator")
    return catalogue


def form(page: Page) -> dict[str, list[str]]:
    """What the page that asks would send."""
    found: dict[str, list[str]] = {}
    for element in page.dom.find("input", type="hidden"):
        found.setdefault(element.attrs["name"], []).append(element.attrs["value"])
    return found


async def test_each_kind_has_its_boxes_and_its_button(operator: Console):
    for kind, names in (
        ("regions", ["regions/eu-central", "regions/eu-north"]),
        ("services", ["services/billing.example.com", "services/jobs.example.com"]),
        ("resources", PRICES[:2]),
        ("deployments", ["regions/eu-central/deployments/jobs", "regions/eu-central/deployments/leases"]),
    ):
        page = await operator.get(f"/{kind}")
        boxes = [box for box in page.dom.find("input", type="checkbox") if box.attrs.get("name") == "id"]
        assert [box.attrs["value"] for box in boxes[:2]] == names
        assert all(box.attrs["aria-label"].startswith("Select ") for box in boxes)
        button = page.dom.button("Delete…")
        assert button.attrs["formaction"] == f"/{kind}/-/delete" and button.enabled
        asked = await operator.post(f"/{kind}/-/delete", {"id": names, "return_to": f"/{kind}?page_size=10"})
        assert asked.status == 200 and asked.url == f"/{kind}/-/delete"
        assert asked.dom.link("Back to the list" if kind in ("regions", "services") else "Cancel") == (
            f"/{kind}?page_size=10"
        )


async def test_it_asks_first_then_tells_and_returns_to_the_list(operator: Console):
    back = '/resources?filter=fqn LIKE "billing%"'
    asked = await operator.post("/resources/-/delete", {"id": PRICES[:2], "return_to": back})
    assert "Delete 2 resources?" in asked.words
    assert "billing.example.com/Account" in asked.words and "billing.example.com/Invoice" in asked.words
    assert "Price" not in asked.words and "Nothing refers to them." in asked.words
    async with catalogue_client(operator.service) as client:
        assert set(PRICES) <= set(await client.names("resource"))
        done = await operator.post("/resources/-/delete", form(asked))
        assert done.url.startswith("/resources?filter=")
        assert "Deleted 2 resources." in done.words and done.rows() == ["Price"]
        assert set(PRICES) & set(await client.names("resource")) == {PRICES[2]}
    # Each has its result, and there is no way back.
    details = await operator.get(done.dom.link("Details"))
    assert "Deleted 2 resources" in details.words and "Undo" not in details.words
    assert "billing.example.com/Account Deleted billing.example.com/Invoice Deleted" in details.words
    assert details.dom.link("billing.example.com/Invoice") == f"/{PRICES[1]}"
    assert details.dom.link("Back to the list") == back
    assert details.dom.link("Resources") == back


async def test_what_others_need_is_named_with_them_and_left_alone(operator: Console):
    names = ["services/jobs.example.com", "services/billing.example.com"]
    async with catalogue_client(operator.service) as client:
        for price in PRICES:
            await client.delete(price)
        await client.delete("regions/eu-west/deployments/billing")
        asked = await operator.post("/services/-/delete", {"id": names})
        assert "Delete 1 service?" in asked.words
        assert "1 service cannot be deleted while others need it" in asked.words
        assert "3 resources: jobs.example.com/Job , jobs.example.com/Pool" in asked.words
        assert "5 deployments: eu-central/jobs" in asked.words
        assert asked.dom.link("eu-central/jobs") == "/regions/eu-central/deployments/jobs"
        assert form(asked)["id"] == ["services/billing.example.com"]
        await operator.post("/services/-/delete", form(asked))
        left = await client.names("service")
        assert "services/jobs.example.com" in left and "services/billing.example.com" not in left


async def test_more_that_need_it_are_counted(operator: Console):
    async with catalogue_client(operator.service) as client:
        many = [
            {"name": f"services/pods.example.com/resources/Kind{chr(65 + number)}"} for number in range(25)
        ]
        await client.apply({"resources": many})
    asked = await operator.post("/services/-/delete", {"id": ["services/pods.example.com"]})
    assert "Nothing can be deleted now" in asked.words
    assert "28 resources:" in asked.words and "and 8 more" in asked.words
    assert not [e for e in asked.dom.find("button") if e.text.startswith("Delete")]


async def test_regions_that_need_only_each_other_go_in_their_order(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.apply(AFRICA)
        asked = await operator.post("/regions/-/delete", {"id": CHAIN})
        assert "Delete 3 regions?" in asked.words
        assert "1 region with a score for it: af-two (selected too)" in asked.words
        done = await operator.post("/regions/-/delete", form(asked))
        assert "Deleted 3 regions." in done.words
        assert not set(CHAIN) & set(await client.names("region"))


async def test_two_that_need_one_another_stay_and_so_does_what_they_hold(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.apply(AFRICA)
        asked = await operator.post(
            "/regions/-/delete", {"id": ["regions/as-one", "regions/as-two", "regions/af-two"]}
        )
    assert "Nothing can be deleted now" in asked.words
    assert "3 regions cannot be deleted while others need them" in asked.words
    assert "as-two (selected too)" in asked.words and "af-three" in asked.words


async def test_one_that_was_changed_since_or_is_needed_by_now_fails_alone(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.apply(AFRICA)
        await client.region("af-four")
        await client.region("af-five")
        names = ["regions/af-three", "regions/af-four", "regions/af-five"]
        asked = await operator.post("/regions/-/delete", {"id": names, "return_to": "/regions"})
        sent = form(asked)
        assert sent["id"] == names and all(int(revision) > 0 for revision in sent["revision"])
        await client.region("af-four", title="changed")
        await client.region("eu-north", connectivity_scores=[{"dest": "regions/af-five", "score": 1}])
        page = await operator.post("/regions/-/delete", sent)
        assert page.url.startswith("/operations/")
        assert "Deleted 1 of 3 regions" in page.words and "2 failed" in page.words
        assert "af-four Failed Someone else was faster" in page.words
        assert "af-five Failed That is not possible now" in page.words
        assert "regions/eu-north" in page.words
        assert {"regions/af-four", "regions/af-five"} <= set(await client.names("region"))
        assert "regions/af-three" not in await client.names("region")


async def test_what_is_gone_already_is_told(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.delete(PRICES[0])
    for wrong in ("regions/x", 'a"b'):
        refused = await operator.post("/resources/-/delete", {"id": [PRICES[1], wrong]})
        assert refused.status == 400 and "The service did not accept that" in refused.words
    asked = await operator.post("/resources/-/delete", {"id": PRICES[:2]})
    assert "Delete 1 resource?" in asked.words
    assert "Already gone: billing.example.com/Account." in asked.words


async def test_the_default_region_is_told(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.region("eu-west", is_default=False)
        await client.region("af", is_default=True)
    asked = await operator.post("/regions/-/delete", {"id": ["regions/af"]})
    assert "The default region is among them; there will be none." in asked.words


async def test_nothing_selected_and_everything_are_both_nothing(operator: Console):
    for data in ({}, {"scope": "all", "confirmed": "yes"}):
        page = await operator.post("/deployments/-/delete", {**data, "return_to": "/deployments?parent=jp"})
        assert page.url == "/deployments?parent=jp"
        assert "Nothing was selected" in page.words
    async with catalogue_client(operator.service) as client:
        assert len(await client.names("deployment")) == 15


async def test_a_viewer_sees_why_not_and_may_not(catalogue: Console):
    await catalogue.sign_in("viewer")
    page = await catalogue.get("/services")
    assert not page.dom.button("Delete…").enabled
    assert page.dom.button("Delete…").attrs["title"] == "Delete…: needs admin.delete"
    names = ["regions/jp/deployments/jobs"]
    for data in ({"id": names}, {"id": names, "confirmed": "yes"}):
        page = await catalogue.post("/deployments/-/delete", data)
        assert page.status == 403 and "Missing permission: admin.delete" in page.words
    async with catalogue_client(catalogue.service) as client:
        assert len(await client.names("deployment")) == 15
