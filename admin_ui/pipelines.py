"""What the console asks of the Pipelines service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from admin_ui.clients import PIPELINES, Caller
from admin_ui.list_state import ListState
from admin_ui.operations import Item
from admin_ui.presenters import experiments
from admin_ui.presenters.history import Entry
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.pb.backend.api.v2beta1 import experiment_pb2_grpc, healthz_pb2, healthz_pb2_grpc
from shared.rpc.client import CallFailed

KIND: Final = "experiment"
# Newest first: what people look for is what they made last. The API's own default is oldest first.
DEFAULT_ORDER: Final = "created_at desc"
LARGEST_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Calls as `caller`. Every method raises CallFailed."""

    caller: Caller

    async def _call(self, method: str, request: Message) -> Any:
        return await self.caller.call(PIPELINES, experiment_pb2_grpc.ExperimentServiceStub, method, request)

    async def list(self, request: pb.ListExperimentsRequest) -> pb.ListExperimentsResponse:
        return await self._call("ListExperiments", request)

    async def get(self, id: str) -> pb.Experiment:
        return await self._call("GetExperiment", pb.GetExperimentRequest(experiment_id=id))

    async def create(self, experiment: pb.Experiment) -> pb.Experiment:
        return await self._call("CreateExperiment", pb.CreateExperimentRequest(experiment=experiment))

    async def archive(self, id: str) -> None:
        await self._call("ArchiveExperiment", pb.ArchiveExperimentRequest(experiment_id=id))

    async def unarchive(self, id: str) -> None:
        await self._call("UnarchiveExperiment", pb.UnarchiveExperimentRequest(experiment_id=id))

    async def delete(self, id: str) -> None:
        await self._call("DeleteExperiment", pb.DeleteExperimentRequest(experiment_id=id))

    def act(self, verb: str) -> Callable[[Item], Awaitable[None]]:
        """`archive`, `unarchive` or `delete`, of an operation's items."""
        call = {"archive": self.archive, "unarchive": self.unarchive, "delete": self.delete}[verb]
        return lambda item: call(item.id)

    async def facts(self) -> healthz_pb2.GetHealthzResponse:
        return await self.caller.call(PIPELINES, healthz_pb2_grpc.HealthzServiceStub, "GetHealthz", Empty())

    async def count(self, state: ListState) -> int:
        return (await self.list(list_request(state.replace(page_size=1)))).total_size

    async def names(self, ids: Sequence[str], namespace: str = "") -> dict[str, str]:
        """The names of those of these ids that exist."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), LARGEST_PAGE):
            some = ids[start : start + LARGEST_PAGE]
            request = pb.ListExperimentsRequest(
                filter=experiments.ids_filter(some), namespace=namespace, page_size=LARGEST_PAGE
            )
            found |= {e.experiment_id: e.display_name for e in (await self.list(request)).experiments}
        return found

    async def names_in(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The names of the experiments that `entries` wrote, as far as they can be known: a help
        for readers, so nothing when the service does not say."""
        ids = {object.name for entry in entries for object in entry.objects if object.kind == KIND}
        if not ids:
            return {}
        try:
            return await self.names(sorted(ids))
        except CallFailed:
            return {}

    async def named(self, ids: Sequence[str], namespace: str) -> AsyncIterator[Item]:
        """The experiments with these ids, in their order; one that is gone bears its id as a name."""
        names = await self.names(ids, namespace)
        for id in ids:
            yield Item(id, names.get(id, id))

    async def matching(self, state: ListState) -> AsyncIterator[Item]:
        """Every experiment that the list shows, on all its pages."""
        request = list_request(state.replace(page_size=LARGEST_PAGE))
        while True:
            answer = await self.list(request)
            for found in answer.experiments:
                yield Item(found.experiment_id, found.display_name)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token


def list_request(state: ListState) -> pb.ListExperimentsRequest:
    return pb.ListExperimentsRequest(
        page_token=state.page_token,
        page_size=state.page_size,
        sort_by=state.order_by or DEFAULT_ORDER,
        filter=experiments.filter_json(state),
        namespace=state.namespace,
    )
