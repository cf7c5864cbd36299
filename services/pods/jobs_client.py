"""The jobs service, as the pods service asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import grpc

from services.pods.jobs_mapping import number, pod_labels
from services.pods.merge import KEPT
from shared.auth.access import Access
from shared.auth.permissions import VIEWER
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc import pod_svc_pb2
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2_grpc import PodServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.rpc.client import CallFailed, Client, Failure, Metadata, bearer
from shared.storage.port import Author

JOB: Final = "job"
POD: Final = "job_pod"
# Who this service is to others of the installation.
SUBJECT: Final = "pods-service"
_BY: Final = Author(SUBJECT, f"{SUBJECT}:token:create")
_TTL: Final = timedelta(days=1)
# Seconds that a token which was refused is held on to: whoever refuses it refuses the next one too.
_PATIENCE: Final = 60.0
# Calls at once.
_AT_ONCE: Final = 16


class Credential:
    """A token of this service's own, good for a day and for reading alone. It is made where all tokens
    of an installation are: in the access store, signed with the keys that its processes share."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._text = ""
        self._issued_at = 0.0
        self._turn = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """Raises StoreError."""
        if not self._access.enabled:
            return ()
        async with self._turn:
            now = self._access.clock()
            if not self._text or now - self._issued_at > _TTL.total_seconds() / 2:
                self._text, _ = await self._access.issue(SUBJECT, VIEWER, _TTL, creator=SUBJECT, by=_BY)
                self._issued_at = now
            return bearer(self._text)

    def refused(self) -> None:
        """The next call gets another token, unless this one is very new."""
        if self._access.clock() - self._issued_at > _PATIENCE:
            self._text = ""


class Jobs:
    """All methods raise CallFailed."""

    def __init__(self, client: Client, credential: Credential) -> None:
        self._client = client
        self._credential = credential
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def watch(self, kind: str, resume_token: str) -> AsyncGenerator[admin_pb2.WatchResponse, None]:
        request = admin_pb2.WatchRequest(kind=kind, resume_token=resume_token)
        metadata = await self._credential.metadata()
        try:
            async for answer in self._client.stream(AdminServiceStub, "Watch", request, metadata=metadata):
                yield answer
        except CallFailed as error:
            if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
                self._credential.refused()
            raise

    async def job(self, id: str) -> jobs_pb2.Job | None:
        found = await self._known(AdminServiceStub, "Get", admin_pb2.GetRequest(kind=JOB, name=id))
        return None if found is None else jobs_pb2.Job.FromString(found.body.value)

    async def pod_labels(self, id: str) -> Mapping[str, str]:
        """Of the pods of a job, by its present configuration."""
        request = stateless_svc_pb2.GetJobRequest()
        request.job_id.value = id
        found = await self._known(JobServiceStub, "GetJob", request)
        return {} if found is None else pod_labels(found.job_info.spec.default_spec)

    async def earlier(self, name: str, run: int) -> Sequence[pod_pb2.PodStatus]:
        """The last runs of a pod before its present one, which is `run` or a later one."""
        request = pod_svc_pb2.GetPodRequest(status_only=True, limit=KEPT + 1)
        request.pod_name.value = name
        found = await self._known(PodServiceStub, "GetPod", request)
        if found is None:
            return ()
        if number(found.current.status.pod_id.value, name) < run:
            behind = f"pod {name} is at an earlier run than the watch told; asking again"
            raise CallFailed(Failure(grpc.StatusCode.UNAVAILABLE, behind))
        return [info.status for info in (found.current, *found.previous)]

    async def _known(self, stub: Any, method: str, request: Any) -> Any:
        """None: there is no such thing any more."""
        async with self._room:
            try:
                metadata = await self._credential.metadata()
                return await self._client.call(stub, method, request, metadata=metadata)
            except CallFailed as error:
                if error.failure.code is grpc.StatusCode.NOT_FOUND:
                    return None
                raise
