"""What a kfp client does shows up in a browser that has the list open, without a reload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from services.pipelines.service import SERVICE
from shared.service.testing import started
from tests.console.harness import Console, console_of
from tests.console.test_browser import LIVE_MS, browser, names, tab
from tests.interop.clients import House, client

pytestmark = [pytest.mark.browser, pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]
__all__ = ["browser"]


@pytest_asyncio.fixture(loop_scope="module")
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with (
        started(SERVICE, tmp_path / "data", default_experiment="false") as service,
        console_of(service, tmp_path / "console") as found,
    ):
        yield found


@pytest.mark.parametrize("environment", ["kfp-1", "kfp-2"])
async def test_a_kfp_client_is_seen_without_reload(
    browser: Browser, console: Console, environment: str, tmp_path: Path
) -> None:
    service = console.service
    home = tmp_path / "home"
    home.mkdir()
    house = House(service.url, service.target, tmp_path / "log", service.tokens, home)
    async with tab(browser, console, "viewer") as page, client(house, environment, "sdk") as kfp:
        await page.goto("/experiments?state=all")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        created = await kfp.call("create_experiment", name="from kfp")
        id = created.get("id") or created["experiment_id"]
        row = page.locator(f'tr[data-key="{id}"]')
        await expect(names(page).filter(has_text="from kfp")).to_be_visible(timeout=LIVE_MS)
        await kfp.call("archive_experiment", experiment_id=id)
        await expect(row).to_contain_text("Archived", timeout=LIVE_MS)
        assert await page.evaluate("window.untouched")
