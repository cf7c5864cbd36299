"""Leases by who has them and what they asked for, in any order: what ListLeases of Jumpstarter's own
API cannot be asked."""

from __future__ import annotations

from typing import Any, Final

from services.jumpstarter.api.listing import size_of
from services.jumpstarter.leasing import lease as rules
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.names import CLIENTS, EXPORTERS
from shared.errors import InvalidArgument
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb
from shared.query import page_token
from shared.query.ast import And, Compare, Node
from shared.query.dialects import selector
from shared.resource.collection import Collection, PageRequest

_KEYS: Final = page_token.CURSOR_KEYS | {"q"}


async def search(
    leases: Collection[lab_pb2.Lease], engine: Engine, request: pb.ListLeasesRequest
) -> pb.ListLeasesResponse:
    """Raises InvalidArgument."""
    filter, said = _filter(request)
    size = size_of(request.page_size, default=50, most=1000)
    ordering = leases.definition.ordering(request.order_by)
    query = page_token.fingerprint(request.parent, said, str(ordering))
    cursor = None
    if request.page_token:
        payload = page_token.decode(request.page_token, _KEYS)
        if payload.pop("q") != query:
            raise InvalidArgument.at("page_token", "is of another query; start again without it")
        cursor = page_token.cursor(payload, ordering)
    page = await leases.page(PageRequest(size, ordering, filter, request.parent, cursor, total=True))
    return pb.ListLeasesResponse(
        leases=[engine.explained(lab_pb2.Lease.FromString(record.body)) for record in page.records],
        next_page_token=page_token.encode({**page.next.payload(), "q": query}) if page.next else "",
        total_size=page.total,
    )


def _filter(request: pb.ListLeasesRequest) -> tuple[Node, str]:
    """The tree, and all that decides it."""
    wanted = selector.parse(request.filter)
    tagged = selector.parse(request.tag_filter, parameter="tag_filter")
    tagged = tagged.prefixed(rules.TAG_PREFIX, parameter="tag_filter")
    parts: list[Any] = [Compare("ended", "=", 0)] if request.only_active else []
    for field, form in (("client", CLIENTS), ("exporter", EXPORTERS)):
        if name := getattr(request, field):
            form.parse(name, field)
            parts.append(Compare(field, "=", name))
    tree = And((*parts, wanted.node("labels"), tagged.node("labels")))
    return tree, "\0".join(map(str, (wanted, tagged, request.only_active, request.client, request.exporter)))
