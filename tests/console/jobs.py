"""A console over a jobs service whose pods follow scripts, for the tests of the pages of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.console.harness import Console, Page, console_of
from tests.contract.jobs_yard import Job, Yard, opened


@dataclass
class Works:
    console: Console
    yard: Yard

    async def get(self, job: Job, page: str = "") -> Page:
        return await self.console.get(f"/jobs/{job.id}{page}")

    async def post(self, job: Job, page: str, data: Any = None) -> Page:
        return await self.console.post(f"/jobs/{job.id}{page}", data)


@asynccontextmanager
async def works_in(data: Path, role: str = "operator", **settings: Any) -> AsyncIterator[Works]:
    """Someone with that role is signed in."""
    async with (
        opened(data / "jobs", **settings) as yard,
        console_of(yard.service, data / "console", name="jobs") as console,
    ):
        await console.sign_in(role)
        yield Works(console, yard)


def hidden(page: Page) -> dict[str, str]:
    """The hidden fields of the page's forms, by name: of each the last."""
    found = {e.attrs["name"]: e.attrs["value"] for e in page.dom.find("input", type="hidden")}
    return {**found, **{e.attrs["name"]: e.text.lstrip("\n") for e in page.dom.find("textarea", hidden="")}}


def form(page: Page) -> dict[str, str]:
    """Everything that the editor on the page would send, but for the button."""
    found = hidden(page)
    for element in page.dom.elements:
        name = element.attrs.get("name", "")
        if not name or "disabled" in element.attrs:
            continue
        if element.tag == "textarea":
            found[name] = element.text.removeprefix("\n")
        elif element.tag == "input" and element.attrs.get("type") in ("checkbox", "radio"):
            if "checked" in element.attrs:
                found[name] = element.attrs.get("value", "on")
        elif element.tag == "input":
            found[name] = element.attrs.get("value", "")
    for select in page.dom.find("select"):
        chosen = [
            e for e in page.dom.elements if e.tag == "option" and select in e.inside and "selected" in e.attrs
        ]
        if chosen:
            found[select.attrs["name"]] = chosen[0].attrs.get("value", chosen[0].text)
    found.pop("action", None)
    return found


def wrong(page: Page) -> dict[str, str]:
    """What stands under the fields that are wrong, by field."""
    return {
        e.attrs["id"].removesuffix("-error"): e.text.strip()
        for e in page.dom.elements
        if e.tag == "p" and "field-error" in e.attrs.get("class", "")
    }
