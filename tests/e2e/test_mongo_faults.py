"""What breaks between a store and its MongoDB server: answers, connections, the server, its disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from pymongo import MongoClient

from shared.storage.errors import StoreError, StoreFull, StoreUnavailable, TooLarge
from shared.storage.mongo import MongoStore
from shared.storage.port import Expect, Put, Query
from shared.storage.testing import AUTHOR, body, collect, sample_kinds
from tests.mongo_server import MongoServer, new_database

pytestmark = pytest.mark.mongo_server

# How an insert into the log looks on the wire, and one into the versions of items.
INTO_THE_LOG = b"\x02insert\x00\x04\x00\x00\x00log\x00"
INTO_ITEMS = b"\x02insert\x00\x0a\x00\x00\x00kind.item\x00"
QUICK = "serverSelectionTimeoutMS=500&connectTimeoutMS=500"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server of this module's own, for breaking: durable, and kept where it is when started again."""
    server = MongoServer(tmp_path_factory.mktemp("mongo") / "data")
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str, *, patience: float = 10, database: str | None = None) -> AsyncIterator[MongoStore]:
    store = MongoStore(url, database or new_database(), sample_kinds(), patience=patience)
    await store.open()
    yield store
    await store.close()


class Wire:
    """A relay before the server which, when told to, lets a request through and loses its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._watched = b""
        self._to_lose = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self.lost = 0

    def lose_answers(self, request: bytes, times: int) -> None:
        """The answers to the next `times` requests that contain `request` get lost, and their
        connections with them."""
        self._watched, self._to_lose = request, times

    @asynccontextmanager
    async def listening(self, options: str) -> AsyncIterator[str]:
        """The URL to go through it."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true&heartbeatFrequencyMS=500&{options}"
        server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._relays)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relays.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, to_server}
        losing = asyncio.Event()
        answers = asyncio.create_task(self._answer(upstream, writer, losing))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                message = head + await reader.readexactly(int.from_bytes(head, "little") - 4)
                if self._to_lose and self._watched in message:
                    self._to_lose -= 1
                    losing.set()
                to_server.write(message)
        await answers

    async def _answer(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await upstream.readexactly(4)
                message = head + await upstream.readexactly(int.from_bytes(head, "little") - 4)
                if losing.is_set():
                    self.lost += 1
                    break
                writer.write(message)
        writer.close()


@pytest.mark.parametrize("retries", ["true", "false"])
@pytest.mark.parametrize("request_bytes", [INTO_THE_LOG, INTO_ITEMS], ids=["commit", "versions"])
async def test_a_lost_answer_leaves_one_commit(
    server: MongoServer, retries: str, request_bytes: bytes
) -> None:
    wire = Wire(server.port)
    async with wire.listening(f"retryWrites={retries}") as url, opened(url) as store:
        heard: list[int] = []
        store.listen(heard.append)
        await store.commit([Put("note", "n", b"0")], by=AUTHOR)
        wire.lose_answers(request_bytes, 2)
        changes = [[Put("item", f"n{i}", body(size=i), expect=Expect.ABSENT)] for i in range(5)]
        commits = await asyncio.gather(*(store.commit(change, by=AUTHOR) for change in changes))
        assert wire.lost == 2
        assert [commit.revision for commit in commits] == heard[1:] == [2, 3, 4, 5, 6]
        assert list(await store.changes(1, 100)) == list(commits)
        assert len(await collect(store.scan(Query("item")))) == 5


async def test_an_answer_that_never_comes_is_an_unknown_outcome(server: MongoServer) -> None:
    wire = Wire(server.port)
    async with wire.listening("retryWrites=false") as url, opened(url, patience=0) as store:
        wire.lose_answers(INTO_THE_LOG, 1)
        with pytest.raises(StoreUnavailable) as unavailable:
            await store.commit([Put("item", "a", body(size=1))], by=AUTHOR)
        assert unavailable.value.outcome_unknown
        # It had arrived. The next commit finds it in its way, and goes behind it.
        commit = await store.commit([Put("item", "b", body(size=2))], by=AUTHOR)
        assert commit.revision == 2
        assert [r.name for r in await collect(store.scan(Query("item")))] == ["a", "b"]
        assert [entry.revision for entry in await store.audit()] == [2, 1]


class FailPoint:
    """Commands of a server that fail when told to."""

    def __init__(self, server: MongoServer) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(server.url)

    def set(self, times: int, **data: Any) -> None:
        mode: object = {"times": times} if times else "off"
        self._client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    def close(self) -> None:
        self.set(0)
        self._client.close()


@pytest.fixture
def fail(server: MongoServer) -> Iterator[FailPoint]:
    point = FailPoint(server)
    yield point
    point.close()


async def test_a_full_disk_is_said_and_got_over(server: MongoServer, fail: FailPoint) -> None:
    async with opened(server.url) as store:
        await store.commit([Put("item", "a", body(size=1))], by=AUTHOR)
        fail.set(1, failCommands=["insert"], errorCode=14031)
        with pytest.raises(StoreFull):
            await store.commit([Put("item", "b", b"{}")], by=AUTHOR)
        assert await store.head() == 1
        assert (await store.get("item", "a")) is not None
        assert (await store.commit([Put("item", "b", b"{}")], by=AUTHOR)).revision == 2


CUT = {"closeConnection": True}
SHUTDOWN = {"errorCode": 91}


@pytest.mark.parametrize(
    ("command", "failure"),
    [("insert", CUT), ("insert", SHUTDOWN), ("update", CUT), ("find", CUT), ("findAndModify", SHUTDOWN)],
)
async def test_interrupted_commands_lose_no_commit(
    server: MongoServer, fail: FailPoint, command: str, failure: dict[str, Any]
) -> None:
    async with opened(server.url + "&retryWrites=false&retryReads=false") as store:
        await store.commit([Put("item", "a", body(size=0))], by=AUTHOR)
        done = 0
        for number in (1, 2):
            fail.set(number, failCommands=[command], **failure)
            try:
                await store.commit([Put("item", "a", body(size=number))], by=AUTHOR)
                done += 1
            except StoreUnavailable as error:
                # Only what comes before the commit point gives up at once.
                assert command == "find" and not error.outcome_unknown
            fail.set(0)
        assert done == (0 if command == "find" else 2)
        assert await store.head() == 1 + done
        assert [c.revision for c in await store.changes(0, 10)] == list(range(1, 2 + done))


async def test_the_server_goes_and_comes_back(server: MongoServer) -> None:
    async with opened(f"{server.url}&{QUICK}", patience=0) as store:
        await store.commit([Put("item", "a", body(size=1))], by=AUTHOR)
        await asyncio.to_thread(server.stop)
        calls: list[Callable[[], Any]] = [
            store.ping,
            store.head,
            store.floor,
            store.epoch,
            lambda: store.get("item", "a"),
            lambda: store.get("item", "a", at=1),
            lambda: collect(store.scan(Query("item"))),
            lambda: store.count(Query("item")),
            lambda: store.changes(0, 1),
            lambda: store.history("item", "a"),
            store.audit,
            lambda: store.compact(1),
            lambda: store.trim_audit(1),
            lambda: store.commit([Put("item", "lost", b"{}")], by=AUTHOR),
        ]
        outcomes = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * len(calls)
        # Nothing was sent, so nothing is in doubt.
        assert not any(getattr(outcome, "outcome_unknown", True) for outcome in outcomes)
        other = MongoStore(f"{server.url}&{QUICK}", store.database, sample_kinds())
        with pytest.raises(StoreUnavailable):
            await other.open()

        await asyncio.to_thread(server.start)
        await answering(store)
        await other.open()
        assert (await store.commit([Put("item", "b", b"{}")], by=AUTHOR)).revision == 2
        assert [r.name for r in await collect(other.scan(Query("item")))] == ["a", "b"]
        await other.close()


async def test_commits_wait_for_a_server_that_is_killed_and_restarted(server: MongoServer) -> None:
    acknowledged: dict[int, str] = {}
    unknown: set[str] = set()

    async def write(store: MongoStore, writer: int) -> None:
        for number in range(12):
            name = f"{writer}-{number}"
            while True:
                try:
                    commit = await store.commit([Put("item", name, b"{}", expect=Expect.ABSENT)], by=AUTHOR)
                    acknowledged[commit.revision] = name
                    break
                except StoreUnavailable as error:
                    if error.outcome_unknown:
                        unknown.add(name)
                        break

    async with opened(f"{server.url}&{QUICK}", patience=30) as store, asyncio.timeout(60):
        writing = [asyncio.create_task(write(store, writer)) for writer in range(4)]
        while len(acknowledged) < 8:
            await asyncio.sleep(0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*writing)
        head = await store.head()
        log = {commit.revision: commit.changes[0].name for commit in await store.changes(0, 1000)}
        assert list(log) == list(range(1, head + 1))
        assert len(set(log.values())) == head
        assert acknowledged.items() <= log.items()
        assert set(log.values()) - set(acknowledged.values()) <= unknown


async def answering(store: MongoStore) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(StoreUnavailable):
                await store.ping()
                return


async def test_sizes(server: MongoServer) -> None:
    megabyte = 2**20
    async with opened(server.url) as store:
        with pytest.raises(TooLarge):
            await store.commit([Put("note", "big", b"x" * 17 * megabyte)], by=AUTHOR)
        largest = b"x" * (15 * megabyte)
        parts = [Put("note", f"n{i}", bytes([i]) * (5 * megabyte)) for i in range(2)]
        commit = await store.commit([*parts, Put("note", "largest", largest)], by=AUTHOR)
        assert commit.revision == 1
        again = (await store.changes(0, 1))[0]
        assert again == commit
        record = await store.get("note", "largest")
        assert record is not None and record.body == largest
        await store.commit([Put("note", "small", b"")], by=AUTHOR)
        chunks = stored(server, store, "log_chunks")
        assert len(chunks) == 3
        await store.compact(1)
        assert stored(server, store, "log_chunks") == []
        assert [c.revision for c in await store.changes(1, 5)] == [2]


async def test_a_client_of_the_wrong_address_says_so() -> None:
    store = MongoStore(f"mongodb://127.0.0.1:1/?{QUICK}", "nowhere", sample_kinds())
    with pytest.raises(StoreUnavailable):
        await store.open()
    with pytest.raises(StoreError):
        await store.head()
    with pytest.raises(ValueError):
        await MongoStore("mongodb://127.0.0.1:port/", "nowhere", sample_kinds()).open()
    await store.close()


def stored(server: MongoServer, store: MongoStore, collection: str) -> list[dict[str, Any]]:
    with MongoClient[dict[str, Any]](server.url) as client:
        return list(client[store.database][collection].find({}, {"_id": 1}))
