"""Pods in a real browser: completing a query, clicking through, the export, live rows, every width."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.console.pods import FAILED, LONE, WEB_1, Fleet, fleet, web
from tests.console.test_browser import CONTRAST, LIVE_MS, WIDTHS, browser, picture, tab
from tests.contract.pods_yard import pod

__all__ = ["browser"]

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def found(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as one:
        await one.fill()
        yield one


async def test_from_a_completed_query_to_the_file(browser: Browser, found: Fleet, tmp_path: Path):
    async with tab(browser, found.console, "operator") as page:
        await page.goto("/pods?by=pods")
        box = page.get_by_role("combobox", name="Query")
        await page.keyboard.press("/")
        await expect(box).to_be_focused()
        await page.keyboard.type("dep")
        options = page.get_by_role("option")
        await expect(options.first).to_contain_text("Deployment")
        await expect(box).to_have_attribute("aria-expanded", "true")
        # Escape leaves the list, not the box; the arrows open it again.
        await page.keyboard.press("Escape")
        await expect(box).to_have_attribute("aria-expanded", "false")
        await expect(box).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#query-labels [aria-selected=true]")).to_contain_text("Deployment")
        await page.keyboard.press("Enter")
        await expect(box).to_have_value("Deployment:")
        # In a value and between quotes there is nothing to complete.
        await page.keyboard.type('"shop+na"+na')
        await expect(page.locator("#query-labels [aria-selected=true]")).to_contain_text("Namespace")
        await page.get_by_role("option", name="Pod Name").click()
        await expect(box).to_have_value('Deployment:"shop+na"+Pod Name:')
        await box.fill("Deployment:shop+nod")
        await page.keyboard.press("Tab")
        await page.keyboard.type("r/(")
        await page.keyboard.press("Enter")
        # The mistake is marked, and corrected where it is.
        await expect(page.locator(".caret")).to_contain_text("^")
        await expect(box).to_have_value("Deployment:shop+Node:r/(")
        await box.fill("Deployment:shop+Node:node-")
        await page.keyboard.press("Enter")
        await expect(page.locator("#rows a[data-open]")).to_have_text(["waiting", "web-1", "web-2", "web-3"])
        await page.get_by_role("link", name="Namespaces").click()
        await page.locator("#rows").get_by_role("link", name="prod").click()
        await expect(page.locator("#path")).to_contain_text("prod")
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Export").click()
        file = tmp_path / "pods.ndjson"
        download = await started.value
        assert download.suggested_filename == "pods.ndjson"
        await download.save_as(file)
        names = [json.loads(line)["result"]["pod"]["name"] for line in file.read_text().splitlines()]
        assert sorted(names) == ["web-1", "web-2", "web-3"]


async def test_rows_and_counts_change_by_themselves(browser: Browser, found: Fleet):
    async with tab(browser, found.console, "operator") as page:
        await page.goto("/pods?by=pods")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        row = page.locator(f'tr[data-key="{WEB_1}"]')
        await expect(row).to_contain_text("Running")
        await found.yard.upsert(pod(1, name="web-1", live_instances=[{"container_name": "app"}]), web(99))
        await expect(row).to_contain_text("Waiting", timeout=LIVE_MS)
        await expect(page.locator("#levels")).to_contain_text("Pods 8", timeout=LIVE_MS)
        assert await page.evaluate("window.untouched")


async def test_without_javascript_the_labels_are_a_list(browser: Browser, found: Fleet):
    async with tab(browser, found.console, "operator", java_script_enabled=False) as page:
        await page.goto("/pods")
        await page.get_by_text("How to write a query").click()
        await page.get_by_role("link", name="Deployment:web,api").click()
        await expect(page.get_by_text("Nothing matches")).to_be_visible()
        await page.get_by_role("textbox", name="Query").fill('Namespace:"prod"')
        await page.get_by_role("button", name="Apply").click()
        await page.get_by_role("link", name="east", exact=True).click()
        await page.get_by_role("link", name="prod", exact=True).first.click()
        await expect(page.locator("#rows")).to_contain_text("shop")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_screenshots_fit_and_contrast(browser: Browser, found: Fleet, theme: str):
    """Each page in both widths: no sideways scrolling, and text that can be read (WCAG AA)."""
    long = {"name": "n" * 200, "namespace": "s" * 200, "deployment_id": None}
    await found.yard.upsert(web(98, **long))
    pages = {
        "pods-clusters": "/pods",
        "pods-namespaces": "/pods?by=namespaces&filter=Deployment+Label%3Aapp%3Dshop",
        "pods-deployments": "/pods?by=deployments",
        "pods": "/pods?by=pods&filter=Nmespace%3Ax",
        "pods-sources": "/pods?by=sources",
        "pods-error": "/pods?filter=Node%3Ar/(",
        "pod": f"/pods/{FAILED}",
        "pod-lone": f"/pods/{LONE}",
        "pod-long": f"/pods/{web(98).id}",
        "pod-commands": f"/pods/{WEB_1}/commands",
    }
    for width, viewport in WIDTHS.items():
        async with tab(browser, found.console, "admin", viewport=viewport, color_scheme=theme) as page:
            for name, path in pages.items():
                await page.goto(path)
                await picture(page, f"{name}-{width}-{theme}")
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (name, width, wide)
                assert await page.evaluate(CONTRAST) == [], (name, width, theme)
