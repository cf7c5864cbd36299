"""The jobs service, as the pods service asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import grpc

from services.pods.jobs_mapping import pod_labels
from shared.auth.access import Access
from shared.auth.permissions import VIEWER
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2
from shared.pb.peloton.api.v1alpha.job.stateless.svc.stateless_svc_pb2_grpc import JobServiceStub
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.rpc.client import CallFailed, Client, Failure, Metadata, bearer
from shared.storage.port import Author

JOB: Final = "job"
POD: Final = "job_pod"
RUN: Final = "run"
# Who this service is to others of the installation.
SUBJECT: Final = "pods-service"
_BY: Final = Author(SUBJECT, f"{SUBJECT}:token:create")
_TTL: Final = timedelta(days=1)
# Seconds that a token which was refused is held on to: whoever refuses it refuses the next one too.
_PATIENCE: Final = 60.0
# Calls at once; pods that one call asks for, and runs that it answers.
_AT_ONCE: Final = 16
_NAMES: Final = 100
_PAGE: Final = 1000


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

    async def earlier(
        self, names: Sequence[str], since: int, revision: int
    ) -> dict[str, list[pod_pb2.PodStatus]]:
        """How runs of these pods ended that other runs followed, from the run `since` on, as of `revision`
        or later."""
        found: dict[str, list[pod_pb2.PodStatus]] = {}
        parts = [names[start : start + _NAMES] for start in range(0, len(names), _NAMES)]
        for part in await asyncio.gather(*(self._earlier(part, since, revision) for part in parts)):
            for run in part:
                found.setdefault(run.pod, []).append(run.status)
        return found

    async def _earlier(self, names: Sequence[str], since: int, revision: int) -> list[jobs_pb2.Run]:
        quoted = ", ".join(f'"{name}"' for name in names)
        request = admin_pb2.ListRequest(
            kind=RUN, filter=f"pod IN [{quoted}] AND run >= {since}", page_size=_PAGE
        )
        found: list[jobs_pb2.Run] = []
        while True:
            page = await self._call(AdminServiceStub, "List", request)
            if page.revision < revision:
                behind = f"the jobs service is at {page.revision} and told of {revision}; asking again"
                raise CallFailed(Failure(grpc.StatusCode.UNAVAILABLE, behind))
            found += (jobs_pb2.Run.FromString(one.body.value) for one in page.objects)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def _known(self, stub: Any, method: str, request: Any) -> Any:
        """None: there is no such thing any more."""
        try:
            return await self._call(stub, method, request)
        except CallFailed as error:
            if error.failure.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def _call(self, stub: Any, method: str, request: Any) -> Any:
        async with self._room:
            metadata = await self._credential.metadata()
            return await self._client.call(stub, method, request, metadata=metadata)
