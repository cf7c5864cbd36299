"""The catalogue in a real browser: live rows, the caret, a preview before a write, keys, no scripts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from services.meta.service import SERVICE
from shared.service.testing import started
from tests.console.catalogue import catalogue_client, manifest
from tests.console.harness import Console, console_of
from tests.console.test_browser import CONTRAST, LIVE_MS, WIDTHS, browser, names, picture, tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
__all__ = ["browser"]


@pytest_asyncio.fixture(loop_scope="module")
async def catalogue(tmp_path: Path) -> AsyncIterator[Console]:
    async with (
        started(SERVICE, tmp_path / "data") as service,
        console_of(service, tmp_path / "console", name="meta") as found,
    ):
        async with catalogue_client(service) as client:
            await client.apply(manifest())
        yield found


async def live(page: Page) -> None:
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")


async def test_rows_follow_a_filter_without_reload_and_do_not_move_under_the_pointer(
    browser: Browser, catalogue: Console
):
    async with tab(browser, catalogue, "viewer") as page, catalogue_client(catalogue.service) as client:
        await page.goto("/regions?filter=location.cloud+%3D+%22aws%22")
        await expect(names(page)).to_have_text(["eu-west", "sa-east", "uk", "us-east"])
        await live(page)
        await page.evaluate("window.untouched = true")
        await client.region("uk", title="Great Britain")
        await expect(page.locator('tr[data-key="regions/uk"]')).to_contain_text(
            "Great Britain", timeout=LIVE_MS
        )
        await page.locator('tr[data-key="regions/uk"]').hover()
        await client.region("af", title="Africa", location={"cloud": "aws"})
        await client.region("sa-east", location={"cloud": "gcp"})
        await expect(page.get_by_role("button", name="2 changes · Show")).to_be_visible(timeout=LIVE_MS)
        assert await names(page).all_text_contents() == ["eu-west", "sa-east", "uk", "us-east"]
        await page.get_by_role("heading", level=1).hover()
        await expect(names(page)).to_have_text(["af", "eu-west", "uk", "us-east"])
        await expect(page.locator("#count")).to_have_text("4")
        assert await page.evaluate("window.untouched")


async def test_a_mistake_is_under_the_caret_and_selected_to_be_typed_over(
    browser: Browser, catalogue: Console
):
    async with tab(browser, catalogue, "viewer") as page:
        await page.goto("/regions")
        await page.keyboard.press("/")
        await page.keyboard.type('title LIKE "EU%" AND locatoin.cloud = "aws"')
        await page.keyboard.press("Enter")
        await expect(page.locator("#filter-error")).to_contain_text("at position 21")
        box = page.get_by_label("Filter", exact=True)
        await expect(box).to_be_focused()
        selected = await box.evaluate("box => box.value.slice(box.selectionStart, box.selectionEnd)")
        assert selected == "locatoin.cloud"
        line, marker = (await page.locator("pre.caret").inner_text()).split("\n")
        assert line[marker.index("^") :].startswith("locatoin")
        await page.keyboard.type("location.cloud")
        await page.keyboard.press("Enter")
        await expect(names(page)).to_have_text(["eu-west"])
        # Shift and Enter begin another line, which is part of the filter.
        await page.keyboard.press("/")
        await page.keyboard.press("End")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type('OR title = "Japan"')
        await page.keyboard.press("Enter")
        await expect(names(page)).to_have_text(["eu-west", "jp"])
        await page.go_back()
        await expect(names(page)).to_have_text(["eu-west"])


async def test_an_edit_is_previewed_told_of_others_and_applied(browser: Browser, catalogue: Console):
    async with (
        tab(browser, catalogue, "operator") as page,
        catalogue_client(catalogue.service, "admin") as client,
    ):
        await page.goto("/regions/jp")
        await page.keyboard.press("e")
        box = page.get_by_label("Its fields as YAML")
        await expect(box).to_be_focused()
        await live(page)
        text = (await box.input_value()).replace("title: Japan", "title: Nippon")
        await box.fill(text)
        await client.region("jp", domain="jp.example.net")
        await expect(page.get_by_text("Changed while you edit")).to_be_visible(timeout=LIVE_MS)
        await expect(box).to_have_value(text)
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator(".udiff .added")).to_have_text(re.compile(r"^\s*\+ title: Nippon\s*$"))
        await page.get_by_role("button", name="Apply this change").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Nippon")
        stored = await client.get("regions/jp")
        assert (stored.title, stored.domain) == ("Nippon", "jp.example.net")


async def test_a_manifest_from_a_file_is_previewed_and_applied(
    browser: Browser, catalogue: Console, tmp_path: Path
):
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps({"regions": [{"name": "regions/za"}]}))
    async with tab(browser, catalogue, "operator") as page, catalogue_client(catalogue.service) as client:
        await page.goto("/deployments")
        await page.keyboard.press("n")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Apply a manifest")
        await page.get_by_label("Or a file").set_input_files(file)
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator("#preview")).to_contain_text("regions/za")
        # Enter in a field looks once more and writes nothing.
        before = await client.head()
        async with page.expect_navigation():
            await page.get_by_label("Prune").press("Enter")
        await expect(page.locator("#preview")).to_contain_text("regions/za")
        assert await client.head() == before
        await page.get_by_role("button", name="Apply 1 change").click()
        await expect(page.get_by_text(re.compile("Applied as revision .*: 1 created"))).to_be_visible()
        await expect(names(page).filter(has_text="za")).to_be_visible()


async def test_by_keyboard_alone(browser: Browser, catalogue: Console):
    async with tab(browser, catalogue, "operator") as page:
        await page.goto("/")
        for key, title in (("r", "Regions"), ("s", "Services"), ("d", "Deployments")):
            await page.keyboard.press("g")
            await page.keyboard.press(key)
            await expect(page.get_by_role("heading", level=1)).to_contain_text(title)
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("jobs")
        await page.goto("/regions/jp/deployments/jobs/delete")
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/regions/jp/deployments/jobs")
        # A dot of the picture is a link.
        await page.goto("/regions/-/connectivity")
        await page.locator("svg.network a.node").first.focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"/regions/[a-z-]+$"))


async def test_without_javascript_everything_can_be_done(browser: Browser, catalogue: Console):
    async with tab(browser, catalogue, "operator", java_script_enabled=False) as page:
        await page.goto("/resources?page_size=10")
        await page.get_by_role("link", name="Next page").click()
        await expect(names(page)).to_have_count(10)
        await page.get_by_role("link", name="Previous page").click()
        await page.get_by_label("Filter", exact=True).fill("is_regional = TRUE AND")
        await page.get_by_role("button", name="Apply", exact=True).click()
        await expect(page.locator("pre.caret")).to_contain_text("^")
        await page.get_by_label("Filter", exact=True).fill('plural_name = "jobs"')
        await page.get_by_role("button", name="Apply", exact=True).click()
        await names(page).filter(has_text="Job").click()
        await page.get_by_role("link", name="Edit", exact=True).click()
        box = page.get_by_label("Its fields as YAML")
        await box.fill((await box.input_value()).replace("plural_name: jobs", "plural_name: tasks"))
        await page.get_by_role("button", name="Preview").click()
        await page.get_by_role("button", name="Apply this change").click()
        await expect(page.get_by_text("Changed jobs.example.com/Job")).to_be_visible()
        await page.get_by_role("link", name="Delete…").click()
        await page.get_by_role("button", name="Delete resource").click()
        await expect(page.get_by_text("Deleted resource jobs.example.com/Job.")).to_be_visible()
        await page.goto("/regions/-/connectivity")
        await expect(page.locator("svg.network a.node")).to_have_count(8)
        await page.goto("/resources?filter=fqn+LIKE+%22billing%25%22")
        for name in ("Invoice", "Price"):
            await page.get_by_label(f"Select billing.example.com/{name}").check()
        await page.get_by_role("button", name="Delete…", exact=True).click()
        await page.get_by_role("button", name="Delete 2 resources").click()
        await expect(page.get_by_text("Deleted 2 resources.")).to_be_visible()
        await expect(names(page)).to_have_text(["Account"])


async def test_many_are_selected_and_deleted_by_keyboard(browser: Browser, catalogue: Console):
    """On a phone's width, where the page that asks must fit as well."""
    async with tab(browser, catalogue, "operator", viewport=WIDTHS["phone"]) as page:
        await page.goto("/deployments?parent=jp")
        delete = page.get_by_role("button", name="Delete…", exact=True)
        await expect(delete).to_be_disabled()
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.locator("[data-selected]")).to_have_text("1 selected")
        await delete.press("Enter")
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.get_by_role("button", name="Delete 1 deployment").press("Enter")
        await expect(page.get_by_text("Deleted “jp/jobs”.")).to_be_visible()
        await page.goto("/services")
        await page.get_by_label("Select all rows of this page").check()
        await expect(page.locator("[data-selected]")).to_have_text("6 selected")
        await delete.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Nothing can be deleted now")
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme=theme)
            await picture(page, f"meta-bulk-phone-{theme}", full_page=True)
            assert await page.evaluate(CONTRAST) == [], theme


