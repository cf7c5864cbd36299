"""Jobs in a real browser: one from the first click to its deletion, with scripts and without, and how
every page looks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from services.jobs.api.pools import id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from tests.console.jobs import Works, works_in
from tests.console.test_browser import CONTRAST, WIDTHS, browser, picture, tab
from tests.contract.jobs_yard import Job, until

__all__ = ["browser"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("console-jobs-browser"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def works(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    async with works_in(tmp_path_factory.mktemp("works")) as found:
        yield found


async def test_a_job_from_the_first_click_to_its_deletion(browser: Browser, works: Works):
    async with tab(browser, works.console, "operator") as page:
        await page.goto("/")
        await page.keyboard.press("g")
        await page.keyboard.press("j")
        await page.get_by_role("link", name="New job").first.click()
        await page.locator("#name").fill("shop")
        await page.locator("#instances").fill("3")
        await page.locator("#command").fill("run")
        # Enter looks, it does not write.
        await page.locator("#name").press("Enter")
        await expect(page.locator("#preview")).to_contain_text("instance_count: 3")
        await page.get_by_role("button", name="Create job").click()
        await expect(page.get_by_text("Created shop.")).to_be_visible()
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await expect(page.locator("#rollout")).to_contain_text("Succeeded", timeout=PATIENCE_MS)
        await expect(page.locator("#instances .cell.p-running")).to_have_count(4)  # and the legend's

        await page.keyboard.press("e")
        await page.locator("#command").fill("slow start")
        await page.locator("#batch_size").fill("1")
        await page.get_by_role("button", name="Preview", exact=True).last.click()
        await expect(page.locator("#preview .effect-updated")).to_contain_text("3updated0–2")
        await page.get_by_role("button", name="Replace the job").click()
        # The page follows the roll-out and what is pressed, without a reload.
        await expect(page.locator("#rollout")).to_contain_text("1 in flight")
        await page.get_by_role("button", name="Pause", exact=True).last.click()
        await expect(page.locator("#rollout")).to_contain_text("Paused")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#live")).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        id = page.url.rpartition("/")[2]
        job = Job(works.yard, id, "")
        await job.until_over(passing=31)
        await expect(page.locator("#rollout")).to_contain_text("100 %", timeout=PATIENCE_MS)
        assert await page.evaluate("window.untouched")

        await page.get_by_role("link", name="Stop…").click()
        # Enter means Cancel.
        await expect(page.get_by_role("link", name="Cancel")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#heading")).to_contain_text("Running")
        await page.get_by_role("link", name="Stop…").click()
        await page.get_by_role("button", name="Stop 3 pods").click()
        await expect(page.locator("#heading")).to_contain_text("Stopped", timeout=PATIENCE_MS)
        await page.get_by_role("link", name="Delete…").click()
        await page.get_by_label("Type shop to say that you mean it").fill("shop")
        await page.get_by_role("button", name="Delete the job").click()
        await expect(page.get_by_text("shop is being deleted.")).to_be_visible()
        await expect(page.locator(f'tr[data-key="{id}"]')).to_have_count(0, timeout=PATIENCE_MS)


async def test_the_same_without_scripts(browser: Browser, works: Works):
    async with tab(browser, works.console, "operator", java_script_enabled=False) as page:
        await page.goto("/jobs/-/new")
        await page.locator("#name").fill("plain")
        await page.locator("#command").fill("run")
        await page.get_by_role("button", name="YAML").click()
        await expect(page.get_by_label("The spec as YAML")).to_contain_text("name: plain")
        await page.get_by_role("button", name="Preview", exact=True).last.click()
        await page.get_by_role("button", name="Create job").click()
        await expect(page.get_by_text("Created plain.")).to_be_visible()
        await page.goto("/jobs?q=plain")
        await page.locator("#rows input[name=id]").check()
        await page.get_by_role("button", name="Stop…").click()
        await page.get_by_role("button", name="Stop 1 job").click()
        await expect(page.get_by_text("Stopped “plain”.")).to_be_visible()


# What a page may take to follow on a machine that has other things to do.
PATIENCE_MS = 30_000
# Pages with colours of their own.
COLOURED = ("jobs-home", "jobs", "jobs-pools", "job-rolling", "job-failed", "job-waiting", "job-versions")


async def fill(works: Works) -> dict[str, Job]:
    """A job in every state that looks like something of its own; names and labels of all lengths."""
    yard = works.yard
    limits = [{"kind": "cpu", "limit": 4}, {"kind": "memory", "limit": 1024}]
    await yard.apply(
        resource_pools=[{"path": "/narrow", "spec": {"description": "x" * 80, "resources": limits}}]
    )

    async def known() -> bool:
        return id_of("/narrow") in yard.controller.admission.pools

    await until(known, bool)
    made = {}
    made["rolling"] = await yard.job("run", 8, name="rolling", owner="ann", labels={"env": "prod"})
    await made["rolling"].replace(yard.spec("slow start", 10, name="rolling"), batch_size=3)
    await made["rolling"].until_flying(0, 8, 9)
    how = {"batch_size": 1, "max_instance_retries": 1, "max_tolerable_instance_failures": 1}
    made["failed"] = await yard.job("run", 4, name="failed", owner="bob")
    await made["failed"].replace(yard.spec("crash at once", 4, name="failed"), **how)
    await made["failed"].until_over(stateless.WORKFLOW_STATE_FAILED, passing=31)
    long = {"name": "n" * 90, "owner": "o" * 70, "labels": {"k" * 50: "v" * 60}, "description": "d" * 200}
    made["long"] = await yard.job("run", 120, **long)
    made["waiting"] = await yard.job(
        "run", 4, name="waiting", pool=id_of("/narrow"), resource={"cpu_limit": 2}, settle=False
    )
    await made["waiting"].until_flying(2, 3)
    made["stopped"] = await yard.job("run", 2, name="stopped")
    await made["stopped"].stop()
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(works: Works) -> dict[str, Job]:
    return await fill(works)


@pytest.mark.parametrize(("theme", "width"), [("light", "desktop"), ("light", "phone"), ("dark", "desktop")])
async def test_screenshots_fit_and_contrast(
    browser: Browser, works: Works, made: dict[str, Job], theme: str, width: str
):
    """No sideways scrolling, and text that can be read (WCAG AA)."""
    at = {name: f"/jobs/{job.id}" for name, job in made.items()}
    pages = {
        "jobs-home": "/",
        "jobs-activity": "/activity",
        "jobs-activity-steps": "/activity?steps=1",
        "jobs-activity-none": "/activity?subject=controller",
        "jobs": "/jobs",
        "jobs-error": "/jobs?filter=name+%3D&q=x",
        "jobs-none": "/jobs?q=nothing-like-it",
        "jobs-pools": "/pools",
        "job-rolling": at["rolling"],
        "job-failed": at["failed"],
        "job-long": at["long"],
        "job-waiting": at["waiting"],
        "job-workflows": f"{at['rolling']}/workflows",
        "job-versions": f"{at['rolling']}/versions",
        "job-history": f"{at['failed']}/history",
        "job-raw": f"{at['long']}/raw",
        "job-commands": f"{at['long']}/commands",
        "job-edit": f"{at['long']}/edit?as=yaml",
        "job-edit-form": f"{at['rolling']}/edit",
        "job-stop": f"{at['rolling']}/stop",
        "job-abort": f"{at['rolling']}/abort",
        "job-restart": f"{at['stopped']}/restart",
        "job-delete": f"{at['long']}/delete",
        "job-new-yaml": "/jobs/-/new?as=yaml",
    }
    async with tab(browser, works.console, "admin", viewport=WIDTHS[width], color_scheme=theme) as page:

        async def check(name: str) -> None:
            await picture(page, f"{name}-{width}-{theme}")
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (name, width, wide)
            assert await page.evaluate(CONTRAST) == [], (name, width, theme)

        for name, path in pages.items():
            # In the dark the rest is like the pages of other tests.
            if theme == "light" or name in COLOURED:
                await page.goto(path)
                await check(name)
        await page.goto("/jobs/-/new")
        await page.locator("#instances").fill("many")
        await page.get_by_role("button", name="Preview", exact=True).last.click()
        await check("job-wrong")
        await page.goto(f"{at['stopped']}/edit")
        await page.locator("#instances").fill("3")
        await page.get_by_role("button", name="Preview", exact=True).last.click()
        await check("job-preview")
