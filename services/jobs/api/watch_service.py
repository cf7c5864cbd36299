"""Peloton's WatchService (jobs contract, section 8)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from services.jobs import kinds
from services.jobs.api.watches import Wanted, Watches, labels_of
from shared.errors import InvalidArgument, OutOfRange
from shared.pb.peloton.api.v1alpha.watch.svc import watch_svc_pb2 as pb
from shared.rpc.method import Call
from shared.storage.port import Store

SERVICE: Final = pb.DESCRIPTOR.services_by_name["WatchService"]


class WatchService:
    def __init__(self, store: Store, watches: Watches) -> None:
        self._store = store
        self._watches = watches

    async def Watch(self, request: pb.WatchRequest, call: Call) -> AsyncGenerator[pb.WatchResponse, None]:
        if request.start_revision:
            raise OutOfRange("a watch tells of changes from now on; leave start_revision out")
        watch = self._watches.open(_wanted(request))
        try:
            after = await self._store.head()
            yield pb.WatchResponse(watch_id=watch.id)
            async with aclosing(watch.events()) as events:
                async for event in events:
                    # What was written before the call may have been on its way.
                    if event.revision <= after:
                        continue
                    answer = pb.WatchResponse(watch_id=watch.id, revision=event.revision)
                    shown = answer.pods if watch.wanted.kind == kinds.POD else answer.stateless_jobs
                    shown.append(event.message)  # type: ignore[arg-type]  # of the kind that is watched
                    yield answer
        finally:
            self._watches.close(watch)

    async def Cancel(self, request: pb.CancelRequest, call: Call) -> pb.CancelResponse:
        self._watches.cancel(request.watch_id)
        return pb.CancelResponse()


def _wanted(request: pb.WatchRequest) -> Wanted:
    """Raises InvalidArgument. Where both are asked for, pods are."""
    if request.HasField("pod_filter"):
        pods = request.pod_filter
        return Wanted(
            kinds.POD,
            frozenset({pods.job_id.value.lower()} - {""}),
            frozenset(name.value.lower() for name in pods.pod_names),
            labels_of(pods.labels),
        )
    if request.HasField("stateless_job_filter"):
        jobs = request.stateless_job_filter
        return Wanted(
            kinds.JOB,
            frozenset(id.value.lower() for id in jobs.job_ids),
            labels=labels_of(jobs.labels),
        )
    raise InvalidArgument.at("stateless_job_filter", "must be set, or pod_filter: what to watch")
