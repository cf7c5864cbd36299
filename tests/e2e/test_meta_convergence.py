"""Watchers of a service that is killed again and again: each resumes by its token, misses nothing, is
told nothing twice, and in the end holds what the list shows.

Every state that any watcher held is compared with the state of that revision, which the test works
out itself from what it applied.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_service_pb2 as pb
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_service_pb2_grpc import RegionServiceStub
from shared.pb.goten_sdk.types import watch_type_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc.client import bearer
from tests import process
from tests.contract.meta_clients import Stateless
from tests.patience import PATIENCE

REGIONS = 20
ENVIRONMENTS = ("dev", "prod", "test")
GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
# name -> (title, environment)
State = dict[str, tuple[str, str]]
FILTERS: dict[str, Callable[[str, str], bool]] = {
    "": lambda title, environment: True,
    'metadata.labels.env = "prod"': lambda title, environment: environment == "prod",
    'title >= "5"': lambda title, environment: title >= "5",
    'NOT (metadata.labels.env IN ("dev", "test")) OR title < "3"': lambda title, environment: (
        environment == "prod" or title < "3"
    ),
    'title = "none"': lambda title, environment: False,
}
MASKS = (["title"], ["metadata.labels.env"], ["title", "metadata.labels.env"], ["domain"])


class House:
    """The service, killed and started anew over the same files. `generation` counts its lives."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stack = AsyncExitStack()
        self._started = asyncio.Condition()
        self.generation = 0

    async def start(self) -> None:
        settings = {"watch_heartbeat": "100ms", "watch_bookmark": "0s", "catalogue": ""}
        self.process = await self._stack.enter_async_context(process.started("meta", self._data, **settings))
        options = (("grpc.max_receive_message_length", 64 << 20),)
        self.channel = await self._stack.enter_async_context(
            grpc.aio.insecure_channel(self.process.target, options=options)
        )
        self.metadata = bearer(await process.token(self._data))

    async def let_in(self) -> None:
        """Watchers connect from now on."""
        async with self._started:
            self.generation += 1
            self._started.notify_all()

    async def kill(self) -> None:
        """Channels stay: calls on them are to see their server die."""
        await self.process.end(signal.SIGKILL)

    async def close(self) -> None:
        await self._stack.aclose()

    async def next_life(self, after: int) -> None:
        async with self._started:
            await self._started.wait_for(lambda: self.generation > after)

    async def apply(self, regions: list[dict[str, Any]], **options: bool) -> int:
        request = admin_pb2.ApplyRequest(manifest=json.dumps({"regions": regions}), **options)
        answer = await AdminServiceStub(self.channel).Apply(request, metadata=self.metadata, timeout=PATIENCE)
        return answer.revision


@dataclass
class Watcher:
    house: House
    filter: str
    mask: list[str]
    draw: random.Random
    client: Stateless = field(init=False)
    # (revision, what was held then)
    seen: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
    lives: int = 0

    def __post_init__(self) -> None:
        self.chunk = self.draw.randint(1, 12)
        self.client = Stateless(self.chunk)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self.house.next_life(0)
        while True:
            generation = self.house.generation
            try:
                await self._watch(self.draw.randint(5, 60))
            except grpc.aio.AioRpcError as error:
                assert error.code() in GONE, error
                await self.house.next_life(generation)

    async def _watch(self, change_sets: int) -> None:
        """Leaves of its own accord after so many, in the midst of what comes next."""
        request = pb.WatchRegionsRequest(
            type=watch_type_pb2.STATELESS,
            filter=self.filter,
            max_chunk_size=self.chunk,
            resume_token=self.client.token,
        )
        request.field_mask.paths.extend(self.mask)
        self.client.reconnect()
        self.lives += 1
        call = RegionServiceStub(self.house.channel).WatchRegions(request, metadata=self.house.metadata)
        try:
            while change_sets:
                message = await call.read()
                assert message is not grpc.aio.EOF
                if self.client.take(message):
                    self.seen.append((self.client.revision, dict(self.client.held)))
                    change_sets -= 1
        finally:
            call.cancel()

    def expected(self, state: State) -> dict[str, bytes]:
        return {
            name: self._shown(name, *values).SerializeToString(deterministic=True)
            for name, values in state.items()
            if FILTERS[self.filter](*values)
        }

    def _shown(self, name: str, title: str, environment: str) -> Region:
        found = Region(name=name)
        if "title" in self.mask:
            found.title = title
        if "metadata.labels.env" in self.mask:
            found.metadata.labels["env"] = environment
        return found


