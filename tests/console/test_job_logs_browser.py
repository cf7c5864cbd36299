"""Logs of real processes in a real browser: followed while they are written, searched, paused, and read
without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from services.jobs.api.pools import DEFAULT_PATH, id_of
from services.jobs.service import SERVICE
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.rpc.client import Client
from shared.service.testing import started
from tests.console.harness import Console, console_of
from tests.console.rail import Reader, followed
from tests.console.test_browser import CONTRAST, WIDTHS, browser, picture, tab
from tests.contract import keeper_yard
from tests.contract.jobs_yard import job_spec

__all__ = ["browser"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("console-logs-browser"),
]

# Writes as it is told to by lines in a file of its own folder: `N` numbers from the last one on, or `end`.
WRITER = """
i=0; at=0; printf 'ready\\n'
while true; do
  if [ -e told.$at ]; then
    word=$(cat told.$at); at=$((at+1))
    case $word in
      end) exit 7;;
      *) n=0; while [ $n -lt $word ]; do i=$((i+1)); n=$((n+1)); printf 'number %d of it\\n' $i; done;;
    esac
  else sleep 0.02; fi
done
"""


@dataclass
class Writer:
    """A pod that writes what it is told to."""

    console: Console
    pods: Path
    job: str
    told: int = 0
    written: int = 0

    @property
    def page(self) -> str:
        return f"/jobs/{self.job}/pods/0"

    def write(self, lines: int) -> None:
        self._tell(str(lines))
        self.written += lines

    def end(self) -> None:
        self._tell("end")

    def _tell(self, word: str) -> None:
        folder = self.pods / f"{self.job}-0-1"
        (folder / "telling").write_text(word)
        (folder / "telling").rename(folder / f"told.{self.told}")
        self.told += 1

    @property
    def lines(self) -> list[str]:
        return ["ready", *(f"number {number} of it" for number in range(1, self.written + 1))]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with keeper_yard.yard() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def console(home: Path) -> AsyncIterator[Console]:
    settings = {"jobs_allow_root": "true", "jobs_limits": "advisory", "jobs_log_bytes": "65536"}
    async with (
        started(SERVICE, home.parent, **settings) as service,
        console_of(service, home.parent / "console", name="jobs") as found,
    ):
        await found.sign_in("viewer")
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def writer(console: Console, home: Path) -> Writer:
    """Once it has written its first line."""
    request = pb.CreateJobRequest(spec=job_spec(WRITER, 1, pool=id_of(DEFAULT_PATH), name="scribe"))
    async with Client(console.service.target, token=console.service.tokens["operator"]) as client:
        made = await client.call(JobServiceStub, "CreateJob", request)
    found = Writer(console, home, made.job_id.value)
    async with asyncio.timeout(20):
        while (await console.get(found.page)).status != 200 or "Running" not in (
            await console.get(found.page)
        ).words:
            await asyncio.sleep(0.02)
    async with followed(console, found.page) as stream:
        await stream.until_text("ready")
    return found


async def shown(page: Page) -> list[str]:
    return await page.locator("#log .line").all_text_contents()


async def test_a_log_is_followed_and_searched_while_it_is_written(browser: Browser, writer: Writer) -> None:
    async with tab(browser, writer.console, "operator") as page:
        await page.goto(f"{writer.page}/logs")
        lines, state = page.locator("#log .line"), page.locator("#log-state")
        await expect(state).to_have_attribute("data-state", "live")
        await page.evaluate("window.untouched = true")
        writer.write(120)
        await expect(lines).to_have_count(121)
        assert await shown(page) == writer.lines
        # The end is in sight.
        await expect(lines.last).to_be_in_viewport()
        # Paused, nothing comes; then everything, once.
        await page.keyboard.press("p")
        await expect(state).to_have_attribute("data-state", "paused")
        writer.write(30)
        await page.get_by_role("button", name="Follow").click()
        await expect(lines).to_have_count(151)
        assert await shown(page) == writer.lines
        # Searched in the whole log, counted while it grows, and stepped through.
        await page.keyboard.press("/")
        await page.keyboard.insert_text("NUMBER 15")
        await expect(page.locator("#matches")).to_have_text("2 in the whole log")
        assert await page.locator("#log mark").all_text_contents() == ["number 15"] * 2
        writer.write(10)
        await expect(page.locator("#matches")).to_have_text("11 in the whole log")
        await page.keyboard.press("Enter")
        await expect(page.locator(".line.current")).to_contain_text("number 15")
        await page.keyboard.press("Enter")
        await expect(page.locator("#matches")).to_contain_text("of 11 in the whole log")
        await expect(page.locator(".line.current")).to_be_in_viewport()
        assert "q=NUMBER+15" in page.url
        # Its end is told, with how it ended.
        writer.end()
        await expect(page.locator("#over")).to_contain_text("Run 1 has ended: exit 7")
        assert await shown(page) == writer.lines
        assert await page.evaluate("window.untouched")


async def test_a_large_log_is_walked_through_without_holding_all_of_it(
    browser: Browser, writer: Writer
) -> None:
    writer.write(14000)
    async with followed(writer.console, writer.page) as stream:
        await stream.until_text("number 14000 of it")
    # Rotated: the oldest lines are gone, and a stream from the beginning says so.
    async with followed(writer.console, writer.page) as stream:
        await stream.until_text("number 14000 of it")
        [(begin, end)] = stream.reader.gaps
        assert begin == 0 and end > 0
        kept = stream.reader.text.split("\n")
        assert kept == writer.lines[-len(kept) :]
    async with tab(browser, writer.console, "viewer") as page:
        await page.goto(f"{writer.page}/logs")
        lines = page.locator("#log .line")
        await expect(page.locator("#log-state")).to_have_attribute("data-state", "live")
        await expect(lines).to_have_count(500)
        await page.get_by_role("link", name="Earlier lines").click()
        await expect(lines).to_have_count(1000)
        assert await shown(page) == writer.lines[-1000:]
        # A match far away is fetched with what stands around it.
        await page.locator("#q").fill("number 9000 of")
        await expect(page.locator("#matches")).to_contain_text("1 in the whole log")
        await page.keyboard.press("Enter")
        await expect(page.locator(".line.current")).to_have_text("number 9000 of it")
        await expect(page.locator("#log-state")).to_have_attribute("data-state", "paused")
        # And following begins anew at the end; never more than so many lines are held.
        await page.get_by_role("button", name="Follow").click()
        await expect(lines.last).to_have_text("number 14000 of it")
        writer.write(6000)
        await expect(lines.last).to_have_text("number 20000 of it")
        count = await lines.count()
        assert 5000 <= count <= 5500
        assert await shown(page) == writer.lines[-count:]


async def test_without_scripts_the_log_can_be_read_and_searched(browser: Browser, writer: Writer) -> None:
    writer.write(1200)
    async with followed(writer.console, writer.page, reader=Reader()) as stream:
        await stream.until_text("number 1200 of it")
    async with tab(browser, writer.console, "viewer", java_script_enabled=False) as page:
        await page.goto(f"{writer.page}/logs")
        assert await shown(page) == writer.lines[-500:]
        await page.get_by_role("link", name="Earlier lines").click()
        assert await shown(page) == writer.lines[-1000:-500]
        await page.get_by_label("Search the log").fill("number 77 ")
        await page.keyboard.press("Enter")
        await expect(
            page.get_by_role("heading", name="1 line with “number 77 ” in the whole log")
        ).to_be_visible()
        await page.get_by_role("link", name="number 77 of it").click()
        await expect(page.locator(".line:target")).to_have_text("number 77 of it")


async def test_pages_fit_and_can_be_read(browser: Browser, writer: Writer) -> None:
    writer.write(40)
    for theme, device in (("light", "desktop"), ("dark", "phone")):
        size = WIDTHS[device]
        async with tab(browser, writer.console, "operator", viewport=size, color_scheme=theme) as page:
            for name, path in (
                ("instances", f"/jobs/{writer.job}/pods"),
                ("instance", writer.page),
                ("log", f"{writer.page}/logs?q=number+2"),
            ):
                await page.goto(path)
                if name == "log":
                    await expect(page.locator("#matches")).to_contain_text("in the whole log")
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= size["width"], (name, device)
                assert await page.evaluate(CONTRAST) == [], (name, theme, device)
                await picture(page, f"{name}-{device}-{theme}")
