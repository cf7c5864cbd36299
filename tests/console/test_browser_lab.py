"""The lab in a real browser: the board while others lease, and leasing from the first click to release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from services.jumpstarter.service import SERVICE
from shared.service.testing import started
from tests.console.harness import Console, console_of
from tests.console.lab import LabClient, fill, lab_client
from tests.console.test_browser import CONTRAST, LIVE_MS, WIDTHS, browser, picture, tab

__all__ = ["browser"]

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

HERE = "/namespaces/default"


@dataclass
class Bench:
    console: Console
    lab: LabClient


@pytest_asyncio.fixture(loop_scope="module")
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with (
        started(SERVICE, tmp_path / "data") as service,
        lab_client(service) as lab,
        console_of(service, tmp_path / "console", name="jumpstarter") as console,
    ):
        await lab.user("operator", "operator", "default")
        yield Bench(console, lab)


async def test_the_board_while_others_lease(browser: Browser, bench: Bench):
    lab = bench.lab
    await lab.new_client("ann")
    await lab.exporter("bench-1", board="rpi4")
    await lab.exporter("bench-2", board="imx8")
    async with tab(browser, bench.console, "operator") as page:
        await page.goto("/exporters")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        row = page.locator(f'tr[data-key="{lab.name("exporters", "bench-1")}"]')
        await expect(row).to_contain_text("Free")
        await lab.lease("ann", "board=rpi4", id="one", seconds=600)
        await expect(row).to_contain_text("ann", timeout=LIVE_MS)
        await expect(page.locator("#availability")).to_contain_text("Leased 1")
        # What is left counts down, second by second, without the service.
        left = row.locator("td.c-held time[data-left]")
        await expect(left).to_contain_text("9 min")
        before = await left.text_content()
        await expect(left).not_to_have_text(before or "")
        await lab.release("ann", "one")
        await expect(row).to_contain_text("Free", timeout=LIVE_MS)
        await lab.report("bench-1", message="on fire")
        await lab.unregister("bench-1")
        await expect(row).to_contain_text("Offline", timeout=LIVE_MS)
        assert await page.evaluate("window.untouched")
        # The bar and its legend filter.
        await page.get_by_role("link", name="Free 1").click()
        await expect(page.locator("#rows a[data-open]")).to_have_text(["bench-2"])


async def test_leasing_from_the_first_click_to_release(browser: Browser, bench: Bench):
    lab = bench.lab
    await lab.new_client("ann")
    await lab.exporter("bench-1", board="rpi4")
    await lab.lease("ann", "board=rpi4", id="anns", seconds=3600)
    async with tab(browser, bench.console, "operator") as page:
        await page.goto("/exporters")
        await page.get_by_role("link", name="Lease bench-1").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Lease bench-1")
        await page.get_by_label("30 min").check()
        await page.get_by_text("More: tags").click()
        await page.get_by_label("Tags").fill("build=7")
        await page.get_by_role("button", name="Lease it").click()
        # It waits, and the page says why; then it changes by itself.
        now = page.locator("#now")
        await expect(now).to_contain_text("at place 1 of 1")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        await page.get_by_label("Other").fill("2h")
        await lab.release("ann", "anns")
        await expect(now).to_contain_text("operator has bench-1", timeout=LIVE_MS)
        await expect(page.locator("#heading")).to_contain_text("Active")
        # What somebody types is not lost by it.
        await expect(page.get_by_label("Other")).to_have_value("2h")
        assert await page.evaluate("window.untouched")
        await page.get_by_role("button", name="Extend", exact=True).click()
        await expect(page.get_by_text("Extended by 2 h, to 2 h 30 min in all.")).to_be_visible()
        await page.get_by_role("link", name="Release…").click()
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.get_by_role("button", name="Release bench-1").click()
        await expect(page.locator("#heading")).to_contain_text("Released")
        await page.get_by_role("link", name="Ask again").click()
        await expect(page.get_by_label("Or this very one")).to_have_value("bench-1")


async def test_many_are_released_by_keyboard_alone(browser: Browser, bench: Bench):
    lab = bench.lab
    await lab.new_client("ann")
    await lab.absent("bench-1", board="rpi4")
    for id in ("one", "two", "three"):
        await lab.lease("ann", "board=rpi4", id=id)
    async with tab(browser, bench.console, "operator") as page:
        await page.keyboard.press("g")
        await page.keyboard.press("l")
        await page.wait_for_url("**/leases")
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.get_by_text("2 selected")).to_be_visible()
        await page.get_by_role("button", name="Release…").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Release 2 leases?")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Released 2 leases.")).to_be_visible()
        await expect(page.locator("#rows a[data-open]")).to_have_text(["one"])


async def test_without_javascript_everything_can_be_done(browser: Browser, bench: Bench):
    lab = bench.lab
    async with tab(browser, bench.console, "operator", java_script_enabled=False) as page:
        await page.goto("/exporters")
        await page.get_by_role("link", name="Register an exporter").last.click()
        await page.get_by_label("Name", exact=True).fill("bench-1")
        await page.get_by_label("Labels").fill("board=rpi4")
        await page.get_by_role("button", name="Register and show its file").click()
        await expect(page.get_by_text("kind: ExporterConfig")).to_be_visible()
        await lab.exporter("bench-1", board="rpi4")
        await page.goto("/exporters")
        await page.get_by_label("Label selector").fill("board=rpi4")
        await page.get_by_role("button", name="Apply").click()
        await page.get_by_role("link", name="Lease bench-1").click()
        await page.get_by_role("button", name="Lease it").click()
        await expect(page.locator("#now")).to_contain_text("operator has bench-1")
        await page.get_by_role("button", name="1 h", exact=True).click()
        await expect(page.get_by_text("Extended by 1 h, to 2 h in all.")).to_be_visible()
        await page.goto("/leases")
        await page.locator("#rows input[name=id]").check()
        await page.get_by_role("button", name="Release…").click()
        await page.get_by_role("button", name="Release 1 lease").click()
        await expect(page.get_by_text("Released “")).to_be_visible()
        await page.goto(f"{HERE}/exporters/bench-1")
        await page.get_by_role("button", name="Disable").click()
        await expect(page.locator("#heading")).to_contain_text("Disabled")
        await page.get_by_role("button", name="Undo").click()
        await expect(page.locator("#heading")).to_contain_text("Free")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_screenshots_fit_and_contrast(browser: Browser, bench: Bench, theme: str):
    """Each page in both widths: no sideways scrolling, and text that can be read (WCAG AA)."""
    lab = bench.lab
    await fill(lab)
    await lab.exporter(
        "x" * 63 + "." + "y" * 60, board="a-label-value-of-some-length-that-wraps", **{"k" * 60: "v"}
    )
    await lab.lease("bob", "board=stm32", id="z" * 120, tags={"t" * 60: "w" * 60})
    lab.namespace = "a-second-namespace-with-a-long-name"
    await lab.absent("elsewhere")
    pages = {
        "lab-home": "/",
        "exporters": "/exporters?namespace=default",
        "exporters-error": "/exporters?filter=board+in+(&namespace=default",
        "exporters-empty": "/exporters?namespace=nothing-here",
        "exporter": f"{HERE}/exporters/rpi4-1",
        "exporter-long": f"{HERE}/exporters/{'x' * 63}.{'y' * 60}",
        "exporter-new": "/exporters/-/new",
        "exporter-connect": f"{HERE}/exporters/rpi4-1/connect",
        "leases": "/leases?namespace=default&show=all",
        "lease": f"{HERE}/leases/rpi4-a",
        "lease-waiting": f"{HERE}/leases/{'z' * 120}",
        "lease-new": "/leases/-/new?namespace=default&tags=a%3Db",
        "lease-release": f"{HERE}/leases/rpi4-a/release",
        "clients": "/clients?namespace=default",
        "client": f"{HERE}/clients/ann",
        "policies": "/access_policies?namespace=default",
        "policy": f"{HERE}/accessPolicies/gpu-for-kernel",
    }
    for width, viewport in WIDTHS.items():
        async with tab(browser, bench.console, "admin", viewport=viewport, color_scheme=theme) as page:
            for name, path in pages.items():
                await page.goto(path)
                await picture(page, f"{name}-{width}-{theme}")
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (name, width, wide)
                assert await page.evaluate(CONTRAST) == [], (name, width, theme)
