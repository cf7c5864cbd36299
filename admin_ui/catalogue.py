"""What the console asks of the Meta service, and the four kinds of its catalogue.

A resource's address in the console is its name: `regions/eu` is at `/regions/eu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import Message

from admin_ui.clients import META, Caller, StubClass
from admin_ui.list_state import CatalogueState, Column
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_pb2,
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    region_pb2,
    region_service_pb2,
    region_service_pb2_grpc,
    resource_pb2,
    resource_service_pb2,
    resource_service_pb2_grpc,
    service_pb2,
    service_service_pb2,
    service_service_pb2_grpc,
)
from shared.pb.goten_sdk.types import view_pb2

PACKAGE: Final = "ntt.meta.v1alpha2"
_PERMISSIONS: Final = "services/meta.edgelq.com/permissions"
_UPDATED: Final = Column("metadata.update_time", "Changed", "desc", "c-created")
# An id of dots only would be no segment of a URL path; no id begins with this.
_DOTS: Final = "~"


@dataclass(frozen=True, slots=True)
class CatalogueKind:
    """One type: `kind` is the word of the admin API, `plural` its collection, which also names its
    list in manifests and its routes. `about`: an empty list says what such a thing is."""

    kind: str
    plural: str
    title: str
    icon: str
    message: type[Message]
    stub: StubClass
    requests: Any
    columns: tuple[Column, ...]
    about: str
    # Filters to try: what each finds, and its text.
    examples: tuple[tuple[str, str], ...]
    # Fields that filters are about most.
    fields: tuple[str, ...]
    parent: str = ""
    # The service that keeps it.
    floor: str = META

    @property
    def titles(self) -> str:
        return f"{self.title}s"

    @property
    def pattern(self) -> str:
        """Of its addresses: `/regions/{region}`."""
        own = f"/{self.plural}/{{{self.kind}}}"
        return f"/{self.parent}s/{{{self.parent}}}{own}" if self.parent else own

    def home(self, name: str) -> str:
        """The address of the list in which the resource of this name stands."""
        return f"/{self.plural}"

    @property
    def service(self) -> str:
        """The gRPC service of its methods."""
        return f"{PACKAGE}.{self.title}Service"

    def permission(self, verb: str) -> str:
        return f"{_PERMISSIONS}/{self.plural}.{verb}"

    def name(self, parts: Mapping[str, str]) -> str:
        """The resource's name from the variables of its address."""
        own = f"{self.plural}/{_id(parts[self.kind])}"
        return f"{self.parent}s/{_id(parts[self.parent])}/{own}" if self.parent else own

    def list_request(self, **fields: Any) -> Any:
        return getattr(self.requests, f"List{self.titles}Request")(**fields)

    def asked(self, state: CatalogueState) -> Any:
        """What a list's address asks for."""
        request = self.list_request(
            page_size=state.page_size,
            page_token=state.page_token,
            order_by=state.order_by,
            filter=state.filter,
            include_paging_info=True,
        )
        if self.parent:
            request.parent = f"{self.parent}s/{state.parent or '-'}"
        return request


