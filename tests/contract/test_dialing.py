"""Listeners and dials: within a controller process, and between two of them over one store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.jumpstarter.api import dialing
from services.jumpstarter.api.dialing import LOST_AFTER, QUEUE, Dialing
from services.jumpstarter.api.router_tokens import RouterTokens
from services.jumpstarter.kinds import CONTROLLER, DIAL, LISTENER
from shared.auth.keys import KeyRing
from shared.errors import ResourceExhausted, Unavailable
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.rpc.method import MetadataDict
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Delete, Put, Query, Store
from shared.storage.sqlite import SqliteStore
from shared.watch.tailer import Tailer
from tests.contract.router_yard import Clock

LEASE = "namespaces/lab/leases/one"
BY = Author("test")
KINDS = [CONTROLLER, LISTENER, DIAL]
SECONDS = 60.0


@dataclass
class Peer:
    """One controller process."""

    id: str
    store: Store
    tailer: Tailer
    dialing: Dialing
    tokens: RouterTokens
    clock: Clock
    listens: list[Listen] = field(default_factory=list)

    async def beat(self) -> None:
        """A sign of life."""
        alive = lab_pb2.Controller(id=self.id, endpoint=f"{self.id}:1")
        alive.heartbeat.FromNanoseconds(self.clock())
        await self.store.commit([Put("controller", self.id, alive.SerializeToString())], by=BY)

    async def listen(self, lease: str = LEASE) -> Listen:
        """A Listen that can be dialled."""
        found = Listen(self.dialing.listen(lease, BY))
        self.listens.append(found)
        listened = self.dialing._listeners.get(lease)
        await until(lambda: self.dialing._listeners.get(lease) is not listened)
        return found

    def stream(self, answer: pb.DialResponse | pb.ListenResponse) -> str:
        """At which stream its token lets one in."""
        metadata = MetadataDict({"authorization": f"Bearer {answer.router_token}"})
        return self.tokens.verify(metadata).stream

    async def records(self, kind: str) -> list[str]:
        return [record.name async for record in self.store.scan(Query(kind))]


class Listen:
    """A Listen as its exporter sees it."""

    def __init__(self, answers: AsyncGenerator[pb.ListenResponse, None]) -> None:
        self.answers = answers
        self._next: asyncio.Task[Any] = asyncio.ensure_future(anext(answers))

    async def read(self) -> pb.ListenResponse:
        async with asyncio.timeout(SECONDS):
            found = await self._next
        self._next = asyncio.ensure_future(anext(self.answers))
        return found

    @property
    def quiet(self) -> bool:
        return not self._next.done()

    async def cancel(self) -> None:
        """The exporter goes away."""
        self._next.cancel()
        await asyncio.gather(self._next, return_exceptions=True)
        await self.answers.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def gone(peer: Peer, kind: str) -> None:
    async with asyncio.timeout(SECONDS):
        while await peer.records(kind):
            await asyncio.sleep(0.005)


async def hang_up(peer: Peer) -> None:
    for listen in peer.listens:
        await listen.cancel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[..., Any]]:
    """`await start("a", store)`: a controller process over `store`, or over its own SQLite file."""
    async with AsyncExitStack() as stack:

        async def begin(id: str, store: Store | None = None) -> Peer:
            opened = store or SqliteStore(tmp_path / "lab.db", KINDS, clock=clock)
            await opened.open()
            stack.push_async_callback(opened.close)
            tailer = await stack.enter_async_context(Tailer(opened, poll=0.02))
            tokens = RouterTokens(KeyRing.open(tmp_path / "keys"), clock)
            ids = (f"{id}-{number}" for number in itertools.count())
            found = Dialing(opened, tailer, tokens, clock, ids.__next__, controller=id, endpoint=f"{id}:1")
            peer = Peer(id, opened, tailer, found, tokens, clock)
            await peer.beat()
            await stack.enter_async_context(found)
            stack.push_async_callback(hang_up, peer)
            return peer

        yield begin


@pytest.fixture
async def alone(start: Any) -> Peer:
    return await start("a", MemoryStore(KINDS))


@pytest.fixture
async def two(start: Any) -> tuple[Peer, Peer]:
    """Two processes on one database."""
    return await start("a"), await start("b")


# -- within a process


async def test_a_dial_reaches_the_exporter_with_the_same_token(alone: Peer) -> None:
    listen = await alone.listen()
    assert listen.quiet
    dials = [await alone.dialing.dial(LEASE, BY) for _ in range(3)]
    for dial in dials:
        heard = await listen.read()
        assert (heard.router_endpoint, heard.router_token) == (dial.router_endpoint, dial.router_token)
        assert dial.router_endpoint == "a:1"
    assert len({alone.stream(dial) for dial in dials}) == 3
    assert listen.quiet


async def test_a_dial_at_the_listener_s_process_writes_nothing(alone: Peer) -> None:
    listen = await alone.listen()
    before = await alone.store.head()
    await alone.dialing.dial(LEASE, BY)
    await listen.read()
    assert await alone.store.head() == before


async def test_nobody_listens(alone: Peer) -> None:
    with pytest.raises(Unavailable, match=f"no exporter listens for {LEASE}"):
        await alone.dialing.dial(LEASE, BY)
    listen = await alone.listen("namespaces/lab/leases/other")
    with pytest.raises(Unavailable):
        await alone.dialing.dial(LEASE, BY)
    assert listen.quiet


async def test_too_many_dials_wait(alone: Peer) -> None:
    listen = await alone.listen()
    # Nobody asks the generator for more than one.
    heard = [await alone.dialing.dial(LEASE, BY)]
    await until(lambda: not listen.quiet)
    heard += [await alone.dialing.dial(LEASE, BY) for _ in range(QUEUE)]
    with pytest.raises(ResourceExhausted, match="8 dials wait"):
        await alone.dialing.dial(LEASE, BY)
    for dial in heard:
        assert (await listen.read()).router_token == dial.router_token
    await alone.dialing.dial(LEASE, BY)
    assert (await listen.read()).router_endpoint == "a:1"


async def test_a_newer_listen_replaces_the_older_which_drains_and_ends(alone: Peer) -> None:
    older = await alone.listen()
    first, second = [await alone.dialing.dial(LEASE, BY) for _ in range(2)]
    newer = await alone.listen()
    third = await alone.dialing.dial(LEASE, BY)
    assert (await older.read()).router_token == first.router_token
    assert (await older.read()).router_token == second.router_token
    with pytest.raises(Unavailable, match="newer Listen"):
        await older.read()
    assert (await newer.read()).router_token == third.router_token
    # The older's end takes nothing from the newer.
    await older.cancel()
    await alone.dialing.dial(LEASE, BY)
    assert (await newer.read()).router_endpoint == "a:1"


async def test_of_two_listens_at_once_the_one_that_was_written_last_stays(
    alone: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the other hears of its own write later."""
    commit, written, heard = alone.store.commit, asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(alone.store, "commit", commit)
        made = await commit(*args, **more)
        written.set()
        await heard.wait()
        return made

    monkeypatch.setattr(alone.store, "commit", late)
    older = Listen(alone.dialing.listen(LEASE, BY))
    await written.wait()
    newer = await alone.listen()
    heard.set()
    with pytest.raises(Unavailable, match="a newer Listen has taken over"):
        await older.read()
    answer = await alone.dialing.dial(LEASE, BY)
    assert alone.stream(await newer.read()) == alone.stream(answer)


