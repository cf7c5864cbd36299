"""Whatever is written, compacted and restarted, and however clients come and go: a model folded from
any watch equals the list at the same revision, and a stateful page equals the list made anew.

The servicers run over real stores, without a transport between, so that many histories fit in.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongomock_motor import AsyncMongoMockClient

from services.meta import kinds as meta_kinds
from services.meta.kinds import CatalogueRules, MetaKind
from services.meta.servicer import Limits, MetaServicer
from shared.pb.goten_sdk.types import meta_pb2
from shared.resource.collection import Collection
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Delete, Expect, Put, Store
from shared.storage.sqlite import SqliteStore
from shared.watch.tailer import Tailer
from tests.contract.meta_clients import Stateful, Stateless
from tests.contract.meta_yard import APIS, kinds, mongo, rows_of
from tests.patience import PATIENCE

BY = Author("test")
NEVER = 1e9
COUNT = 6
TITLES = ("", "a", "b", "B")
LABELS = (None, "dev", "prod")

FILTERS = {
    "region": (
        "",
        'title = "a"',
        'title != "a" AND metadata.labels.env = "prod"',
        'metadata.labels.env IS NULL OR title > "a"',
        'NOT (domain IN ("a", "b"))',
        'name = "regions/r1" | name = "regions/r2" | domain LIKE "%b%"',
        "location IS NOT NULL",
        'connectivity_scores.score > 0 OR metadata.tags CONTAINS "x"',
    ),
    "deployment": (
        "",
        'service = "services/s1"',
        'name = "regions/r1/deployments/-"',
        'metadata.labels.env != "prod"',
    ),
}
ORDERS = {
    "region": (
        "",
        "name desc",
        "title",
        "title desc",
        "domain, title desc",
        "metadata.labels.env",
        "location.city",
    ),
    "deployment": ("", "service", "service desc", "metadata.labels.env desc"),
}
MASKS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (0, ()),
    (1, ()),
    (0, ("metadata.labels.env",)),
    (1, ("metadata.tags",)),
    (4, ("name",)),
)


def region(number: int, draw: int) -> Any:
    """A region whose fields are made of the digits of `draw`."""
    found = meta_kinds.REGIONS.message(name=f"regions/r{number}")
    found.title = TITLES[draw % 4]
    found.domain = TITLES[draw // 4 % 4]
    _label(found.metadata, draw // 16)
    if draw // 48 % 2:
        found.location.city = TITLES[draw % 3]
        found.connectivity_scores.add(dest="regions/r0", score=draw % 3 - 1)
    return found


def deployment(number: int, draw: int) -> Any:
    name = f"regions/r{number % 3}/deployments/d{number}"
    found = meta_kinds.DEPLOYMENTS.message(name=name, service=f"services/s{draw % 3}")
    _label(found.metadata, draw // 16)
    return found


def _label(metadata: meta_pb2.Meta, draw: int) -> None:
    label = LABELS[draw % 3]
    if label is not None:
        metadata.labels["env"] = label
    if draw % 2:
        metadata.tags.append("x")


MAKE: dict[str, Callable[[int, int], Any]] = {"region": region, "deployment": deployment}
KIND: dict[str, MetaKind] = {"region": meta_kinds.REGIONS, "deployment": meta_kinds.DEPLOYMENTS}


class House:
    """The servicers of two kinds over one store, which can be closed and opened again."""

    def __init__(self, new_store: Callable[[], Store]) -> None:
        self._new_store = new_store

    async def __aenter__(self) -> House:
        self.store = self._new_store()
        await self.store.open()
        self._tailer = await Tailer(self.store, poll=5).__aenter__()
        # One whose bookmarks are due at once, and one that never sends any.
        self.servicers = {
            (kind, bookmark): self._servicer(KIND[kind], bookmark)
            for kind in KIND
            for bookmark in (0.0, NEVER)
        }
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._tailer.__aexit__(None, None, None)
        await self.store.close()

    async def restart(self) -> None:
        await self.__aexit__()
        await self.__aenter__()

    def _servicer(self, kind: MetaKind, bookmark: float) -> MetaServicer:
        rules = CatalogueRules(kind, lambda: 0, lambda: "")
        collection = Collection(self.store, meta_kinds.definition(kind, rules))
        api = APIS[kind.kind]
        service = api.module.DESCRIPTOR.services_by_name[f"{api.title}Service"]
        limits = Limits(heartbeat=0.0, bookmark=bookmark)
        return MetaServicer(kind, service, collection, self._tailer, clock=lambda: 0, limits=limits)

    async def write(self, changes: dict[tuple[str, int], int | None]) -> None:
        """One commit: a resource each, or its removal."""
        found: list[Put | Delete] = []
        for (kind, number), draw in changes.items():
            resource = MAKE[kind](number, draw or 0)
            if draw is None:
                found.append(Delete(kind, resource.name, Expect.ANY))
            else:
                parent = resource.name.rpartition("/deployments/")[0]
                body = resource.SerializeToString(deterministic=True)
                found.append(Put(kind, resource.name, body, parent=parent))
        await self.store.commit(found, by=BY)

    async def listed(self, kind: str, **fields: Any) -> Any:
        request: Any = APIS[kind].request("List", fields)
        answer = await self.servicers[kind, NEVER].list_page(request, None)  # type: ignore[arg-type]
        return getattr(APIS[kind].module, f"List{APIS[kind].title}sResponse").FromString(answer)


@dataclass
class Asked:
    """What a watch asks for."""

    kind: str
    filter: int
    order: int
    mask: int
    size: int
    chunk: int
    parent: int
    bookmarks: bool

    @property
    def selection(self) -> dict[str, Any]:
        view, paths = MASKS[self.mask]
        filters = FILTERS[self.kind]
        found = {"filter": filters[self.filter % len(filters)], "view": view, "field_mask": list(paths)}
        if self.kind == "deployment":
            found["parent"] = "regions/-" if self.parent > 2 else f"regions/r{self.parent}"
        return found

    @property
    def page(self) -> dict[str, Any]:
        orders = ORDERS[self.kind]
        return {**self.selection, "order_by": orders[self.order % len(orders)], "page_size": self.size}


async def parsed(kind: str, stream: Any) -> AsyncGenerator[Any, None]:
    """What a client would see: servicers may answer bytes."""
    response = getattr(APIS[kind].module, f"Watch{APIS[kind].title}sResponse")
    async with aclosing(stream) as messages:
        async for message in messages:
            data = message if isinstance(message, bytes) else message.SerializeToString()
            yield response.FromString(data)


def rows(page: Any) -> list[tuple[str, bytes]]:
    return [(row.name, row.SerializeToString(deterministic=True)) for row in rows_of(page)]


@dataclass
class StatelessWatcher:
    house: House
    asked: Asked
    client: Stateless = field(init=False)
    stream: AsyncGenerator[Any, None] | None = None
    # Revision -> what the list showed then.
    states: dict[int, dict[str, bytes]] = field(default_factory=dict)
    owed: bool = True

    def __post_init__(self) -> None:
        self.client = Stateless(self.asked.chunk)

    async def note(self) -> None:
        """What is there now, before anything else is written."""
        page = await self.house.listed(self.asked.kind, page_size=1000, **self.asked.selection)
        self.states[await self.house.store.head()] = dict(rows(page))

    async def disconnect(self) -> None:
        if self.stream is not None:
            await self.stream.aclose()
        self.stream, self.owed = None, True
        self.client.reconnect()

    async def due(self) -> bool:
        head = await self.house.store.head()
        if self.owed:
            return True
        if self.asked.bookmarks:
            return self.client.revision < head
        return self.client.held != self.states[head]

    async def read(self) -> None:
        """Everything that is due."""
        if self.stream is None:
            fields = {**self.asked.selection, "type": 1, "resume_token": self.client.token}
            request: Any = APIS[self.asked.kind].request(
                "WatchMany", {**fields, "max_chunk_size": self.asked.chunk}
            )
            servicer = self.house.servicers[self.asked.kind, 0.0 if self.asked.bookmarks else NEVER]
            self.stream = parsed(self.asked.kind, servicer.watch_many(request, None))  # type: ignore[arg-type]
        while await self.due():
            async with asyncio.timeout(PATIENCE):
                while not self.client.take(await anext(self.stream)):
                    pass
            self.owed = False
            assert self.client.held == self.states[self.client.revision]


@dataclass
class StatefulWatcher:
    house: House
    asked: Asked
    client: Stateful = field(init=False)
    stream: AsyncGenerator[Any, None] | None = None
    token: str = ""

    def __post_init__(self) -> None:
        self.client = Stateful(self.asked.chunk)

    async def note(self) -> None:
        """Nothing: pages are compared with the present."""

    async def disconnect(self) -> None:
        """Starts again, with another page: one that a list has a token for."""
        if self.stream is not None:
            await self.stream.aclose()
        self.stream, self.client = None, Stateful(self.asked.chunk)
        page = await self.house.listed(self.asked.kind, **self.asked.page, page_token=self.token)
        self.token = page.next_page_token or page.prev_page_token

    async def due(self) -> tuple[list[tuple[str, bytes]], tuple[str, str]] | None:
        page = await self.house.listed(self.asked.kind, **self.asked.page, page_token=self.token)
        found = rows(page), (page.prev_page_token, page.next_page_token)
        return found if not self.client.sets or found != (self.client.rows, self.client.tokens) else None

    async def read(self) -> None:
        if self.stream is None:
            fields = {**self.asked.page, "page_token": self.token, "max_chunk_size": self.asked.chunk}
            request: Any = APIS[self.asked.kind].request("WatchMany", fields)
            servicer = self.house.servicers[self.asked.kind, NEVER]
            self.stream = parsed(self.asked.kind, servicer.watch_many(request, None))  # type: ignore[arg-type]
        expected = await self.due()
        if expected is None:
            return
        async with asyncio.timeout(PATIENCE):
            while not self.client.take(await anext(self.stream)):
                pass
        assert (self.client.rows, self.client.tokens) == expected


Watcher = StatelessWatcher | StatefulWatcher
ASKED = st.builds(
    Asked,
    kind=st.sampled_from(["region", "region", "deployment"]),
    filter=st.integers(0, 7),
    order=st.integers(0, 6),
    mask=st.integers(0, len(MASKS) - 1),
    size=st.integers(1, COUNT - 1),
    chunk=st.integers(1, 4),
    parent=st.integers(0, 4),
    bookmarks=st.booleans(),
)
CHANGES = st.dictionaries(
    st.tuples(st.sampled_from(["region", "region", "deployment"]), st.integers(0, COUNT - 1)),
    st.one_of(st.none(), *[st.integers(0, 95)] * 2),
    min_size=1,
    max_size=4,
)
# Which of the watchers do so, as bits.
SOME = st.integers(1, 15)
STEP = st.one_of(
    *[CHANGES] * 6,
    *[st.tuples(st.just("read"), SOME)] * 6,
    st.tuples(st.just("disconnect"), SOME),
    st.tuples(st.just("compact"), st.integers(0, 3)),
    st.just(("restart", 0)),
)
# Long ones: a short one never gets to what is interesting.
HISTORY = st.lists(STEP, min_size=30, max_size=60)


async def play(house: House, stateless: list[Asked], stateful: list[Asked], history: list[Any]) -> None:
    async with house:
        watchers: list[Watcher] = [StatelessWatcher(house, asked) for asked in stateless]
        watchers += [StatefulWatcher(house, asked) for asked in stateful]
        await house.write({(kind, number): 7 * number for kind in MAKE for number in range(COUNT)})
        for watcher in watchers:
            await watcher.note()
        for step in history:
            if isinstance(step, dict):
                await house.write(step)
                for watcher in watchers:
                    await watcher.note()
                continue
            action, number = step
            some = [watcher for place, watcher in enumerate(watchers) if number >> place & 1]
            if action == "read":
                for watcher in some:
                    await watcher.read()
            elif action == "disconnect":
                for watcher in some:
                    await watcher.disconnect()
            elif action == "compact":
                await house.store.compact(max(0, await house.store.head() - number))
            elif house.store.capabilities.survives_restart:
                for watcher in watchers:
                    await watcher.disconnect()
                await house.restart()
        for watcher in watchers:
            await watcher.read()
            await watcher.disconnect()
            await watcher.read()
            await watcher.disconnect()


def examples(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TWO = st.lists(ASKED, min_size=2, max_size=2)


@examples(100)
@given(stateless=TWO, stateful=TWO, history=HISTORY)
def test_in_memory(stateless: list[Asked], stateful: list[Asked], history: list[Any]) -> None:
    asyncio.run(play(House(lambda: MemoryStore(kinds())), stateless, stateful, history))


@examples(25)
@given(stateless=TWO, stateful=TWO, history=HISTORY)
def test_over_sqlite_with_restarts(stateless: list[Asked], stateful: list[Asked], history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meta.db"
        asyncio.run(play(House(lambda: SqliteStore(path, kinds())), stateless, stateful, history))


@examples(10)
@given(stateless=TWO, stateful=TWO, history=HISTORY)
def test_over_mongomock_with_restarts(
    stateless: list[Asked], stateful: list[Asked], history: list[Any]
) -> None:
    client = AsyncMongoMockClient()
    asyncio.run(play(House(lambda: mongo(client, "meta")), stateless, stateful, history))


@pytest.mark.parametrize("kind", ["region", "deployment"])
def test_the_filters_are_worth_their_name(kind: str) -> None:
    """Each splits what there can be: no watch above is over everything or nothing by accident."""

    async def split() -> list[int]:
        async with House(lambda: MemoryStore(kinds())) as house:
            for number in range(COUNT):
                await house.write({(kind, number): number * 13 % 96})
            parent = {"parent": "regions/-"} if kind == "deployment" else {}
            pages = [await house.listed(kind, filter=filter, **parent) for filter in FILTERS[kind][1:]]
            return [len(rows_of(page)) for page in pages]

    assert all(0 < count < COUNT for count in asyncio.run(split()))