REGION: Final = CatalogueKind(
    "region",
    "regions",
    "Region",
    "globe",
    region_pb2.Region,
    region_service_pb2_grpc.RegionServiceStub,
    region_service_pb2,
    (
        Column("name", "Region", css="c-name"),
        Column("title", "Title", css="wide-only"),
        Column("location.country", "Location", css="wide-only"),
        Column("domain", "Domain", css="narrow-hide"),
        Column("", "Links", css="num wide-only"),
        _UPDATED,
    ),
    "A region is a place where services run.",
    (
        ("the default one", "is_default = TRUE"),
        ("of one cloud", 'location.cloud = "aws"'),
        ("with a label", 'metadata.labels.env = "prod"'),
        ("connected with one", 'connectivity_scores.dest = "regions/eu-west" AND is_default = FALSE'),
    ),
    ("name", "title", "domain", "is_default", "location.country", "location.cloud", "metadata.labels.…"),
)
SERVICE: Final = CatalogueKind(
    "service",
    "services",
    "Service",
    "box",
    service_pb2.Service,
    service_service_pb2_grpc.ServiceServiceStub,
    service_service_pb2,
    (
        Column("name", "Service", css="c-name"),
        Column("display_name", "Title", css="wide-only"),
        Column("current_version", "Version"),
        Column("", "All", css="num wide-only"),
        _UPDATED,
    ),
    "A service is an API, with its versions and resources.",
    (
        ("by title", 'display_name LIKE "%a%"'),
        ("that still serve a version", 'all_versions CONTAINS "v1"'),
        ("with a label", 'metadata.labels.team = "edge"'),
        ("changed this year", 'metadata.update_time >= "2026-01-01T00:00:00Z"'),
    ),
    ("name", "display_name", "current_version", "all_versions", "metadata.labels.…"),
)
DEPLOYMENT: Final = CatalogueKind(
    "deployment",
    "deployments",
    "Deployment",
    "layers",
    deployment_pb2.Deployment,
    deployment_service_pb2_grpc.DeploymentServiceStub,
    deployment_service_pb2,
    (
        Column("name", "Deployment", css="c-name"),
        Column("", "Region"),
        Column("service", "Service", css="wide-only"),
        _UPDATED,
    ),
    "A deployment says that a service runs in a region.",
    (
        ("of one service", 'service = "services/jobs.example.com"'),
        ("in some regions", 'name IN ("regions/eu-west/deployments/-", "regions/us-east/deployments/-")'),
        ("with a label", 'metadata.labels.env = "prod"'),
        ("tagged", 'metadata.tags CONTAINS "canary"'),
    ),
    ("name", "service", "metadata.tags", "metadata.labels.…", "metadata.update_time"),
    parent="region",
)
RESOURCE: Final = CatalogueKind(
    "resource",
    "resources",
    "Resource",
    "file",
    resource_pb2.Resource,
    resource_service_pb2_grpc.ResourceServiceStub,
    resource_service_pb2,
    (
        Column("name", "Resource", css="c-name"),
        Column("", "Service", css="narrow-hide"),
        Column("plural_name", "Plural", css="wide-only"),
        Column("is_regional", "Where", css="c-state"),
        _UPDATED,
    ),
    "A resource is a type of object that a service serves.",
    (
        ("kept in regions", "is_regional = TRUE"),
        ("by plural", 'plural_name IN ("jobs", "pods")'),
        ("of one service", 'fqn LIKE "jobs.example.com/%"'),
        ("without labels", "metadata.labels IS NULL"),
    ),
    ("name", "plural_name", "fqn", "is_regional", "metadata.labels.…"),
    parent="service",
)
KINDS: Final[Mapping[str, CatalogueKind]] = {
    found.plural: found for found in (REGION, SERVICE, RESOURCE, DEPLOYMENT)
}
BY_KIND: Final[Mapping[str, CatalogueKind]] = {found.kind: found for found in KINDS.values()}


def address(name: str, page: str = "") -> str:
    """Where the console shows the resource of this name; `page`: one of its other pages."""
    parts = [f"{_DOTS}{part}" if not part.strip(".") else quote(part, safe="") for part in name.split("/")]
    return "/".join(("", *parts, *filter(None, (page,))))


def _id(part: str) -> str:
    return part.removeprefix(_DOTS)


def short(name: str) -> str:
    """The ids of a name: `eu/jobs` of `regions/eu/deployments/jobs`."""
    return "/".join(name.split("/")[1::2])


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Calls as `caller`. Every method raises CallFailed."""

    caller: Caller

    async def list(self, kind: CatalogueKind, request: Any) -> Any:
        """The answer; its rows are in the field named after the collection."""
        return await self.caller.call(META, kind.stub, f"List{kind.titles}", request)

    async def get(self, kind: CatalogueKind, name: str) -> Any:
        request = getattr(kind.requests, f"Get{kind.title}Request")(name=name)
        return await self.caller.call(META, kind.stub, f"Get{kind.title}", request)

    async def count(self, kind: CatalogueKind) -> int:
        request = kind.list_request(page_size=1, view=view_pb2.NAME, include_paging_info=True)
        if kind.parent:
            request.parent = f"{kind.parent}s/-"
        return int((await self.list(kind, request)).total_results_count)

    async def deployments_of(self, name: str, size: int) -> Any:
        """Of a region or a service."""
        if name.startswith("regions/"):
            request = DEPLOYMENT.list_request(parent=name)
        else:
            request = DEPLOYMENT.list_request(parent="regions/-", filter=f'service = "{name}"')
        request.page_size, request.include_paging_info = size, True
        return await self.list(DEPLOYMENT, request)

    async def resources_of(self, name: str, size: int) -> Any:
        request = RESOURCE.list_request(parent=name, page_size=size, include_paging_info=True)
        return await self.list(RESOURCE, request)

    async def linking_to(self, name: str, size: int) -> Any:
        """The regions that have a score for the region `name`."""
        request = REGION.list_request(
            filter=f'connectivity_scores.dest = "{name}"', page_size=size, include_paging_info=True
        )
        return await self.list(REGION, request)
