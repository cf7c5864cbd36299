"""api.ExperimentService, under both generations of method names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.empty_pb2 import Empty

from services.pipelines import lists
from services.pipelines.experiment import FILTER_V1
from services.pipelines.experiments import Experiments, ListQuery
from services.pipelines.namespaces import Namespaces
from services.pipelines.violations import renamed
from shared.errors import InvalidArgument
from shared.pb.backend.api.v1beta1 import experiment_pb2 as pb
from shared.pb.backend.api.v1beta1 import resource_reference_pb2 as reference_pb2
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.resource.answers import Answers
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ExperimentService"]
# Names of 2.0.0-beta.0 and later -> those of the published document.
ALIASES: Final = {
    "CreateExperimentV1": "CreateExperiment",
    "GetExperimentV1": "GetExperiment",
    "ListExperimentsV1": "ListExperiment",
    "DeleteExperimentV1": "DeleteExperiment",
    "ArchiveExperimentV1": "ArchiveExperiment",
    "UnarchiveExperimentV1": "UnarchiveExperiment",
}
_PATHS: Final[Mapping[str, str]] = {
    "display_name": "experiment.name",
    "description": "experiment.description",
    "namespace": "experiment.resource_references[0].key.id",
    "experiment_id": "id",
}


class ExperimentServiceV1:
    def __init__(self, experiments: Experiments, namespaces: Namespaces, lists: Answers) -> None:
        self._experiments = experiments
        self._namespaces = namespaces
        self._lists = lists

    async def CreateExperiment(self, request: pb.CreateExperimentRequest, call: Call) -> bytes:
        self._experiments.requested("create")
        if not request.HasField("experiment"):
            raise InvalidArgument.at("experiment", "must be given, with a name")
        wanted = request.experiment
        namespace = self._namespaces.of_create(wanted)
        await self._namespaces.admit(call, namespace)
        with renamed(_PATHS):
            created = await self._experiments.create(
                wanted.name, wanted.description, namespace, call.author("experiment:create")
            )
        return self._shown(created.SerializeToString())

    async def GetExperiment(self, request: pb.GetExperimentRequest, call: Call) -> bytes:
        self._experiments.requested("get")
        return self._shown(await self._body(request.id, call, read=True))

    async def ListExperiment(self, request: pb.ListExperimentsRequest, call: Call) -> bytes:
        self._experiments.requested("list")
        namespace = self._namespaces.of_list(request)
        await self._namespaces.admit(call, namespace, read=True)
        return await self._lists.get(request.SerializeToString(), lambda: self._list(request, namespace))

    async def _list(self, request: pb.ListExperimentsRequest, namespace: str) -> bytes:
        page, token = await self._experiments.list(
            ListQuery(
                "v1beta1",
                FILTER_V1,
                request.page_token,
                request.page_size,
                request.sort_by,
                request.filter,
                namespace,
            )
        )
        return lists.response((self._shown(record.body) for record in page.records), token, page.total)

    async def DeleteExperiment(self, request: pb.DeleteExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("delete")
        await self._body(request.id, call)
        await self._experiments.delete(request.id, call.author("experiment:delete"))
        return Empty()

    async def ArchiveExperiment(self, request: pb.ArchiveExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("archive")
        await self._body(request.id, call)
        await self._experiments.set_state(request.id, Experiment.ARCHIVED, call.author("experiment:archive"))
        return Empty()

    async def UnarchiveExperiment(self, request: pb.UnarchiveExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("unarchive")
        await self._body(request.id, call)
        await self._experiments.set_state(
            request.id, Experiment.AVAILABLE, call.author("experiment:unarchive")
        )
        return Empty()

    async def _body(self, experiment_id: str, call: Call, *, read: bool = False) -> bytes:
        with renamed(_PATHS):
            record = await self._experiments.get(experiment_id)
        if self._namespaces.multi_user:
            await self._namespaces.admit(call, Experiment.FromString(record.body).namespace, read=read)
        return record.body

    def _shown(self, body: bytes) -> bytes:
        """A stored experiment as a v1beta1 one: without a namespace the bytes are the same."""
        if not self._namespaces.multi_user:
            return body
        stored = Experiment.FromString(body)
        shown = pb.Experiment(
            id=stored.experiment_id,
            name=stored.display_name,
            description=stored.description,
            created_at=stored.created_at,
            storage_state=stored.storage_state,  # type: ignore[arg-type]  # the numbers are the same
        )
        shown.resource_references.add(
            key=reference_pb2.ResourceKey(type=reference_pb2.NAMESPACE, id=stored.namespace),
            relationship=reference_pb2.OWNER,
        )
        return shown.SerializeToString()
