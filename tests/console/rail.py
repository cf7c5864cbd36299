"""The console over a jobs service whose pods run in a scripted fake, and the events of a log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.console.harness import Console, console_of
from tests.contract.jobs_yard import Yard
from tests.contract.jobs_yard import opened as jobs_opened

DEADLINE = 60.0


@dataclass
class Rail:
    """An operator is signed in."""

    console: Console
    yard: Yard


@asynccontextmanager
async def opened(data: Path, **settings: Any) -> AsyncIterator[Rail]:
    async with (
        jobs_opened(data / "jobs", **settings) as yard,
        console_of(yard.service, data / "console", name="jobs") as console,
    ):
        await console.sign_in("operator")
        yield Rail(console, yard)


@dataclass
class Reader:
    """What a browser shows of a log: lines by their offsets, each in its last rendering. `next` is the id
    of the last event, which a browser sends when it comes again."""

    next: int = 0
    lines: dict[int, str] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines[at] for at in sorted(self.lines))

    def take(self, name: str, data: Any, id: int | None) -> None:
        self.events.append((name, data))
        if name == "lines":
            for at, text, _, _ in data["lines"]:
                # Nothing comes twice but the line that had no end.
                assert at >= self.next, (at, self.next)
                self.lines[at] = text
        if name == "gap":
            self.gaps.append((data["from"], data["to"]))
        self.next = self.next if id is None else id


@dataclass
class LogStream:
    content: aiohttp.StreamReader
    reader: Reader

    async def event(self) -> tuple[str, Any]:
        name, id = "", None
        while True:
            raw = await self.content.readline()
            assert raw, "the stream ended"
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                id = int(line[4:])
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                self.reader.take(name, data, id)
                return name, data

    async def until(self, wanted: str, **fields: Any) -> Any:
        """The data of the first such event."""
        async with asyncio.timeout(DEADLINE):
            while True:
                name, data = await self.event()
                if name == wanted and fields.items() <= data.items():
                    return data

    async def until_text(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while text not in self.reader.text:
                await self.event()


@asynccontextmanager
async def followed(
    console: Console, pod: str, *, run: int = 1, reader: Reader | None = None, stream: str = "stdout"
) -> AsyncIterator[LogStream]:
    """`pod`: its page's address. With a `reader` that has read before it goes on where that was."""
    found = Reader() if reader is None else reader
    headers = {"Accept": "text/event-stream"}
    if reader is not None:
        headers["Last-Event-ID"] = str(found.next)
    url = f"{console.base}{pod}/logs/live?run={run}&stream={stream}&offset=0"
    async with console.http.get(url, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        yield LogStream(answer.content, found)
