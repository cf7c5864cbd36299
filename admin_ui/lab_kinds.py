"""What the Jumpstarter service keeps, as kinds whose pages are like the catalogue's.

A resource's address in the console is its name: `namespaces/lab/exporters/bench` is at
`/namespaces/lab/exporters/bench`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from admin_ui.catalogue import BY_KIND as CATALOGUE
from admin_ui.catalogue import CatalogueKind
from admin_ui.clients import JUMPSTARTER
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.pb.roundhouse.lab.v1 import lab_pb2

NAMESPACE: Final = "namespace"
DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class LabKind(CatalogueKind):
    """`plural` names its list in manifests, `segment` its collection in names."""

    segment: str = ""

    @property
    def pattern(self) -> str:
        return f"/namespaces/{{namespace}}/{self.segment}/{{{self._variable}}}"

    @property
    def _variable(self) -> str:
        """Of its addresses: the last word of its kind."""
        return self.kind.rpartition("_")[2]

    @property
    def titles(self) -> str:
        return "Access policies" if self.kind == "access_policy" else f"{self.title}s"

    def home(self, name: str) -> str:
        return f"/{self.plural}?{urlencode({NAMESPACE: namespace_of(name)})}"

    def permission(self, verb: str) -> str:
        return "admin.read"

    def name(self, parts: Mapping[str, str]) -> str:
        return self.named(parts[NAMESPACE], parts[self._variable])

    def named(self, namespace: str, id: str) -> str:
        return f"namespaces/{namespace}/{self.segment}/{id}"


def _kind(
    kind: str, plural: str, title: str, icon: str, message: Any, about: str, segment: str = ""
) -> LabKind:
    return LabKind(
        kind=kind,
        plural=plural,
        title=title,
        icon=icon,
        message=message,
        # Read through AdminService, which serves all kinds alike.
        stub=AdminServiceStub,
        requests=admin_pb2,
        columns=(),
        about=about,
        examples=(),
        fields=(),
        parent=NAMESPACE,
        floor=JUMPSTARTER,
        segment=segment or plural,
    )


EXPORTER: Final = _kind(
    "exporter", "exporters", "Exporter", "server", lab_pb2.Exporter,
    "An exporter is hardware on a bench that people lease.",
)  # fmt: skip
LEASE: Final = _kind(
    "lease", "leases", "Lease", "plug", lab_pb2.Lease,
    "A lease is an exporter for a time, or the wish for one.",
)  # fmt: skip
CLIENT: Final = _kind(
    "client", "clients", "Client", "user", lab_pb2.Client,
    "A client is whoever leases exporters: a person, or a pipeline.",
)  # fmt: skip
POLICY: Final = _kind(
    "access_policy", "access_policies", "Access policy", "shield", lab_pb2.AccessPolicy,
    "An access policy says who may lease which exporters, for how long and before whom.",
    "accessPolicies",
)  # fmt: skip
KINDS: Final[Mapping[str, LabKind]] = {found.plural: found for found in (EXPORTER, LEASE, CLIENT, POLICY)}
# What manifests may write.
WRITTEN: Final[Mapping[str, LabKind]] = {found.kind: found for found in (EXPORTER, CLIENT, POLICY)}
BY_KIND: Final[Mapping[str, CatalogueKind]] = {**CATALOGUE, **{k.kind: k for k in KINDS.values()}}


def namespace_of(name: str) -> str:
    """Of a full name; "" of none."""
    return name.split("/")[1] if name.count("/") > 1 else ""


def id_of(name: str) -> str:
    return name.rpartition("/")[2]


def parent_of(namespace: str) -> str:
    return f"namespaces/{namespace}"
