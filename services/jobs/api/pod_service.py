"""Peloton's PodService (jobs contract, section 8). Thin: rules are in pod_lifecycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.jobs import names
from services.jobs.api import pod_lifecycle
from services.jobs.api.pod_lifecycle import Change
from services.jobs.api.runs import Place, Runs
from services.jobs.engine import events
from services.jobs.engine.controller import Controller
from services.jobs.runtime.port import RuntimeUnavailable, UnknownAttempt
from shared.errors import Aborted, InvalidArgument, NotFound, Unavailable
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pb
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["PodService"]


class PodService:
    """`writer` answers the controller, or raises Unavailable when another process writes."""

    def __init__(self, runs: Runs, writer: Callable[[], Controller]) -> None:
        self._runs = runs
        self._writer = writer

    # -- writing

    async def StartPod(self, request: pb.StartPodRequest, call: Call) -> pb.StartPodResponse:
        place = Place.of(request.pod_name.value)
        await self._change(place, pod_lifecycle.start(place.instance), call, "pod:start")
        return pb.StartPodResponse()

    async def StopPod(self, request: pb.StopPodRequest, call: Call) -> pb.StopPodResponse:
        place = Place.of(request.pod_name.value)
        await self._change(place, pod_lifecycle.stop(place.instance), call, "pod:stop")
        return pb.StopPodResponse()

    async def RestartPod(self, request: pb.RestartPodRequest, call: Call) -> pb.RestartPodResponse:
        place = Place.of(request.pod_name.value)
        change = pod_lifecycle.restart(place.instance, check_sla=request.check_sla)
        await self._change(place, change, call, "pod:restart")
        return pb.RestartPodResponse()

    async def RefreshPod(self, request: pb.RefreshPodRequest, call: Call) -> pb.RefreshPodResponse:
        place = Place.of(request.pod_name.value)
        await self._runs.pod(place)
        await self._writer().refresh(place.job)
        return pb.RefreshPodResponse()

    async def DeletePodEvents(
        self, request: pb.DeletePodEventsRequest, call: Call
    ) -> pb.DeletePodEventsResponse:
        place = Place.of(request.pod_name.value)
        if not request.pod_id.value:
            raise InvalidArgument.at("pod_id", "must be set: the run whose events go")
        pod = await self._runs.pod(place)
        number = names.parse_pod_id(request.pod_id.value.lower(), pod.name)
        earlier = await self._runs.run(place, request.pod_id.value) if number != pod.run else None
        change = pod_lifecycle.delete_events(place.instance, number, earlier)
        await self._change(place, change, call, "pod_events:delete")
        return pb.DeletePodEventsResponse()

    async def _change(self, place: Place, change: Change, call: Call, action: str) -> None:
        # What is no job's pod is not found, whoever writes.
        await self._runs.pod(place)
        await self._writer().change(place.job, change, call.author(action))

    # -- reading

    async def GetPod(self, request: pb.GetPodRequest, call: Call) -> pb.GetPodResponse:
        place = Place.of(request.pod_name.value)
        pod = await self._runs.pod(place)
        wanted = request.limit - 1 if request.limit else None
        earlier = await self._runs.earlier(place, wanted) if wanted != 0 else []
        runs = [(pod.configuration, pod.status), *((run.configuration, run.status) for run in earlier)]
        wanted_specs = set() if request.status_only else {configuration for configuration, _ in runs}
        shown = await self._runs.specs(place, wanted_specs)
        infos = [pod_pb2.PodInfo(spec=shown.get(version), status=status) for version, status in runs]
        return pb.GetPodResponse(current=infos[0], previous=infos[1:])

    async def GetPodEvents(self, request: pb.GetPodEventsRequest, call: Call) -> pb.GetPodEventsResponse:
        run = await self._runs.run(Place.of(request.pod_name.value), request.pod_id.value)
        return pb.GetPodEventsResponse(events=events.told(run)[::-1])

    async def BrowsePodSandbox(
        self, request: pb.BrowsePodSandboxRequest, call: Call
    ) -> pb.BrowsePodSandboxResponse:
        run = await self._runs.run(Place.of(request.pod_name.value), request.pod_id.value)
        id = names.pod_id(run.pod, run.run)
        try:
            paths = await self._writer().runtime.files(id)
        except UnknownAttempt:
            if not run.status.start_time:
                raise Aborted(f"pod {id} has not run", kind="run", name=id) from None
            raise NotFound(f"the files of pod {id} are gone", kind="run", name=id) from None
        except RuntimeUnavailable as error:
            raise Unavailable(f"the runtime does not answer: {error}") from error
        return pb.BrowsePodSandboxResponse(hostname=run.status.host, paths=paths)

    async def GetPodCache(self, request: pb.GetPodCacheRequest, call: Call) -> pb.GetPodCacheResponse:
        place = Place.of(request.pod_name.value)
        pod = await self._runs.pod(place)
        shown = await self._runs.specs(place, {pod.configuration})
        labels = shown[pod.configuration].labels if pod.configuration in shown else ()
        return pb.GetPodCacheResponse(status=pod.status, labels=labels)
