"""What the console asks of the Jumpstarter service, beside the admin API that all services have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message

from admin_ui.clients import JUMPSTARTER, Caller
from admin_ui.lab_kinds import LEASE, id_of, namespace_of, parent_of
from admin_ui.lab_state import BoardState, LeaseState
from admin_ui.operations import Item
from admin_ui.presenters.lab import NUMBERS
from admin_ui.records import Records
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.pb.roundhouse.lab.v1.lab_service_pb2_grpc import LabServiceStub
from shared.rpc.client import Metadata

LARGEST_PAGE: Final = 1000
# Newest first: what people look for is what was asked for last.
NEWEST: Final = "create_time desc"


@dataclass(frozen=True, slots=True)
class Lab:
    """Calls as `caller`. Every method raises CallFailed."""

    caller: Caller

    async def _ask(self, method: str, request: Message) -> Any:
        return await self.caller.call(JUMPSTARTER, LabServiceStub, method, request)

    async def _act(self, method: str, request: Message, client: str = "") -> Any:
        """Of Jumpstarter's own API, as the client of that full name; without one, as the client that
        is called like the person."""
        return await self.caller.call(JUMPSTARTER, ClientServiceStub, method, request, more=acting(client))

    # -- reading

    async def standing(self) -> pb.ListNamespacesResponse:
        return await self._ask("ListNamespaces", pb.ListNamespacesRequest())

    async def board(self, request: pb.ListBoardRequest) -> pb.ListBoardResponse:
        return await self._ask("ListBoard", request)

    async def slot(self, name: str) -> pb.Slot:
        """Of one exporter."""
        request = pb.ListBoardRequest(parent=parent_of(namespace_of(name)), exporter=name)
        return (await self.board(request)).slots[0]

    async def queue(self, namespace: str, exporter: str = "") -> Sequence[pb.Waiting]:
        """`exporter`: only those that could have the one of this full name."""
        request = pb.ListQueueRequest(parent=parent_of(namespace), exporter=exporter)
        return (await self._ask("ListQueue", request)).waiting

    async def leases(self, request: pb.ListLeasesRequest) -> pb.ListLeasesResponse:
        return await self._ask("ListLeases", request)

    async def stored(self, name: str) -> lab_pb2.Lease:
        """A lease as it is stored."""
        found = await Records(self.caller, JUMPSTARTER).get(LEASE.kind, name)
        return lab_pb2.Lease.FromString(found.body.value)

    async def lease(self, name: str) -> lab_pb2.Lease:
        """As it is stored, with conditions that say what it waits for at this moment."""
        found = await self.stored(name)
        if not found.ended and not found.exporter:
            now = await self._act("GetLease", client_pb2.GetLeaseRequest(name=name))
            del found.conditions[:]
            found.conditions.extend(now.conditions)
        return found

    async def matching(self, state: LeaseState, own: str) -> AsyncIterator[Item]:
        """Every active lease that the list shows, on all its pages."""
        request = leases_request(state.replace(show=""), own)
        request.page_size = LARGEST_PAGE
        while True:
            answer = await self.leases(request)
            for found in answer.leases:
                yield Item(found.name, id_of(found.name))
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    # -- writing

    async def create(
        self, namespace: str, lease: client_pb2.Lease, *, id: str = "", client: str = ""
    ) -> client_pb2.Lease:
        request = client_pb2.CreateLeaseRequest(parent=parent_of(namespace), lease=lease, lease_id=id)
        return await self._act("CreateLease", request, client)

    async def extend(self, name: str, by: timedelta) -> lab_pb2.Lease:
        """Moves its end, as its owner; `by` may be negative. Answers the lease as it was."""
        found = await self.stored(name)
        wanted = client_pb2.Lease(name=name)
        wanted.duration.FromTimedelta(found.duration.ToTimedelta() + by)
        await self._update(wanted, "duration", found.client)
        return found

    async def transfer(self, name: str, client: str) -> None:
        """To the client of that full name, as its owner."""
        owner = (await self.stored(name)).client
        await self._update(client_pb2.Lease(name=name, client=client), "client", owner)

    async def _update(self, lease: client_pb2.Lease, field: str, owner: str) -> None:
        request = client_pb2.UpdateLeaseRequest(lease=lease)
        request.update_mask.paths.append(field)
        await self._act("UpdateLease", request, owner)

    async def release(self, name: str) -> None:
        """As its owner."""
        owner = (await self.stored(name)).client
        await self._act("DeleteLease", client_pb2.DeleteLeaseRequest(name=name), owner)

    async def issue(self, name: str) -> pb.IssueTokenResponse:
        """A token and the file for jmp, of a client or an exporter."""
        return await self._ask("IssueToken", pb.IssueTokenRequest(name=name))


def acting(client: str) -> Metadata:
    """Metadata by which staff acts as the client of that full name; none for no name."""
    if not client:
        return ()
    return (
        ("jumpstarter-kind", "Client"),
        ("jumpstarter-namespace", namespace_of(client)),
        ("jumpstarter-name", id_of(client)),
    )


def board_request(state: BoardState) -> pb.ListBoardRequest:
    return pb.ListBoardRequest(
        parent=parent_of(state.namespace),
        page_size=state.page_size,
        page_token=state.page_token,
        filter=state.filter,
        states=[NUMBERS[state.state]] if state.state else [],
        order_by=state.order_by,
    )


def leases_request(state: LeaseState, own: str) -> pb.ListLeasesRequest:
    """`own`: the id of the client that the person acts as."""
    parent = parent_of(state.namespace)
    client = own if state.whose == "mine" else state.client
    return pb.ListLeasesRequest(
        parent=parent,
        page_size=state.page_size,
        page_token=state.page_token,
        filter=state.filter,
        tag_filter=state.tags,
        only_active=state.show != "all",
        client=f"{parent}/clients/{client}" if client else "",
        exporter=f"{parent}/exporters/{state.exporter}" if state.exporter else "",
        order_by=state.order_by or NEWEST,
    )
