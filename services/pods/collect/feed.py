"""The pods service as a collector feeds it: one source, one cluster, over one channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc

from services.pods.collect.state import State
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.roundhouse.podfeed.v1.podfeed_pb2_grpc import PodFeedServiceStub
from shared.pb.storage.pod_pb2 import Pod
from shared.rpc.client import CallFailed, Client, Failure, failure_of

log = logging.getLogger(__name__)
_DEPLOYMENTS: Final = "pod_deployment"
_PAGE: Final = 1000


class Feed:
    """All methods raise CallFailed."""

    def __init__(self, client: Client, cluster_id: str, source: str, state: State) -> None:
        """`state` counts what was fed."""
        self._client = client
        self._state = state
        self._stub: Any = PodFeedServiceStub(client.channel)
        self.cluster_id = cluster_id
        self.source = source

    async def put(self, items: Iterable[pb.InventoryItem]) -> pb.PutResult:
        try:
            return await self._stub.PutInventory(iter(items), metadata=self._client.metadata)
        except grpc.RpcError as error:
            raise self._failed(error) from error

    async def deployments(self) -> set[str]:
        """Ids of the cluster's rows in the inventory."""
        found: set[str] = set()
        request = admin_pb2.ListRequest(
            kind=_DEPLOYMENTS, filter=f'cluster_id = "{self.cluster_id}"', page_size=_PAGE
        )
        while True:
            page = await self._client.call(AdminServiceStub, "List", request)
            found.update(one.name for one in page.objects)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def sync(self, pods: AsyncIterator[Pod]) -> pb.SyncResult:
        """Makes the source's pods of the cluster those that `pods` yields. What that raises is raised,
        and nothing was changed then."""
        call = self._stub.Sync(metadata=self._client.metadata)
        try:
            start = pb.SyncStart(cluster_id=self.cluster_id, source=self.source)
            # A call that was refused takes no more; why, it says when it is asked for its result.
            with contextlib.suppress(asyncio.InvalidStateError):
                await call.write(pb.SyncItem(start=start))
                async for pod in pods:
                    await call.write(pb.SyncItem(pod=pod))
                await call.done_writing()
            result: pb.SyncResult = await call
        except grpc.RpcError as error:
            raise self._failed(error) from error
        finally:
            call.cancel()
        self._state.feeds(result)
        return result

    def _failed(self, error: grpc.RpcError) -> CallFailed:
        return CallFailed(failure_of(error), self._client.target)

    def push(self) -> Push:
        return Push(self._stub, self._client, self.source, self._state)


class Push:
    """One stream of events after the other. `run` beside `send`: it tells when a stream breaks, and of
    what was sent since the last `drain` nobody knows then whether it was stored."""

    def __init__(self, stub: Any, client: Client, source: str, state: State) -> None:
        self._stub = stub
        self._state = state
        self._client = client
        self._source = source
        self._call: Any = None
        self._answers: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever waits longest comes first: events keep their order.
        self._turn = asyncio.Lock()
        self._draining = False

    async def run(self) -> None:
        """Until a stream breaks. Raises CallFailed."""
        try:
            await self._broken
        finally:
            self._broken.cancel()
            await self._end()

    async def upsert(self, pod: Pod) -> None:
        await self._send(pb.PodEvent(action=pb.UPSERT, pod=pod, source=self._source))

    async def remove(self, id: str) -> None:
        await self._send(pb.PodEvent(action=pb.REMOVE, pod=Pod(id=id), source=self._source))

    async def drain(self) -> None:
        """Until all that was sent is stored. Raises CallFailed."""
        async with self._turn:
            if self._answers is not None:
                self._draining = True
                with contextlib.suppress(asyncio.InvalidStateError):
                    await self._call.done_writing()
                await asyncio.shield(self._answers)
                self._call, self._answers, self._draining = None, None, False

    async def _send(self, event: pb.PodEvent) -> None:
        async with self._turn:
            if self._answers is None:
                self._call = self._stub.Push(metadata=self._client.metadata)
                self._answers = asyncio.create_task(self._read(self._call))
            try:
                await self._call.write(event)
            except (grpc.RpcError, asyncio.InvalidStateError):
                await asyncio.shield(self._answers)
                raise AssertionError("a stream that takes nothing has failed") from None

    async def _read(self, call: Any) -> None:
        before = pb.PushResult()
        try:
            # grpc-stubs lacks the name.
            while (result := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                if result.refused > before.refused:
                    tell_refused(result.refusals, result.refused, self._source)
                self._state.feeds(result, before)
                before = result
            if not self._draining:
                raise self._broke(Failure(grpc.StatusCode.UNAVAILABLE, "the stream ended"))
        except grpc.RpcError as error:
            raise self._broke(failure_of(error)) from error

    def _broke(self, why: Failure) -> CallFailed:
        failed = CallFailed(why, self._client.target)
        if not self._broken.done():
            self._broken.set_exception(failed)
        return failed

    async def _end(self) -> None:
        if self._answers is not None:
            self._call.cancel()
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)


def tell_refused(refusals: Iterable[pb.Refusal], count: int, source: str) -> None:
    named = ", ".join(f"{one.id} of {one.source!r}" for one in list(refusals)[:5])
    log.warning(
        "pods belong to another source and were left out",
        extra={"source": source, "refused": count, "first": named},
    )


def lasting(failure: Failure) -> bool:
    """Whether trying again would not help: a person has to change something."""
    return failure.code in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
