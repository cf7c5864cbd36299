"""A console on a free port, a browser-like client of it, and calls to the service behind it."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from admin_ui.app import build_app
from admin_ui.session import Clock
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.pb.backend.api.v2beta1 import experiment_pb2_grpc
from shared.rpc.client import Client
from shared.service.config import Config
from shared.service.testing import TestService


@dataclass
class Page:
    """An answer, and what can be seen in it."""

    status: int
    text: str
    headers: Any
    url: str

    @cached_property
    def dom(self) -> Dom:
        return Dom.of(self.text)

    @property
    def words(self) -> str:
        """The text of the main part, blanks folded."""
        main = self.text.partition("<main")[2].partition("</main>")[0]
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main.partition(">")[2])).split())

    def rows(self) -> list[str]:
        """The names in the list's table."""
        return [
            html.unescape(found) for found in re.findall(r"<a [^>]*data-open[^>]*>([^<]*)</a>", self.text)
        ]

    def elements_with_error(self) -> list[Element]:
        """Fields that are marked as wrong."""
        return [e for e in self.dom.elements if e.attrs.get("aria-invalid") == "true"]


@dataclass
class Element:
    tag: str
    attrs: dict[str, str]
    inside: tuple[Element, ...] = ()
    text: str = ""

    @property
    def enabled(self) -> bool:
        return "disabled" not in self.attrs


VOID = frozenset({"input", "meta", "link", "br", "hr", "img", "path", "circle", "use"})


class Dom(HTMLParser):
    """Every element with its attributes and all text inside."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    @classmethod
    def of(cls, text: str) -> Dom:
        dom = cls()
        dom.feed(text)
        return dom

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def find(self, tag: str, **attrs: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag and attrs.items() <= e.attrs.items()]

    def link(self, label: str) -> str:
        """Where the link with this text leads."""
        return next(e.attrs["href"] for e in self.find("a") if label in e.text and "href" in e.attrs)

    def button(self, label: str) -> Element:
        return next(e for e in self.find("button") if e.text.startswith(label))


@dataclass
class Console:
    """One browser: it keeps cookies and sends Origin with forms, as browsers do."""

    base: str
    service: TestService
    http: aiohttp.ClientSession
    app: web.Application

    async def get(self, path: str, **kwargs: Any) -> Page:
        async with self.http.get(self.base + path, **kwargs) as answer:
            return Page(answer.status, await answer.text(), answer.headers, str(answer.url.relative()))

    async def post(
        self, path: str, data: Any = None, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> Page:
        headers = {"Origin": self.base} if headers is None else headers
        async with self.http.post(self.base + path, data=data or {}, headers=headers, **kwargs) as answer:
            return Page(answer.status, await answer.text(), answer.headers, str(answer.url.relative()))

    async def sign_in(self, role: str) -> Page:
        return await self.post("/sign-in", {"token": self.service.tokens[role]})

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Console]:
        """Another browser, with cookies of its own."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            yield Console(self.base, self.service, http, self.app)


@asynccontextmanager
async def console_of(
    service: TestService,
    data: Path,
    *,
    name: str = "pipelines",
    beside: Mapping[str, TestService] | None = None,
    clock: Clock = time.time,
    target: str = "",
    **settings: Any,
) -> AsyncIterator[Console]:
    """The console for one running service called `name`, and for those `beside` it, as the process
    would serve it."""
    targets = {name: target or service.target}
    targets |= {other: found.target for other, found in (beside or {}).items()}
    services = ",".join(f"{one}={where}" for one, where in targets.items())
    config = Config.load({}, data=data, services=services, only=",".join(targets), http_port="0", **settings)
    runner = web.AppRunner(
        build_app(config, clock=clock), access_log=None, shutdown_timeout=1.0, max_line_size=65536
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            yield Console(f"http://127.0.0.1:{port}", service, http, runner.app)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(service: TestService, role: str = "operator") -> AsyncIterator[ExperimentClient]:
    async with Client(service.target, token=service.tokens[role]) as client:
        yield ExperimentClient(client)


@dataclass
class ExperimentClient:
    """Another client of the same service."""

    client: Client

    async def _call(self, method: str, request: Any) -> Any:
        return await self.client.call(experiment_pb2_grpc.ExperimentServiceStub, method, request)

    async def create(self, name: str, description: str = "", namespace: str = "") -> str:
        made = await self._call(
            "CreateExperiment",
            pb.CreateExperimentRequest(
                experiment=pb.Experiment(display_name=name, description=description, namespace=namespace)
            ),
        )
        return str(made.experiment_id)

    async def archive(self, id: str) -> None:
        await self._call("ArchiveExperiment", pb.ArchiveExperimentRequest(experiment_id=id))

    async def delete(self, id: str) -> None:
        await self._call("DeleteExperiment", pb.DeleteExperimentRequest(experiment_id=id))

    async def state(self, id: str) -> str:
        found = await self._call("GetExperiment", pb.GetExperimentRequest(experiment_id=id))
        return str(pb.Experiment.StorageState.Name(found.storage_state))

    async def names(self) -> list[str]:
        found = await self._call("ListExperiments", pb.ListExperimentsRequest(page_size=200))
        return [experiment.display_name for experiment in found.experiments]