async def test_an_exporter_that_went_away_does_not_listen(alone: Peer) -> None:
    listen = await alone.listen()
    await listen.cancel()
    with pytest.raises(Unavailable):
        await alone.dialing.dial(LEASE, BY)
    await gone(alone, "listener")


async def test_listeners_end_when_the_process_stops(alone: Peer) -> None:
    listen = await alone.listen()
    await alone.dialing.stop()
    with pytest.raises(Unavailable, match="stopping"):
        await listen.read()
    with pytest.raises(Unavailable, match="stopping"):
        await alone.dialing.dial(LEASE, BY)
    with pytest.raises(Unavailable, match="stopping"):
        await anext(alone.dialing.listen(LEASE, BY))
    await gone(alone, "listener")


async def test_a_listener_that_was_taken_for_dead_says_that_it_is_not(alone: Peer) -> None:
    listen = await alone.listen()
    await alone.store.commit([Delete("listener", LEASE)], by=BY)
    async with asyncio.timeout(SECONDS):
        while not await alone.records("listener"):
            await asyncio.sleep(0.005)
    await alone.dialing.dial(LEASE, BY)
    await listen.read()


async def test_the_log_may_be_compacted_under_it(start: Any, clock: Clock) -> None:
    """What it missed is read from what stands in the store."""
    here, there = await start("a"), await start("b")
    listen = await here.listen()
    here.dialing._runs[0].cancel()
    await asyncio.wait({here.dialing._runs[0]})
    asking = asyncio.create_task(there.dialing.dial(LEASE, BY))
    await until(lambda: bool(there.dialing._asked))
    async with asyncio.timeout(SECONDS):
        while not await there.records("dial"):
            await asyncio.sleep(0.005)
    await there.store.compact(await there.store.head())
    here.dialing._runs.append(asyncio.create_task(here.dialing._follow(0)))
    assert (await listen.read()).router_token == (await asking).router_token


# -- between processes