@pytest.mark.parametrize("theme,widths", [("light", ("desktop", "phone")), ("dark", ("desktop",))])
async def test_screenshots_fit_and_contrast(
    browser: Browser, catalogue: Console, theme: str, widths: tuple[str, ...]
):
    """Each page: no sideways scrolling, and text that can be read (WCAG AA)."""
    async with catalogue_client(catalogue.service) as client:
        await client.region(
            "eu-west", title="EU West 1", metadata={"labels": {"env": "prod", "tier": "gold"}}
        )
        await client.region("eu-west", title="EU West")
    pages = {
        "home": "/",
        "regions": "/regions",
        "connectivity": "/regions/-/connectivity",
        "region": "/regions/eu-west",
        "region-history": "/regions/eu-west/history",
        "region-delete": "/regions/eu-west/delete",
        "region-edit": "/regions/eu-west/edit",
        "services": "/services",
        "service": "/services/jobs.example.com",
        "deployments": "/deployments?parent=jp",
        "resources": "/resources",
        "caret": "/regions?filter=title+%3D+%22EU%22+AND+location.citty+%3D+%22Dublin%22",
        "manifest": "/manifest",
    }
    change = {"regions": [{"name": "regions/jp", "title": "Nippon"}, {"name": "regions/za"}]}
    for width in widths:
        options = {"viewport": WIDTHS[width], "color_scheme": theme}
        async with tab(browser, catalogue, "operator", **options) as page:
            for name, path in pages.items():
                await page.goto(path)
                if name == "manifest":
                    await page.get_by_label("Manifest", exact=True).fill(json.dumps(change))
                    await page.get_by_role("button", name="Preview").click()
                    await expect(page.locator("#preview")).to_be_visible()
                await picture(page, f"meta-{name}-{width}-{theme}")
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (name, width, wide)
                assert await page.evaluate(CONTRAST) == [], (name, width, theme)
            if width == "phone":
                await page.set_viewport_size({"width": 360, "height": 740})
                for path in list(pages.values())[1:]:
                    await page.goto(path)
                    assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
