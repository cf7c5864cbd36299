"""Activity of a service that takes many steps by itself: they are shown to those who ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.harness import console_of
from tests.console.jobs import works_in
from tests.console.test_live import Stream, open_stream
from tests.contract import pods_yard
from tests.contract.jobs_feed_yard import access, jobs_service
from tests.contract.jobs_yard import until

pytestmark = pytest.mark.xdist_group("console-jobs")

# What the controller's own writes are called, and those of the copy that the pods service keeps.
STEP, COPIED = "Carried on", "pods-service"


async def test_activity_and_home_are_of_people_until_steps_are_asked_for(tmp_path: Path):
    async with works_in(tmp_path, "admin") as works:
        console = works.console
        await works.yard.job(count=20)
        home = await console.get("/")
        assert "Created" in home.words and STEP not in home.words
        page = await console.get("/activity?page_size=10")
        assert "Created" in page.words and STEP not in page.words
        assert not page.dom.find("a", rel="next")
        switch = page.dom.find("input", name="steps")[0].attrs
        assert (switch["type"], switch["value"]) == ("checkbox", "1") and "checked" not in switch
        nobody = await console.get("/activity?subject=controller")
        assert not nobody.rows() and "but for what services do by themselves" in nobody.words

        everything = await console.get("/activity?steps=1&page_size=10")
        assert STEP in everything.words
        assert "checked" in everything.dom.find("input", name="steps")[0].attrs
        theirs = everything.dom.find("a", href="/activity?steps=1&subject=controller")
        assert (await console.get(theirs[0].attrs["href"])).rows()
        main = everything.dom.find("main")[0].attrs
        assert "steps=1" in main["data-live"]


async def test_steps_stay_asked_for_from_page_to_page_and_trail_to_trail(tmp_path: Path):
    async with works_in(tmp_path, "admin") as works:
        for _ in range(6):
            await works.yard.job(count=3)
        everything = await works.console.get("/activity?steps=1&page_size=10")
        following = everything.dom.find("a", rel="next")[0].attrs["href"]
        assert "steps=1" in following
        assert (await works.console.get(following)).rows()
        # A place among all writes is none among those of people: the first page is.
        other = await works.console.get(following.replace("steps=1", "steps=0"))
        assert (other.status, other.url) == (200, "/activity")
        assert everything.dom.find("a", href="/activity?store=access&steps=1")
        # The trail of access has no steps of services, and keeps the word.
        access = await works.console.get("/activity?store=access&steps=1")
        assert access.dom.find("input", name="steps")[0].attrs["type"] == "hidden"
        assert access.dom.find("a", href="/activity?steps=1")


async def test_open_activity_has_steps_only_when_they_are_asked_for(tmp_path: Path):
    async with works_in(tmp_path, "admin") as works:
        job = await works.yard.job(count=3)
        async with (
            open_stream(works.console, "/activity/live") as people,
            open_stream(works.console, "/activity/live?steps=1") as everything,
        ):
            await people.live()
            await everything.live()
            await job.stop()
            told = await _until(people, "Stopped")
            assert not any(STEP in row for row in told)
            await _until(everything, STEP)


async def test_activity_of_pods_is_without_the_copy_of_jobs_and_live(tmp_path: Path):
    data = tmp_path / "data"
    async with (
        jobs_service(data) as jobs,
        pods_yard.opened(data, access=access(data), pods_jobs=jobs.service.target) as pods,
        console_of(pods.service, tmp_path / "console", name="pods") as console,
    ):
        await console.sign_in("admin")
        await jobs.job(count=3)
        await until(pods.export, lambda found: len(found) == 3)
        assert not (await console.get("/activity")).rows()
        assert COPIED not in (await console.get("/")).words
        assert COPIED in (await console.get("/activity?steps=1")).words
        async with open_stream(console, "/activity/live") as people:
            await people.live()
            await pods.upsert(pods_yard.pod(1))
            told = await _until(people, "admin")
            assert not any(COPIED in row for row in told)


async def _until(stream: Stream, word: str) -> list[str]:
    """All rows that the stream told until one has that word."""
    told: list[str] = []
    while not any(word in row for row in told):
        told += (await stream.until("rows"))["rows"].values()
    return told