async def test_a_dial_at_another_process_reaches_the_exporter(two: tuple[Peer, Peer]) -> None:
    here, there = two
    listen = await here.listen()
    dials = [await there.dialing.dial(LEASE, BY) for _ in range(2)]
    for dial in dials:
        heard = await listen.read()
        assert (heard.router_endpoint, heard.router_token) == (dial.router_endpoint, dial.router_token)
        assert heard.router_endpoint == "a:1"
        assert here.stream(dial) == there.stream(dial)
    await gone(here, "dial")
    assert listen.quiet


async def test_no_token_is_stored(two: tuple[Peer, Peer]) -> None:
    here, there = two
    listen = await here.listen()
    dial = await there.dialing.dial(LEASE, BY)
    await listen.read()
    secret = dial.router_token.rpartition(".")[2].encode()
    for commit in await here.store.changes(0, 1000):
        assert not [change for change in commit.changes if secret in (change.after or b"")]


async def test_both_processes_dial_at_once(two: tuple[Peer, Peer]) -> None:
    here, there = two
    listen = await here.listen()
    asked = [peer.dialing.dial(LEASE, BY) for peer in (here, there, here, there)]
    dials = await asyncio.gather(*asked)
    heard = [await listen.read() for _ in dials]
    assert {dial.router_token for dial in dials} == {found.router_token for found in heard}


async def test_too_many_dials_from_another_process(two: tuple[Peer, Peer]) -> None:
    here, there = two
    listen = await here.listen()
    await here.dialing.dial(LEASE, BY)
    await until(lambda: not listen.quiet)
    for _ in range(QUEUE):
        await here.dialing.dial(LEASE, BY)
    with pytest.raises(ResourceExhausted, match="8 dials wait"):
        await there.dialing.dial(LEASE, BY)
    await gone(there, "dial")


async def test_an_exporter_that_moved_listens_there_only(two: tuple[Peer, Peer]) -> None:
    here, there = two
    older = await here.listen()
    newer = await there.listen()
    with pytest.raises(Unavailable, match="newer Listen"):
        await older.read()
    await older.cancel()
    for peer in two:
        dial = await peer.dialing.dial(LEASE, BY)
        assert dial.router_endpoint == "b:1"
        assert (await newer.read()).router_token == dial.router_token


async def test_a_listener_of_a_dead_process_counts_as_none(two: tuple[Peer, Peer], clock: Clock) -> None:
    here, there = two
    await here.listen()
    clock.now += LOST_AFTER + 1
    with pytest.raises(Unavailable, match="no exporter listens"):
        await there.dialing.dial(LEASE, BY)
    await here.beat()
    assert (await there.dialing.dial(LEASE, BY)).router_endpoint == "a:1"


async def test_a_process_that_does_not_answer(
    two: tuple[Peer, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    monkeypatch.setattr(dialing, "ANSWER", 0.1)
    await here.listen()
    here.dialing._runs[0].cancel()
    await asyncio.wait({here.dialing._runs[0]})
    with pytest.raises(Unavailable, match="does not answer"):
        await there.dialing.dial(LEASE, BY)
    await gone(there, "dial")


async def test_a_caller_who_hangs_up_leaves_nothing(two: tuple[Peer, Peer]) -> None:
    here, there = two
    await here.listen()
    here.dialing._runs[0].cancel()
    await asyncio.wait({here.dialing._runs[0]})
    asking = asyncio.create_task(there.dialing.dial(LEASE, BY))
    async with asyncio.timeout(SECONDS):
        while not await there.records("dial"):
            await asyncio.sleep(0.005)
    asking.cancel()
    await asyncio.wait({asking})
    await gone(there, "dial")


async def test_what_dead_processes_left_behind_is_removed(two: tuple[Peer, Peer], clock: Clock) -> None:
    here, there = two
    dial = lab_pb2.Dial(id="left", lease=LEASE, controller="dead")
    dial.create_time.FromNanoseconds(clock())
    left = lab_pb2.Listener(lease=LEASE, controller="dead", id="1")
    puts = [Put("dial", "left", dial.SerializeToString()), Put("listener", LEASE, left.SerializeToString())]
    await here.store.commit(puts, by=BY)
    kept = await here.listen("namespaces/lab/leases/two")
    await there.dialing.sweep()
    assert await there.records("listener") == ["namespaces/lab/leases/two"]
    assert await there.records("dial") == ["left"]
    clock.now += LOST_AFTER + 1
    await here.beat()
    await there.dialing.sweep()
    assert await there.records("dial") == []
    assert await there.records("listener") == ["namespaces/lab/leases/two"]
    assert kept.quiet


async def test_a_process_that_ends_takes_its_listeners_along(two: tuple[Peer, Peer]) -> None:
    here, there = two
    await here.listen()
    assert await there.records("listener") == [LEASE]
    await here.dialing.__aexit__()
    assert await there.records("listener") == []
