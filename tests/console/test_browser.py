"""The console in a real browser: what people see and do, with scripts, without, by keyboard.

Needs a chromium (Debian: `apt-get install --no-install-recommends chromium`). Without one these
tests are skipped and say so, except where `CI` is set: there they fail. Screenshots are left in
build/screenshots.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect
from playwright.async_api import Error as PlaywrightError

from services.pipelines.service import SERVICE
from shared.service.testing import started
from tests.console.harness import Console, client_of, console_of
from tests.console.test_experiments import some
from tests.console.test_home import Elsewhere

# One event loop and one browser for all: starting it costs more than a test.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
WIDTHS = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
# Two frames, so that one is painted.
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# What a page may take for what it does, and for what happens elsewhere, on a machine that is busy.
PATIENCE_MS = 20_000
LIVE_MS = 10_000


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    message = "no chromium: apt-get install --no-install-recommends chromium"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield started
        finally:
            await started.close()


@pytest_asyncio.fixture(loop_scope="module")
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with (
        started(SERVICE, tmp_path / "data", default_experiment="false") as service,
        console_of(service, tmp_path / "console") as found,
    ):
        yield found


async def picture(page: Page, name: str, **options: Any) -> None:
    """A file for people to look at, of which no test depends: on a busy machine chromium now and then
    has no frame of a new page to make one of, until it has painted more."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for _ in range(5):
        try:
            await page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)
            return
        except PlaywrightError as error:
            why = error.message.splitlines()[0]
            await page.evaluate(
                "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
    warnings.warn(f"chromium made no picture of {name}: {why}", stacklevel=2)


@asynccontextmanager
async def tab(browser: Browser, console: Console, role: str = "", **options) -> AsyncIterator[Page]:
    """A page signed in as `role`. What the browser complains about (CSP, scripts) fails the test."""
    options.setdefault("viewport", WIDTHS["desktop"])
    context = await browser.new_context(base_url=console.base, **options)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and "status of" not in message.text
            else None
        ),
    )
    try:
        if role:
            await page.goto("/sign-in")
            await page.get_by_label("Token").fill(console.service.tokens[role])
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url(f"{console.base}/")
        yield page
        assert complaints == []
    finally:
        await context.close()


def names(page: Page):
    return page.locator("#rows a[data-open]")


async def test_sign_in_create_filter_and_archive_in_bulk(browser: Browser, console: Console):
    await some(console, 4)
    async with tab(browser, console, "operator") as page:
        await page.goto("/experiments")
        await page.get_by_role("link", name="New experiment").click()
        await page.get_by_label("Name").fill("made in a browser")
        await page.get_by_role("button", name="Create experiment").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("made in a browser")
        await page.goto("/experiments")
        await page.get_by_label("Name contains").fill("exp-0")
        await page.keyboard.press("Enter")
        await expect(names(page)).to_have_count(4)
        assert "q=exp-0" in page.url
        archive = page.locator(".toolbar").get_by_role("button", name="Archive")
        await expect(archive).to_be_disabled()
        await page.get_by_label("Select exp-01").check()
        await page.get_by_label("Select exp-03").check()
        await expect(page.get_by_text("2 selected")).to_be_visible()
        await archive.click()
        await expect(page.get_by_text("Archived 2 experiments.")).to_be_visible()
        await expect(names(page)).to_have_count(2)
        # Back and reload show the same list.
        await page.go_back()
        await page.reload()
        await expect(page.get_by_label("Name contains")).to_have_value("exp-0")
        # And all of it can be undone.
        await page.goto("/experiments?q=exp-0")
        await expect(names(page)).to_have_count(2)


async def test_a_change_made_elsewhere_appears_without_reload(browser: Browser, console: Console):
    [id, _] = await some(console, 2)
    async with tab(browser, console, "viewer") as page, client_of(console.service) as client:
        await page.goto("/experiments?state=all")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        await client.create("from a kfp client")
        await expect(names(page).filter(has_text="from a kfp client")).to_be_visible(timeout=LIVE_MS)
        await client.archive(id)
        await expect(page.locator(f'tr[data-key="{id}"]')).to_contain_text("Archived", timeout=LIVE_MS)
        await client.delete(id)
        await expect(page.locator(f'tr[data-key="{id}"]')).to_have_count(0, timeout=LIVE_MS)
        await expect(page.locator("#count")).to_have_text("2")
        assert await page.evaluate("window.untouched")


async def test_no_row_moves_under_the_pointer_or_a_selection(browser: Browser, console: Console):
    [first, second] = await some(console, 2)
    async with tab(browser, console, "operator") as page, client_of(console.service) as client:
        await page.goto("/experiments?order_by=display_name+asc")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.get_by_label("Select exp-01").check()
        before = await page.locator(f'tr[data-key="{second}"]').bounding_box()
        await client.create("aaa-first")
        await client.archive(first)
        pill = page.get_by_role("button", name="2 changes · Show")
        await expect(pill).to_be_visible(timeout=LIVE_MS)
        await expect(names(page)).to_have_count(2)
        # The pill itself pushes the table down as a whole; the rows keep their places in it.
        assert await names(page).all_text_contents() == ["exp-00", "exp-01"]
        assert before is not None
        await expect(page.get_by_label("Select exp-01")).to_be_checked()
        await pill.click()
        await expect(names(page)).to_have_text(["aaa-first", "exp-01"])
        await expect(page.get_by_label("Select exp-01")).to_be_checked()


async def test_live_can_be_paused_and_goes_on(browser: Browser, console: Console):
    await some(console, 1)
    async with tab(browser, console, "viewer") as page, client_of(console.service) as client:
        await page.goto("/experiments")
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.keyboard.press("p")
        await expect(page.locator("#live")).to_have_attribute("data-state", "paused")
        await client.create("while paused")
        await client.create("while paused too")
        await page.get_by_role("button", name="Go on").click()
        await expect(names(page)).to_have_count(3, timeout=LIVE_MS)


