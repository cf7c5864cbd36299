"""HealthzService of both versions. Needs no token: clients ask it before anything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

from aiohttp import web
from google.protobuf.empty_pb2 import Empty

from shared.auth.permissions import PERMISSIONS
from shared.pb.backend.api.v1beta1 import healthz_pb2 as v1
from shared.pb.backend.api.v2beta1 import healthz_pb2 as v2
from shared.rpc.method import Call, Method, methods_of

# What kfp 2 shows as the place where pipelines are kept.
PIPELINE_STORE: Final = "database"


class HealthzV1:
    def __init__(self, multi_user: bool) -> None:
        self._multi_user = multi_user

    async def GetHealthz(self, request: Empty, call: Call) -> v1.GetHealthzResponse:
        return v1.GetHealthzResponse(multi_user=self._multi_user)


class HealthzV2:
    def __init__(self, multi_user: bool) -> None:
        self._multi_user = multi_user

    async def GetHealthz(self, request: Empty, call: Call) -> v2.GetHealthzResponse:
        return v2.GetHealthzResponse(multi_user=self._multi_user, pipeline_store=PIPELINE_STORE)


@dataclass(frozen=True)
class HealthzRoutes:
    v1: Sequence[Method]
    v2: Sequence[Method]
    http: Sequence[web.RouteDef]


def routes(multi_user: bool) -> HealthzRoutes:
    """The gRPC methods, and HTTP routes that also answer build facts which the messages lack."""
    service_v1 = v1.DESCRIPTOR.services_by_name["HealthzService"]
    service_v2 = v2.DESCRIPTOR.services_by_name["HealthzService"]
    facts: dict[str, Any] = {
        "commit_sha": "unknown",
        "tag_name": _version(),
        "multi_user": multi_user,
    }
    return HealthzRoutes(
        v1=methods_of(service_v1, HealthzV1(multi_user), PERMISSIONS, rules={}),
        v2=methods_of(service_v2, HealthzV2(multi_user), PERMISSIONS, rules={}),
        http=[
            web.get("/apis/v1beta1/healthz", _answer(facts)),
            web.get("/apis/v2beta1/healthz", _answer({**facts, "pipeline_store": PIPELINE_STORE})),
        ],
    )


def _answer(facts: dict[str, Any]) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.json_response(facts)

    return answer


def _version() -> str:
    try:
        return metadata.version("roundhouse")
    except metadata.PackageNotFoundError:
        return "0"
