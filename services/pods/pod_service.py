"""v1.PodService: the export, over gRPC and as lines over HTTP, and GetPods (pods contract)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from services.pods import stored
from services.pods.inventory import TURN
from services.pods.labels import SEARCH
from services.pods.metrics import FeedMetrics
from services.pods.pods import BY_DEPLOYMENT, Pods
from shared.errors import DeadlineExceeded, InvalidArgument, PermissionDenied, Violation
from shared.pb.api.v1 import pod_service_pb2 as pb
from shared.pb.api.v1.pagination_pb2 import SortOption
from shared.pb.api.v1.search_service_pb2 import RawQuery
from shared.rpc.method import Call
from shared.storage.port import Order, Record

SERVICE: Final = pb.DESCRIPTOR.services_by_name["PodService"]
# Bytes of lines that go out at a time, and seconds after which fewer do.
CHUNK: Final = 64 * 1024
LINGER: Final = 0.1
# Pods that GetPods answers at most.
MOST: Final = 1000
# What GetPods can sort by -> the index that the store walks.
_ORDERS: Final[Mapping[str, str]] = {
    "id": "id",
    "name": "name_folded",
    "namespace": "namespace",
    "deployment_id": "deployment_id",
    "cluster_id": "cluster_id",
}


class Scope:
    """The namespaces that a caller may touch, which must stay what they were."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._identity = call.identity

    def check(self) -> None:
        """Raises PermissionDenied when they have changed."""
        known, self._identity = self._identity, self._call.identity
        if known is not self._identity and known.namespaces != self._identity.namespaces:
            raise PermissionDenied("the namespaces that you may touch have changed; export again")


class PodService:
    def __init__(self, pods: Pods, metrics: FeedMetrics) -> None:
        self._pods = pods
        self._exported = metrics.exported

    async def ExportPods(self, request: pb.ExportPodRequest, call: Call) -> AsyncGenerator[bytes, None]:
        count, scope = 0, Scope(call)
        try:
            async with aclosing(await self._export(request, call)) as records:
                async for record in records:
                    if record is not None:
                        count += 1
                        yield stored.frame(record.body)
                    scope.check()
        finally:
            self._exported.labels(call.transport).inc(count)

    async def export_lines(self, request: pb.ExportPodRequest, call: Call) -> AsyncGenerator[bytes, None]:
        """The lines of the same pods, in chunks. What is found waits for more of it no longer than
        LINGER, however long a query has to look."""
        exported = self._exported.labels(call.transport)
        scope, now = Scope(call), time.monotonic
        lines: list[bytes] = []
        size, sent = 0, now()
        async with aclosing(await self._export(request, call)) as records:
            async for record in records:
                if record is not None:
                    line = stored.line(record.body)
                    lines.append(line)
                    size += len(line)
                    if size < CHUNK:
                        continue
                elif not lines or now() - sent <= LINGER:
                    continue
                exported.inc(len(lines))
                yield b"".join(lines)
                scope.check()
                lines, size, sent = [], 0, now()
        if lines:
            exported.inc(len(lines))
            yield b"".join(lines)

    async def _export(self, request: pb.ExportPodRequest, call: Call) -> AsyncGenerator[Record | None, None]:
        if request.timeout < 0:
            raise DeadlineExceeded("context deadline exceeded")
        if request.timeout and call.limit is not None:
            call.limit.end_after(request.timeout, DeadlineExceeded("context deadline exceeded"))
        selection = await self._pods.select(request.query, call.identity.namespaces)
        return self._pods.records(selection)

    async def GetPods(self, request: RawQuery, call: Call) -> bytes:
        pagination = request.pagination
        wrong = [
            Violation(f"pagination.{name}", "must not be negative")
            for name in ("limit", "offset")
            if getattr(pagination, name) < 0
        ]
        if wrong:
            raise InvalidArgument.of(wrong)
        limit = pagination.limit if 0 < pagination.limit <= MOST else MOST
        selection = await self._pods.select(request.query, call.identity.namespaces, _order(request))
        found: list[bytes] = []
        skip, turn = pagination.offset, time.monotonic()
        async with aclosing(self._pods.records(selection)) as records:
            async for record in records:
                if record is None:
                    continue
                if skip:
                    skip -= 1
                    if time.monotonic() - turn > TURN:
                        await asyncio.sleep(0)
                        turn = time.monotonic()
                    continue
                # A response is a pod a frame, and so is a list of them: both are field 1.
                found.append(stored.frame(record.body))
                if len(found) == limit:
                    break
        return b"".join(found)


def _order(request: RawQuery) -> Sequence[Order]:
    """Raises InvalidArgument naming the sort option that is wrong."""
    pagination = request.pagination
    options: list[tuple[str, SortOption]] = [
        (f"pagination.sort_options[{index}]", option) for index, option in enumerate(pagination.sort_options)
    ]
    if not options and pagination.HasField("sort_option"):
        options = [("pagination.sort_option", pagination.sort_option)]
    return [_one(option, path) for path, option in options] or BY_DEPLOYMENT


def _one(option: SortOption, path: str) -> Order:
    if option.HasField("aggregate_by"):
        raise InvalidArgument.at(f"{path}.aggregate_by", "is not supported; leave it out")
    label = SEARCH.find(option.field)
    index = _ORDERS.get(label.field) if label is not None and not label.joined else None
    if index is None:
        sortable = "Pod ID, Pod Name, Namespace, Deployment ID and Cluster ID"
        raise InvalidArgument.at(f"{path}.field", f"cannot be {option.field[:50]!r}; pods sort by {sortable}")
    return Order(index, option.reversed)
