"""kubeflow.pipelines.backend.api.v2beta1.ExperimentService: what kfp 2 calls, over the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.empty_pb2 import Empty

from services.pipelines import lists
from services.pipelines.experiment import FILTER_V2
from services.pipelines.experiments import Experiments, ListQuery
from services.pipelines.namespaces import Namespaces
from services.pipelines.violations import renamed
from shared.errors import InvalidArgument
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.resource.answers import Answers
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ExperimentService"]
# last_run_created_at (7) as an empty Timestamp: 1970 until there is a run, and always present.
_NO_RUN: Final = b"\x3a\x00"
_PATHS: Final[Mapping[str, str]] = {
    "display_name": "experiment.display_name",
    "description": "experiment.description",
    "namespace": "experiment.namespace",
}


class ExperimentServiceV2:
    def __init__(self, experiments: Experiments, namespaces: Namespaces, lists: Answers) -> None:
        self._experiments = experiments
        self._namespaces = namespaces
        self._lists = lists

    async def CreateExperiment(self, request: pb.CreateExperimentRequest, call: Call) -> bytes:
        self._experiments.requested("create")
        if not request.HasField("experiment"):
            raise InvalidArgument.at("experiment", "must be given, with a display_name")
        wanted = request.experiment
        namespace = self._namespaces.of_v2(wanted.namespace, "experiment.namespace")
        await self._namespaces.admit(call, namespace)
        with renamed(_PATHS):
            created = await self._experiments.create(
                wanted.display_name, wanted.description, namespace, call.author("experiment:create")
            )
        return created.SerializeToString() + _NO_RUN

    async def GetExperiment(self, request: pb.GetExperimentRequest, call: Call) -> bytes:
        self._experiments.requested("get")
        return await self._body(request.experiment_id, call, read=True) + _NO_RUN

    async def ListExperiments(self, request: pb.ListExperimentsRequest, call: Call) -> bytes:
        self._experiments.requested("list")
        namespace = self._namespaces.of_v2(request.namespace, "namespace")
        await self._namespaces.admit(call, namespace, read=True)
        return await self._lists.get(request.SerializeToString(), lambda: self._list(request, namespace))

    async def _list(self, request: pb.ListExperimentsRequest, namespace: str) -> bytes:
        page, token = await self._experiments.list(
            ListQuery(
                "v2beta1",
                FILTER_V2,
                request.page_token,
                request.page_size,
                request.sort_by,
                request.filter,
                namespace,
            )
        )
        return lists.response((record.body + _NO_RUN for record in page.records), token, page.total)

    async def ArchiveExperiment(self, request: pb.ArchiveExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("archive")
        await self._body(request.experiment_id, call)
        await self._experiments.set_state(
            request.experiment_id, pb.Experiment.ARCHIVED, call.author("experiment:archive")
        )
        return Empty()

    async def UnarchiveExperiment(self, request: pb.UnarchiveExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("unarchive")
        await self._body(request.experiment_id, call)
        await self._experiments.set_state(
            request.experiment_id, pb.Experiment.AVAILABLE, call.author("experiment:unarchive")
        )
        return Empty()

    async def DeleteExperiment(self, request: pb.DeleteExperimentRequest, call: Call) -> Empty:
        self._experiments.requested("delete")
        await self._body(request.experiment_id, call)
        await self._experiments.delete(request.experiment_id, call.author("experiment:delete"))
        return Empty()

    async def _body(self, experiment_id: str, call: Call, *, read: bool = False) -> bytes:
        record = await self._experiments.get(experiment_id)
        if self._namespaces.multi_user:
            await self._namespaces.admit(call, pb.Experiment.FromString(record.body).namespace, read=read)
        return record.body
