"""roundhouse.pods.v1.BrowseService: what consoles ask beside the public API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.pods.census import Census, Counting, Totals
from services.pods.pod_service import PodService
from shared.errors import InvalidArgument
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb
from shared.query import page_token
from shared.rpc import frames
from shared.rpc.method import Call

SERVICE: Final = pb.DESCRIPTOR.services_by_name["BrowseService"]
_KEYS: Final = frozenset({"o", "q"})
_PAGE: Final = 50
_MOST: Final = 1000
# How many parts of a place make a group.
_DEPTHS: Final[Mapping[int, int]] = {pb.CLUSTER: 1, pb.NAMESPACE: 2, pb.DEPLOYMENT: 3}
_ORDERS: Final = ("name", "pods")
_LINES: Final = pb.Lines.LINES_FIELD_NUMBER


class BrowseService:
    def __init__(self, counting: Counting, pods: PodService) -> None:
        self._counting = counting
        self._pods = pods

    async def CountPods(self, request: pb.CountPodsRequest, call: Call) -> pb.CountPodsResponse:
        if request.by not in pb.GroupBy.values():
            raise InvalidArgument.at("by", f"{request.by} is none of CLUSTER, NAMESPACE, DEPLOYMENT, SOURCE")
        column, descending = _order(request.order_by)
        size, offset, query = _place(request, call)
        namespaces = call.identity.namespaces
        census = await self._counting.census(request.query, namespaces)
        found: Sequence[Any] = ()
        if request.by == pb.SOURCE:
            sources = await self._counting.sources(request.query, namespaces)
            found = [(name, *sources[name]) for name in sorted(sources)]
        elif request.by:
            found = await census.groups(_DEPTHS[request.by])
        if column == "pods":
            found = sorted(found, key=_pods, reverse=descending)
        elif descending:
            found = found[::-1]
        end = offset + size
        page = found[offset:end]
        return pb.CountPodsResponse(
            groups=[_source(*one) if request.by == pb.SOURCE else _group(census, *one) for one in page],
            next_page_token=page_token.encode({"o": end, "q": query}) if end < len(found) else "",
            total_size=len(found),
            totals=_totals(census.totals()),
        )

    async def ExportLines(self, request: ExportPodRequest, call: Call) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._pods.export_lines(request, call)) as chunks:
            async for chunk in chunks:
                yield frames.messages(_LINES, (chunk,))


def _order(text: str) -> tuple[str, bool]:
    """Raises InvalidArgument."""
    words = text.lower().split() or ["name"]
    if words[0] not in _ORDERS or words[1:] not in ([], ["asc"], ["desc"]):
        raise InvalidArgument.at(
            "order_by", f"{text[:50]!r} is no order; use name or pods, with or without desc"
        )
    return words[0], words[1:] == ["desc"]


def _place(request: pb.CountPodsRequest, call: Call) -> tuple[int, int, str]:
    """The page's size, where it begins, and what its token is bound to. Raises InvalidArgument."""
    if not 0 <= request.page_size <= _MOST:
        raise InvalidArgument.at("page_size", f"must be between 0 and {_MOST}")
    namespaces = call.identity.namespaces
    scope = "*" if namespaces is None else "\0".join(sorted(namespaces))
    query = page_token.fingerprint("count", request.query, str(request.by), request.order_by, scope)
    if not request.page_token:
        return request.page_size or _PAGE, 0, query
    payload = page_token.decode(request.page_token, _KEYS)
    offset = payload["o"]
    if payload["q"] != query or type(offset) is not int or offset < 0:
        raise InvalidArgument.at("page_token", "is of another query; start again without it")
    return request.page_size or _PAGE, offset, query


def _pods(one: Any) -> int:
    """Of a group, or of a source."""
    return one[1].pods if isinstance(one[1], Totals) else one[1]


def _group(census: Census, key: Sequence[str], totals: Totals) -> pb.Group:
    cluster, namespace, deployment = (*key, "", "", "")[:3]
    name, type = census.deployments.get(deployment, ("", ""))
    return pb.Group(
        cluster_id=cluster,
        cluster=census.clusters.get(cluster, ""),
        namespace=namespace,
        deployment_id=deployment,
        deployment=name,
        deployment_type=type,
        totals=_totals(totals),
    )


def _source(name: str, pods: int, changed: int | None) -> pb.Group:
    group = pb.Group(source=name, totals=pb.Totals(pods=pods))
    if changed is not None:
        seconds, nanos = divmod(changed, 1_000_000_000)
        group.changed.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    return group


def _totals(found: Totals) -> pb.Totals:
    return pb.Totals(
        pods=found.pods,
        clusters=found.clusters,
        namespaces=found.namespaces,
        deployments=found.deployments,
    )
