"""The same in a terminal, for lists of pods and one pod."""

from __future__ import annotations

from typing import Any, Final

from admin_ui.clients import Endpoint
from admin_ui.pods import POD
from admin_ui.presenters import commands
from admin_ui.presenters.commands import Snippet
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb

EXPORT: Final = "/v1/export/pods"


def for_list(endpoint: Endpoint, query: str, counted: pb.CountPodsRequest) -> list[Snippet]:
    """`counted`: what the page asks."""
    given: dict[str, Any] = {"query": query} if query else {}
    url = f"{commands.rest(endpoint)}{EXPORT}"
    words = ["list", POD, *(["--filter", query] if query else [])]
    count = commands.grpcurl(endpoint, "roundhouse.pods.v1.BrowseService/CountPods", commands.fields(counted))
    return [
        Snippet("curl · export", commands.curl(url, given, options="--compressed")),
        Snippet("grpcurl · export", commands.grpcurl(endpoint, "v1.PodService/ExportPods", given)),
        Snippet("roundhouse", commands.roundhouse(*words)),
        Snippet("grpcurl · counts", count),
    ]


def for_one(endpoint: Endpoint, id: str) -> list[Snippet]:
    query = f"Pod ID:{id}"
    url = f"{commands.rest(endpoint)}{EXPORT}"
    return [
        Snippet("curl", commands.curl(url, {"query": query})),
        Snippet("grpcurl", commands.grpcurl(endpoint, "v1.PodService/GetPods", {"query": query})),
        Snippet("roundhouse", commands.roundhouse("get", POD, id, "-o", "yaml")),
        Snippet("roundhouse · history", commands.roundhouse("history", POD, id)),
    ]


def to_fill(endpoint: Endpoint) -> list[Snippet]:
    """Ways by which pods get in."""
    send = commands.curl(
        f"{commands.rest(endpoint)}/v1/feed/pods?mode=replace", options="--data-binary @pods.ndjson"
    )
    return [
        Snippet(
            "roundhouse · an export of another server", commands.roundhouse("import", "pods", "pods.ndjson")
        ),
        Snippet("curl · the same", send),
        Snippet("Kubernetes · a collector", "python -m services.pods.collect kubernetes --help"),
    ]
