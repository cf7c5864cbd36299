"""What the console asks of the jobs service about single pods, and their lists as addresses say them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from admin_ui.clients import JOBS, Caller
from admin_ui.jobs import LARGEST_PAGE, POD
from admin_ui.list_state import ForwardQuery
from admin_ui.operations import Item
from admin_ui.presenters.jobs import GROUPS
from admin_ui.records import Records
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2_grpc import PodServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.rpc.client import CallFailed, failure_of

# Seconds that listing all pods of a job may take.
LIST_DEADLINE: Final = 20.0
# Ranges that one address names: a filter is 8 KiB at most.
MOST_RANGES: Final = 40
_RANGE: Final = re.compile(r"(\d{1,9})(?:\s*[-–]\s*(\d{1,9})?)?", re.ASCII)
_ENDLESS: Final = 1 << 32

Range = tuple[int, int]


def ranges_of(text: str) -> list[Range]:
    """`0-4, 7, 20-` as half-open ranges. Raises ValueError that says what is wrong."""
    found: list[Range] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise ValueError(f"“{word[:40]}” is no instance and no range; write 0-4, 7 or 20-")
        low = int(match[1])
        high = low + 1 if match[0] == match[1] else int(match[2]) + 1 if match[2] else _ENDLESS
        if high <= low:
            raise ValueError(f"“{word}” ends before it begins")
        found.append((low, high))
    if len(found) > MOST_RANGES:
        raise ValueError(f"name at most {MOST_RANGES} ranges")
    return found


@dataclass(frozen=True, slots=True)
class PodListState(ForwardQuery):
    """`state`: a word of GROUPS, empty for any. `instances`: ranges as people write them."""

    CHOICES = ("state", "instances")

    state: str = ""
    instances: str = ""

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        state = query.get("state", "")
        return {
            **ForwardQuery.given(query),
            "state": state if state in GROUPS else "",
            "instances": " ".join(query.get("instances", "").split()),
        }

    def request(self, job: str) -> admin_pb2.ListRequest:
        """Raises ValueError for instances that cannot be read."""
        return admin_pb2.ListRequest(
            kind=POD,
            filter=self._expression(job),
            order_by=self.order_by or "instance asc",
            page_size=self.page_size,
            page_token=self.page_token,
        )

    def _expression(self, job: str) -> str:
        parts = [f"job = {json.dumps(job)}"]
        if self.state:
            names = (json.dumps(pod_pb2.PodState.Name(state)) for state in GROUPS[self.state])
            parts.append(f"status.state IN ({', '.join(names)})")
        if self.instances:
            spans = [_within(*bounds) for bounds in ranges_of(self.instances)]
            parts.append(f"({' OR '.join(spans)})")
        return " AND ".join(parts)


def _within(low: int, high: int) -> str:
    if high - low == 1:
        return f"instance = {low}"
    return f"(instance >= {low} AND instance < {high})" if high < _ENDLESS else f"instance >= {low}"


@dataclass(frozen=True, slots=True)
class Pods:
    """Calls as `caller`. `name`: of a pod; `run`: the id of a run, empty for the newest. Every method
    raises CallFailed."""

    caller: Caller

    async def _ask(self, method: str, request: Message) -> Any:
        return await self.caller.call(JOBS, PodServiceStub, method, request)

    # -- reading

    async def get(self, name: str) -> pb.GetPodResponse:
        """With all runs that are kept."""
        return await self._ask("GetPod", pb.GetPodRequest(pod_name=_named(name)))

    async def status(self, name: str) -> pod_pb2.PodStatus:
        request = pb.GetPodRequest(pod_name=_named(name), status_only=True, limit=1)
        return (await self._ask("GetPod", request)).current.status

    async def events(self, name: str, run: str) -> Sequence[pod_pb2.PodEvent]:
        """Of one run, newest first."""
        request = pb.GetPodEventsRequest(pod_name=_named(name), pod_id=peloton.PodID(value=run))
        return (await self._ask("GetPodEvents", request)).events

    async def files(self, name: str, run: str) -> Sequence[str]:
        request = pb.BrowsePodSandboxRequest(pod_name=_named(name), pod_id=peloton.PodID(value=run))
        return (await self._ask("BrowsePodSandbox", request)).paths

    async def page(self, request: admin_pb2.ListRequest) -> admin_pb2.ListResponse:
        """Of pods as they are stored, which can be asked for by place and state, and page by page."""
        return await Records(self.caller, JOBS).page(request)

    async def matching(self, state: PodListState, job: str) -> AsyncIterator[Item]:
        """Every pod that the list shows, on all its pages. Raises ValueError, too."""
        request = state.replace(page_token="").request(job)
        request.page_size = LARGEST_PAGE
        while True:
            answer = await self.page(request)
            for pod in pods_of(answer):
                yield Item(pod.name, f"instance {pod.instance}")
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def all(self, job: str) -> AsyncIterator[pod_pb2.PodSummary]:
        """Every pod of a job, by instance."""
        request = stateless_svc_pb2.ListPodsRequest(job_id=peloton.JobID(value=job))
        stub = JobServiceStub(self.caller.clients.channel(JOBS))
        answers = stub.ListPods(request, metadata=self.caller.metadata, timeout=LIST_DEADLINE)
        try:
            async for batch in answers:
                for pod in batch.pods:
                    yield pod
        except grpc.RpcError as error:
            raise CallFailed(failure_of(error)) from error
        finally:
            answers.cancel()

    # -- writing

    async def start(self, name: str) -> None:
        await self._ask("StartPod", pb.StartPodRequest(pod_name=_named(name)))

    async def stop(self, name: str) -> None:
        await self._ask("StopPod", pb.StopPodRequest(pod_name=_named(name)))

    async def restart(self, name: str, *, check_sla: bool) -> None:
        """ABORTED with `check_sla` when more instances would be missing than the job's SLA allows."""
        await self._ask("RestartPod", pb.RestartPodRequest(pod_name=_named(name), check_sla=check_sla))


def pods_of(answer: admin_pb2.ListResponse) -> list[stored.Pod]:
    return [stored.Pod.FromString(found.body.value) for found in answer.objects]


def name_of(job: str, instance: str) -> str:
    return f"{job}-{instance}"


def _named(name: str) -> peloton.PodName:
    return peloton.PodName(value=name)