class Writer:
    """Applies at random and knows the state of every revision."""

    def __init__(self, house: House, draw: random.Random) -> None:
        self._house = house
        self._draw = draw
        self.states: dict[int, State] = {0: {}}
        self.head = 0

    async def apply(self) -> None:
        """One change, whose outcome is known when it returns. Raises AioRpcError when it is not."""
        manifest, prune = self._change()
        wanted = self._after(manifest, prune)
        self.wanted = wanted
        revision = await self._house.apply(manifest, prune=prune)
        assert revision == self.head + (wanted != self.states[self.head])
        self._now(revision, wanted)

    async def settle(self) -> None:
        """After a death in the midst of `apply`: whether it was written."""
        head = await self._house.apply([], dry_run=True)
        assert head in (self.head, self.head + (self.wanted != self.states[self.head]))
        self._now(head, self.wanted if head > self.head else self.states[self.head])

    def _now(self, revision: int, state: State) -> None:
        self.head = revision
        self.states[revision] = state

    def _change(self) -> tuple[list[dict[str, Any]], bool]:
        """Mostly a few regions; now and then all of them, with the others pruned."""
        prune = self._draw.random() < 0.1
        numbers = self._draw.sample(range(REGIONS), self._draw.randint(REGIONS // 2, REGIONS) if prune else 3)
        return [
            {
                "name": f"regions/r{number:02}",
                "title": str(self._draw.randrange(10)),
                "metadata": {"labels": {"env": self._draw.choice(ENVIRONMENTS)}},
            }
            for number in numbers
        ], prune

    def _after(self, manifest: list[dict[str, Any]], prune: bool) -> State:
        state = {} if prune else dict(self.states[self.head])
        for item in manifest:
            state[item["name"]] = (item["title"], item["metadata"]["labels"]["env"])
        return state


async def test_all_converge(tmp_path: Path, scale: Callable[[int, int], int]) -> None:
    kills, count, applies = scale(3, 20), scale(40, 200), scale(25, 60)
    draw = random.Random(7)
    house = House(tmp_path)
    writer = Writer(house, draw)
    await house.start()
    await house.let_in()
    watchers = [
        Watcher(
            house, list(FILTERS)[number % len(FILTERS)], MASKS[number % len(MASKS)], random.Random(number)
        )
        for number in range(count)
    ]
    tasks = [asyncio.create_task(watcher.run(), name=f"watcher {n}") for n, watcher in enumerate(watchers)]
    try:
        for _ in range(kills):
            for _ in range(draw.randint(5, applies)):
                await writer.apply()
            dying = asyncio.create_task(writer.apply(), name="the apply that dies")
            await asyncio.sleep(draw.random() * 0.01)
            await house.kill()
            lost = await asyncio.gather(dying, return_exceptions=True)
            await house.start()
            if lost != [None]:
                assert isinstance(lost[0], grpc.aio.AioRpcError), lost
                await writer.settle()
            # What was missed is more than one revision, and some of it happened to the same regions.
            for _ in range(draw.randint(0, 10)):
                await writer.apply()
            await house.let_in()
        for _ in range(applies):
            await writer.apply()
        async with asyncio.timeout(PATIENCE):
            while not all(
                watcher.client.token and watcher.client.revision == writer.head for watcher in watchers
            ):
                assert not [task for task in tasks if task.done()]
                await asyncio.sleep(0.05)
        page = await RegionServiceStub(house.channel).ListRegions(
            pb.ListRegionsRequest(page_size=1000), metadata=house.metadata
        )
        listed = {row.name: (row.title, row.metadata.labels["env"]) for row in page.regions}
        assert listed == writer.states[writer.head]
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await house.close()
    assert not [error for error in ended if not isinstance(error, asyncio.CancelledError)]
    for watcher in watchers:
        # One snapshot ever: whatever died, the token led on.
        assert (watcher.client.hard_resets, watcher.client.soft_resets) == (0, 0)
        assert watcher.lives > kills
        assert watcher.seen[-1][0] == writer.head
        for revision, held in watcher.seen:
            assert held == watcher.expected(writer.states[revision])
