"""A catalogue such as people have, and another client of the service that keeps it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from admin_ui.catalogue import BY_KIND
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc
from shared.rpc.client import Client
from shared.service.testing import TestService

# id: title, place, cloud, scores.
REGIONS: dict[str, tuple[str, tuple[str, str, str], str, dict[str, int]]] = {
    "eu-west": (
        "EU West", ("Europe", "Ireland", "Dublin"), "aws", {"eu-central": 92, "us-east": 61, "uk": 95},
    ),
    "eu-central": (
        "EU Central", ("Europe", "Germany", "Frankfurt"), "gcp", {"eu-west": 90, "eu-north": 84, "uk": 78},
    ),
    "eu-north": ("EU North", ("Europe", "Sweden", "Stockholm"), "azure", {"eu-central": 84}),
    "uk": ("United Kingdom", ("Europe", "United Kingdom", "London"), "aws", {"eu-west": 95, "us-east": 64}),
    "us-east": (
        "US East", ("North America", "United States", "Ashburn"), "aws",
        {"us-west": 70, "eu-west": 61, "sa-east": 45},
    ),
    "us-west": ("US West", ("North America", "United States", "Portland"), "gcp", {"us-east": 70, "jp": 52}),
    "sa-east": ("South America", ("South America", "Brazil", "São Paulo"), "aws", {"us-east": 44}),
    "jp": ("Japan", ("Asia", "Japan", "Tokyo"), "gcp", {"us-west": 51}),
}  # fmt: skip
SERVICES: dict[str, tuple[str, list[str], list[str]]] = {
    "meta.edgelq.com": ("Meta catalogue", ["v1alpha2"], ["Region", "Deployment", "Service", "Resource"]),
    "jobs.example.com": ("Stateless jobs", ["v2", "v1", "v1beta1"], ["Job", "Pool", "Workflow"]),
    "leases.example.com": ("Device leases", ["v1"], ["Exporter", "Client", "Lease", "Policy"]),
    "pipelines.example.com": (
        "Experiments and pipelines", ["v2beta1", "v1beta1"], ["Experiment", "Run", "Pipeline"],
    ),
    "pods.example.com": ("Pod export", ["v1"], ["Pod", "Node", "Namespace"]),
    "billing.example.com": ("Usage and billing", ["v1"], ["Account", "Invoice", "Price"]),
}  # fmt: skip
DEPLOYED: dict[str, tuple[str, ...]] = {
    "meta.edgelq.com": ("eu-west", "us-east"),
    "jobs.example.com": ("eu-west", "eu-central", "us-east", "us-west", "jp"),
    "leases.example.com": ("eu-central", "us-west"),
    "pipelines.example.com": ("eu-west", "eu-central", "us-east"),
    "pods.example.com": ("eu-west", "us-east"),
    "billing.example.com": ("eu-west",),
}


def manifest() -> dict[str, list[dict[str, Any]]]:
    """8 regions, 6 services, 20 resources, 15 deployments."""
    return {
        "regions": [
            {
                "name": f"regions/{id}",
                "title": title,
                "domain": f"{id}.example.com",
                "is_default": id == "eu-west",
                "location": {"continent": place[0], "country": place[1], "city": place[2], "cloud": cloud},
                "connectivity_scores": [
                    {"dest": f"regions/{other}", "score": score} for other, score in scores.items()
                ],
                "metadata": {"labels": {"env": "test" if id == "jp" else "prod", "cloud": cloud}},
            }
            for id, (title, place, cloud, scores) in REGIONS.items()
        ],
        "services": [
            {
                "name": f"services/{id}",
                "display_name": title,
                "current_version": versions[0],
                "all_versions": versions,
                "metadata": {
                    "labels": {"team": id.split(".")[0]},
                    "annotations": {"docs": f"https://{id}/docs"},
                },
            }
            for id, (title, versions, _) in SERVICES.items()
        ],
        "resources": [
            {
                "name": f"services/{service}/resources/{resource}",
                "plural_name": f"{resource.lower()}s",
                "is_regional": resource not in ("Service", "Resource", "Region", "Price", "Account"),
            }
            for service, (_, _, resources) in SERVICES.items()
            for resource in resources
        ],
        "deployments": [
            {
                "name": f"regions/{region}/deployments/{service.split('.')[0]}",
                "service": f"services/{service}",
                "metadata": {"labels": {"env": "prod"}, "tags": ["canary"] if region == "jp" else []},
            }
            for service, regions in DEPLOYED.items()
            for region in regions
        ],
    }


@dataclass
class CatalogueClient:
    """Another client of the same service."""

    client: Client

    async def _call(self, method: str, request: Any) -> Any:
        return await self.client.call(admin_pb2_grpc.AdminServiceStub, method, request)

    async def apply(self, lists: Mapping[str, Any], *, prune: bool = False) -> int:
        """Answers the revision."""
        request = admin_pb2.ApplyRequest(manifest=json.dumps(lists), prune=prune)
        return int((await self._call("Apply", request)).revision)

    async def region(self, id: str, **fields: Any) -> int:
        return await self.apply({"regions": [{"name": f"regions/{id}", **fields}]})

    async def delete(self, name: str) -> None:
        await self._call("Delete", admin_pb2.DeleteRequest(kind=_kind(name), name=name))

    async def get(self, name: str) -> Any:
        """The message. Raises CallFailed."""
        found = await self._call("Get", admin_pb2.GetRequest(kind=_kind(name), name=name))
        return BY_KIND[found.kind].message.FromString(found.body.value)

    async def names(self, kind: str) -> list[str]:
        found = await self._call("List", admin_pb2.ListRequest(kind=kind, page_size=1000))
        return [each.name for each in found.objects]

    async def head(self) -> int:
        return int((await self._call("List", admin_pb2.ListRequest(kind="region", page_size=1))).revision)


def _kind(name: str) -> str:
    return name.split("/")[-2].removesuffix("s")


@asynccontextmanager
async def catalogue_client(service: TestService, role: str = "operator") -> AsyncIterator[CatalogueClient]:
    async with Client(service.target, token=service.tokens[role]) as client:
        yield CatalogueClient(client)