async def test_by_keyboard_alone(browser: Browser, console: Console):
    await some(console, 3)
    async with tab(browser, console) as page:
        await page.goto("/experiments?order_by=display_name+asc")
        # The token field has the focus.
        await page.keyboard.insert_text(console.service.tokens["operator"])
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Experiments")
        await page.keyboard.press("/")
        await page.keyboard.type("exp-0")
        await page.keyboard.press("Enter")
        await expect(names(page)).to_have_count(3)
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.get_by_label("Select exp-01")).to_be_checked()
        # Keys are text while typing.
        await page.keyboard.press("/")
        await page.keyboard.type("jx?")
        await expect(page.get_by_label("Name contains")).to_have_value(re.compile(r"jx\?$"))
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.get_by_label("Select exp-01")).not_to_be_checked()
        await page.keyboard.press("k")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("exp-0")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("next and previous row")
        await page.keyboard.press("Escape")
        await page.keyboard.press("g")
        await page.keyboard.press("h")
        await page.wait_for_url(f"{console.base}/")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_service_that_is_down_warns_in_one_colour(
    browser: Browser, console: Console, tmp_path: Path, unused_tcp_port: int, theme: str
):
    beside = {"meta": Elsewhere(f"127.0.0.1:{unused_tcp_port}")}
    async with (
        console_of(console.service, tmp_path / "c", beside=beside) as alone,
        tab(browser, alone, "operator", color_scheme=theme) as page,
    ):
        # Also beside the page's own place in the menu, whose icon has another.
        await page.goto("/regions")
        await expect(page.locator(".nav [aria-current] .nav-warn")).to_be_visible()
        colours = await page.evaluate(WARNINGS)
        assert len(colours) > 1 and len(set(colours)) == 1, colours


WARNINGS = """() => {
  const shown = (element) => getComputedStyle(element).color;
  return [...document.querySelectorAll(".nav-warn .i, .note.bad > .i")].map(shown);
}"""


async def test_delete_has_cancel_under_the_enter_key(browser: Browser, console: Console):
    [id] = await some(console, 1)
    async with tab(browser, console, "operator") as page:
        await page.goto(f"/experiments/{id}/delete")
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/experiments/{id}")
        await page.get_by_role("link", name="Delete…").click()
        await page.get_by_role("button", name="Delete experiment").click()
        await expect(page.get_by_text("Deleted “exp-00”.")).to_be_visible()


async def test_without_javascript_everything_can_be_done(browser: Browser, console: Console):
    await some(console, 12)
    async with tab(browser, console, "operator", java_script_enabled=False) as page:
        await page.goto("/experiments?page_size=10")
        await expect(page.locator("#live")).to_be_hidden()
        await page.get_by_role("link", name="Next page").click()
        await expect(names(page)).to_have_count(2)
        await page.get_by_role("link", name="Previous page").click()
        await page.get_by_label("Name contains").fill("exp-0")
        await page.locator("select[name=page_size]").select_option("50")
        await page.get_by_role("button", name="Apply", exact=True).first.click()
        await expect(names(page)).to_have_count(10)
        await page.get_by_label("Select exp-01").check()
        await page.get_by_label("Select exp-02").check()
        await page.locator(".toolbar").get_by_role("button", name="Archive").click()
        await expect(page.get_by_text("Archived 2 experiments.")).to_be_visible()
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_text("Restored 2 experiments.")).to_be_visible()
        await page.locator("tr", has_text="exp-05").get_by_role("link", name="Delete…").click()
        await page.get_by_role("button", name="Delete experiment").click()
        await expect(page.get_by_text("Deleted “exp-05”.")).to_be_visible()
        await page.locator(".me summary").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.locator(".me summary").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_inline_script_is_blocked(browser: Browser, console: Console):
    context = await browser.new_context(base_url=console.base)
    page = await context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await page.goto("/sign-in")
    await page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.injected = true";
          document.body.append(script);
        }"""
    )
    assert await page.evaluate("window.injected") is None
    assert any("Content Security Policy" in text for text in refused)
    await context.close()


CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_screenshots_fit_and_contrast(browser: Browser, console: Console, theme: str):
    """Each page in both widths: no sideways scrolling, and text that can be read (WCAG AA)."""
    ids = await some(console, 24)
    async with client_of(console.service) as client:
        await client.create("n" * 128, "a long one")
        for id in ids[:3]:
            await client.archive(id)
    pages = {
        "home": "/",
        "experiments": "/experiments?state=all",
        "experiment": f"/experiments/{ids[0]}",
        "raw": f"/experiments/{ids[0]}/raw",
        "new": "/experiments/new",
        "delete": f"/experiments/{ids[5]}/delete",
        "filter-error": "/experiments?filter=%7B",
        "empty": "/experiments?q=nothing-like-it",
        "activity": "/activity",
        "access": "/access",
        "patterns": "/-/patterns",
        "error": "/nothing",
    }
    for width, viewport in WIDTHS.items():
        async with tab(browser, console, "admin", viewport=viewport, color_scheme=theme) as page:
            for name, path in pages.items():
                await page.goto(path)
                await picture(page, f"{name}-{width}-{theme}")
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (name, width, wide)
                assert await page.evaluate(CONTRAST) == [], (name, width, theme)
            if width == "phone":
                await page.set_viewport_size({"width": 360, "height": 740})
                for path in ("/", "/experiments?state=all", f"/experiments/{ids[0]}"):
                    await page.goto(path)
                    assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
