"""What the console asks of AdminService, which every service serves alike: objects of any kind with
their revisions, manifests, histories and the audit trail."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from admin_ui.clients import Caller
from admin_ui.presenters import history
from admin_ui.presenters.history import Entry
from admin_ui.session import Person
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc.client import CallFailed, Failure, failure_of
from shared.service.steps import STEPS

M = TypeVar("M", bound=Message)
# Seconds that a manifest may take: thousands of objects are one commit.
APPLY_DEADLINE: Final = 60.0
# Versions of one object that a page shows at once.
VERSIONS: Final = 50
# Names that one filter holds: it may be 8 KiB.
_SOME: Final = 40
ACCESS_STORE: Final = "access"


@dataclass(frozen=True, slots=True)
class Records:
    """Calls to `service` as `caller`. Every method raises CallFailed unless it says otherwise."""

    caller: Caller
    service: str

    async def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        if timeout is None:
            return await self.caller.admin(self.service, method, request)
        return await self.caller.call(self.service, AdminServiceStub, method, request, timeout=timeout)

    async def kinds(self) -> pb.ListKindsResponse:
        return await self._call("ListKinds", pb.ListKindsRequest())

    async def get(self, kind: str, name: str) -> pb.Object:
        return await self._call("Get", pb.GetRequest(kind=kind, name=name))

    async def page(self, request: pb.ListRequest) -> pb.ListResponse:
        return await self._call("List", request)

    async def message(self, kind: str, name: str, form: type[M]) -> M:
        """What is stored, as a message of that form."""
        return form.FromString((await self.get(kind, name)).body.value)

    async def named(self, kind: str, names: Sequence[str]) -> list[pb.Object]:
        """Those of these that there are, in this order."""
        found: dict[str, pb.Object] = {}
        for start in range(0, len(names), _SOME):
            some = names[start : start + _SOME]
            filter = f"name IN ({', '.join(json.dumps(name) for name in some)})"
            request = pb.ListRequest(kind=kind, filter=filter, page_size=_SOME)
            found |= {object.name: object for object in (await self._call("List", request)).objects}
        return [found[name] for name in names if name in found]

    async def apply(
        self, manifest: str, *, prune: bool = False, dry_run: bool = False, revision: int = 0
    ) -> pb.ApplyResponse:
        request = pb.ApplyRequest(manifest=manifest, prune=prune, dry_run=dry_run, revision=revision)
        return await self._call("Apply", request, APPLY_DEADLINE)

    async def delete(self, kind: str, name: str, revision: int) -> pb.DeleteResponse:
        return await self._call("Delete", pb.DeleteRequest(kind=kind, name=name, revision=revision))

    async def history(self, kind: str, name: str, page_token: str = "") -> pb.HistoryResponse:
        request = pb.HistoryRequest(kind=kind, name=name, page_size=VERSIONS, page_token=page_token)
        return await self._call("History", request)

    async def audit(self, *, steps: bool = True, **fields: Any) -> pb.ListAuditResponse:
        """Without `steps`, what the service wrote by itself is left out."""
        excluded = () if steps else STEPS.get(self.service, ())
        return await self._call("ListAudit", pb.ListAuditRequest(**fields, excluded_actions=excluded))

    async def export(self, kinds: Sequence[str]) -> AsyncGenerator[pb.Object, None]:
        """Every object of `kinds`, at one revision."""
        stub = AdminServiceStub(self.caller.clients.channel(self.service))
        answers = stub.Export(
            pb.ExportRequest(kinds=kinds), metadata=self.caller.metadata, timeout=APPLY_DEADLINE
        )
        try:
            async for found in answers:
                yield found
        except grpc.RpcError as error:
            raise CallFailed(failure_of(error)) from error
        finally:
            answers.cancel()

    async def since(self, kind: str, name: str, revision: int) -> list[Entry]:
        """The writes of one object after `revision`, newest first."""
        versions = (await self.history(kind, name)).versions
        return [history.of_version(version) for version in versions if version.revision > revision]

    async def timeline(self, who: Person, kind: str, name: str) -> tuple[Sequence[Entry], Failure | None]:
        """The history, with the audit trail where `who` may read it. Never raises: a failure here is
        told beside the object, not instead of it."""
        try:
            versions = (await self.history(kind, name)).versions if who.may("admin.read") else ()
            entries = (
                (await self.audit(kind=kind, name=name, page_size=VERSIONS)).entries
                if who.may("audit.list")
                else ()
            )
        except CallFailed as error:
            return (), error.failure
        return history.timeline(versions, entries), None
