"""podfeed.v1.PodFeedService, and the same over HTTP with JSON lines (pods contract, section 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from services.pods import faults, ndjson
from services.pods.batches import Batches
from services.pods.feed import IMPORT, Event, Feed, Outcome
from services.pods.inventory_feed import InventoryFeed
from services.pods.metrics import FeedMetrics
from shared.errors import InvalidArgument, PermissionDenied, Violation
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.method import Call, HttpForm, HttpRule

SERVICE: Final = pb.DESCRIPTOR.services_by_name["PodFeedService"]
RULES: Final[Mapping[str, Sequence[HttpRule]]] = {
    "Push": (HttpRule("POST", "/v1/feed/pods"),),
    "PutInventory": (HttpRule("POST", "/v1/feed/inventory"),),
}
BATCH: Final = 1000
SECONDS: Final = 1.0
_MODES: Final = {"upsert": pb.UPSERT, "replace": pb.REPLACE}
_ACTIONS: Final = frozenset(pb.Action.values())


class PodFeedService:
    def __init__(
        self,
        feed: Feed,
        inventory: InventoryFeed,
        metrics: FeedMetrics,
        *,
        batch: int = BATCH,
        seconds: float = SECONDS,
    ) -> None:
        self._feed = feed
        self._inventory = inventory
        self._metrics = metrics
        self._batch = batch
        self._seconds = seconds

    async def Push(
        self, events: AsyncIterator[Event | pb.PodEvent], call: Call
    ) -> AsyncIterator[pb.PushResult]:
        _everywhere(call)
        total = Outcome()
        checked = _checked(events)
        batches = Batches(checked, size=self._batch, seconds=self._seconds).run()
        async with aclosing(batches):
            async for batch in batches:
                outcome = await self._feed.push(batch, call.author("pod:push"))
                self._metrics.fed("push", outcome)
                total.add(outcome)
                yield pb.PushResult(**vars(total))

    async def Sync(self, items: AsyncIterator[pb.SyncItem], call: Call) -> pb.SyncResult:
        _everywhere(call)
        first = await anext(items, None)
        if first is None or first.WhichOneof("item") != "start":
            raise InvalidArgument.at("items[0].start", "must come first, with cluster_id and source")
        cluster = faults.cluster_id(first.start.cluster_id, "items[0].start.cluster_id")
        source = faults.source(first.start.source, "items[0].start.source")
        if not source:
            raise InvalidArgument.at("items[0].start.source", "must not be empty")
        outcome = await self._feed.sync(cluster, source, _synced(items, cluster), call.author("pod:sync"))
        self._metrics.fed("sync", outcome)
        return pb.SyncResult(**vars(outcome))

    async def PutInventory(self, items: AsyncIterator[pb.InventoryItem], call: Call) -> pb.PutResult:
        _everywhere(call)
        return await self._inventory.put(items, call.author("inventory:put"))


def _everywhere(call: Call) -> None:
    """What is fed may be of any namespace."""
    if call.identity.namespaces is not None:
        raise PermissionDenied(
            "feeding needs all namespaces, and you may touch some only", permission=call.method.permission
        )


async def _checked(events: AsyncIterator[Event | pb.PodEvent]) -> AsyncIterator[Event]:
    number = 0
    async for event in events:
        if isinstance(event, pb.PodEvent):
            event = _event(event, f"events[{number}].")
        yield event
        number += 1


def _event(event: pb.PodEvent, where: str) -> Event:
    """Raises InvalidArgument."""
    if event.action not in _ACTIONS:
        raise InvalidArgument.at(f"{where}action", f"{event.action} is none of UPSERT, REPLACE and REMOVE")
    if event.action == pb.REMOVE:
        faults.pod_id(event.pod, f"{where}pod.")
    else:
        faults.check_pod(event.pod, f"{where}pod.")
    source = faults.source(event.source, f"{where}source", own=event.action == pb.REMOVE)
    return Event(event.action, event.pod, source or IMPORT)


async def _synced(items: AsyncIterator[pb.SyncItem], cluster: str) -> AsyncIterator[Pod]:
    number = 0
    async for item in items:
        number += 1
        where = f"items[{number}].pod."
        if item.WhichOneof("item") != "pod":
            raise InvalidArgument.at(where.rstrip("."), "must be set: only the first item is the start")
        faults.check_pod(item.pod, where)
        if item.pod.cluster_id != cluster:
            raise InvalidArgument.at(f"{where}cluster_id", f"must be {cluster}, which is synced")
        yield item.pod


def read_pods(parameters: Sequence[tuple[str, str]], body: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """`POST /v1/feed/pods?mode=upsert|replace&source=...`. Raises InvalidArgument."""
    given = _parameters(parameters, "mode", "source")
    mode = given.get("mode") or "upsert"
    if mode not in _MODES:
        raise InvalidArgument.at("mode", f"must be upsert or replace, not {mode[:50]!r}")
    source = faults.source(given.get("source", ""), "source") or IMPORT
    return _pods(body, _MODES[mode], source)


async def _pods(body: AsyncIterator[bytes], action: int, source: str) -> AsyncIterator[Event]:
    async for number, line in ndjson.lines(body):
        pod = ndjson.pod(number, line)
        faults.check_pod(pod, f"{ndjson.place(number)}: ")
        yield Event(action, pod, source)


def read_inventory(
    parameters: Sequence[tuple[str, str]], body: AsyncIterator[bytes]
) -> AsyncIterator[pb.InventoryItem]:
    """`POST /v1/feed/inventory`."""
    return _items(body)


async def _items(body: AsyncIterator[bytes]) -> AsyncIterator[pb.InventoryItem]:
    async for number, line in ndjson.lines(body):
        item = ndjson.inventory_item(number, line)
        faults.check_row(getattr(item, item.WhichOneof("item") or ""), f"{ndjson.place(number)}: ")
        yield item


def _parameters(parameters: Sequence[tuple[str, str]], *names: str) -> dict[str, str]:
    """Those that are known, each once. Raises InvalidArgument."""
    found: dict[str, str] = {}
    twice: list[Violation] = []
    for name, value in parameters:
        if name in names and name in found:
            twice.append(Violation(name, "has too many values: it may be given once"))
        if name in names:
            found[name] = value
    if twice:
        raise InvalidArgument.of(twice)
    return found


FORMS: Final[Mapping[str, HttpForm]] = {
    "Push": HttpForm(read=read_pods),
    "PutInventory": HttpForm(read=read_inventory),
}
