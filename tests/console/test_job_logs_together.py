"""Logs of several pods in one stream: whose each line is, over runs and breaks, each line once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from admin_ui.logs_together import MOST, Position, positions_of, written
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from tests.console.rail import DEADLINE, LogStream, Rail, Reader, opened
from tests.console.test_browser import browser, tab
from tests.contract.jobs_yard import RUNNING, Job

__all__ = ["browser"]

pytestmark = pytest.mark.xdist_group("console-logs-together")
over_sockets = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rail]:
    async with opened(tmp_path_factory.mktemp("rail")) as found:
        yield found


def test_positions_are_read_as_they_were_written() -> None:
    found = {0: Position(1, 0), 12: Position(3, 4567)}
    assert positions_of(written(found)) == found
    assert positions_of("") == positions_of("x,1.2,1.2.-3,a.b.c") == {}
    assert len(positions_of(",".join(f"{i}.1.0" for i in range(99)))) == MOST


@dataclass
class Together(Reader):
    """What a browser shows: the texts of each instance in their order. `position` is the id of the last
    event."""

    position: str = ""
    texts: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[tuple[int, str]] = field(default_factory=list)

    def take_raw(self, name: str, data: Any, id: str) -> None:
        self.events.append((name, data))
        if name == "lines":
            for instance, _, _, text, _, _ in data["lines"]:
                self.texts[instance].append(text)
        if name == "note":
            self.notes.append((data["instance"], data["text"]))
        self.position = id or self.position


@dataclass
class Stream(LogStream):
    reader: Together

    async def event(self) -> tuple[str, Any]:
        import json

        name = id = ""
        while True:
            raw = await self.content.readline()
            assert raw, "the stream ended"
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                id = line[4:]
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                self.reader.take_raw(name, data, id)
                return name, data

    async def until_last(self, instance: int, text: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.reader.texts[instance][-1:] != [text]:
                await self.event()


@asynccontextmanager
async def together(rail: Rail, job: Job, reader: Together, positions: str = "") -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"}
    if reader.position:
        headers["Last-Event-ID"] = reader.position
    url = f"{rail.console.base}/jobs/{job.id}/logs/live?positions={positions}"
    timeout = aiohttp.ClientTimeout(total=60)
    async with rail.console.http.get(url, headers=headers, timeout=timeout) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        yield Stream(answer.content, reader)


async def restart(job: Job, instance: int) -> None:
    await job.about_pod("RestartPod", pod_svc_pb2.RestartPodRequest, instance)


@over_sockets
class TestTogether:
    async def test_the_page_has_the_last_lines_of_each(self, rail: Rail) -> None:
        job = await rail.yard.job(count=30)
        rail.yard.engine.write(job.pod_id(2), b"<b>two</b>\nopen")
        rail.yard.engine.write(job.pod_id(25), b"oops\n", "stderr")
        page = await rail.console.get(f"/jobs/{job.id}/logs")
        assert "The first 20 of 30 instances" in page.words
        assert page.words.count("hello") == 20
        link = next(
            e for e in page.dom.find("a") if e.attrs.get("href", "").endswith("/pods/2/logs?run=1&at=6")
        )
        assert link.text == "2" and "<b>two" not in page.text and "open" not in page.words.split()
        page = await rail.console.get(f"/jobs/{job.id}/logs?instances=25&stream=stderr")
        assert "1 instance" in page.words and "oops" in page.words and "hello" not in page.words
        wrong = await rail.console.get(f"/jobs/{job.id}/logs?instances=x")
        assert wrong.status == 400 and "is no instance and no range" in wrong.words
        assert (await rail.console.get("/jobs/nothing/logs")).status == 404
        await job.delete()

    async def test_lines_come_with_whose_they_are_over_breaks_and_runs(self, rail: Rail) -> None:
        job = await rail.yard.job(count=3)
        reader = Together()
        expected: dict[int, list[str]] = {i: ["hello"] for i in range(3)}
        for turn in range(6):
            async with together(rail, job, reader, "0.1.0,1.1.0,2.1.0") as stream:
                for instance in range(3):
                    text = f"{instance} says {turn}"
                    rail.yard.engine.write(job.pod_id(instance), f"{text}\nhalf ".encode())
                    expected[instance] += [text if turn == 0 else f"half {text}"]
                for instance in range(3):
                    await stream.until_last(instance, expected[instance][-1])
        await restart(job, 1)
        await job.until_pod(RUNNING, 1, run=2)
        async with together(rail, job, reader) as stream:
            await stream.until_last(1, "hello")
        # The end of the last line never came, and it is told when its run has ended.
        expected[1] += ["half ", "hello"]
        assert reader.texts == expected
        assert (1, "Run 2 begins.") in reader.notes
        assert positions_of(reader.position)[1].run == 2

    async def test_one_that_ends_says_how_and_the_others_go_on(self, rail: Rail) -> None:
        job = await rail.yard.job("crash", count=2)
        reader = Together()
        async with together(rail, job, reader, "0.1.0,1.1.0") as stream:
            rail.yard.engine.write(job.pod_id(0), b"about to end\n")
            await stream.until_last(0, "about to end")
            rail.yard.engine.end(job.pod_id(0), exit_code=3)
            await job.until_pod(pod_pb2.POD_STATE_FAILED, 0)
            await stream.until("note", instance=0, text="Run 1 has ended: exit 3.")
            rail.yard.engine.write(job.pod_id(1), b"still here\n")
            await stream.until_last(1, "still here")
        await job.delete()

    async def test_a_service_that_is_away_comes_back_without_a_gap(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        reader = Together()
        async with together(rail, job, reader, "0.1.0,1.1.0") as stream:
            await stream.until_last(0, "hello")
            rail.yard.engine.write(job.pod_id(0), b"begun ")
            rail.yard.engine.hide()
            await stream.until("state", state="reconnecting")
            rail.yard.engine.available = True
            rail.yard.engine.write(job.pod_id(0), b"and ended\n")
            await stream.until_last(0, "begun and ended")
            await stream.until_last(1, "hello")
        assert dict(reader.texts) == {0: ["hello", "begun and ended"], 1: ["hello"]}
        await rail.yard.advance(60)

    async def test_a_pod_that_there_is_not_is_said_to_be_gone(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        reader = Together()
        async with together(rail, job, reader, "0.1.0,7.1.0") as stream:
            await stream.until("note", instance=7, text="It is gone.")
            await stream.until_last(0, "hello")

    @pytest.mark.browser
    async def test_in_a_browser(self, rail: Rail, browser: Browser) -> None:
        job = await rail.yard.job(count=3)
        async with tab(browser, rail.console, "viewer") as page:
            await page.goto(f"/jobs/{job.id}")
            await page.get_by_role("navigation", name="Views").get_by_role("link", name="Logs").click()
            lines = page.locator("#log .line")
            await expect(lines).to_have_count(3)
            await expect(page.locator("#log-state")).to_have_attribute("data-state", "live")
            for number in range(40):
                rail.yard.engine.write(job.pod_id(number % 3), f"ERROR number {number}\n".encode())
            await expect(lines).to_have_count(43)
            await expect(lines.last).to_be_in_viewport()
            await page.keyboard.press("p")
            rail.yard.engine.write(job.pod_id(2), b"while paused\n")
            await page.get_by_role("button", name="Follow").click()
            await expect(lines).to_have_count(44)
            await page.keyboard.press("/")
            await page.keyboard.insert_text("number 3")
            await expect(page.locator("#matches")).to_have_text("11 of the 44 lines here")
            await expect(lines.locator("visible=true")).to_have_count(11)
            await page.get_by_role("link", name="2", exact=True).locator("visible=true").last.click()
            await expect(page.get_by_role("heading", level=1)).to_contain_text("· 2")
            await expect(page.locator(".line.current")).to_have_text("ERROR number 38")
